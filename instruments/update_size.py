"""The length of the step."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Displacement


class UpdateSize(Instrument):
    """‖d‖, d = θ_{t+1} − θ_t as really taken (after clipping, momentum, weight decay), per tensor and in total.

    Costs one pass over the parameters.
    """

    panel = Panel(
        "Update size",
        "step size",
        scale="log",
        layered=True,
        help="Length of the step as taken, whatever the optimizer did.",
    )
    preset = "economy"
    order = 40

    def read(self, step: Displacement) -> Readings:
        """Return the norms."""
        return Layered(step.norms.norm(), step.names, step.norms)
