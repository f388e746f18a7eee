"""Fewer points for the screen with every extreme kept: the minimum and maximum of each pixel column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store import Steps, Values

Indices = NDArray[np.intp]


def extremes(steps: Steps, values: Values, columns: int, window: tuple[float, float] | None = None) -> Indices:
    """Return the ascending indices of the points to draw on ``columns`` pixel columns.

    Series of at most ``2 * columns`` points are drawn whole. Of longer ones each column keeps its least and its
    greatest finite value, and the first and last point stay. A column without any finite value keeps one point, so
    that the line shows a gap there. ``window`` is a range of steps that gets as many columns of its own on top of that.
    """
    if len(steps) <= 2 * columns:
        return np.arange(len(steps))
    parts = [np.array([0, len(steps) - 1]), _column_extremes(values, _columns(steps, columns))]
    if window is not None:
        low, high = np.searchsorted(steps, window[0], "left"), np.searchsorted(steps, window[1], "right")
        start, stop = max(int(low) - 1, 0), min(int(high) + 1, len(steps))
        inside = extremes(steps[start:stop], values[start:stop], columns)
        parts.append(inside + start)
    return np.unique(np.concatenate(parts))


def firsts(steps: Steps, columns: int, window: tuple[float, float] | None = None) -> Indices:
    """Return the index of the first point in each pixel column: for marks that are all alike.

    ``window`` is a range of steps that gets as many columns of its own on top of that.
    """
    if len(steps) <= columns:
        return np.arange(len(steps))
    found = _starts(_columns(steps, columns))
    if window is None:
        return found
    start, stop = np.searchsorted(steps, window[0], "left"), np.searchsorted(steps, window[1], "right")
    return np.union1d(found, firsts(steps[start:stop], columns) + start)


def windowed_ratio(numerator: Values, denominator: Values, window: int) -> Values:
    """Return the ratio of trailing sums over ``window`` points; NaN where the sum below is zero.

    A point that is not finite in either part counts in neither.
    """
    known = np.isfinite(numerator) & np.isfinite(denominator)
    above, below = (_trailing_sums(np.where(known, part, 0.0), window) for part in (numerator, denominator))
    ratio: Values = np.full(len(above), np.nan)
    with np.errstate(over="ignore"):  # next to zero the ratio is infinite, and shown as that
        np.divide(above, below, out=ratio, where=below != 0)
    return ratio


def _trailing_sums(values: Values, window: int) -> Values:
    """Sum each point with the ``window - 1`` before it; never by differences, so that a spike leaves no trace."""
    if not len(values):
        return values
    sums: Values = np.convolve(values, np.ones(window))
    return sums[: len(values)]


def _columns(steps: Steps, columns: int) -> Indices:
    """Number the pixel column each step falls into; ascending, because steps are."""
    span = float(steps[-1] - steps[0])
    columns_of: Indices = np.minimum((steps - steps[0]) * (columns / span), columns - 1).astype(np.intp)
    return columns_of


def _starts(column: Indices) -> Indices:
    return np.flatnonzero(np.diff(column, prepend=-1))


def _column_extremes(values: Values, column: Indices) -> Indices:
    starts = _starts(column)
    finite = np.isfinite(values)
    lowest = _first_equal(np.where(finite, values, np.inf), np.minimum, starts)
    highest = _first_equal(np.where(finite, values, -np.inf), np.maximum, starts)
    return np.concatenate([lowest, highest])


def _first_equal(values: Values, extreme: np.ufunc, starts: Indices) -> Indices:
    """Return, for each column, the index of the first point that equals the column's extreme."""
    lengths = np.diff(starts, append=len(values))
    wanted = np.repeat(extreme.reduceat(values, starts), lengths)
    matches = np.flatnonzero(values == wanted)
    owners = np.searchsorted(starts, matches, "right") - 1
    return matches[np.flatnonzero(np.diff(owners, prepend=-1))]
