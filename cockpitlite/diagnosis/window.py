"""The paired step lengths of a stretch of steps: ratios of summed slopes with their standard errors."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence
from cockpitlite.diagnosis.rate import Rate, rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.words import measured, plural
from cockpitlite.store import Steps, Values

SLOPES = ("slope_same_start", "slope_same_end", "slope_next_start", "slope_next_end")
_GAP = 50  # steps without a measurement that part two stretches


@dataclass(frozen=True)
class Length:
    """A step length over a stretch of steps, with its standard error (NaN for a single step)."""

    value: float
    error: float

    @property
    def words(self) -> str:
        """The value with its error."""
        return measured(self.value, self.error)

    def scaled(self, factor: float) -> Length:
        """Return what it would be with a learning rate ``factor`` times as large."""
        return Length((1 + self.value) * factor - 1, self.error * factor)


@dataclass(frozen=True)
class Window:
    """Measured steps without a gap and under the same settings; ``slopes`` are ``[4, T]`` in the order of SLOPES.

    ``rate`` is the learning rate of these steps, weighted as the sums weight them.
    """

    steps: Steps
    slopes: Values
    same: Length
    next: Length
    rate: float

    @property
    def first(self) -> int:
        """The first measured step."""
        return int(self.steps[0])

    @property
    def last(self) -> int:
        """The last measured step."""
        return int(self.steps[-1])

    @property
    def uphill(self) -> float:
        """Share of the steps that went up the slope of their own batch."""
        return float(np.mean(self.slopes[0] > 0))

    @property
    def rose(self) -> float:
        """Share of the steps at whose end the loss of their own batch was higher, by the slopes at both ends."""
        return float(np.mean(self.slopes[0] + self.slopes[1] > 0))

    @property
    def words(self) -> str:
        """Both step lengths with their errors, and what they were measured on."""
        count = len(self.steps)
        where = f"{count} {plural('step', count)} measured from {self.first:,} to {self.last:,}"
        return f"alpha_same = {self.same.words}, alpha_next = {self.next.words} ({where})"

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Both step lengths of each step."""
        same_start, same_end, next_start, next_end = self.slopes
        steps = tuple(int(step) for step in self.steps)
        return (
            Evidence("alpha_same", steps, _each(same_start, same_end)),
            Evidence("alpha_next", steps, _each(next_start, next_end)),
        )


def windows(readings: Readings) -> list[Window]:
    """Return the stretches of measured steps, in order."""
    steps, slopes = _measured(readings)
    settings = readings.derived(rate)
    period = np.searchsorted(np.array(settings.changed, dtype=np.int64), steps, side="right")
    parts = np.flatnonzero((np.diff(steps) > _GAP) | (np.diff(period) > 0)) + 1
    bounds = [0, *(int(part) for part in parts), len(steps)]
    return [
        readings.shared(
            ("window", int(steps[low]), int(steps[high - 1]), high - low),
            functools.partial(_window, steps[low:high], slopes[:, low:high], settings),
        )
        for low, high in itertools.pairwise(bounds)
        if high > low
    ]


def present(readings: Readings) -> list[Window]:
    """Return the stretches under the present settings that have enough steps; raises Unjudged if there is none."""
    since = readings.derived(rate).settled
    under = [window for window in readings.derived(windows) if window.first >= since]
    enough = [window for window in under if len(window.steps) >= t.FEW]
    if not enough:
        count = len(under[-1].steps) if under else 0
        when = f" since the settings changed at step {since:,}" if since else ""
        raise Unjudged(
            f"alpha_same and alpha_next are known for {count} {plural('step', count)}{when}; {t.FEW} are needed"
        )
    return enough


def early(readings: Readings) -> Window | None:
    """Return the stretch at the start of the run if the present settings held then already."""
    first = readings.derived(present)[0]
    return first if first.first < t.EARLY_STEPS else None


def length(start: Values, end: Values) -> Length:
    """Return −Σ end / Σ start with a delete-one jackknife error; NaN where the steps do not go down on the whole.

    Where a single step decides whether they do, so that the jackknife cannot leave it out, the error is that of the
    residuals end + value · start.
    """
    total_start, total_end = float(start.sum()), float(end.sum())
    if not total_start < 0:
        return Length(math.nan, math.nan)
    count = len(start)
    value = -total_end / total_start
    rest_start, rest_end = total_start - start, total_end - end
    if count < 2:
        return Length(value, math.nan)
    if not np.all(rest_start < 0):
        residual = end + value * start
        return Length(value, -math.sqrt(count / (count - 1) * float(np.sum(residual**2))) / total_start)
    without = -rest_end / rest_start
    return Length(value, math.sqrt((count - 1) * float(np.mean((without - without.mean()) ** 2))))


def _window(steps: Steps, slopes: Values, settings: Rate) -> Window:
    weights = np.abs(slopes[0])
    rates = np.array([settings.at(int(step)) for step in steps])
    weighted = float(weights @ rates / weights.sum()) if weights.sum() > 0 else settings.at(int(steps[-1]))
    return Window(steps, slopes, length(slopes[0], slopes[1]), length(slopes[2], slopes[3]), weighted)


def _measured(readings: Readings) -> tuple[Steps, Values]:
    """Return the steps ``[T]`` at which all four slopes are finite numbers, and the slopes ``[4, T]``."""
    series = [readings.series(name) for name in SLOPES]
    steps: NDArray[np.int64] = series[0][0]
    for others, _ in series[1:]:
        steps = np.intersect1d(steps, others, assume_unique=True)
    slopes = np.array([values[np.searchsorted(at, steps)] for at, values in series]).reshape(len(SLOPES), len(steps))
    # Slopes whose sums would overflow tell nothing either.
    finite = np.all(np.abs(slopes) < np.finfo(np.float64).max / max(len(steps), 2), axis=0)
    return steps[finite], slopes[:, finite]


def _each(start: Values, end: Values) -> tuple[float, ...]:
    return tuple(-float(b) / float(a) if a else math.nan for a, b in zip(start, end, strict=True))
