"""How often runs with given readings had a learning rate that was too small, good or too large: 2750 labelled runs.

734 of the study that the limits were fitted to, and 2016 of the benchmark of learning rates that had no part in any
limit. ``benchmarks/rates/calibrating.py`` counts them.
"""

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
    median, and where 10 and 90 % of the runs lie (of ten at least, some of them from the rows beside).
    """

    below: float
    counts: tuple[int, int, int]
    factor: tuple[float, float, float]


_SGD = (
    Row(-0.99, (190, 2, 0), (110, 17, 280)),
    Row(-0.95, (38, 5, 0), (17, 6.6, 280)),
    Row(-0.87, (19, 4, 0), (12, 6.6, 91)),
    Row(-0.70, (8, 9, 0), (6.6, 2.6, 43)),
    Row(-0.50, (5, 9, 0), (6.6, 1, 17)),
    Row(-0.30, (3, 3, 0), (2.6, 1, 9.7)),
    Row(0.0, (2, 20, 2), (1.8, 0.69, 6.6)),
    Row(0.30, (4, 29, 7), (1, 0.88, 2.6)),
    Row(math.inf, (2, 10, 2), (1, 0.63, 2.6)),
)
_MOMENTUM = (
    Row(-0.99, (201, 15, 0), (110, 6.6, 730)),
    Row(-0.95, (46, 18, 0), (43, 6.6, 280)),
    Row(-0.87, (25, 23, 0), (17, 6.6, 43)),
    Row(-0.70, (11, 45, 1), (6.6, 2.6, 17)),
    Row(-0.50, (3, 31, 3), (2.6, 0.39, 5)),
    Row(-0.30, (0, 24, 3), (1, 0.88, 2.6)),
    Row(0.0, (1, 30, 4), (1, 0.39, 1)),
    Row(0.30, (1, 16, 14), (0.39, 0.39, 1)),
    Row(math.inf, (0, 1, 7), (0.39, 0.39, 1)),
)
_ADAM = (
    Row(-0.99, (274, 24, 0), (110, 17, 280)),
    Row(-0.95, (51, 36, 0), (6.6, 5, 43)),
    Row(-0.87, (9, 52, 0), (6.6, 2.6, 17)),
    Row(-0.70, (0, 77, 0), (2.6, 1, 6.6)),
    Row(-0.50, (0, 55, 5), (1, 1, 2.6)),
    Row(-0.30, (0, 27, 10), (0.39, 0.39, 1)),
    Row(0.0, (0, 50, 32), (0.39, 0.15, 1.2)),
    Row(0.30, (0, 6, 36), (0.15, 0.059, 0.39)),
    Row(math.inf, (0, 5, 8), (0.15, 0.15, 1)),
)
_OTHER = (
    Row(-0.99, (63, 0, 0), (280, 43, 730)),
    Row(-0.95, (19, 2, 0), (110, 17, 110)),
    Row(-0.87, (12, 4, 0), (17, 6.6, 43)),
    Row(-0.70, (12, 4, 0), (17, 6.6, 17)),
    Row(-0.50, (4, 8, 0), (6.6, 2.6, 16)),
    Row(-0.30, (0, 3, 0), (2.6, 1, 12)),
    Row(0.0, (4, 17, 0), (2.6, 1, 6.6)),
    Row(0.30, (2, 15, 0), (2.6, 0.39, 6.6)),
    Row(math.inf, (0, 5, 0), (2.6, 0.39, 6.6)),
)
TABLE: dict[Family, tuple[Row, ...]] = {"sgd": _SGD, "momentum": _MOMENTUM, "adam": _ADAM, "other": _OTHER}

# Runs of each class with such a course of the loss in the first steps; every blow-up was pending once.
BLOW_UPS: dict[BlowUp, tuple[int, int, int]] = {
    "none": (1009, 685, 122),
    "pending": (0, 57, 877),
    "recovered": (0, 23, 177),
    "overcome": (0, 23, 15),
    "lasting": (0, 2, 637),
}
RUNS = (1009, 742, 999)

# How much likelier in too large than in good runs, both with long steps on their own batch and without a blow-up: step
# length on the next batch from here on.
NEXT: dict[Family, tuple[tuple[float, float], ...]] = {
    "momentum": ((-math.inf, 0.33), (0.50, 0.93), (0.70, 7.3)),
    "adam": ((-math.inf, 0.68), (0.30, 2.3)),
}

# How often a verdict was right, which bounds what is claimed for a single run.
GOOD_IN_RANGE: dict[Family, float] = {"sgd": 58 / 81, "momentum": 123 / 150, "adam": 227 / 260, "other": 46 / 55}
RIGHT_IF_LARGE: dict[Family, float] = {"momentum": 4.5 / 5, "adam": 35.5 / 41}

# Best over used learning rate of the benchmark's runs that blew up: median, and where 10 and 90 % of them lie.
BLOW_UP_FACTOR = (0.059, 0.009, 0.39)


def row(family: Family, same: float) -> Row:
    """Return the row of the table that a step length on its own batch falls into."""
    return next(candidate for candidate in TABLE[family] if same < candidate.below)


def posterior(blow_up: BlowUp, family: Family = "other", same: float | None = None, after: float | None = None) -> Odds:
    """Return the probabilities of the three classes, given what was measured.

    The prior is multiplied by how often each class of the calibration runs showed this course of the loss, this step
    length on its own batch (``same``) and, for too large ones, on the next batch (``after``). Half a run is added to
    every count, so that nothing becomes certain or impossible for want of runs.
    """
    odds = dict(PRIOR)
    for name, count, runs in zip(CLASSES, BLOW_UPS[blow_up], RUNS, strict=True):
        odds[name] *= (count + 0.5) / (runs + 1)
    if same is not None:
        for index, name in enumerate(CLASSES):
            runs_without = sum(entry.counts[index] + 0.5 for entry in TABLE[family])
            odds[name] *= (row(family, same).counts[index] + 0.5) / runs_without
    if after is not None:
        odds["large"] *= next((factor for limit, factor in reversed(NEXT.get(family, ())) if after >= limit), 1.0)
    total = sum(odds.values())
    return {name: value / total for name, value in odds.items()}


def beyond(limit: float, value: float, error: float) -> float:
    """Return the probability that a value measured with a standard error truly lies below ``limit``."""
    if math.isnan(error):
        return 0.5
    if error == 0:
        return 1.0 if value < limit else 0.0
    return 0.5 * math.erfc((value - limit) / (error * math.sqrt(2)))
