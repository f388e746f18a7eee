"""Run files with the readings of a watched training, made up without training anything.

As a script it is a live trainer: ``python synthetic_runs.py PATH --kind good --rate 20 --steps 600``.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cockpitlite.panel import Panel
from cockpitlite.store import Histogram, RunWriter, this_process

Kind = Literal["small", "good", "large", "nonfinite"]

ALPHA_MARKS = ((-1.0, "no progress"), (0.0, "minimum"), (1.0, "other side"))
PANELS = (
    Panel("Loss", "performance", readings=("loss",), help="Batch loss of every step.").named("loss"),
    Panel("Learning rate", "step size", scale="log", layered=True, per="group").named("learning_rate"),
    Panel("Batch size", "performance", unit="samples").named("batch_size"),
    Panel(
        "Normalized step length α",
        "step size",
        kind="parabola",
        readings=("alpha",),
        marks=ALPHA_MARKS,
        healthy=(-0.9, 0.5),
        help="Where a step ends on the parabola fitted along it: −1 no progress, 0 the minimum, 1 the other side.",
    ).named("alpha"),
    Panel("α on the step's own batch", "step size", kind="parabola", marks=ALPHA_MARKS).named("alpha_same"),
    Panel("α on the next batch", "step size", kind="parabola", marks=ALPHA_MARKS).named("alpha_next"),
    Panel("Update size", "step size", scale="log", layered=True).named("update_size"),
    Panel("Distance from start", "step size", layered=True).named("distance"),
    Panel("Update / weight", "step size", scale="log", layered=True).named("update_ratio"),
    Panel("Gradient norm", "gradients", scale="log", layered=True, readings=("grad_norm", "grad_norm_clipped")).named(
        "grad_norm"
    ),
    Panel(
        "Gradient tests",
        "gradients",
        kind="tests",
        scale="log",
        readings=("norm_test", "inner_test", "ortho_test"),
        healthy=(None, 1.0),
    ).named("gradient_tests"),
    Panel("Gradient noise scale", "gradients", unit="samples", scale="log", ratio=("noise_trace", "grad_signal")).named(
        "noise_scale"
    ),
    Panel("Curvature along the step", "curvature", readings=("alpha_curvature",)).named("alpha_curvature"),
    Panel("Cost of watching", "performance", unit="share of time", readings=("cost_share",)).named("vitals"),
)
HISTOGRAM = Panel(
    "Gradient elements", "gradients", kind="histogram", readings=("grad_hist_1d", "grad_hist_1d_nonfinite")
).named("grad_hist_1d")
JOINT = Panel(
    "Gradient elements × parameters", "gradients", kind="joint", axes=("gradient element", "parameter")
).named("grad_hist_2d")
FULL_PANELS = (
    *PANELS,
    HISTOGRAM,
    JOINT,
    Panel("Signal to noise", "gradients", scale="log", layered=True).named("mean_gsnr"),
    Panel("Early stopping", "gradients", layered=True, marks=((0.0, "stop above"),)).named("early_stopping"),
    Panel("Suggested batch size", "gradients", unit="samples", scale="log").named("cabs"),
    Panel("Dead units", "gradients", unit="share", layered=True).named("dead_units"),
    Panel("Saturated units", "gradients", unit="share", layered=True).named("saturated_units"),
    Panel("Mean activation", "gradients", layered=True).named("activation_mean"),
    Panel("Spread of activations", "gradients", layered=True).named("activation_std"),
    Panel("Trace of the Hessian", "curvature", layered=True, readings=("hess_trace", "hess_trace_std")).named(
        "hess_trace"
    ),
    Panel("TIC (diagonal)", "curvature", scale="log").named("tic_diag"),
    Panel("TIC (trace)", "curvature", scale="log").named("tic_trace"),
    Panel("Curvature along step and gradient", "curvature", readings=("step_curvature", "grad_curvature")).named(
        "step_curvature"
    ),
    Panel("Extreme eigenvalues", "curvature", readings=("hess_max_ev", "hess_min_ev")).named("hess_max_ev"),
    Panel("Edge of stability", "curvature", marks=((1.0, "the edge"),)).named("edge_of_stability"),
    Panel("Accuracy", "performance", readings=("accuracy", "balanced_accuracy")).named("accuracy"),
    Panel("Loss per class", "performance", layered=True, per="class").named("class_loss"),
    Panel("Samples per second", "performance").named("samples_per_second"),
    Panel("Memory", "performance", unit="bytes").named("memory"),
)
BINS = 61  # of the synthetic histograms, whose edges are powers of two of the largest element of their step
LAYERS = (
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
)
SHARES = np.sqrt(np.array([0.22, 0.01, 0.31, 0.02, 0.30, 0.03, 0.10, 0.01]))
CENTRE = {"small": -0.985, "good": -0.15, "large": 0.9, "nonfinite": 0.6}
RATE = {"small": 1e-5, "good": 0.05, "large": 2.0, "nonfinite": 0.5}
NONFINITE_STEP = 180


def diagnosed(step: int) -> bool:
    """Whether the paired step lengths are measured at this step."""
    return (step < 50 and step % 5 == 0) or (step >= 500 and step % 500 < 10)


@dataclass
class SyntheticRun:
    """A made-up training of one kind, written step by step."""

    path: Path
    kind: Kind = "good"
    panels: tuple[Panel, ...] = PANELS
    layers: tuple[str, ...] = LAYERS
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.step = 0
        self.distance = 0.0
        shares = np.resize(SHARES, len(self.layers))
        self.shares = shares / np.linalg.norm(shares)
        self.writer = RunWriter(self.path)
        self.writer.meta(**_description(self.kind, self.layers))
        for panel in self.panels:
            self.writer.panel(panel)
        self.writer.event(0, "start", {})
        self.writer.event(0, "parameters", {"no_gradient": [], "not_in_optimizer": [], "frozen": [], "foreign": 0})
        self.writer.commit()

    def write(self, steps: int) -> None:
        """Write that many further steps and commit them."""
        for _ in range(steps):
            self._write_step()
        self.writer.commit()

    def finish(self) -> None:
        """End the run as a training that came to its end does."""
        self.writer.event(self.step, "finish", {})
        self.writer.meta(status="finished")
        self.writer.close()

    def _write_step(self) -> None:
        step = self.step
        broken = self.kind == "nonfinite" and step >= NONFINITE_STEP
        if broken and step == NONFINITE_STEP:
            self.writer.event(step, "nonfinite", {"what": "gradient", "layer": "fc1.weight", "sample": 17})
        for name, value in self._values(step).items():
            self.writer.reading(name, step, math.nan if broken and name not in SETTINGS else value)
        self._write_layers(step, broken)
        self.writer.clock(step, step / 20)
        self.step += 1

    def _values(self, step: int) -> dict[str, float]:
        noise = self.random.normal
        loss = self._loss(step)
        norm = (0.4 + loss) * math.exp(noise(0, 0.15))
        rate = RATE[self.kind] * (0.5 ** (step // 1000))
        size = rate * norm
        self.distance = math.hypot(self.distance, size)
        alpha = CENTRE[self.kind] + noise(0, 0.25)
        signal, trace = norm**2 * math.exp(noise(0, 0.3)), 40 * norm**2 * (1 + step / 400) * math.exp(noise(0, 0.2))
        inner = 0.5 * math.exp(noise(0, 0.2)) * (1 + step / 600)
        values = {
            "loss": loss,
            "loss_std": 0.3 * loss,
            "learning_rate": rate,
            "batch_size": 64.0 if step % 28 != 27 else 33.0,
            "alpha": alpha,
            "alpha_std": 0.08,
            "alpha_curvature": 3.0 * math.exp(noise(0, 0.5)),
            "uphill": float(self.random.random() < 0.02),
            "update_size": size,
            "distance": self.distance,
            "update_ratio": size / 12,
            "grad_norm": norm,
            "grad_norm_clipped": min(norm, 1.2),
            "norm_test": math.hypot(inner, 1.5 * inner),
            "inner_test": inner,
            "ortho_test": 1.5 * inner,
            "noise_trace": trace,
            "grad_signal": signal - 0.25 * norm**2 * abs(noise()),
            "cost_share": 0.09 + 0.01 * noise(),
            "interval": 1.0,
        }
        values["noise_scale"] = values["noise_trace"] / values["grad_signal"]
        observed = {"f0": loss, "f1": self._loss(step + 1), "d0": -norm, "d1": alpha * norm}
        for name, value in observed.items():
            values |= {f"alpha_{name}": value, f"alpha_{name}_var": 0.1 * abs(value)}
        if diagnosed(step):
            values |= self._paired(norm)
        return values

    def _paired(self, norm: float) -> dict[str, float]:
        """The paired step lengths, which are much less noisy than alpha."""
        slope = -(norm**2)
        same = CENTRE[self.kind] + self.random.normal(0, 0.01)
        after = same + abs(self.random.normal(0.05, 0.02))
        return {
            "alpha_same": same,
            "slope_same_start": slope,
            "slope_same_end": -same * slope,
            "alpha_next": after,
            "slope_next_start": 0.9 * slope,
            "slope_next_end": -after * 0.9 * slope,
        }

    def _loss(self, step: int) -> float:
        noise = math.exp(self.random.normal(0, 0.08))
        if self.kind == "small":
            return 2.303 * math.exp(-step / 40_000) * (0.9 + 0.1 * noise)
        if self.kind == "large":
            return (2.303 + 6 * min(step, 30) / 30) * noise
        return (0.05 + 2.25 * math.exp(-step / 120)) * noise

    def _write_layers(self, step: int, broken: bool) -> None:
        size = RATE[self.kind] * (0.4 + self._loss(step))
        jitter = np.exp(self.random.normal(0, 0.1, len(self.layers)))
        spread = self.shares * jitter
        per_layer = {
            "grad_norm": spread * (0.4 + self._loss(step)),
            "update_size": spread * size,
            "distance": self.shares * self.distance,
            "update_ratio": jitter * size / 12,
        }
        for name, values in per_layer.items():
            self.writer.layers(name, step, self.layers, values * (np.nan if broken else 1.0))
        self.writer.layers("learning_rate", step, ("0",), np.array([RATE[self.kind]]))


@dataclass
class FullRun(SyntheticRun):
    """The same training with all that the full preset measures: further readings, and histograms."""

    panels: tuple[Panel, ...] = FULL_PANELS

    def _values(self, step: int) -> dict[str, float]:
        noise = self.random.normal
        falling = math.exp(-step / 120)
        further = {
            "mean_gsnr": 0.02 * math.exp(noise(0, 0.2)),
            "early_stopping": 0.3 - falling + noise(0, 0.05),
            "cabs": 40 * (1 + step / 200) * math.exp(noise(0, 0.3)),
            "dead_units": 0.2 - 0.1 * falling + noise(0, 0.01),
            "saturated_units": 0.05 * abs(noise()),
            "activation_mean": 0.4 + noise(0, 0.02),
            "activation_std": 0.9 + noise(0, 0.02),
            "hess_trace": 300 * (1 - 0.6 * falling) + noise(0, 15),
            "hess_trace_std": 15.0,
            "tic_diag": 900 * falling + 20 * math.exp(noise(0, 0.2)),
            "tic_trace": 0.5 * falling + 0.02 * math.exp(noise(0, 0.2)),
            "step_curvature": 20 * math.exp(noise(0, 0.3)),
            "grad_curvature": 25 * math.exp(noise(0, 0.3)),
            "hess_max_ev": 40 * (1 - 0.7 * falling) + noise(),
            "hess_min_ev": -4 + noise(0, 0.5),
            "edge_of_stability": RATE[self.kind] * 20 * (1 - 0.7 * falling),
            "accuracy": 1 - 0.9 * falling + noise(0, 0.02),
            "balanced_accuracy": 0.97 - 0.9 * falling + noise(0, 0.02),
            "class_loss": self._loss(step),
            "samples_per_second": 8000 + 300 * noise(),
            "memory": 3.1e8,
            "grad_hist_1d_error": 1.2e-4,
            "grad_hist_1d_outside": 0.0,
            "grad_hist_1d_nonfinite": 0.0,
        }
        return super()._values(step) | further

    def _write_layers(self, step: int, broken: bool) -> None:
        super()._write_layers(step, broken)
        jitter = np.exp(self.random.normal(0, 0.1, len(self.layers)))
        for name, size in (("mean_gsnr", 0.02), ("early_stopping", 0.2), ("hess_trace", 40.0)):
            self.writer.layers(name, step, self.layers, size * jitter)
        for name, size in (("dead_units", 0.2), ("saturated_units", 0.04), ("activation_mean", 0.4)):
            self.writer.layers(name, step, ("conv1", "conv2", "fc1"), size * jitter[:3])
        self.writer.layers("activation_std", step, ("conv1", "conv2", "fc1"), 0.9 * jitter[:3])
        self.writer.layers("class_loss", step, [str(label) for label in range(8)], self._loss(step) * jitter)
        if not broken:  # bins have no meaning where nothing is finite
            self._write_histograms(step)

    def _write_histograms(self, step: int) -> None:
        size = 1e-3 * (0.05 + math.exp(-step / 150))
        elements = size * self.random.standard_t(3, (len(self.layers), 2000)) * self.shares[:, None]
        elements[:, :200] = 0.0
        parameters = 0.1 * self.random.normal(size=elements.shape)
        edges, others = symmetric_edges(elements), symmetric_edges(parameters)
        counts = np.stack([np.histogram(row, edges)[0] for row in elements])
        for layer, each in zip((None, *self.layers), (counts.sum(axis=0), *counts), strict=True):
            self.writer.histogram("grad_hist_1d", step, Histogram(each, (edges,)), layer)
        joint = np.histogram2d(elements.ravel(), parameters.ravel(), (edges[::2], others[::2]))[0]
        self.writer.histogram("grad_hist_2d", step, Histogram(joint.astype(np.int64), (edges[::2], others[::2])))


def symmetric_edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of bins around zero, each a power of two, of which the last holds the largest value."""
    top = math.frexp(float(np.abs(values).max()))[1]
    positive = 2.0 ** np.arange(top - (BINS - 1) // 2, top + 1)
    return np.concatenate([-positive[::-1], positive])


SETTINGS = ("learning_rate", "batch_size", "cost_share", "interval")


def write_run(path: Path, kind: Kind = "good", steps: int = 200, *, full: bool = False, **options: object) -> Path:
    """Write a finished run and return its path."""
    run = (FullRun if full else SyntheticRun)(path, kind, **options)  # type: ignore[arg-type]
    run.write(steps)
    run.finish()
    return path


def write_dying_run(path: Path, steps: int = 300) -> Path:
    """Write a finished run in whose last steps all units of a layer are dead, and return its path."""
    run = FullRun(path)
    run.write(steps)
    for step in range(steps, steps + 10):
        run.writer.layers("dead_units", step, ("conv1", "conv2", "fc1"), np.array([0.1, 0.2, 1.0]))
        run.writer.reading("dead_units", step, 0.5)
    run.finish()
    return path


def _description(kind: Kind, layers: tuple[str, ...]) -> dict[str, object]:
    return {
        "status": "running",
        "started": time.time(),
        "script": "digits.py",
        "command": ["python", "digits.py"],
        "pid": os.getpid(),
        "process": this_process(),
        "host": socket.gethostname(),
        "git_commit": "0" * 40,
        "git_dirty": False,
        "seed": 0,
        "device": "cpu",
        "versions": {"python": "3.12", "torch": "2.13", "cockpitlite": "0.1", "numpy": "2"},
        "model": {
            "class": "DigitsCNN",
            "parameters": 21_840,
            "trainable": 21_840,
            "layers": [{"name": name, "class": "Conv2d", "parameters": 1} for name in layers],
        },
        "optimizer": {
            "class": "SGD",
            "family": "sgd",
            "groups": [{"lr": RATE[kind], "momentum": 0.0, "weight_decay": 0.0, "maximize": False}],
        },
        "panel": ["economy"],
        "schedule": "every step",
        "samples": None,
    }


def main() -> None:
    """Write a live run until its steps are done or the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--kind", choices=sorted(CENTRE), default="good")
    parser.add_argument("--rate", type=float, default=20.0, help="steps per second")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--head", type=int, default=0, help="steps written at once at the start")
    parser.add_argument("--full", action="store_true", help="with all that the full preset measures")
    arguments = parser.parse_args()
    run = (FullRun if arguments.full else SyntheticRun)(arguments.path, arguments.kind)
    if arguments.head:
        run.write(arguments.head)
    batch = max(1, round(arguments.rate / 5))
    while run.step < arguments.steps:
        run.write(batch)
        time.sleep(batch / arguments.rate)
    run.finish()


if __name__ == "__main__":
    main()
