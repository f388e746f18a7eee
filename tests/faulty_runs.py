"""Made-up runs of a deep classifier, healthy unless told otherwise, with all that the rules about faults look at."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import PARAMETERS, diagnosed, falling

from cockpitlite.diagnosis import Finding, diagnose, unjudged
from cockpitlite.store import Column, RunWriter

WEIGHTS = tuple(f"net.{2 * index}.weight" for index in range(6))
PARAMETER_NAMES = tuple(name for weight in WEIGHTS for name in (weight, weight.replace("weight", "bias")))
ACTIVATIONS = tuple(f"net.{2 * index + 1}" for index in range(5))
CLASSES = 10
MODEL = {
    "class": "Sequential",
    "layers": [{"name": weight[:-7], "class": "Linear", "parameters": 64 * 65} for weight in WEIGHTS],
}
LAYERED = {
    "grad_norm": PARAMETER_NAMES,
    "update_size": PARAMETER_NAMES,
    "update_ratio": PARAMETER_NAMES,
    "zero_gradient": PARAMETER_NAMES,
    "weight_std": WEIGHTS,
    "row_spread": WEIGHTS,
    "dead_units": ACTIVATIONS,
    "saturated_units": ACTIVATIONS,
    "class_loss": tuple(str(label) for label in range(CLASSES)),
}
PROBES = (
    "dead_units",
    "saturated_units",
    "zero_gradient",
    "input_mean",
    "input_std",
    "input_min",
    "input_max",
    "input_spread",
    "input_fingerprint",
    "classes",
    "label_entropy",
    "labels",
    "probability_rows",
    "log_probability_rows",
    "clip_factor",
    "stale_gradient",
    "weight_std",
    "row_spread",
)
Values = Callable[[int], float | Sequence[float] | None]


@dataclass
class FaultyRun:
    """What such a run holds.

    ``readings`` replaces readings by functions of the step, which give a number or one for each layer, or drops them
    (None). Probes are read on the diagnosis schedule, the others on every step.
    """

    steps: int = 60
    readings: Mapping[str, Values | None] = field(default_factory=dict)
    family: str = "sgd"
    optimizer: str = "SGD"
    group: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=lambda: MODEL)
    events: Sequence[tuple[int, str, dict[str, Any]]] = ()
    first: int = 0
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the run file and return its path."""
        random = np.random.default_rng(0)
        with contextlib.closing(RunWriter(path)) as writer:
            group = {"lr": 0.1, "weight_decay": 0.0, **self.group}
            optimizer = {"class": self.optimizer, "family": self.family, "groups": [group]}
            writer.meta(status="finished", optimizer=optimizer, model=self.model)
            for step, kind, data in ((0, "parameters", PARAMETERS), *self.events):
                writer.event(step, kind, data)
            for step in range(self.first, self.first + self.steps):
                self._write_step(writer, step, random)
        return path

    def _write_step(self, writer: RunWriter, step: int, random: np.random.Generator) -> None:
        columns: list[Column] = []
        numbers: list[float] = []
        for name, give in {**self._healthy(random), **self.readings}.items():
            on_schedule = (name not in PROBES and not name.startswith("slope_")) or diagnosed(step)
            value = give(step) if give is not None and on_schedule else None
            if value is None:
                continue
            names = {**LAYERED, **self.layers}.get(name)
            if names is None or isinstance(value, int | float):
                columns.append(Column(name))
                numbers.append(float(value))
            else:
                columns.append(Column(name, tuple(names)))
                numbers += [float(np.nanmean(value)) if np.isfinite(value).any() else math.nan, *value]
        writer.frame(step, columns, np.array(numbers))

    def _healthy(self, random: np.random.Generator) -> dict[str, Values]:
        def noisy(value: float) -> float:
            return value * (1 + 0.02 * random.normal())

        many, weights, units = len(PARAMETER_NAMES), len(WEIGHTS), len(ACTIVATIONS)
        return {
            "loss": lambda step: noisy(falling(step)),
            "loss_std": lambda step: 0.8,
            "batch_size": lambda step: 64.0,
            "learning_rate": lambda step: 0.1,
            "slope_same_start": lambda step: -noisy(1.0),
            "slope_same_end": lambda step: -noisy(0.2),
            "slope_next_start": lambda step: -noisy(1.0),
            "slope_next_end": lambda step: -noisy(0.1),
            "grad_norm": lambda step: [noisy(1.0) for _ in range(many)],
            "update_size": lambda step: [noisy(0.05) for _ in range(many)],
            "update_ratio": lambda step: [noisy(0.01) for _ in range(many)],
            "zero_gradient": lambda step: [0.08] * many,
            "weight_std": lambda step: [0.07] * weights,
            "row_spread": lambda step: [1.1] * weights,
            "dead_units": lambda step: [0.1] * units,
            "saturated_units": lambda step: [0.02] * units,
            "class_loss": lambda step: [noisy(falling(step)) for _ in range(CLASSES)],
            "input_mean": lambda step: 0.3,
            "input_std": lambda step: 0.4,
            "input_min": lambda step: 0.0,
            "input_max": lambda step: 1.0,
            "input_spread": lambda step: 50.0,
            "input_fingerprint": lambda step: float(random.integers(1 << 50)),
            "classes": lambda step: float(CLASSES),
            "label_entropy": lambda step: 2.2,
            "labels": lambda step: 64.0,
            "probability_rows": lambda step: 0.0,
            "log_probability_rows": lambda step: 0.0,
            "clip_factor": lambda step: 1.0,
            "stale_gradient": lambda step: 0.0,
        }


def row(count: int, usual: float, **odd: float) -> list[float]:
    """Return as many equal numbers, but for those given by position: ``row(3, 0.1, _1=0.9)``."""
    return [odd.get(f"_{index}", usual) for index in range(count)]


class Judged:
    """Writes made-up runs into a folder and tells what the rules say of each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def run(self, **made: Any) -> Path:
        """Write a run and return its path."""
        self._count += 1
        return FaultyRun(**made).write(self._folder / f"{self._count}.cockpit")

    def __call__(self, history: bool = False, **made: Any) -> dict[str, Finding]:
        """Return the findings by their code."""
        return {finding.code: finding for finding in diagnose(self.run(**made), history=history)}

    def reasons(self, **made: Any) -> dict[str, str]:
        """Return why which rules could not judge."""
        return unjudged(self.run(**made))
