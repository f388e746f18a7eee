"""The oracle's problems, trained under our panel."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

import cockpitlite
from cockpitlite import instruments
from cockpitlite.store import Run

from .problems import COSTLY_EVERY, DRAWS, SMALL, STILL, Problem

FIRST_ORDER = (
    "loss",
    "alpha",
    "update_size",
    "distance",
    "grad_norm",
    "norm_test",
    "inner_test",
    "ortho_test",
    "mean_gsnr",
    "cabs",
    "early_stopping",
)
SPECTRUM = ("hess_max_ev", "hess_min_ev")

# Cockpit's default bins, and at each end one more: it counts what lies outside in the outermost bin.
FAR = 1e9
EDGES = [-FAR, *np.linspace(-2, 2, 101).tolist(), FAR]
JOINT_EDGES = ([-FAR, *np.linspace(-1, 1, 41).tolist(), FAR], [-FAR, *np.linspace(-2, 2, 51).tolist(), FAR])


@dataclass(frozen=True)
class Training:
    """What was read, and the parameters before every step and after the last, each flat."""

    run: Run
    parameters: list[list[Tensor]]


def train(
    problem: Problem,
    panel: Sequence[Any],
    path: Path,
    batches: Iterable[tuple[Tensor, Tensor]],
    every: int | Callable[[int], bool] = 1,
) -> Training:
    """Train as Cockpit does, watched."""
    model = problem.model()
    optimizer = cockpitlite.watch(problem.optimizer(model), model, panel=panel, every=every, run=path)
    mean_loss = nn.CrossEntropyLoss()
    passed = [_flat(model)]
    for images, classes in batches:
        optimizer.zero_grad()
        mean_loss(model(images), classes).backward()
        optimizer.step()
        passed.append(_flat(model))
    optimizer.cockpit.close()
    return Training(cockpitlite.load(path), passed)


def train_all(name: str, problem: Problem, folder: Path) -> dict[str, Training]:
    """Train once for each kind of reading: what costs little, the histograms, and each diagonal of the curvature."""
    histograms = [
        "grad_norm",
        instruments.GradHist1d(edges=EDGES, exact=True),
        instruments.GradHist2d(edges=JOINT_EDGES, exact=True),
    ]
    first = [*FIRST_ORDER, *(SPECTRUM if name in SMALL else ())]
    costly = {"histograms": histograms, "diag_h": with_diagonal("diag_h"), "ggn_exact": with_diagonal("ggn_exact")}
    trained = {"first": train(problem, first, folder / "first.cockpit", problem.batches())}
    for kind, panel in costly.items():
        path = folder / f"{kind}.cockpit"
        trained[kind] = train(problem, panel, path, problem.batches(), every=COSTLY_EVERY[name])
    return trained


def draw(panel: Sequence[Any], path: Path) -> Run:
    """Read the same batch at the same parameters, over and over."""
    return train(STILL, panel, path, [next(STILL.batches())] * DRAWS).run


def with_diagonal(kind: str) -> list[cockpitlite.Instrument]:
    """The instruments that take a diagonal of the curvature, all with this one."""
    kinds = (instruments.HessTrace, instruments.TicDiag, instruments.TicTrace)
    return [instrument(curvature=kind) for instrument in kinds]


def _flat(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().flatten().clone() for parameter in model.parameters()]
