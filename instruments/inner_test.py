"""The inner-product test."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.instruments.norm_test import TESTS
from cockpitlite.statistics import MeanGradient, PerSampleProjections, Unavailable


class InnerTest(Instrument):
    """sqrt(Σ(g_nᵀg − ‖g‖²)² / (N(N−1)‖g‖⁴)) (Bollapragada et al. 2017, eq. 2.6): the error along the mean gradient.

    Small: the samples agree on whether the step is downhill. Costs one projection of the per-sample gradients.
    """

    panel = TESTS
    preset = "economy"
    order = 33

    def read(self, mean: MeanGradient, projections: PerSampleProjections) -> Readings:
        """Return the relative error along the mean gradient."""
        if projections.samples < 2:
            raise Unavailable("the spread over samples is not defined for a batch of one", undefined=("inner_test",))
        pairs = projections.samples * (projections.samples - 1)
        return (projections.deviation / (pairs * mean.squared_norm.square())).sqrt()
