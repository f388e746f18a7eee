"""The length of the gradient."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import ClippedGradient, MeanGradient


class GradNorm(Instrument):
    """‖g‖ of the minimised loss per tensor and in total, before clipping and without the factor of a GradScaler.

    NaN for a tensor that got no gradient. A first layer far below the last one says that gradients vanish. Costs one
    pass over the gradients.
    """

    panel = Panel(
        "Gradient norm",
        "gradients",
        scale="log",
        layered=True,
        readings=("grad_norm", "grad_norm_clipped"),
        help="Length of the batch gradient before clipping, and as the optimizer saw it.",
    )
    preset = "economy"
    order = 30

    def read(self, gradient: MeanGradient) -> Readings:
        """Return the norms."""
        return Layered(gradient.squared_norm.sqrt(), gradient.names, gradient.norms)


class GradNormClipped(Instrument):
    """‖g‖ per tensor and in total as the optimizer saw it; below ``grad_norm`` where it was clipped.

    Drawn beside ``grad_norm``. Costs one pass over the gradients.
    """

    preset = "economy"
    order = 31

    def read(self, gradient: ClippedGradient) -> Readings:
        """Return the norms."""
        return Layered(gradient.total, gradient.names, gradient.norms)
