"""One training that starts at some learning rate, and keeps it or is led away from it by some advice."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diagnosis.programs import PROGRAMS, Program
from diagnosis.training import Training
from torch import Tensor, nn

import cockpitlite

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples"))

import follow_the_advice as example

OPTIMIZERS = example.OPTIMIZERS
MAPPINGS, BETWEEN = 8, 25  # how often alpha changes the learning rate, and steps in between
MOST = 10.0  # by what at once

_BATCH_8 = dataclasses.replace(PROGRAMS["mlp"], name="mlp-8", title="MLP, digits, batch 8", batch=8)
_HELD_OUT = ("lstm", "autoencoder")  # whose results were not looked at when the loop was worked out
_STEPS = {"transformer": 300, "lstm": 300}  # they take longest
PROBLEMS = {
    program.name: dataclasses.replace(
        program, steps=_STEPS.get(program.name, 400), half="held out" if program.name in _HELD_OUT else "tuning"
    )
    for program in (*PROGRAMS.values(), _BATCH_8)
}

# Where trainings start: 4.5 decades in halves, a decade lower for AdamW, whose good rates lie lower.
_HALVES = {"sgd": range(-7, 3), "momentum": range(-7, 3), "adamw": range(-9, 1)}
RATES = {name: tuple(float(f"{10 ** (half / 2):.3g}") for half in halves) for name, halves in _HALVES.items()}


@dataclass(frozen=True)
class Trial:
    """What is run: a problem, an optimizer, the learning rate to start with, a seed, and what the training follows."""

    problem: str
    optimizer: str
    rate: float
    seed: int
    policy: str


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: final losses on all training and all held-out samples, the last rate, what was said."""

    trial: Trial
    train: float
    held_out: float
    last: float
    said: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """A training that has taken no step yet."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    next_loss: Callable[[], Tensor]
    steps: int


Say = Callable[[str], None]


def perform(trial: Trial) -> Outcome:
    """Run a trial in one thread; its run files are thrown away."""
    torch.set_num_threads(1)
    program = PROBLEMS[trial.problem]
    training = Training(program, trial.seed)
    training.make_optimizer, training.rate = OPTIMIZERS[trial.optimizer], trial.rate
    batches = training.batches()

    def next_loss() -> Tensor:
        chosen = next(batches)
        return program.loss(training.model(training.inputs[chosen]), training.targets[chosen])

    said: list[str] = []
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        POLICIES[trial.policy](Started(training.model, training.optimizer, next_loss, program.steps), said.append)
    return Outcome(
        trial,
        _loss(program, training.model, training.inputs, training.targets),
        _loss(program, training.model, training.valid_inputs, training.valid_targets),
        training.optimizer.param_groups[0]["lr"],
        tuple(said),
    )


def keep(begun: Started, say: Say) -> None:
    """Train at the learning rate that is there."""
    example.train(begun.optimizer, begun.next_loss, begun.steps, example.no_advice)


def follow(begun: Started, say: Say) -> None:
    """Do what the findings say, as the example does."""
    example.lead(begun.model, begun.optimizer, begun.next_loss, begun.steps, say=say)


def map_alpha(begun: Started, say: Say) -> None:
    """Divide the learning rate by 1 + the median of alpha now and then, as alpha of Cockpit's paper suggests."""
    for _ in range(MAPPINGS):
        cockpitlite.watch(begun.optimizer, begun.model, panel=["alpha"], every=2)
        example.train(begun.optimizer, begun.next_loss, BETWEEN, example.no_advice)
        begun.optimizer.cockpit.close()  # type: ignore[attr-defined]
        alpha = _median_alpha(begun.optimizer.cockpit.run)  # type: ignore[attr-defined]
        factor = 1.0 if math.isnan(alpha) else min(max(1 / (1 + alpha), 1 / MOST), MOST) if alpha > -1 else MOST
        for group in begun.optimizer.param_groups:
            group["lr"] *= factor
        say(f"alpha {alpha:.3g}: ×{factor:.3g}")
    example.train(begun.optimizer, begun.next_loss, begun.steps - MAPPINGS * BETWEEN, example.no_advice)


POLICIES = {"keep": keep, "follow": follow, "alpha": map_alpha}


def _median_alpha(run: Path) -> float:
    """Return the median of Cockpit's alpha over a run, NaN where there is none."""
    with contextlib.suppress(KeyError):
        _, alphas = cockpitlite.load(run).series("alpha")
        alphas = alphas[np.isfinite(alphas)]
        return float(np.median(alphas)) if len(alphas) else math.nan
    return math.nan


def _loss(program: Program, model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        loss = float(program.loss(model.eval()(inputs), targets))
    return loss if math.isfinite(loss) else math.inf
