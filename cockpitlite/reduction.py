"""Fewer points for the same picture: min-max reduction, non-finite steps, and smoothing by stretches of steps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


def reduce_min_max(steps: Steps, values: Values, columns: int) -> tuple[Steps, Values]:
    """Keep the first, last, lowest and highest finite value of each of ``columns`` equal stretches of steps.

    ``steps`` ``[T]`` ascend; ``values`` ``[T]``. Returns at most ``4 * columns`` points in the same order, all finite
    ones where these are no more. Raises ValueError where ``columns`` is below 1.
    """
    if columns < 1:
        raise ValueError(f"a reduction needs at least one column; got {columns}")
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) <= 4 * columns:
        return steps, values
    starts = _starts(steps, columns)
    ends = np.append(starts[1:], len(steps)) - 1
    lowest = _first_equal(values, np.minimum.reduceat(values, starts), starts)
    highest = _first_equal(values, np.maximum.reduceat(values, starts), starts)
    kept = np.unique(np.concatenate([starts, ends, lowest, highest]))
    return steps[kept], values[kept]


def nonfinite_steps(steps: Steps, values: Values) -> Steps:
    """Return the steps whose value is NaN or infinite."""
    return steps[~np.isfinite(values)]


def in_bursts(steps: Steps) -> bool:
    """Whether most of the range of steps lies in gaps more than five times as long as the usual distance of steps."""
    if len(steps) < 2:
        return False
    distances = np.diff(steps)
    gaps = distances[distances > 5 * np.median(distances)]
    return bool(2 * gaps.sum() > steps[-1] - steps[0])


def smooth(
    steps: Steps, values: Values, weights: Values | None = None, *, columns: int = 400, width: float = 0.02
) -> tuple[Steps, Values]:
    """Return a running mean of ``values``, or the ratio of the running means of ``values`` and ``weights``.

    Each point (steps ``[C]``, values ``[C]``) stands at the mean step of one of ``columns`` equal stretches of steps,
    and weighs the stretches around it by a Gaussian whose standard deviation is ``width`` times the range of steps.
    A mean is that of a line fitted with these weights, so that it is right on a slope and at both ends too; where the
    steps come in bursts, which do not carry a slope, it is the plain one. Points with a non-finite part are left out,
    as are results that overflow or divide by zero.
    """
    finite = np.isfinite(values) if weights is None else np.isfinite(values) & np.isfinite(weights)
    if not finite.any():
        return steps[:0], values[:0]
    steps, values = steps[finite], values[finite]
    starts = _starts(steps, columns)
    place = _column(steps[starts], steps, columns)
    counts = np.diff(np.append(starts, len(steps)))
    spread = _Spread(place, columns, width * columns)
    with np.errstate(all="ignore"):
        sums = np.add.reduceat(values, starts)
        if weights is not None:
            result = spread(sums) / spread(np.add.reduceat(weights[finite], starts))
        elif in_bursts(steps):
            result = spread(sums) / spread(counts.astype(np.float64))
        else:
            result = np.clip(spread.line(sums, counts), values.min(), values.max())
    kept = np.isfinite(result)
    centres = np.add.reduceat(steps, starts) // counts
    return centres[kept], result[kept]


class _Spread:
    """Sums over the stretches around each occupied one, weighted by a Gaussian of their distance."""

    def __init__(self, place: NDArray[np.intp], columns: int, sigma: float) -> None:
        self._place = place
        self._columns = columns
        self._reach = max(math.ceil(3 * sigma), 1)
        self._offsets = np.arange(-self._reach, self._reach + 1)
        self._kernel = np.exp(-0.5 * (self._offsets / max(sigma, 1e-9)) ** 2)

    def __call__(self, sums: Values, power: int = 0) -> Values:
        """Return the sums ``[C]`` of ``sums`` times distance to the given power."""
        dense = np.zeros(self._columns)
        dense[self._place] = sums
        kernel = self._kernel * (-self._offsets) ** power
        return np.convolve(dense, kernel)[self._reach : self._reach + self._columns][self._place]

    def line(self, sums: Values, counts: NDArray[np.intp]) -> Values:
        """Return where a line fitted to the points around each stretch passes through it."""
        ones = counts.astype(np.float64)
        weight, lean, width = (self(ones, power) for power in (0, 1, 2))
        flat = self(sums) / weight
        scatter = weight * width - lean**2
        fitted = (width * self(sums) - lean * self(sums, 1)) / scatter
        return np.where(scatter > 1e-9 * weight**2, fitted, flat)


def _starts(steps: Steps, columns: int) -> NDArray[np.intp]:
    """Return where each stretch that holds any step begins."""
    edges = np.linspace(steps[0], steps[-1], columns + 1)[:-1]
    return np.unique(np.searchsorted(steps, edges))


def _column(at: Steps, steps: Steps, columns: int) -> NDArray[np.intp]:
    """Return in which of the equal stretches of ``steps`` each step lies."""
    edges = np.linspace(steps[0], steps[-1], columns + 1)[:-1]
    return np.searchsorted(edges, at, side="right") - 1


def _first_equal(values: Values, wanted: Values, starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the first index in each stretch at which the stretch's wanted value stands."""
    counts = np.diff(np.append(starts, len(values)))
    found = np.flatnonzero(values == np.repeat(wanted, counts))
    _, first = np.unique(np.searchsorted(starts, found, side="right"), return_index=True)
    return found[first]
