"""The curvature of the loss along the step, from the fit behind α."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import ParabolaFit


class AlphaCurvature(Instrument):
    """2 w2, the second derivative of the fitted parabola along the unit step (see Alpha).

    Positive: the loss curves upward along the step, and a best step length exists. Negative: it still bends downward,
    as it does early in training; α is then −1 by definition. Free beside Alpha.
    """

    panel = Panel(
        "Curvature along the step",
        "curvature",
        marks=((0.0, "flat"),),
        help="Second derivative of the loss along the step, from the fit behind α. Negative: no minimum ahead yet.",
    )
    preset = "economy"
    order = 25

    def read(self, fit: ParabolaFit) -> Readings:
        """Return the curvature."""
        return fit.curvature
