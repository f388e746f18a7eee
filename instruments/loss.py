"""The batch loss."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import BatchLoss, SampleLosses, Unavailable


class Loss(Instrument):
    """The loss that was given to ``backward``, on every step, tracked or not.

    Under gradient accumulation it is the sum over the micro-batches, which is what the step minimises; the factor of a
    GradScaler is taken off. A curve that falls says that training works, not that it works well: the same curve comes
    from a learning rate ten times too small. Free.
    """

    panel = Panel("Loss", "performance", help="The loss of each step's batch, as it was given to backward().")
    preset = "economy"
    order = 10

    def read(self, loss: BatchLoss) -> Readings:
        """Return the loss."""
        return loss.value


class LossStd(Instrument):
    """The sample standard deviation over the batch of the per-sample losses ℓ_n, whose mean is the loss.

    How much the samples of a batch differ; a blow-up is judged against it. Unavailable where the loss cannot be divided
    among samples. Costs one evaluation of the loss function.
    """

    panel = Panel(
        "Spread of the loss",
        "performance",
        help="Standard deviation of the loss over the samples of the batch. Large beside the loss itself: a few hard "
        "samples make most of it.",
    )
    preset = "economy"
    order = 11

    def read(self, losses: SampleLosses) -> Readings:
        """Return the unbiased standard deviation; NaN for one sample."""
        if len(losses.each) < 2:
            raise Unavailable("the spread over samples is not defined for a batch of one", undefined=("loss_std",))
        return losses.variance.sqrt()
