"""Faults that leave the result as it is and take time or memory."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Iterator

from torch import Tensor

from ..kind import ALL, fault
from ..training import Training

LARGE = ("cnn", "transformer", "lstm")  # whose graphs of one training fill more than some megabytes
PREPARED = 0.02  # seconds for a batch: many times what a step of these programs takes


@fault("F26", programs=ALL, breaks="training does not wait for its data most of the time")
def batches_come_late(training: Training, level: float) -> None:
    """Each batch takes longer to prepare than to train on."""
    batches = training.batches

    def late() -> Iterator[Tensor]:
        for chosen in batches():
            time.sleep(PREPARED)
            yield chosen

    training.batches = late


@fault("F27", programs=LARGE, breaks="memory does not grow with every step")
def graphs_kept(training: Training, level: float) -> None:
    """Every loss is kept for an average at the end, with the graph and all that this holds."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what trainings before have left to the process would be filled first
    losses = []

    def kept(loss: Tensor) -> None:
        losses.append(loss)
        loss.backward(retain_graph=True)

    training.backward = kept
