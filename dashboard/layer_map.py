"""A reading of every layer over the steps as one matrix of bounded size, grown as its run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store import LayerStretches, Run, Steps, Values

MOST_CELLS = 40_000
COLUMNS = (64, 256)  # of a map, between many layers and few


@dataclass(frozen=True)
class LayerMap:
    """The extremes of each layer in columns of ``stretch`` steps, column c beginning at step ``starts[c]``.

    ``low`` and ``high`` ``[C, L]`` are the least and greatest finite values, NaN where there was none; ``broken``
    ``[C, L]`` counts the values that were not finite. Columns in which nothing was measured are left out.
    """

    stretch: int = 1
    names: tuple[str, ...] = ()
    starts: Steps = field(default_factory=lambda: np.empty(0, np.int64))
    low: Values = field(default_factory=lambda: np.empty((0, 0)))
    high: Values = field(default_factory=lambda: np.empty((0, 0)))
    broken: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))

    def before(self, step: int) -> LayerMap:
        """Return the columns that begin before a step."""
        kept = slice(int(np.searchsorted(self.starts, step)))
        return LayerMap(self.stretch, self.names, self.starts[kept], self.low[kept], self.high[kept], self.broken[kept])


def read(run: Run, name: str, steps: tuple[int, int], known: LayerMap | None = None) -> LayerMap:
    """Return the map of a reading over a range of steps, its end left out.

    Of ``known``, a map with the same beginning, only the last column is read anew. Raises KeyError for a name this run
    has no reading of.
    """
    layers = len(known.names) if known is not None else len(run.layer_names().get(name, ()))
    stretch = stretch_of(steps, columns_of(layers))
    old, start = [], steps[0]
    if known is not None and len(known.starts) and known.stretch <= stretch:
        start = int(known.starts[-1])
        old = [_stretches(known.before(start - start % stretch))]
    start -= start % stretch
    return joined(stretch, [*old, *run.layer_stretches(name, stretch, start, steps[1])])


def columns_of(layers: int) -> int:
    """Return how many columns a map of so many layers may have."""
    return int(np.clip(MOST_CELLS // max(layers, 1), *COLUMNS))


def stretch_of(steps: tuple[int, int], columns: int) -> int:
    """Return the least power of two that parts a range of steps into no more than so many stretches."""
    stretch = 1
    while (steps[1] - 1) // stretch - steps[0] // stretch >= columns:
        stretch *= 2
    return stretch


def joined(stretch: int, parts: Sequence[LayerStretches]) -> LayerMap:
    """Put stretches, which may lack each other's layers, into columns of ``stretch`` steps."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    places = np.unique(np.concatenate([np.empty(0, np.int64), *(part.starts // stretch for part in parts)]))
    shape = len(places), len(names)
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    broken = np.zeros(shape, np.int64)
    order = {name: index for index, name in enumerate(names)}
    for part in parts:
        if len(part.starts):
            rows = np.searchsorted(places, part.starts // stretch)
            at, first = np.array([order[name] for name in part.names]), _firsts(rows)
            cells = np.ix_(rows[first], at)
            low[cells] = np.fmin(low[cells], np.fmin.reduceat(part.low, first))
            high[cells] = np.fmax(high[cells], np.fmax.reduceat(part.high, first))
            broken[cells] += np.add.reduceat(part.broken, first)
    return LayerMap(stretch, names, places * stretch, low, high, broken)


def _stretches(found: LayerMap) -> LayerStretches:
    return LayerStretches(found.names, found.starts, found.low, found.high, found.broken)


def _firsts(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where each run of equal numbers begins; they ascend."""
    return np.flatnonzero(np.diff(rows, prepend=-1))
