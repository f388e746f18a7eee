"""The normalized step length with both ends on the batch after the step."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import NextBatchSlopes


class AlphaNext(Instrument):
    """−(dᵀ∇L(θ + d))/(dᵀ∇L(θ)), both on the batch after the step d: does the step help data it has not seen?

    −1: too short a step; 0: the step that lowers the expected loss most; 1: it no longer lowers it. It drifts towards 1
    and beyond late in any training. Over a window take the ratio of the summed slopes, ``slope_next_end`` and
    ``slope_next_start``. Costs one evaluation of the batch, on the diagnosis schedule only.
    """

    panel = Panel(
        "α on the next batch",
        "step size",
        kind="parabola",
        marks=((-1.0, "no progress"), (0.0, "minimum"), (1.0, "other side")),
        help="Both ends of the step on a batch it has not seen: does the step help? Rises late in every run.",
    )
    preset = "economy"
    on_diagnosis_schedule = True
    order = 22

    def read(self, slopes: NextBatchSlopes) -> Readings:
        """Return the ratio and both slopes."""
        return {
            "alpha_next": -slopes.end / slopes.start,
            "slope_next_start": slopes.start,
            "slope_next_end": slopes.end,
        }
