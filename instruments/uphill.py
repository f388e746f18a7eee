"""Whether the step went up the slope of its own batch."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Descent


class Uphill(Instrument):
    """1 where dᵀg > 0, the step d having gone up the slope of its own batch, else 0.

    Momentum goes uphill now and then. Nine times out of ten is a wrong sign. Costs one inner product.
    """

    panel = Panel(
        "Steps uphill",
        "step size",
        healthy=(None, 0.5),
        help="1 where the step went up the slope of its own batch. Rare in healthy runs; always means a wrong sign.",
    )
    preset = "economy"
    order = 50

    def read(self, descent: Descent) -> Readings:
        """Return 1, 0, or NaN where the slope is NaN."""
        return (
            (descent.slope > 0)
            .to(descent.slope)
            .where(descent.slope.isfinite(), descent.slope.new_tensor(float("nan")))
        )
