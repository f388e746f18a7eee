"""Which of our readings equals which of Cockpit's quantities, how nearly, and what differs by design."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store import Run

from .ours import Training

PYTHON = Path(__file__).parent.parent.parent / ".venv-cockpit" / "bin" / "python"

Value = NDArray[np.float64]
Values = dict[int, Value]  # step -> a number, or an array of one per layer or bin


def ask_cockpit() -> dict[str, Any]:
    """Run Cockpit in its own environment; raises RuntimeError with its last words where it fails."""
    script = Path(__file__).parent / "cockpit_reference.py"
    done = subprocess.run([PYTHON, script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


# Ours and theirs in one form -----------------------------------------------------------------------------------------


def of_total(run: Run, name: str) -> Values:
    steps, values = run.series(name)
    return dict(zip(steps.tolist(), values, strict=True))


def of_layers(run: Run, name: str) -> Values:
    steps, _, values = run.layers(name)
    return dict(zip(steps.tolist(), values, strict=True))


def of_counts(run: Run, name: str) -> Values:
    """The counts over all layers, in Cockpit's bins."""
    return {step: clamped(run.histogram(name, step)[0]) for step in of_total(run, f"{name}_outside")}


def of_counts_by_layer(run: Run, name: str) -> Values:
    """The counts over all layers and those of each, in Cockpit's bins; the gradient's norm tells the layers."""
    names = [None, *run.layers("grad_norm")[1]]
    steps = of_total(run, f"{name}_outside")
    return {step: np.stack([clamped(run.histogram(name, step, layer)[0]) for layer in names]) for step in steps}


def clamped(counts: NDArray[np.int64]) -> Value:
    """Add the first bin of each axis to the second, and the last to the last but one."""
    found = counts.astype(np.float64)
    for axis in range(found.ndim):
        first, *inner, last = np.moveaxis(found, axis, 0)
        inner[0], inner[-1] = inner[0] + first, inner[-1] + last
        found = np.moveaxis(np.stack(inner), 0, axis)
    return found


def stored(value: Any) -> Value:
    """What Cockpit stored, as numbers: of a histogram the counts, with those of each parameter where it kept them."""
    if not isinstance(value, dict):
        return np.asarray(value, dtype=np.float64)
    parts = [value[f"param_{index}"]["hist"] for index in range(value.get("param_groups", 0))]
    return np.asarray([value["hist"], *parts] if parts else value["hist"], dtype=np.float64)


def drawn(values: Mapping[Any, Any]) -> Value:
    """The draws of a stochastic reading, ``[draw]``, one a step; those of layers are summed."""
    return np.asarray([np.sum(value) for value in values.values()], dtype=np.float64)


# Differences ---------------------------------------------------------------------------------------------------------


def relative(ours: Value, theirs: Value) -> float:
    """The largest relative difference of any element; where theirs is 0, the difference."""
    return float(np.max(np.abs(ours - theirs) / np.where(theirs == 0, 1.0, np.abs(theirs))))


def around_one(ours: Value, theirs: Value) -> float:
    """The difference of numbers whose natural scale is 1; relative where they are larger."""
    return float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))


def misplaced(ours: Value, theirs: Value) -> float:
    """The share of the elements that were counted in another bin."""
    return float(np.abs(ours - theirs).sum() / theirs.sum())


@dataclass(frozen=True)
class Relation:
    """A quantity, as the oracle names it, and the reading that equals it.

    ``kind`` says which of our runs it is read from. ``lacking`` names who has no value for the last step. ``why``
    says what differs all the same.
    """

    quantity: str
    reading: str
    why: str = ""
    read: Callable[[Run, str], Values] = of_total
    difference: Callable[[Value, Value], float] = relative
    tolerance: float = 1e-8
    kind: str = "first"
    lacking: frozenset[str] = field(default_factory=frozenset)

    def ours(self, trained: Mapping[str, Training]) -> Values:
        return self.read(trained[self.kind].run, self.reading)

    def theirs(self, answer: Mapping[str, Any]) -> Values:
        """What Cockpit read of a problem; empty where it does not read this quantity."""
        return {int(step): stored(value) for step, value in answer["readings"].get(self.quantity, {}).items()}

    def differences(self, answer: Mapping[str, Any], trained: Mapping[str, Training]) -> dict[int, float]:
        """The difference at each step that both have read."""
        theirs = self.theirs(answer)
        if not theirs:
            return {}
        ours = self.ours(trained)
        return {step: self.difference(ours[step], value) for step, value in theirs.items() if step in ours}


PLAIN_SGD = "Cockpit refuses every optimizer but SGD without momentum and weight decay; we read it under all."
TWO_DIAGONALS = (("diag_h", "diag_h"), ("diag_ggn_exact", "ggn_exact"))

RELATIONS = [
    Relation("Loss", "loss"),
    Relation(
        "Alpha",
        "alpha",
        "Cockpit weighs the observations by the variances of single samples, we by those of the batch's mean, which is "
        "the same while all batches have one size; it takes a variance of exactly 0 for 1e-10.",
        difference=around_one,
        lacking=frozenset({"Cockpit", "ours"}),
    ),
    Relation(
        "UpdateSize",
        "update_size",
        "Cockpit learns of a step's end at the next step, and has nothing for the last one.",
        read=of_layers,
        lacking=frozenset({"Cockpit"}),
    ),
    Relation("Distance", "distance", read=of_layers),
    Relation("GradNorm", "grad_norm", read=of_layers),
    Relation("NormTest", "norm_test"),
    Relation("InnerTest", "inner_test"),
    Relation("OrthoTest", "ortho_test"),
    Relation("MeanGSNR", "mean_gsnr", "Both add 1e-5 to a biased variance. We have it per layer too."),
    Relation("CABS", "cabs", PLAIN_SGD),
    Relation("EarlyStopping", "early_stopping", f"Both add 1e-5 to an unbiased variance. {PLAIN_SGD}"),
    Relation(
        "GradHist1d",
        "grad_hist_1d",
        "Cockpit has fixed bins (100 in [−2, 2]), counts what lies outside in the outermost ones, and in the precision "
        "of the gradients (in float32 a bin stops at 16777216 for each thread). Ours are told its bins here; by "
        "themselves they adapt, are integers, exist per layer, and count separately what lies outside or is not "
        "finite.",
        read=of_counts,
        difference=misplaced,
        kind="histograms",
        tolerance=0.0,
    ),
    Relation(
        "GradHist2d",
        "grad_hist_2d",
        "The same, with 40 bins in [−1, 1] for the gradients and 50 in [−2, 2] for the parameters.",
        read=of_counts_by_layer,
        difference=misplaced,
        kind="histograms",
        tolerance=0.0,
    ),
    *(
        Relation(
            f"HessTrace {theirs}",
            "hess_trace",
            f'With `curvature="{ours}"`; both let BackPACK compute it. By default ours is an unbiased estimate.',
            read=of_layers,
            kind=ours,
        )
        for theirs, ours in TWO_DIAGONALS
    ),
    *(
        Relation(
            f"{quantity} {theirs}",
            reading,
            f'With `curvature="{ours}"`. Both add 1e-7 to the curvature. Cockpit takes the diagonal of the Hessian by '
            "default, which is negative in places; ours is that of the GGN.",
            kind=ours,
        )
        for quantity, reading in (("TICDiag", "tic_diag"), ("TICTrace", "tic_trace"))
        for theirs, ours in TWO_DIAGONALS
    ),
]

# Iterations that end: a first probe of ours comes to the end of the spectrum, the later ones as near as they say.
EIGENVALUES = {
    "HessMaxEV largest": (
        "hess_max_ev",
        "Cockpit's `use_power=False`, which takes the largest too; its vectors in float64 here, for its own are in "
        "float32 under any network.",
    ),
    "HessMaxEV smallest": ("hess_min_ev", "Cockpit has none; this is its Hessian product, and the other end."),
}
POWER = (
    "Cockpit's default is the end of the spectrum that is larger in magnitude, which may be the negative one, by at "
    "most 100 steps of a power iteration that stops when two agree to 1e-3, short of the end. It fails where the "
    "network is in float64 and torch's default is not."
)

# Draws: the same in distribution.
DRAWN = {
    "HessTrace diag_ggn_mc": "hess_trace",
    "TICDiag diag_ggn_mc": "tic_diag",
    "TICTrace diag_ggn_mc": "tic_trace",
}
DRAW = (
    "Labels are drawn, so the two agree in distribution. Cockpit draws one for each sample; we draw at least 64 a "
    "step, which is the same from 64 samples on, as here."
)

NOT_COMPARED = {
    "Parameters": "No reading: the parameters are the user's. That both trainings pass through the same ones, to the "
    "last bit, is what makes the comparison one.",
    "Time": "The clock on the wall, which is another for every run. Ours is the run file's clock.",
}
