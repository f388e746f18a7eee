"""Run files made up value by value, for rules: a healthy run unless told otherwise."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cockpitlite.store import RunWriter

LAYERS = ("first.weight", "first.bias", "last.weight")
PARAMETERS = {"no_gradient": [], "not_in_optimizer": [], "frozen": [], "foreign": 0}


def falling(step):
    """A loss that falls from 2.3 to about 0.5 within a few hundred steps."""
    return 0.5 + 1.8 * math.exp(-step / 150)


def diagnosed(step):
    """Whether the paired step lengths are measured at this step."""
    return step % 5 == 0 if step < 50 else step >= 500 and step % 500 < 10


@dataclass
class MadeRun:
    """What a made-up run holds.

    ``same`` and ``after`` are the paired step lengths, ``noise`` their spread from step to step. ``values`` replaces
    readings by functions of the step (None: not at that step) or drops them (None); ``layers`` does so for values per
    layer, as functions that return one value for each of LAYERS. ``events`` are (step, kind, data).
    """

    steps: int = 60
    family: str = "sgd"
    optimizer: str = "Any"
    rate: Callable[[int], float] | float = 0.1
    same: Callable[[int], float] | float = -0.2
    after: Callable[[int], float] | float = -0.1
    noise: float = 0.01
    loss: Callable[[int], float] = falling
    spread: float = 0.8
    uphill: Callable[[int], bool] = lambda step: False
    values: Mapping[str, Callable[[int], float | None] | None] = field(default_factory=dict)
    layers: Mapping[str, Callable[[int], Sequence[float]] | None] = field(default_factory=dict)
    events: Sequence[tuple[int, str, dict[str, Any]]] = ((0, "start", {}), (0, "parameters", PARAMETERS))
    group: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0

    def write(self, path: Path) -> Path:
        """Write the run file and return its path."""
        random = np.random.default_rng(0)
        with contextlib.closing(RunWriter(path)) as writer:
            group = {"lr": _at(self.rate, 0), **self.group}
            optimizer = {"class": self.optimizer, "family": self.family, "groups": [group]}
            writer.meta(**{"status": "finished", "optimizer": optimizer, **self.meta})
            for step, kind, data in self.events:
                writer.event(step, kind, data)
            for step in range(self.first, self.first + self.steps):
                for name, value in self._readings(step, random).items():
                    writer.reading(name, step, value)
                for name, function in {**self._layers(), **self.layers}.items():
                    if function is not None:
                        writer.layers(name, step, LAYERS, np.array(function(step), dtype=float))
        return path

    def _readings(self, step: int, random: np.random.Generator) -> dict[str, float]:
        values = {
            "loss": self.loss(step) * (1 + 0.02 * random.normal()),
            "loss_std": self.spread,
            "batch_size": 64.0,
            "learning_rate": _at(self.rate, step),
            "update_size": 0.05,
            "update_ratio": 0.02,
            "grad_norm": 1.0,
            "grad_norm_clipped": 1.0,
            "distance": 0.01 * step,
        }
        if diagnosed(step):
            values |= self._slopes(step, random)
        for name, function in self.values.items():
            values.pop(name, None)
            value = None if function is None else function(step)
            if value is not None:
                values[name] = value
        return values

    def _slopes(self, step: int, random: np.random.Generator) -> dict[str, float]:
        start = -(1 + 0.2 * random.random()) * (-1 if self.uphill(step) else 1)
        same, after = (_at(length, step) + self.noise * random.normal() for length in (self.same, self.after))
        return {
            "alpha_same": same,
            "alpha_next": after,
            "slope_same_start": start,
            "slope_same_end": -same * start,
            "slope_next_start": start,
            "slope_next_end": -after * start,
        }

    def _layers(self) -> dict[str, Callable[[int], Sequence[float]]]:
        return {
            "update_size": lambda step: (0.03, 0.01, 0.03),
            "grad_norm": lambda step: (0.5, 0.2, 0.8),
            "distance": lambda step: (0.01 * step, 0.01 * step, 0.01 * step),
        }


def changed(run: MadeRun, **changes: Any) -> MadeRun:
    """Return a run with some things changed."""
    return dataclasses.replace(run, **changes)


def _at(value: Callable[[int], float] | float, step: int) -> float:
    return float(value(step) if callable(value) else value)
