"""How far training has come from where it began."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Origin


class Distance(Instrument):
    """‖θ_t − θ_0‖ before the step, θ_0 being the parameters when watching began, per tensor and in total.

    A random walk grows like the square root of the steps. Costs one copy of the parameters in memory.
    """

    panel = Panel(
        "Distance from start", "step size", layered=True, help="How far the weights are from where they began."
    )
    preset = "economy"
    order = 42

    def read(self, origin: Origin) -> Readings:
        """Return the distances."""
        return Layered(origin.distances.norm(), origin.names, origin.distances)
