"""One run of the benchmark: a problem, an optimizer, a learning rate; what came of it, and what was said of it when."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cockpitlite.diagnosis.readings import Readings
from cockpitlite.store import load

from .looking import Look, look
from .methods import CONDITIONS, METHODS
from .problems import PROBLEMS
from .training import Result, train

RATES = 12  # learning rates, of which neighbours are a factor of 2.6 apart
DECADES = 4.5  # from the lowest to the highest
FIRST = ("loss_std", "batch_size", "grad_norm", "noise_scale", "update_ratio")
EARLY = 101  # losses that are kept
LOOKS = (25, 50, 100)  # steps after which the diagnosis is asked
LATE_LOOKS = (510, 1510)  # of runs that are long enough: just after ten steps in a row were measured


@dataclass(frozen=True)
class Trial:
    """What is run. ``index`` counts the learning rates from the lowest one on."""

    problem: str
    method: str
    condition: str
    index: int
    seed: int

    @property
    def rate(self) -> float:
        """The learning rate."""
        guess = METHODS[self.method].rate(PROBLEMS[self.problem])
        return guess * 10 ** (DECADES * (self.index / (RATES - 1) - 0.5))

    @property
    def group(self) -> tuple[str, str, str]:
        """What all its runs have in common but learning rate and seed."""
        return self.problem, self.method, self.condition


@dataclass(frozen=True)
class Outcome:
    """What came of a trial, and what the diagnosis said and rested on after some steps.

    ``losses`` are those of the first steps, ``first`` holds some readings of the very first step.
    """

    trial: Trial
    result: Result
    losses: tuple[float, ...]
    first: dict[str, float]
    looks: dict[int, Look]

    def line(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, line: str) -> Self:
        """Return what a line of JSON holds."""
        found: dict[str, Any] = json.loads(line)
        looks = {int(step): Look.of(each) for step, each in found["looks"].items()}
        trial, result = Trial(**found["trial"]), Result(**found["result"])
        return cls(trial, result, tuple(found["losses"]), found["first"], looks)


def perform(trial: Trial) -> Outcome:
    """Run a trial."""
    torch.set_num_threads(1)  # so small a model gains nothing from a second core
    problem, method, condition = PROBLEMS[trial.problem], METHODS[trial.method], CONDITIONS[trial.condition]
    steps = condition.steps or problem.steps
    looks = [step for step in (*LOOKS, *LATE_LOOKS) if step < steps]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of steps that end in numbers too large for a float
        path = Path(folder) / "run.cockpit"
        result = train(problem, method, condition, trial.rate, trial.seed, path, watched=max(looks))
        readings = Readings(load(path))
        losses = tuple(float(f"{loss:.6g}") for loss in readings.first("loss", EARLY)[1])
        first = {name: float(readings.first(name, 1)[1][0]) for name in FIRST if readings.has(name)}
        return Outcome(trial, result, losses, first, {step: look(readings.at(step)) for step in looks})
