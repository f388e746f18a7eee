"""Histograms over steps as one matrix of bounded size: neighbouring steps added up, all edges put on one grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store import Histogram, Steps, Values

MOST_COLUMNS = 160  # stretches of steps that are told apart
MOST_BINS = 160  # bins of a grid; adaptive edges that double have room for forty doublings
DRAWN_BINS = 20  # from here on bins around zero that hold next to nothing are drawn as one
NEXT_TO_NOTHING = 0.01  # of the values of any column
NARROW = 1e-3  # a bin around zero that is narrower, compared with all, counts zeros: it is not spread, but stays there
LEAST_COUNT = 1e-3  # less than this, which only spreading wide bins can leave, is nothing
LEAST_SHARE = 1e-6  # of the values in a bin: fainter a colour does not get, so that a single one among many is seen
FULL_SHARE = 3e-3  # from here on it gets no stronger, but another one, which it is at ...
MOST_SHARE = 0.15
TAIL = 0.99  # share of the values that is put into words
PAUSE = 5  # nothing is drawn over a pause that is so many times as long as the distances on both sides of it
CHUNK = 1000  # histograms that are added at once
TICKS = 7

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Columns:
    """Histograms of one quantity, added up over stretches of steps.

    Row c of ``counts`` (float64 ``[column, bin]``) holds the ``stretch`` steps that begin with ``places[c] * stretch``.
    A bin that is wider than those of the grid ``edges`` (``[bin + 1]``) is spread over them by their widths, unless it
    is a narrow one around zero, which goes into theirs.
    ``settled`` says that the grid takes no more edges within its range, ``taken`` counts the histograms, and ``last``
    is the last step.
    """

    places: Steps = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Values = field(default_factory=lambda: np.empty((0, 0)))
    edges: Values = field(default_factory=lambda: np.empty(0))
    stretch: int = 1
    settled: bool = False
    taken: int = 0
    last: int = -1


@dataclass(frozen=True)
class Picture:
    """What a heat map shows: shares ``[bin, column]`` of the values of each column.

    Column c spans ``steps[c]`` to ``steps[c + 1]``, bin b ``edges[b]`` to ``edges[b + 1]``. NaN stands where nothing
    was measured, 0 where nothing was counted.
    """

    steps: Values
    edges: Values
    shares: Values

    def __len__(self) -> int:
        return len(self.steps)


def grown(columns: Columns, found: Iterable[tuple[int, Histogram]]) -> Columns:
    """Return the columns with later histograms added; what is not one of one quantity is passed over."""
    rest = iter(found)
    while chunk := list(itertools.islice(rest, CHUNK)):
        sound = [(step, histogram) for step, histogram in chunk if is_sound(histogram, 1)]
        columns = replace(_added(columns, sound) if sound else columns, last=chunk[-1][0])
    return columns


def is_sound(histogram: Histogram, axes: int) -> bool:
    """Whether a histogram of so many quantities can be drawn; a file from a stranger can hold any."""
    if len(histogram.edges) != axes or any(len(edges) < 2 for edges in histogram.edges):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        widths = [np.diff(edges) for edges in histogram.edges]
    return all(np.isfinite(each).all() and (each > 0).all() for each in widths) and bool((histogram.counts >= 0).all())


def picture(columns: Columns) -> Picture:
    """Return what is drawn of the columns: bins around zero joined, and pauses left blank."""
    if not len(columns.places):
        return Picture(np.empty(0), np.empty(0), np.empty((0, 0)))
    counts = np.where(columns.counts < LEAST_COUNT, 0.0, columns.counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1.0)
    kept = _without_the_middle(shares, columns.edges)
    shares = np.add.reduceat(shares, kept[:-1], axis=1)
    steps, blanks = _extents(columns.places * columns.stretch, columns.stretch)
    return Picture(steps, columns.edges[kept], np.insert(shares, blanks, np.nan, axis=0).T)


def reduced(histogram: Histogram, most: int) -> Histogram:
    """Return what is drawn of a joint histogram: bins around zero joined, and of finer ones neighbours added."""
    counts, edges = histogram.counts, list(histogram.edges)
    for axis in range(counts.ndim):
        sums = np.atleast_2d(counts.sum(axis=1 - axis))
        kept = _without_the_middle(sums / max(int(sums.sum()), 1), edges[axis])
        while len(kept) > most + 1:
            kept = _coarser(kept)
        counts, edges[axis] = np.add.reduceat(counts, kept[:-1], axis=axis), edges[axis][kept]
    return Histogram(counts, tuple(edges))


def bound(counts: NDArray[np.int64], edges: Values, share: float) -> float:
    """Return the least size of an edge that this share of the counted values is not above, whatever their sign.

    NaN where nothing was counted. An upper bound, as nobody knows where in their bins values lie.
    """
    sizes = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    order = np.argsort(sizes, kind="stable")
    below = np.cumsum(counts[order])
    if not len(below) or below[-1] <= 0:
        return math.nan
    return float(sizes[order][np.searchsorted(below, share * below[-1])])


def ticks(edges: Values, most: int = TICKS) -> list[tuple[float, float]]:
    """Return heights and values to label where every bin is as high as any other: edges, and zero within a bin.

    Edge e has the height e; a bin around zero has its middle labelled instead of what is near.
    """
    bins = len(edges) - 1
    if bins < 1:
        return []
    half = np.linspace(0, bins / 2, (min(most, bins + 1) + 1) // 2).astype(int)
    places = np.union1d(half, bins - half)  # the same on both sides of zero
    found = [(float(place), float(edges[place])) for place in places]
    middle = _around_zero(edges)
    if middle is not None:
        apart = bins / most / 2
        found = [(height, value) for height, value in found if abs(height - middle - 0.5) > apart]
        found.append((middle + 0.5, 0.0))
    return sorted(found)


# Adding ------------------------------------------------------------------------------------------------------------


def _added(columns: Columns, found: Sequence[tuple[int, Histogram]]) -> Columns:
    alike: dict[bytes, list[tuple[int, Histogram]]] = {}
    for step, histogram in found:
        alike.setdefault(histogram.edges[0].tobytes(), []).append((step, histogram))
    grid, settled = columns.edges, columns.settled
    for group in alike.values():
        grid, settled = _joined(grid, group[0][1].edges[0], settled)
    steps = [columns.places * columns.stretch]
    counts = [columns.counts @ _spread(columns.edges, grid)] if len(columns.edges) else [np.empty((0, len(grid) - 1))]
    for group in alike.values():
        steps.append(np.array([step for step, _ in group], dtype=np.int64))
        rows = np.stack([histogram.counts for _, histogram in group]).astype(np.float64)
        counts.append(rows @ _spread(group[0][1].edges[0], grid))
    places, sums, stretch = _merged(np.concatenate(steps), np.concatenate(counts), columns.stretch)
    return Columns(places, sums, grid, stretch, settled, columns.taken + len(found))


def _merged(steps: Steps, counts: Values, stretch: int) -> tuple[Steps, Values, int]:
    """Add up what lies in one stretch; stretches double until there are few enough."""
    while True:
        places, column = np.unique(steps // stretch, return_inverse=True)
        if len(places) <= MOST_COLUMNS:
            break
        stretch *= 2
    sums = np.zeros((len(places), counts.shape[1]))
    np.add.at(sums, column, counts)
    return places, sums, stretch


def _joined(grid: Values, edges: Values, settled: bool) -> tuple[Values, bool]:
    """Return a grid that spans further edges too, and whether it is settled.

    It has all edges as long as there is room. Then it is settled, and only grows outwards: were inner edges taken away
    and others put in again and again, counts would be smeared over the bins.
    """
    if not len(grid):
        return _few(edges), len(edges) > MOST_BINS + 1
    edges = _snapped(edges, grid)
    union = np.union1d(grid, edges)
    if not settled and len(union) <= MOST_BINS + 1:
        return (grid if len(union) == len(grid) else union), False
    ends = edges[[0, -1]]
    beyond = ends[(ends < grid[0]) | (ends > grid[-1])]
    return _few(np.union1d(grid, beyond)), True


def _few(edges: Values) -> Values:
    while len(edges) > MOST_BINS + 1:
        edges = _coarser(edges)
    return edges


def _coarser(edges: NDArray[T]) -> NDArray[T]:
    """Join bins two by two."""
    return np.append(edges[:-1:2], edges[-1])


def _snapped(edges: Values, grid: Values) -> Values:
    """Move edges that differ from one of the grid by rounding alone onto it: no count must leak into the next bin."""
    widths = np.diff(edges)
    room = 1e-3 * np.minimum(np.append(widths, widths[-1]), np.insert(widths, 0, widths[0]))
    above = np.clip(np.searchsorted(grid, edges), 1, len(grid) - 1)
    below = above - 1
    nearest = np.where(np.abs(grid[above] - edges) < np.abs(edges - grid[below]), grid[above], grid[below])
    return np.where(np.abs(nearest - edges) <= room, nearest, edges)


def _spread(edges: Values, grid: Values) -> Values:
    """Return the share ``[bin, bin of the grid]`` of each bin that lies in each bin of a grid that spans them all."""
    edges = _snapped(edges, grid)
    lower = np.maximum(edges[:-1, None], grid[None, :-1])
    upper = np.minimum(edges[1:, None], grid[None, 1:])
    overlap = np.clip(upper - lower, 0.0, None)
    source, target = _around_zero(edges), _around_zero(grid)
    if source is not None and target is not None and edges[source + 1] - edges[source] < NARROW * np.ptp(edges):
        overlap[source] = np.arange(len(grid) - 1) == target
    return overlap / overlap.sum(axis=1, keepdims=True)


def _around_zero(edges: Values) -> int | None:
    """Return the place of the bin that has zero within it, None where zero is an edge or outside."""
    place = int(np.searchsorted(edges, 0.0))
    return place - 1 if 0 < place < len(edges) and edges[place] > 0 else None


# Drawing -----------------------------------------------------------------------------------------------------------


def _without_the_middle(shares: Values, edges: Values) -> NDArray[np.intp]:
    """Return the places of the edges to draw: none between zero and the first bins that hold anything to speak of.

    Most of many logarithmic bins lie close to zero. The two next to the middle are joined with it as long as both
    together, and all before them, hold next to nothing in every column.
    """
    last = len(edges) - 1
    low = high = min(int(np.searchsorted(edges, 0.0)), last)
    if low > 0 and edges[low] > 0:
        low -= 1
    below, above = low, high
    while low > 0 and high < last and low + 1 + last - high > DRAWN_BINS:
        joined = shares[:, low - 1 : below].sum(axis=1) + shares[:, above : high + 1].sum(axis=1)
        if (joined > NEXT_TO_NOTHING).any():
            break
        low, high = low - 1, high + 1
    return np.union1d(np.arange(low + 1), np.arange(high, last + 1))


def _extents(starts: Steps, stretch: int) -> tuple[Values, NDArray[np.intp]]:
    """Return where columns begin and the last one ends (the step before included), and where blank ones are put in.

    A column reaches to the next one, but not over a pause in the measurement, which is a column of its own.
    """
    gaps = np.diff(starts)
    pauses = np.flatnonzero(gaps[1:-1] > PAUSE * np.maximum(gaps[:-2], gaps[2:])) + 1
    widths = np.append(gaps, max(int(gaps[-2:].min()) if len(gaps) else 0, stretch))
    widths[pauses] = gaps[pauses - 1]
    return np.union1d(starts, starts + widths) - 0.5, pauses + 1
