"""A line without its noise: the bias-corrected exponential mean of a series, before it is reduced for the screen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cockpitlite.dashboard.readings import Series, Window
from cockpitlite.store import Values

STRONGEST = 0.99
NEGLIGIBLE = 1e-12  # a point that weighs less beside the newest one is left out


def smoothed(series: Series, factor: float, window: Window | None = None) -> Series:
    """Return the mean of each point and those before it, the one k points before weighing ``factor ** k``.

    Of a series whose points are all known this is the exponential mean with bias correction, as TensorBoard draws it.
    Of an outlined one it is the mean of its samples, which are values taken regardless of their size: each weighs as
    many steps as it stands for, and a point of the mean's memory is the longest of these in ``window``. The extremes
    of an outline are no part of it. Where a value is not finite the mean has a gap, and goes on after it.
    """
    sample = series.sample
    if not len(sample):
        return sample
    if series.spans is None:
        return Series(sample.steps, exponential_mean(sample.values, factor))
    spans = np.minimum(np.diff(sample.steps, append=sample.steps[-1] + 1), series.spans.max())
    inside = spans if window is None else spans[slice(*np.searchsorted(sample.steps, window))]
    unit = float(inside.max()) if len(inside) else 1.0
    return Series(sample.steps, exponential_mean(sample.values, factor, spans / unit), spans)


def exponential_mean(values: Values, factor: float, spans: Values | None = None) -> Values:
    """Return the weighted mean ``[T]`` of each value and those before it, NaN where a value is not finite.

    ``factor`` is in [0, 1); ``spans`` ``[T]`` says how many points each value stands for, one unless given.
    """
    widths = np.ones(len(values)) if spans is None else spans
    known = np.isfinite(values)
    weights = np.where(known, widths, 0.0)
    fading = factor ** np.where(known, widths, 0.0)
    sums, total = (_faded_sums(part, fading) for part in (np.where(known, values, 0.0) * weights, weights))
    mean: Values = np.full(len(values), np.nan)
    np.divide(sums, total, out=mean, where=known)
    return mean


def _faded_sums(values: Values, fading: NDArray[np.float64]) -> Values:
    """Return ``s[t] = values[t] + fading[t] * s[t - 1]``, by doubling how far back every sum reaches."""
    sums, fading, reach = values.copy(), fading.copy(), 1
    while reach < len(sums) and fading[reach:].max(initial=0.0) > NEGLIGIBLE:
        sums[reach:] += fading[reach:] * sums[:-reach]
        fading[reach:] *= fading[:-reach].copy()
        reach *= 2
    return sums
