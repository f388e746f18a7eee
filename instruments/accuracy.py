"""How often a classifier is right on the batch it is trained on."""

import torch

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import ClassCounts

MOST_CLASSES = 100


class Accuracy(Instrument):
    """The share of right answers on the training batch, and ``balanced_accuracy``, the mean of each class's share.

    From the logits and targets that the loss was given, before the step. A skewed class balance hides behind plain
    accuracy: where the balanced one is far below it, rare classes are missed. Classes that the batch has not are left
    out. Costs one pass over the logits.
    """

    panel = Panel(
        "Accuracy on the batch",
        "performance",
        readings=("accuracy", "balanced_accuracy"),
        help="Share of right answers on the training batch, and the mean over its classes of each one's share.",
    )
    preset = "economy"
    order = 12

    def read(self, counts: ClassCounts) -> Readings:
        """Return both shares."""
        shares = counts.met / counts.targets
        return {"accuracy": counts.met.sum() / counts.targets.sum(), "balanced_accuracy": shares.nanmean()}


class ClassLoss(Instrument):
    """The mean of −log p over the targets of each class, and its mean over the classes of the batch.

    A class whose loss stays up while the others' fall is not being learnt. NaN for a class that the batch has not. With
    more than 100 classes only the mean is kept. Free beside Accuracy.
    """

    panel = Panel(
        "Loss by class",
        "performance",
        layered=True,
        per="class",
        help="Mean cross-entropy of the batch's samples of each class.",
    )
    preset = "economy"
    order = 13

    def read(self, counts: ClassCounts) -> Readings:
        """Return the loss of each class."""
        present = counts.targets > 0
        losses = torch.where(present, counts.loss / counts.targets, torch.nan)
        mean = torch.where(present, losses, 0).sum() / present.sum()
        if len(losses) > MOST_CLASSES:
            return mean
        return Layered(mean, [str(index) for index in range(len(losses))], losses)
