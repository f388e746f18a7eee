"""The learning rate over the run: what it is now, whether it still rises or is being lowered, where it jumped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.thresholds import Family
from cockpitlite.store import Steps, Values

FAMILY_WORDS: dict[Family, str] = {
    "sgd": "SGD",
    "momentum": "SGD with momentum",
    "adam": "optimizers like Adam",
    "other": "an optimizer of this kind",
}

_KNOWN = 3  # learning rates that tell a gradual rise from a jump


@dataclass(frozen=True)
class Rate:
    """The learning rate of the first parameter group; ``now`` is NaN where it is unknown.

    ``rising`` is a warm-up that goes on, ``lowered`` a rate below its highest. ``changed`` are the steps from which on
    other settings hold than before: the rate jumped, or another hyperparameter was set.
    """

    steps: Steps
    values: Values
    rising: bool
    lowered: bool
    changed: tuple[int, ...]

    @property
    def now(self) -> float:
        """The last known learning rate."""
        return float(self.values[-1]) if len(self.values) else math.nan

    @property
    def settled(self) -> int:
        """The first step under the present settings."""
        return self.changed[-1] if self.changed else 0

    def at(self, step: int) -> float:
        """Return the learning rate of a step, NaN where it is unknown."""
        index = int(np.searchsorted(self.steps, step, side="right")) - 1
        return float(self.values[max(index, 0)]) if len(self.values) else math.nan


def rate(readings: Readings) -> Rate:
    """Return what is known of the learning rate."""
    steps, values = _recorded(readings)
    set_anew = {event.step for event in readings.events("settings")}
    return Rate(
        steps,
        values,
        rising=_rises(steps, values),
        lowered=bool(len(values) and values[-1] < t.DECAYED * values.max()),
        changed=tuple(sorted(set_anew | set(_jumps(steps, values)))),
    )


def family(readings: Readings) -> Family:
    """Return which thresholds the run's optimizer is judged by."""
    name = _optimizer(readings).get("family")
    return cast(Family, name) if name in get_args(Family) else "other"


def calibrated(readings: Readings) -> bool:
    """Whether the calibration runs had such an optimizer."""
    return family(readings) != "other" or optimizer_class(readings) == "RMSprop"


def looks_ahead(readings: Readings) -> bool:
    """Whether the optimizer takes Adam's steps with Nesterov's momentum, which go further than others."""
    return _optimizer(readings).get("class") == "NAdam"


def momentum(readings: Readings) -> float:
    """Return the momentum (or the first beta) of the first parameter group, 0 without one."""
    betas = _group(readings).get("betas")
    value = betas[0] if isinstance(betas, list) and betas else _group(readings).get("momentum")
    return float(value) if isinstance(value, int | float) else 0.0


def second_beta(readings: Readings) -> float:
    """Return the decay of the average of squared gradients, 0 without one."""
    betas = _group(readings).get("betas")
    return float(betas[1]) if isinstance(betas, list) and len(betas) > 1 else 0.0


def weight_decay(readings: Readings) -> float | None:
    """Return the largest weight decay of the parameter groups, None where the run does not tell."""
    found = [group.get("weight_decay") for group in settings(readings)]
    known = [float(value) for value in found if isinstance(value, int | float)]
    return max(known) if known else None


def decoupled(readings: Readings) -> bool:
    """Whether the optimizer decays the weights beside the gradient step and not through the gradient."""
    return optimizer_class(readings) in ("AdamW", "Lion", "SGDW")


def _recorded(readings: Readings) -> tuple[Steps, Values]:
    try:
        steps, values = readings.series("learning_rate")
    except Unjudged:
        first = _group(readings).get("lr")
        if not isinstance(first, int | float):
            return np.empty(0, np.int64), np.empty(0)
        return np.zeros(1, np.int64), np.array([float(first)])
    known = np.isfinite(values)
    return steps[known], values[known]


def _rises(steps: Steps, values: Values) -> bool:
    """Whether the rate has grown gradually over the last fifth of the run, and over the last three known values."""
    if len(values) < _KNOWN:
        return False
    count = int(np.sum(steps >= steps[-1] - max((steps[-1] - steps[0]) // 5, 2)))
    latest = values[-max(count, _KNOWN) :]
    gradual = len(np.unique(latest)) >= _KNOWN and bool(np.all(np.diff(latest) >= 0))
    return gradual and bool(latest[-1] > t.RISE * latest[0])


def _jumps(steps: Steps, values: Values) -> list[int]:
    """Return the steps at which the rate changed far and more abruptly than just before, as no gradual schedule does.

    Leaving 0 counts, reaching it does not: then there is no other rate to judge.
    """
    change = np.abs(np.diff(np.log(np.maximum(values, np.finfo(np.float64).tiny))))
    before = np.concatenate([[0.0], change[:-1]])[: len(change)]
    jumped = (change > math.log(t.JUMP)) & (change > t.ABRUPT * before) & (values[1:] > 0)
    return [int(step) for step in steps[1:][jumped]]


def optimizer_class(readings: Readings) -> str:
    """Return the name of the optimizer's class, empty where the run does not tell."""
    return str(_optimizer(readings).get("class") or "")


def settings(readings: Readings) -> list[dict[str, Any]]:
    """Return the settings of the parameter groups, as the run began."""
    groups = _optimizer(readings).get("groups")
    return [group for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []


def _group(readings: Readings) -> dict[str, Any]:
    groups = settings(readings)
    return groups[0] if groups else {}


def _optimizer(readings: Readings) -> dict[str, Any]:
    found = readings.meta.get("optimizer")
    return found if isinstance(found, dict) else {}
