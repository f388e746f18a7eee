"""What the gauge of the gradient tests shows: how each spreads on a logarithmic scale, and how much noise that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cockpitlite.panel import Panel
from cockpitlite.store import Values

LOW, HIGH = 0.01, 10**0.5  # the gauge's ends; values beyond stand in its outermost bins
BINS = 40
EDGES = np.linspace(math.log10(LOW), math.log10(HIGH), BINS + 1)
BOUND = 0.95  # of a panel that names no healthy range: nine tenths of ‖g‖² are noise
TICKS = ((0.01, ""), (0.1, "1 %"), (0.1**0.5, "10 %"), (1.0, "all"))  # values, and how much of ‖g‖² is noise there
WHOLE = "norm_test"  # the test of the whole gradient: where it fails, the others tell nothing
NEWEST = 0.1  # share of the values that are the newest


@dataclass(frozen=True)
class Row:
    """One test: shares per bin ``[BINS]`` of all its values and of the newest tenth, and the median of that tenth."""

    name: str
    everything: Values
    newest: Values
    median: float
    count: int
    newest_count: int
    beyond: int


def rows(panel: Panel, values: Callable[[str], Values]) -> list[Row]:
    """Count the finite values ``[T]`` of each reading of a panel; the median of none is NaN."""
    return [_row(name, values(name)) for name in panel.readings]


def bound(panel: Panel) -> float:
    """Return the largest error with which a test is passed."""
    high = panel.healthy[1] if panel.healthy is not None else None
    return BOUND if high is None or high <= 0 else high


def place(value: float) -> float:
    """Return where a value stands: its decimal logarithm, held between the gauge's ends."""
    return math.log10(min(max(value, LOW), HIGH))


def words(row: Row) -> str:
    """Return what a row says: the newest median, and by the norm test how much of the squared length is noise.

    The parts along the gradient and across it share that out between them. A gradient of nothing but noise has little
    of it along itself, as every sample is in it.
    """
    if math.isnan(row.median):
        return "no value"
    if row.name != WHOLE:
        return short(row.median)
    share = min(row.median**2, 1.0)
    return f"{short(row.median)} · {'under 1' if 0 < share < 0.005 else f'{100 * share:.0f}'} % noise"


def short(value: float) -> str:
    """Return a value with two decimals, more for small ones."""
    return f"{value:.2f}" if value >= 0.095 or value == 0 else f"{value:.1g}"


def label(name: str) -> str:
    """Return a reading's name as the gauge writes it."""
    return name.replace("_", " ")


def brief(name: str) -> str:
    """Return a reading's name as it is written where several stand side by side."""
    return label(name.removesuffix("_test"))


def _row(name: str, values: Values) -> Row:
    finite = values[np.isfinite(values)]
    newest = finite[len(finite) - math.ceil(NEWEST * len(finite)) :]
    return Row(
        name,
        _shares(finite),
        _shares(newest),
        median=float(np.median(newest)) if len(newest) else math.nan,
        count=len(finite),
        newest_count=len(newest),
        beyond=int(np.sum((finite < LOW) | (finite > HIGH))),
    )


def _shares(values: Values) -> Values:
    """Return how full each bin is, of the fullest; what is not above 0 has no logarithm and stands at the lower end."""
    counts = np.histogram(np.log10(np.clip(values, LOW, HIGH)), EDGES)[0].astype(np.float64)
    return counts / counts.max() if counts.any() else counts
