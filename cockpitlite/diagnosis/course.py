"""The course of the loss: where it began, whether it blew up early and came back, where it stands now."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.calibration import BlowUp
from cockpitlite.diagnosis.chance import trained_before
from cockpitlite.diagnosis.rate import family
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.words import number
from cockpitlite.store import Values

_LATEST = 10  # losses whose median is "the loss now"


@dataclass(frozen=True)
class Start:
    """The first loss and its step."""

    step: int
    loss: float

    @property
    def recovered(self) -> float:
        """The loss below which training has recovered from a blow-up."""
        return self.loss - (1 - t.RECOVERED) * abs(self.loss)


@dataclass(frozen=True)
class Limit:
    """The loss above which training has blown up, and what it is made of."""

    loss: float
    words: str


@dataclass(frozen=True)
class Peak:
    """An early blow-up: its first step, its highest loss, how it went on, and the median loss 20 to 30 steps later."""

    since: int
    step: int
    loss: float
    course: BlowUp
    after: float


def start(readings: Readings) -> Start:
    """Return where the loss began; raises Unjudged where that is no number to compare with."""
    steps, losses = readings.series("loss")
    if not len(losses):
        raise Unjudged("no loss has been recorded yet")
    if not math.isfinite(losses[0]):
        raise Unjudged(f"the loss of step {steps[0]} is not a finite number, so there is nothing to compare with")
    return Start(int(steps[0]), float(losses[0]))


def limit(readings: Readings) -> Limit:
    """Return the loss above which training has blown up; raises Unjudged where the first loss gives no scale.

    The initial loss is known as a mean over a batch; its standard error is the spread over the batch by the root of the
    batch size. Where that is unknown, the limit is wider.
    """
    begin = readings.derived(start)
    error = _error(readings, begin.step)
    if error is None:
        high = begin.loss + t.BLOW_UP_WITHOUT_ERROR * abs(begin.loss)
        words = "three times the initial loss"
    else:
        high = begin.loss + t.BLOW_UP_SHARE * abs(begin.loss) + t.BLOW_UP_ERRORS * error
        words = "the initial loss plus 20 % and eight standard errors of it"
    if not high > begin.loss:
        raise Unjudged("the first loss is 0 and its error is unknown, so there is no scale to compare with")
    return Limit(high, words)


def peak(readings: Readings) -> Peak | None:
    """Return the blow-up of the first 100 steps, or None."""
    begin = readings.derived(start)
    steps, losses = readings.series("loss")
    early = losses[: int(np.searchsorted(steps, begin.step + t.BLOW_UP_STEPS))]
    if not np.any(early > begin.loss + t.BLOW_UP_SHARE * abs(begin.loss)):
        return None
    high = np.flatnonzero((early > readings.derived(limit).loss) & np.isfinite(early))
    if not len(high):
        return None
    if _lucky_start(readings, early) or _scattered(readings, early):
        return None
    top = int(high[np.argmax(early[high])])
    course, after = _recovery(losses[top + 1 :], steps[top + 1 :] - steps[top], begin)
    if course == "recovered" and _overcome(readings, begin):
        course = "overcome"
    return Peak(int(steps[high[0]]), int(steps[top]), float(early[top]), course, after)


def blow_up(readings: Readings) -> BlowUp:
    """Return whether the loss blew up early, and how it went on."""
    found = readings.derived(peak)
    return "none" if found is None else found.course


def rose_early(readings: Readings) -> bool:
    """Whether the loss has blown up early, come back or not; False where that cannot be told."""
    try:
        return readings.derived(blow_up) != "none"
    except Unjudged:
        return False


def level(readings: Readings, count: int = _LATEST) -> float:
    """Return the median of the last losses, infinite if most of them are not finite."""
    _, losses = readings.recent("loss", count)
    return _median(losses)


def latest(readings: Readings, count: int = _LATEST) -> str:
    """Return the level of the loss in words, which say that it is a median."""
    _, losses = readings.recent("loss", count)
    return f"{number(_median(losses))}" + (f" (median of the last {len(losses)} losses)" if len(losses) > 1 else "")


def fraction_left(readings: Readings) -> float:
    """Return the loss now over the initial loss, NaN where the loss is not positive and so has no such scale."""
    begin = readings.derived(start)
    now = level(readings)
    return now / begin.loss if begin.loss > 0 and now >= 0 else math.nan


def stuck(readings: Readings) -> bool:
    """Whether the loss has hardly fallen in a hundred steps or more; False where that cannot be told."""
    try:
        begin = readings.derived(start)
    except Unjudged:
        return False
    resumed = begin.step > 0 or bool(readings.events("resume"))  # then the first loss is no untrained model's
    return not resumed and readings.now >= begin.step + t.STUCK_STEPS and fraction_left(readings) > t.PROGRESS


def blown(readings: Readings) -> bool:
    """Whether the loss has blown up early and not come back, or is no finite number now."""
    try:
        return not math.isfinite(level(readings)) or readings.derived(blow_up) in ("pending", "lasting")
    except Unjudged:
        return False


def suffers(readings: Readings) -> bool:
    """Whether training goes badly: the loss has blown up, is not finite, or has hardly fallen in a hundred steps."""
    return readings.derived(blown) or readings.derived(stuck)


def _lucky_start(readings: Readings, early: Values) -> bool:
    """Whether the first batch merely had a low loss: the others are higher by little, and none stands out from them."""
    begin = readings.derived(start)
    error = _error(readings, begin.step)
    if error is None:
        return False
    steps, spreads = readings.series("loss_std", since=begin.step)
    spreads = spreads[steps < begin.step + t.BLOW_UP_STEPS]
    typical = float(np.median(early[np.isfinite(early)]))
    noise = float(np.nanmedian(spreads)) * error / float(spreads[0]) if spreads[0] > 0 else 0.0
    higher = typical - begin.loss
    return 0 <= higher <= t.LUCKY_ERRORS * error and bool(np.nanmax(early) - typical < t.OUTLIER_ERRORS * noise)


def _scattered(readings: Readings, early: Values) -> bool:
    """Whether the first losses differ by no more than the luck of batches, the first of them being a low one.

    Asked where batches are small, or the model is trained already, so that a few samples make the loss. Held against
    their median on a log scale, in units of what the samples of a batch differ by, relative to the loss: that is known
    from several batches, and grows with the loss where training really blows up. Before twenty losses are known, only a
    rise beyond all luck is one.
    """
    begin = readings.derived(start)
    if not all(map(readings.has, ("loss_std", "batch_size"))) or begin.loss <= 0 or not np.all(early > 0):
        return False
    count = float(readings.series("batch_size", since=begin.step)[1][0])
    doubtful = t.FEWEST_SAMPLES <= count < t.FEW_SAMPLES or readings.derived(trained_before)
    if not doubtful or not np.all(np.isfinite(early)):
        return False
    if len(early) < t.LATE_STEPS:
        return bool(np.max(early) < t.CERTAIN_RISE * begin.loss)
    at, spreads = readings.series("loss_std", since=begin.step)
    steps, losses = readings.series("loss", since=begin.step)
    known = at < begin.step + t.BLOW_UP_STEPS
    relative = spreads[known] / losses[np.searchsorted(steps, at[known])]
    unit = float(np.nanmedian(relative)) / math.sqrt(count)
    typical = float(np.median(early))
    return max(math.log(typical / begin.loss), math.log(early.max() / typical)) <= t.LUCKY_ERRORS * unit


def _recovery(losses: Values, later: Values, begin: Start) -> tuple[BlowUp, float]:
    low, high = t.RECOVERY_STEPS
    judged = losses[(later >= low) & (later <= high)]
    if len(losses) and not math.isfinite(losses[-1]):
        return "lasting", math.inf
    if not len(judged):
        return "pending", math.nan
    after = _median(judged)
    return ("lasting" if after > begin.recovered else "recovered"), after


def _overcome(readings: Readings, begin: Start) -> bool:
    """Whether training has left a blow-up far behind, as good runs do; with Adam too large rates do so as well."""
    return family(readings) != "adam" and 0 <= level(readings) < t.OVERCOME_RISE * begin.loss


def _median(losses: Values) -> float:
    if not len(losses):
        return math.nan
    return float(np.median(np.where(np.isfinite(losses), losses, math.inf)))


def _error(readings: Readings, step: int) -> float | None:
    """Return the standard error of the first batch's loss, None where the spread over the batch is unknown."""
    spread, size = (_first(readings, name, step) for name in ("loss_std", "batch_size"))
    return spread / math.sqrt(size) if math.isfinite(spread) and size >= 1 else None


def _first(readings: Readings, name: str, step: int) -> float:
    if not readings.has(name):
        return math.nan
    steps, values = readings.series(name)
    return float(values[0]) if len(values) and steps[0] == step else math.nan
