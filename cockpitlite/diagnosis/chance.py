"""The first cross-entropy of a run beside that of guessing, from which a bad start shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.readings import Readings


@dataclass(frozen=True)
class FirstLoss:
    """The cross-entropy that the untrained model had on its first batch, where it was read, and ln C."""

    reading: str
    step: int
    loss: float
    classes: int

    @property
    def chance(self) -> float:
        """What guessing gives."""
        return math.log(self.classes)

    @property
    def high(self) -> bool:
        """Whether it is far above that of guessing."""
        return self.loss > max(t.HIGH_LOSS * self.chance, self.chance + t.HIGH_EXCESS)


def first_cross_entropy(readings: Readings) -> FirstLoss | None:
    """Return the first cross-entropy with the number of classes; None where it is unknown or the run was resumed.

    The mean over the classes of the batch comes first: it does not depend on how the loss was reduced, nor on what else
    was added to it.
    """
    if not readings.has("classes") or readings.events("resume"):
        return None
    at, classes = readings.first("classes", 1)
    if not len(at) or at[0] > 0 or not classes[0] >= 2:
        return None
    name = "class_loss" if readings.has("class_loss") else "loss"
    steps, losses = readings.first(name, 1)
    if not len(steps) or steps[0] > 0 or not math.isfinite(losses[0]):
        return None
    return FirstLoss(name, int(steps[0]), float(losses[0]), int(classes[0]))
