"""How the weights are spread, and how much the units of a layer differ."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.statistics import Occasion, WeightSpread


class WeightStd(Instrument):
    """The standard deviation of the elements of each tensor of two or more dimensions, before the step, and of all.

    The usual initialisations give a layer with m inputs one between 0.5/√m and 1.5/√m. Costs two passes over the
    parameters, on every fifth step of the diagnosis schedule.
    """

    preset = "economy"
    on_diagnosis_schedule = True
    order = 96

    def read(self, weights: WeightSpread, occasion: Occasion) -> Readings:
        """Return the standard deviations."""
        if not occasion.regular:
            return {}
        return Layered(weights.total, weights.names, weights.std)


class RowSpread(Instrument):
    """How much the units of a layer differ: the largest distance of a row of its weights from their mean, over the
    length of the longest row; of all tensors, the smallest.

    0 where all units are equal, as after an initialisation with one constant: they get equal gradients and stay equal.
    About 1 where they are independent. A row is what the first axis counts; NaN for a tensor with a single one. Costs
    one pass over the parameters, on every fifth step of the diagnosis schedule.
    """

    preset = "economy"
    on_diagnosis_schedule = True
    order = 96

    def read(self, weights: WeightSpread, occasion: Occasion) -> Readings:
        """Return the distances."""
        if not occasion.regular:
            return {}
        known = weights.rows.isfinite()
        least = weights.rows.where(known, float("inf")).amin()
        return Layered(least.where(known.any(), float("nan")), weights.names, weights.rows)
