"""What became of the gradient between backward and step, and what was left in it."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Clipping, Occasion, StaleGradient, ZeroGradient


class ZeroGradients(Instrument):
    """The share of each tensor's gradient that is exactly 0, and of all of them together.

    In healthy nets about a tenth of it is. Nearly all of a layer's comes from dead units, of embeddings from tokens
    that the batch has not, and in float16 from numbers too small for the format. NaN for a tensor that got no gradient.
    Costs one pass over the gradients, on every fifth step of the diagnosis schedule.
    """

    name = "zero_gradient"
    panel = Panel(
        "Zeros in the gradient",
        "performance",
        layered=True,
        help="Share of each tensor's gradient that is exactly 0. Embeddings aside, nearly 1 is a layer that is dead.",
    )
    preset = "economy"
    on_diagnosis_schedule = True
    order = 87

    def read(self, zeros: ZeroGradient, occasion: Occasion) -> Readings:
        """Return the shares."""
        if not occasion.regular:
            return {}
        return Layered(zeros.total, zeros.names, zeros.shares)


class ClipFactor(Instrument):
    """‖g‖ as the optimizer used it over ‖g‖ as backward left it: 1 where nothing changed the gradient.

    Below 1 it was clipped. Where that is nearly every step, the clipping and not the learning rate says how long the
    steps of SGD are. The factor of a GradScaler is taken off. Unavailable where a closure was called more than once.
    Free where nothing has written to the gradients on a CPU, else one pass over them, on the diagnosis schedule only.
    """

    preset = "economy"
    on_diagnosis_schedule = True
    order = 32

    def read(self, clipping: Clipping) -> Readings:
        """Return the factor."""
        return clipping.factor


class LeftOver(Instrument):
    """‖g‖ of what was in the gradients before the step's first backward, over ‖g‖ of what its backwards added.

    0 where they had been cleared, as they should be: else every step uses the gradients of all the steps before it; of
    each tensor and of all together. Several backwards before one step are one gradient. Costs one pass over the
    gradients, on the diagnosis schedule only.
    """

    name = "stale_gradient"
    preset = "economy"
    on_diagnosis_schedule = True
    order = 33

    def read(self, stale: StaleGradient) -> Readings:
        """Return the ratios."""
        return Layered(stale.ratio, stale.names, stale.each)
