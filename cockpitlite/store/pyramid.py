"""What stretches of steps hold, so that a long run is drawn without reading it: extremes, samples and odd values.

A stretch is a range of 32, 1024 or 32,768 steps. Its summary keeps of each number the extremes and the steps they were
at, the first value, and what would be lost between these: how many values were not finite, the first of them, and how
many were at or below 0. A stretch with few rows has no summary; its rows are read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store.contents import Steps, Values

STRETCHES = (32, 1024, 32_768)  # in steps, each a multiple of the one before, and none above 2^16
LEAST_ROWS = 8  # of a stretch that has a summary, which takes as many bytes as five
MOST_ROWS = 32_768  # that are read as they are
MOST_STRETCHES = 16_384  # whose summaries are read at once
MOST_BYTES = 2**26  # of rows or summaries that are read at once, each whole, however little of it is asked for

SUMMARY = np.dtype(
    [
        ("first", "<f8"),
        ("low", "<f8"),
        ("high", "<f8"),
        ("first_at", "<u2"),
        ("low_at", "<u2"),
        ("high_at", "<u2"),
        ("broken_at", "<u2"),
        ("broken", "<u2"),
        ("nonpositive", "<u2"),
    ]
)
OFFSETS = ("first_at", "low_at", "high_at", "broken_at")
Summaries = NDArray[np.void]


def start_of(step: int, level: int) -> int:
    """Return the first step of the stretch that a step lies in."""
    return step - step % STRETCHES[level]


def level_within(stretch: int) -> int:
    """Return the level of the longest stretches that are no longer than ``stretch`` steps, -1 for single rows."""
    return sum(steps <= stretch for steps in STRETCHES) - 1


def most_within(bytes_each: int, most: int) -> int:
    """Return how many rows or summaries of so many bytes are read at once, and no more than ``most``."""
    return min(most, MOST_BYTES // bytes_each)


def summary(start: int, steps: Steps, values: Values) -> Summaries:
    """Return the summaries ``[W]`` of a stretch from the values ``[T, W]`` at its steps ``[T]``.

    Extremes of a number that was never finite are NaN.
    """
    found = np.zeros(values.shape[1], SUMMARY)
    column = np.arange(values.shape[1])
    finite = np.isfinite(values)
    offsets = (steps - start).astype(np.uint16)
    for name, empty, place in (("low", np.inf, np.argmin), ("high", -np.inf, np.argmax)):
        row = place(np.where(finite, values, empty), axis=0)
        found[name] = np.where(finite.any(axis=0), values[row, column], np.nan)
        found[f"{name}_at"] = offsets[row]
    found["first"], found["first_at"] = values[0], offsets[0]
    found["broken"], found["broken_at"] = (~finite).sum(axis=0), offsets[np.argmin(finite, axis=0)]
    with np.errstate(invalid="ignore"):
        found["nonpositive"] = (values <= 0).sum(axis=0)
    return found


def merged(start: int, starts: Sequence[int], parts: Sequence[Summaries]) -> Summaries:
    """Return the summaries ``[W]`` of a stretch from those ``[B][W]`` of its parts, in order."""
    stack = np.stack(parts)
    for name in OFFSETS:
        stack[name] += (np.asarray(starts) - start).astype(np.uint16)[:, None]
    column = np.arange(stack.shape[1])
    found = stack[0].copy()
    for name, empty, place in (("low", np.inf, np.argmin), ("high", -np.inf, np.argmax)):
        row = place(np.where(np.isnan(stack[name]), empty, stack[name]), axis=0)
        found[name], found[f"{name}_at"] = stack[name][row, column], stack[f"{name}_at"][row, column]
    found["broken_at"] = stack["broken_at"][np.argmax(stack["broken"] > 0, axis=0), column]
    for name in ("broken", "nonpositive"):
        found[name] = stack[name].sum(axis=0)
    return found


@dataclass(frozen=True)
class Rows:
    """Rows as they are: their steps ``[T]`` and values ``[T, W]``."""

    steps: Steps
    values: Values

    @property
    def outline(self) -> Outline:
        """The first number's outline: all of its points."""
        values = self.values[:, 0]
        ones = np.ones(len(values), np.int64)
        with np.errstate(invalid="ignore"):
            nonpositive = int(np.sum(values <= 0))
        broken = int(np.sum(~np.isfinite(values)))
        return Outline(self.steps, values, ones, self.steps, values, len(values), broken, nonpositive)


@dataclass(frozen=True)
class Stretches:
    """Summaries ``[B, W]`` of stretches of ``stretch`` steps, with their first steps and counts of rows ``[B]``."""

    stretch: int
    starts: Steps
    rows: Steps
    records: Summaries

    @property
    def outline(self) -> Outline:
        """The first number's outline."""
        starts, found = self.starts, self.records[:, 0]
        alive, broken = ~np.isnan(found["low"]), found["broken"] > 0
        steps = [starts[alive] + found["low_at"][alive], starts[alive] + found["high_at"][alive]]
        steps.append(starts[broken] + found["broken_at"][broken])
        values = [found["low"][alive], found["high"][alive], np.full(int(broken.sum()), np.nan)]
        kept, (kept_values,) = ordered(np.concatenate(steps), np.concatenate(values))
        counts = int(self.rows.sum()), int(found["broken"].sum()), int(found["nonpositive"].sum())
        spans = np.full(len(kept), self.stretch, np.int64)
        return Outline(kept, kept_values, spans, starts + found["first_at"], found["first"].copy(), *counts)

    @property
    def extremes(self) -> Rows:
        """All numbers' extremes, two rows for each stretch: the least values, and then the greatest."""
        places = np.stack([self.starts, self.starts + np.maximum(self.rows // 2, 1)], axis=1).reshape(-1)
        both = np.stack([self.records["low"], self.records["high"]], axis=1)
        return Rows(places, both.reshape(len(places), -1))


@dataclass(frozen=True)
class Outline:
    """A series by the points that matter: ``steps`` and ``values`` hold the extremes, and NaN where one was not finite.

    ``spans`` tells for each point how many steps it stands for, 1 where every value is kept. ``sample_steps`` and
    ``sample_values`` are points taken regardless of their size, as many as there are stretches. Of a short series all
    of these are all of it. ``points`` counts what it stands for, ``broken`` the values that are not finite,
    ``nonpositive`` those at or below 0.
    """

    steps: Steps
    values: Values
    spans: Steps
    sample_steps: Steps
    sample_values: Values
    points: int
    broken: int
    nonpositive: int


def joined(parts: Sequence[Outline]) -> Outline:
    """Return the outline of a series from those of its parts, whose steps may lie between each other's."""
    if len(parts) == 1:
        return parts[0]

    def together(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    steps, (values, spans) = ordered(together("steps"), together("values"), together("spans"))
    sample_steps, (sample_values,) = ordered(together("sample_steps"), together("sample_values"))
    points, broken, nonpositive = (
        sum(getattr(part, name) for part in parts) for name in ("points", "broken", "nonpositive")
    )
    return Outline(steps, values, spans, sample_steps, sample_values, points, broken, nonpositive)


def ordered(steps: Any, *columns: Any) -> tuple[Steps, list[Any]]:
    """Return points in the order of their steps, the first of those that share one."""
    found, first = np.unique(steps, return_index=True)
    return found.astype(np.int64), [column[first] for column in columns]


def uncovered(start: int, stop: int, starts: Steps, level: int) -> list[tuple[int, int]]:
    """Return the ranges of steps from ``start`` to before ``stop`` that the stretches do not cover."""
    gaps, at = [], start
    for begin in starts.tolist():
        if begin > at:
            gaps.append((at, begin))
        at = begin + STRETCHES[level]
    return [*gaps, (at, stop)] if at < stop else gaps
