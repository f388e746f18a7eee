"""Trains under Cockpit 1.0.2, or plainly, as told over a pipe; runs where Cockpit is installed.

One request a line, as JSON, and one answer: ``cockpit_process.py`` is the other end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import memory
import torch
from problems import PROBLEMS, Size
from training import Training

warnings.simplefilter("ignore")  # Cockpit's libraries are of 2021

from backpack import extend  # noqa: E402
from cockpit import Cockpit  # noqa: E402
from cockpit.utils.configuration import configuration  # noqa: E402
from torch.nn import CrossEntropyLoss  # noqa: E402


class CockpitTraining(Training):
    """Training as Cockpit's own examples do it, with one of its own configurations at every step."""

    def __init__(self, *place: Any, panel: str) -> None:
        super().__init__(*place)
        self.model, self.mean_loss = extend(self.model), extend(self.mean_loss)
        self.sample_losses = CrossEntropyLoss(reduction="none")
        self.cockpit = Cockpit(self.model.parameters(), quantities=configuration(panel))
        self.taken = 0

    def step(self) -> None:
        """Take one step."""
        inputs, targets = next(self.batches)
        self.optimizer.zero_grad()
        outputs = self.model(inputs)
        loss = self.mean_loss(outputs, targets)
        info = {
            "batch_size": len(inputs),
            "individual_losses": self.sample_losses(outputs, targets).detach(),
            "loss": loss,
            "optimizer": self.optimizer,
        }
        with self.cockpit(self.taken, info=info):
            loss.backward(create_graph=self.cockpit.create_graph(self.taken))
        self.optimizer.step()
        self.taken += 1

    def file_bytes(self) -> int:
        """Write Cockpit's own file, and return its size."""
        with tempfile.TemporaryDirectory() as folder:
            self.cockpit.write(f"{folder}/log")
            return Path(f"{folder}/log.json").stat().st_size


class Worker:
    """The trainings of one process, by name: a configuration of Cockpit, or "plain"."""

    def __init__(self, problem: str, device: str) -> None:
        self._problem, self._device = PROBLEMS[problem], torch.device(device)
        self._batches = self._problem.batches(Size(), self._device)
        self._trainings: dict[str, Training] = {}

    def start(self, name: str) -> Training:
        place = (self._problem, Size(), self._device, self._batches)
        return Training(*place) if name == "plain" else CockpitTraining(*place, panel=name)

    def run(self, name: str, steps: int) -> float:
        if name not in self._trainings:
            self._trainings[name] = self.start(name)
        return self._trainings[name].run(steps)

    def close(self, name: str) -> None:
        self._trainings.pop(name, None)

    def peaks(self, name: str, steps: int) -> list[float]:
        begun: list[Training] = []

        def begin() -> None:
            begun.append(self.start(name))
            begun[0].run(steps)

        return memory.peaks([begin, lambda: begun[0].run(steps)], self._device)

    def bytes_a_step(self, name: str, steps: int) -> float:
        training = self.start(name)
        assert isinstance(training, CockpitTraining)
        training.run(steps)
        return training.file_bytes() / steps


def main() -> None:
    """Answer requests until there are no more."""
    problem, device, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Cockpit prints
    worker = Worker(problem, device)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
