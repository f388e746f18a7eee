"""The batch size that CABS would choose."""

import torch

from cockpitlite.instrument import Instrument, Provided, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import BatchLoss, SecondMoments, Settings, Unavailable, wide_sum


class Cabs(Instrument):
    """lr·[(1/N)Σ‖g_n‖² − ‖g‖²]/L, a batch size for SGD (Balles et al. 2017, arXiv:1612.05086, eq. 22).

    The variance of the gradient is weighed against the loss: where it lies above the batch size in use, a larger batch
    pays. Derived for plain SGD and a loss whose minimum is near 0; under other optimizers it is a rough guide. With
    several parameter groups each one's variance has its own learning rate. NaN where the loss is not positive. Costs
    the elementwise second moments.
    """

    panel = Panel(
        "CABS batch size",
        "gradients",
        unit="samples",
        scale="log",
        readings=("cabs", "batch_size"),
        help="Suggested batch size: learning rate × gradient variance / loss. Derived for SGD.",
    )
    preset = "business"
    order = 37

    def read(self, moments: SecondMoments, loss: BatchLoss, settings: Settings) -> Readings:
        """Return the suggested batch size; NaN for a loss that is not positive."""
        if any("lr" not in group for group in settings.each):
            raise Unavailable("the optimizer has no learning rate")
        pairs = zip(settings.each, moments.deviations, strict=True)
        noise = torch.stack([group["lr"] * wide_sum(spread) for group, spread in pairs]).sum()
        suggested = noise / moments.samples / loss.value
        return Provided(suggested, loss.value > 0, "the loss is no positive number, and the criterion divides by it")
