"""The rules R2 and R3 on what was noted of the runs, with limits that can be fitted to some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.window import length

from .looking import Look

FAMILIES = ("sgd", "momentum", "adam", "other")
CLASSES = ("small", "good", "large")
OFF = math.inf  # a limit that nothing exceeds
GRID = 120  # values of a limit that are tried at most
BEYOND = 1.1  # times the outermost 1 + step length
NEAREST = 1e-4  # of 1 + step length: limits closer to −1 are not told apart

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Below which step lengths a rate is too small, and from which overshoot on it is too large."""

    same: float
    next: float
    large: float


Fitted = dict[str, Limits]
SHIPPED: Fitted = {
    family: Limits(pair.same, pair.next, t.LARGE[family].next if family in t.LARGE else OFF)
    for family, pair in t.SMALL.items()
}


@dataclass(frozen=True)
class Table:
    """What the rules look at, a value for each run ``[run]``.

    ``overshoot`` is the step length on the next batch, with Adam the lesser of both; ``noise`` its error, less the
    margin by which it may miss a limit. ``lowered`` are blow-ups and other warnings that ask for a smaller rate,
    ``small`` and ``large`` whether a run may be called so at all: by everything but the limits.
    """

    family: NDArray[Any]
    same: Numbers
    next: Numbers
    next_error: Numbers
    overshoot: Numbers
    noise: Numbers
    lowered: Flags
    small: Flags
    large: Flags

    @classmethod
    def of(cls, looks: Sequence[Look]) -> Self:
        """Return the statistics of some runs."""
        rows = [_row(look) for look in looks]
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        return cls(np.array([look.family for look in looks]), *columns)

    def __getitem__(self, chosen: Flags) -> Table:
        """Return some of the runs."""
        return Table(**{name: column[chosen] for name, column in vars(self).items()})

    def __len__(self) -> int:
        return len(self.family)


def verdicts(table: Table, limits: Fitted) -> NDArray[Any]:
    """Return what the rules say of each run: "small", "good" or "large"."""
    said = np.full(len(table), "good", dtype=object)
    for family, limit in limits.items():
        of = table.family == family
        said[of & table.small & (table.same < limit.same) & (table.next < limit.next)] = "small"
        said[of & _far(table, limit.large)] = "large"
    said[table.lowered] = "large"
    return said


def fit(table: Table, truth: NDArray[Any]) -> Fitted:
    """Return the limits with which most runs are called what they are; the shipped ones of a family without runs."""
    found = {}
    for family, shipped in SHIPPED.items():
        of = (table.family == family) & ~table.lowered
        found[family] = _fit(table[of], truth[of]) if of.any() else shipped
    return found


def _fit(table: Table, truth: NDArray[Any]) -> Limits:
    """Return the limits of one family: what they call rightly counts for them, what wrongly against them."""
    limits = np.append(_between(table.overshoot[table.large]), OFF)
    far = np.array([_far(table, limit) for limit in limits])  # [limit, run]
    score = far @ np.where(truth == "large", 1, -1)
    best = np.flatnonzero(score == score.max())
    index = int(best[len(best) // 2])
    left = table.small & ~far[index]
    pair = _pair(table.same[left], table.next[left], np.where(truth[left] == "small", 1, -1))
    return Limits(*pair, float(limits[index]))


def _pair(same: Numbers, after: Numbers, worth: NDArray[np.int64]) -> tuple[float, float]:
    """Return the limits below which the runs are worth most together; of equal ones the pair in the middle."""
    same_limits, next_limits = _between(same), _between(after)
    below_same = same[None] < same_limits[:, None]  # [limit, run]
    below_next = after[None] < next_limits[:, None]
    score = (below_same * worth) @ below_next.T.astype(np.int64)
    pairs = np.array([(same_limits[i], next_limits[j]) for i, j in np.argwhere(score == score.max())])
    distance = np.abs(np.log1p(pairs) - np.median(np.log1p(pairs), axis=0)).sum(axis=1)
    first, second = pairs[int(distance.argmin())]
    return float(first), float(second)


def _between(values: Numbers) -> Numbers:
    """Return limits between neighbouring values and just beyond all of them, on the scale of 1 + step length."""
    length = np.unique(np.maximum(1 + values[np.isfinite(values)], NEAREST))
    if not len(length):
        return np.array([NEAREST - 1])
    limits = np.concatenate([length[:1] / BEYOND, np.sqrt(length[1:] * length[:-1]), length[-1:] * BEYOND]) - 1
    return limits if len(limits) <= GRID else limits[np.linspace(0, len(limits) - 1, GRID).round().astype(int)]


def _far(table: Table, limit: float) -> Flags:
    return table.large & (table.overshoot > limit) & (table.overshoot - table.noise > limit)


def _row(look: Look) -> tuple[float, float, float, float, float, bool, bool, bool]:
    same_start, same_end, next_start, next_end = np.array(look.slopes)
    grown = _grown(look, np.abs(same_start))
    same, after = (length(start, end).scaled(grown) for start, end in ((same_start, same_end), (next_start, next_end)))
    descends = math.isfinite(same.value) and math.isfinite(after.value) and not look.faults
    uphill = float(np.mean(same_start > 0)) if len(same_start) else 1.0
    small = descends and len(look.steps) >= t.FEW and uphill < t.UPHILL and not look.left < t.CONVERGED_LOSS
    early = descends and len(look.steps) >= t.MANY and not look.left < t.LEARNING.get(look.family, t.FALLEN)
    if look.family == "adam":
        overshoot, error, large = min(same.value, after.value), same.error, early
    else:
        overshoot, error, large = after.value, after.error, early and same.value > t.LARGE["momentum"].same
    noise = error - t.LARGE_MARGIN.get(look.family, t.LARGE_MARGIN["momentum"])
    return (same.value, after.value, after.error, overshoot, noise, look.lowered, small, large)


def _grown(look: Look, weights: Numbers) -> float:
    """Return how far the learning rate has grown since the measured steps, if far (as after a warm-up)."""
    total = float(weights.sum())
    grown = total / float(weights @ np.array(look.rates)) if total > 0 else 1.0
    return grown if grown > t.JUMP else 1.0
