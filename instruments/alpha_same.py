"""The normalized step length with both ends on the step's own batch."""

from typing import ClassVar

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import SameBatchSlopes


class AlphaSame(Instrument):
    """−(dᵀ∇L(θ + d))/(dᵀ∇L(θ)), both on the batch that made the step d: step size against curvature.

    −1: the slope has not changed, the step is far too short; 0: the step ended where the batch's loss is lowest along
    it; 1: on the other side. Unlike α it tends to −1 for small learning rates whatever the gradient noise. Over a
    window take the ratio of the summed slopes, ``slope_same_end`` and ``slope_same_start``. Costs one evaluation of the
    batch, on the diagnosis schedule only.
    """

    panel = Panel(
        "α on the step's own batch",
        "step size",
        kind="parabola",
        marks=((-1.0, "no progress"), (0.0, "minimum"), (1.0, "other side")),
        help="Both ends of the step on the batch that made it: step size against curvature, free of the bias by "
        "gradient noise. Near −1: far too small. SGD does best near 0, momentum near −0.3, Adam near −0.5.",
    )
    preset = "economy"
    on_diagnosis_schedule = True
    order = 21
    # What it was at the best learning rate of 30 problems and optimizers, over the first 50 steps.
    healthy: ClassVar = {"sgd": (-0.81, 0.53), "momentum": (-0.89, 0.14), "adam": (-0.99, -0.07)}

    def read(self, slopes: SameBatchSlopes) -> Readings:
        """Return the ratio and both slopes."""
        return {
            "alpha_same": -slopes.end / slopes.start,
            "slope_same_start": slopes.start,
            "slope_same_end": slopes.end,
        }
