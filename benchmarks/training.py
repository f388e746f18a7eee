"""A model in training, timed in blocks of steps; knows nothing of any panel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from time import perf_counter  # bound here, so that a clock put in its place elsewhere changes nothing
from typing import Protocol

import torch
from problems import Batch, Problem, Size
from torch import nn

RATE, MOMENTUM = 0.01, 0.9


class Trainer(Protocol):
    """What can be told to train on, in this process or another."""

    def run(self, steps: int) -> float:
        """Take some steps, and return the seconds that they took."""

    def close(self) -> None:
        """Let go of everything."""


class Training:
    """Plain training by SGD with momentum; the same numbers at every start."""

    def __init__(self, problem: Problem, size: Size, device: torch.device, batches: Sequence[Batch]) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = problem.model(size).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)
        self.mean_loss = nn.CrossEntropyLoss()
        self.batches = itertools.cycle(batches)

    def step(self) -> None:
        """Take one step, as a user writes it."""
        inputs, targets = next(self.batches)
        self.optimizer.zero_grad()
        outputs = self.model(inputs)
        self.mean_loss(outputs.flatten(0, -2), targets.flatten()).backward()
        self.optimizer.step()

    def run(self, steps: int) -> float:
        """Take some steps, and return the seconds until the device and the recorder have done all that they ask for."""
        synchronize(self.device)
        begin = perf_counter()
        for _ in range(steps):
            self.step()
        self.settle()
        synchronize(self.device)
        return perf_counter() - begin

    def settle(self) -> None:
        """Wait for what other threads still do for these steps."""

    def close(self) -> None:
        """Let go of everything."""


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
