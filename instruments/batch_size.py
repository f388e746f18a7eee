"""The batch size."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import BatchSize as Batch


class BatchSize(Instrument):
    """N, the number of samples whose gradients the step averaged, over all its micro-batches. Free."""

    panel = Panel(
        "Batch size", "performance", unit="samples", steady=True, help="Samples per step, over all micro-batches."
    )
    preset = "economy"
    order = 80

    def read(self, batch: Batch) -> Readings:
        """Return N."""
        return float(batch.samples)
