"""How often runs with given readings had a learning rate that was too small, good or too large: 734 labelled runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cockpitlite.diagnosis.thresholds import Family

Class = Literal["small", "good", "large"]
BlowUp = Literal["none", "pending", "recovered", "overcome", "lasting"]
Odds = dict[Class, float]

PRIOR: Odds = {"small": 0.3, "good": 0.5, "large": 0.2}
CLASSES: tuple[Class, ...] = ("small", "good", "large")


@dataclass(frozen=True)
class Row:
    """Runs without a blow-up whose step length on its own batch lay below ``below`` (and above the row before).

    ``counts`` are the runs that were too small, good and too large; ``factor`` is best over present learning rate:
    median, and where 10 and 90 % of the runs lie.
    """

    below: float
    counts: tuple[int, int, int]
    factor: tuple[float, float, float]


_SGD = (
    Row(-0.99, (119, 1, 0), (316, 21, 4600)),
    Row(-0.95, (17, 1, 0), (32, 4.6, 460)),
    Row(-0.87, (8, 1, 0), (32, 2, 100)),
    Row(-0.70, (6, 4, 0), (10, 2, 46)),
    Row(-0.50, (0, 4, 0), (10, 2, 10)),
    Row(-0.30, (1, 3, 0), (7, 4.6, 10)),
    Row(0.0, (0, 8, 0), (1.5, 0.8, 4.6)),
    Row(0.30, (4, 12, 5), (1, 0.46, 3.2)),
    Row(math.inf, (2, 5, 1), (1, 0.3, 2.2)),
)
_MOMENTUM = (
    Row(-0.99, (67, 1, 0), (100, 10, 1000)),
    Row(-0.95, (7, 4, 0), (100, 2, 460)),
    Row(-0.87, (7, 4, 0), (46, 2, 100)),
    Row(-0.70, (3, 8, 0), (10, 1, 21)),
    Row(-0.50, (2, 10, 0), (2.2, 1, 4.6)),
    Row(-0.30, (0, 5, 3), (0.7, 0.17, 2.2)),
    Row(0.0, (1, 6, 2), (1, 0.4, 1.2)),
    Row(0.30, (1, 8, 6), (0.46, 0.2, 1)),
    Row(math.inf, (0, 0, 4), (0.1, 0.1, 0.19)),
)
_ADAM = (
    Row(-0.99, (44, 8, 0), (21, 4.6, 215)),
    Row(-0.95, (6, 4, 0), (21, 2, 50)),
    Row(-0.87, (2, 15, 0), (10, 0.7, 14)),
    Row(-0.70, (0, 15, 0), (2.2, 1, 4.6)),
    Row(-0.50, (0, 12, 3), (1, 0.14, 3.2)),
    Row(-0.30, (0, 8, 1), (0.46, 0.4, 1.2)),
    Row(0.0, (0, 11, 11), (0.22, 0.1, 1)),
    Row(0.30, (0, 0, 9), (0.1, 0.02, 0.25)),
    Row(math.inf, (0, 1, 2), (0.12, 0.02, 1)),
)
TABLE: dict[Family, tuple[Row, ...]] = {"sgd": _SGD, "momentum": _MOMENTUM, "adam": _ADAM, "other": _SGD}

# Runs of each class with such a course of the loss in the first 100 steps, of 297 small, 165 good and 272 large ones.
_BLOW_UPS: dict[BlowUp, tuple[int, int, int]] = {
    "none": (297, 160, 35),
    "pending": (0, 5, 237),
    "recovered": (0, 5, 30),
    "overcome": (0, 11, 2),  # of the benchmark of learning rates
    "lasting": (0, 0, 196),
}
_RUNS = (297, 165, 272)

# How much likelier in too large than in good runs: step length on the next batch from here on, without a blow-up.
_NEXT: dict[Family, tuple[tuple[float, float], ...]] = {
    "momentum": ((0.30, 1.9), (0.50, 12.0), (0.70, 40.0)),
    "adam": ((-math.inf, 0.55), (0.30, 17.0)),
}

# How often a verdict was right, which bounds what is claimed for a single run.
GOOD_IN_RANGE: dict[Family, float] = {"sgd": 26 / 38, "momentum": 30 / 38, "adam": 54 / 60, "other": 26 / 38}
RIGHT_IF_LARGE: dict[Family, float] = {"momentum": 4.5 / 5, "adam": 24.5 / 30}

# Best over used learning rate of the 231 runs that blew up: median, and where 10 and 90 % of them lie.
BLOW_UP_FACTOR = (1 / 45, 0.001, 0.22)


def row(family: Family, same: float) -> Row:
    """Return the row of the table that a step length on its own batch falls into."""
    return next(candidate for candidate in TABLE[family] if same < candidate.below)


def posterior(blow_up: BlowUp, family: Family = "other", same: float | None = None, after: float | None = None) -> Odds:
    """Return the probabilities of the three classes, given what was measured.

    The prior is multiplied by how often each class of the calibration runs showed this course of the loss, this step
    length on its own batch (``same``) and, for too large ones, on the next batch (``after``). Half a run is added to
    every count, so that nothing becomes certain for want of runs.
    """
    odds = dict(PRIOR)
    for name, count, runs in zip(CLASSES, _BLOW_UPS[blow_up], _RUNS, strict=True):
        odds[name] *= (count + 0.5) / (runs + 1)
    if same is not None:
        totals = [sum(entry.counts[index] for entry in TABLE[family]) for index in range(3)]
        for name, count, runs in zip(CLASSES, row(family, same).counts, totals, strict=True):
            odds[name] *= (count + 0.5) / (runs + 1)
    if after is not None:
        odds["large"] *= next((factor for limit, factor in reversed(_NEXT.get(family, ())) if after >= limit), 1.0)
    total = sum(odds.values())
    return {name: value / total for name, value in odds.items()}


def beyond(limit: float, value: float, error: float) -> float:
    """Return the probability that a value measured with a standard error truly lies below ``limit``."""
    if math.isnan(error):
        return 0.5
    if error == 0:
        return 1.0 if value < limit else 0.0
    return 0.5 * math.erfc((value - limit) / (error * math.sqrt(2)))
