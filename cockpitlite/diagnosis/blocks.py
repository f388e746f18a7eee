"""Values by layer in blocks of steps, so that a long run of a wide network is never in memory as a whole."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cockpitlite.store import Run, Steps, Values

BLOCK = 512  # steps
MOST = 2**22  # values that stay in memory
LATE = 600  # steps by which a value may reach the file after values of later steps


@dataclass(frozen=True)
class LayerRows:
    """The values ``[T, L]`` of layers at steps ``[T]``; NaN where a step has none for a layer."""

    steps: Steps
    layers: list[str]
    values: Values

    def of(self, names: list[str]) -> Values:
        """Return the columns of layers, NaN for those there are no values of."""
        places = {layer: index for index, layer in enumerate(self.layers)}
        known = [(index, places[name]) for index, name in enumerate(names) if name in places]
        columns = np.full((len(self.steps), len(names)), np.nan)
        columns[:, [index for index, _ in known]] = self.values[:, [place for _, place in known]]
        return columns

    def between(self, since: int, stop: int) -> LayerRows:
        """Return the rows of the steps from ``since`` to before ``stop``."""
        part = slice(*np.searchsorted(self.steps, [since, stop]))
        return LayerRows(self.steps[part], self.layers, self.values[part])


class Blocks:
    """The blocks of a run's readings by layer that were read last; one that may have grown since is read again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], tuple[int, LayerRows]] = OrderedDict()
        self.size = 0  # values in memory

    def rows(self, run: Run, last: int, name: str, since: int, stop: int) -> LayerRows:
        """Return a reading from ``since`` to before ``stop``, of a run that ends with the step ``last``.

        Raises KeyError where the run has no such reading.
        """
        starts = range(since // BLOCK * BLOCK, max(stop, since + 1), BLOCK)
        return _joined([self._block(run, last, name, start) for start in starts]).between(since, stop)

    def _block(self, run: Run, last: int, name: str, start: int) -> LayerRows:
        upto, rows = self._kept.get((name, start), (-1, None))
        if rows is None or upto < min(last, start + BLOCK + LATE):
            self.size -= 0 if rows is None else rows.values.size
            rows = LayerRows(*run.layers(name, start, stop=start + BLOCK))
            self._kept[name, start] = last, rows
            self.size += rows.values.size
        self._kept.move_to_end((name, start))
        while len(self._kept) > 1 and self.size > MOST:
            self.size -= self._kept.popitem(last=False)[1][1].values.size
        return rows


def _joined(parts: list[LayerRows]) -> LayerRows:
    """Put blocks after each other; layers that some of them lack are NaN there."""
    some = [part for part in parts if len(part.steps)] or parts[:1]
    if any(before.layers != after.layers for before, after in pairwise(some)):
        names = list(dict.fromkeys(name for part in some for name in part.layers))
        some = [LayerRows(part.steps, names, part.of(names)) for part in some]
    steps = np.concatenate([part.steps for part in some])
    return LayerRows(steps, some[0].layers, np.concatenate([part.values for part in some]))
