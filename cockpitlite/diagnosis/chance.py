"""The first loss of a run beside that of guessing, from which a bad start shows, and a model that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.readings import Readings

_FIRST = 5  # losses whose median stands for the first one, where batches are small


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


def trained_before(readings: Readings) -> bool:
    """Whether the first losses were far below that of guessing: fine-tuning; False where that cannot be told.

    Guessing costs ln C, or, by the squared error, the variance of the targets.
    """
    events = readings.events("loss_functions")
    plain = bool(events) and events[0].data.get("factor") == 1 and readings.has("loss")
    names = events[0].data.get("functions") if plain else None
    if names == ["cross_entropy"] and readings.has("classes"):
        _, classes = readings.first("classes", 1)
        guessing = math.log(classes[0]) if len(classes) and classes[0] >= 2 else 0.0
    elif names == ["mse_loss"] and readings.has("target_std"):
        _, stds = readings.first("target_std", _FIRST)
        guessing = float(np.median(stds)) ** 2 if len(stds) else 0.0
    else:
        return False
    _, losses = readings.first("loss", _FIRST)
    return float(np.median(losses)) < t.LEARNT * guessing
