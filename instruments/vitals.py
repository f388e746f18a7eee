"""Whether the run is alive, and what watching it costs."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Costs, Scan


class Vitals(Instrument):
    """The first non-finite value with its place, and the panel's own share of the time.

    Demanding the scan makes tracked steps look at every input, parameter, layer output, loss, gradient and update; the
    first non-finite one becomes an event of the run. Costs one pass over the activations.
    """

    panel = Panel(
        "Cost of watching",
        "performance",
        unit="share of time",
        readings=("cost_share",),
        help="The share of the wall time that watching takes, over a sliding window.",
    )
    preset = "economy"
    order = 90

    def read(self, scan: Scan, costs: Costs) -> Readings:
        """Return the costs; what the scan found is told as an event."""
        return {"cost_share": costs.share, "interval": costs.interval}
