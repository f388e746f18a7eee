"""Print what Cockpit 1.0.2 reads of the problems, as JSON; runs where Cockpit is installed."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from backpack import extend
from cockpit import Cockpit, quantities
from cockpit.quantities.hess_max_ev import HVPLinearOperator
from cockpit.quantities.quantity import Quantity
from problems import COSTLY_EVERY, DRAWS, PROBED, PROBLEMS, SMALL, STILL, Problem
from scipy.sparse.linalg import eigsh
from torch import Tensor
from torch.nn import CrossEntropyLoss

Schedule = Callable[[int], bool]
Make = Callable[[Schedule], Quantity]


class Eigenvalue(quantities.HessMaxEV):
    """What Cockpit does with ``use_power=False``, in double precision, and at either end of the spectrum.

    Cockpit's own call works with vectors in float32, whatever the network's precision.
    """

    def __init__(self, schedule: Schedule, end: str) -> None:
        super().__init__(schedule, use_power=False)
        self._end = end

    def _compute(self, global_step: int, params: Sequence[Tensor], batch_loss: Tensor) -> np.float64:
        hessian = HVPLinearOperator(batch_loss, params, grad_params=self._fetch_grad(params), dtype=np.float64)
        start = np.random.default_rng(3).normal(size=hessian.shape[0])
        # The error of an eigenvalue is of the order of the square of this tolerance.
        return np.float64(eigsh(hessian, k=1, which=self._end, v0=start, tol=1e-6, return_eigenvectors=False)[0])


def with_curvature(*curvatures: str) -> dict[str, Make]:
    kinds = (quantities.HessTrace, quantities.TICDiag, quantities.TICTrace)
    return {f"{kind.__name__} {name}": partial(kind, curvature=name) for kind in kinds for name in curvatures}


FIRST_ORDER: dict[str, Make] = {
    "Loss": quantities.Loss,
    "Distance": quantities.Distance,
    "UpdateSize": quantities.UpdateSize,
    "GradNorm": quantities.GradNorm,
    "Time": quantities.Time,
    "Alpha": quantities.Alpha,
    "CABS": quantities.CABS,
    "EarlyStopping": quantities.EarlyStopping,
    "NormTest": quantities.NormTest,
    "InnerTest": quantities.InnerTest,
    "OrthoTest": quantities.OrthoTest,
    "MeanGSNR": quantities.MeanGSNR,
}
HISTOGRAMS: dict[str, Make] = {
    "GradHist1d": quantities.GradHist1d,
    "GradHist2d": partial(quantities.GradHist2d, keep_individual=True),
}
DIAGONALS = with_curvature("diag_h", "diag_ggn_exact")
DRAWN = with_curvature("diag_ggn_mc")
EIGENVALUES: dict[str, Make] = {
    "HessMaxEV power": quantities.HessMaxEV,
    "HessMaxEV largest": partial(Eigenvalue, end="LA"),
    "HessMaxEV smallest": partial(Eigenvalue, end="SA"),
}


def every(steps: int) -> Schedule:
    """A schedule, which says no before the first step, about which Cockpit asks too."""
    return lambda step: step >= 0 and step % steps == 0


def train(
    problem: Problem, tracked: Mapping[str, Quantity], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Train as Cockpit's own examples do: quantity -> step -> value as stored, and the parameters at the end."""
    model = extend(problem.model())
    mean_loss = extend(CrossEntropyLoss(reduction="mean"))
    sample_losses = CrossEntropyLoss(reduction="none")
    optimizer = problem.optimizer(model)
    cockpit = Cockpit(model.parameters(), quantities=tracked.values())
    for step, (images, classes) in enumerate(batches):
        optimizer.zero_grad()
        outputs = model(images)
        loss = mean_loss(outputs, classes)
        info = {
            "batch_size": len(images),
            "individual_losses": sample_losses(outputs, classes).detach(),
            "loss": loss,
            "optimizer": optimizer,
        }
        with cockpit(step, info=info):
            loss.backward(create_graph=cockpit.create_graph(step))
        optimizer.step()
    # Cockpit's own output has one place for each class, and some classes are here more than once.
    readings = {name: quantity.get_output() for name, quantity in tracked.items()}
    return {"readings": readings, "parameters": [p.detach().flatten() for p in model.parameters()]}


def scheduled(makes: Mapping[str, Make], steps: int = 1) -> dict[str, Quantity]:
    return {name: make(every(steps)) for name, make in makes.items()}


def refusals(problem: Problem, makes: Mapping[str, Make]) -> dict[str, str]:
    """What Cockpit says where it does not measure a quantity under this optimizer."""
    refused = {}
    for name, make in makes.items():
        try:
            train(problem, scheduled({name: make}), itertools.islice(problem.batches(), 1))
        except ValueError as error:
            refused[name] = str(error)
    return refused


def read(name: str, problem: Problem) -> dict[str, Any]:
    """Everything Cockpit reads of a problem, and what it refuses to read."""
    refused = refusals(problem, {key: FIRST_ORDER[key] for key in ("CABS", "EarlyStopping")})
    makes = {key: make for key, make in FIRST_ORDER.items() if key not in refused}
    tracked = scheduled(makes) | scheduled(HISTOGRAMS | DIAGONALS, COSTLY_EVERY[name])
    if name in SMALL:
        tracked |= scheduled({"Parameters": quantities.Parameters})
        tracked |= {key: make(lambda step: step in PROBED) for key, make in EIGENVALUES.items()}
    torch.manual_seed(5)
    return train(problem, tracked, problem.batches()) | {"refused": refused}


def draw() -> dict[str, Any]:
    """The values of the stochastic quantities at the same parameters and batch, over and over, and the exact ones."""
    batch = next(STILL.batches())
    torch.manual_seed(4)
    drawn = train(STILL, scheduled(DRAWN), itertools.repeat(batch, DRAWS))["readings"]
    return drawn | train(STILL, scheduled(DIAGONALS), [batch])["readings"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # the power iteration fails where this is not the network's
    found = {name: read(name, problem) for name, problem in PROBLEMS.items()}
    everything = {"quantities": quantities.__all__, "problems": found, "draws": draw()}
    json.dump(everything, sys.stdout, default=lambda tensor: tensor.tolist())
