"""The training loop of every program, in pieces that a fault or a healthy peculiarity puts others in place of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import cockpitlite

from .programs import Program

EVERY = 10  # steps from one tracked step to the next
VALIDATE = 50  # steps from one look at the held-out samples to the next


class Training:
    """One run of a program. Every attribute may be replaced until :meth:`run` is called.

    The optimizer is made late, of whatever the model is by then, unless somebody has made it before.
    """

    def __init__(self, program: Program, seed: int) -> None:
        torch.manual_seed(seed)
        samples = program.samples()
        self.program, self.seed = program, seed
        self.model: nn.Module = program.model()
        self.inputs, self.targets = samples.inputs, samples.targets
        self.valid_inputs, self.valid_targets = samples.valid_inputs, samples.valid_targets
        self.make_optimizer: Callable[..., torch.optim.Optimizer] = program.optimizer
        self.rate, self.batch, self.steps = program.rate, program.batch, program.steps
        self.loss: Callable[[Tensor, Tensor], Tensor] = program.loss
        self.make_schedule: Callable[[torch.optim.Optimizer], Any] | None = None
        self.valid_loss: dict[str, Tensor] = {}  # by its name, when it is known
        self.limit: float | None = None  # what is still good, where it is not what the program's own runs reach
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, made when it is first asked for."""
        if self._optimizer is None:
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self._optimizer = self.make_optimizer(trained, lr=self.rate)
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def run(self, path: Path | None = None) -> float:
        """Train, watched where there is a path for the run file, and return the score on the held-out samples."""
        optimizer = self.optimizer
        if path is not None:
            cockpitlite.watch(optimizer, self.model, run=path, every=EVERY)
        schedule = self.make_schedule(optimizer) if self.make_schedule else None
        torch.manual_seed(self.seed + 1000)  # so that a fault in the model leaves the order of the samples alone
        batches = self.batches()
        for step in range(self.steps):
            self.take(batches)
            if schedule is not None:
                schedule.step()
            if (step + 1) % VALIDATE == 0:
                self.validate(path is not None)
        if path is not None:
            optimizer.cockpit.close()  # type: ignore[attr-defined]
        return self.score()

    def take(self, batches: Iterator[Tensor]) -> None:
        """Take one step, as a user writes it."""
        chosen = next(batches)
        self.clear()
        loss = self.loss(self.forward(self.inputs[chosen]), self.targets[chosen])
        self.backward(loss)
        self.update()

    def batches(self) -> Iterator[Tensor]:
        """Yield the indices of each batch's samples, in a new order in every epoch."""
        while True:
            yield from torch.randperm(len(self.inputs)).split(self.batch)[: max(1, len(self.inputs) // self.batch)]

    def clear(self) -> None:
        self.optimizer.zero_grad()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        self.optimizer.step()

    def validate(self, watched: bool) -> None:
        """Log score and loss on the held-out samples, in eval mode, and go back to training."""
        score = self.score()
        if watched:
            self.optimizer.cockpit.log(valid_score=score, **self.valid_loss)  # type: ignore[attr-defined]
        self.model.train()

    def score(self) -> float:
        """Return the program's score on the held-out samples; leaves the model in eval mode."""
        self.model.eval()
        with torch.no_grad():
            outputs = self.model(self.valid_inputs)
            self.valid_loss = {"valid_loss": self.program.loss(outputs, self.valid_targets)}
        return self.program.score(outputs, self.valid_targets) if outputs.isfinite().all() else float("inf")
