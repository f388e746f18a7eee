"""Rules about the learning rate from the length of the steps: too large, too small, could be changed, in range.

They rest on the paired step lengths, whose two ends are measured on one batch: on the step's own (``alpha_same``) and
on the next one (``alpha_next``). The thresholds differ by optimizer and were fitted on 734 labelled runs. What they say
cannot tell apart learning rates within a factor of 2 to 3.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.calibration import GOOD_IN_RANGE, RIGHT_IF_LARGE, beyond, posterior, row
from cockpitlite.diagnosis.course import blow_up, fraction_left, start
from cockpitlite.diagnosis.finding import Finding, Severity
from cockpitlite.diagnosis.layers import began_at_zero
from cockpitlite.diagnosis.light import IN_RANGE, RATE
from cockpitlite.diagnosis.rate import FAMILY_WORDS, calibrated, family, looks_ahead, momentum, rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.thresholds import Family
from cockpitlite.diagnosis.window import SLOPES, Length, Window, early, present
from cockpitlite.diagnosis.words import best_rate, new_rate, number, percent

LIMITS = "Learning rates within a factor of 2 to 3 of each other cannot be told apart by this."
_NEEDS = ("loss", *SLOPES)
_ABOVE = (FAULT, "R1", "R1b")


@dataclass(frozen=True)
class _Seen:
    """A stretch of measured steps as it would read at the present learning rate.

    Where the rate has grown by ``grown`` since, as after a warm-up, 1 + step length has grown with it. ``certainty`` is
    a factor on the confidence.
    """

    window: Window
    kind: Family
    grown: float
    certainty: float = 1.0

    @property
    def same(self) -> Length:
        """The step length on the step's own batch."""
        return self.window.same.scaled(self.grown)

    @property
    def next(self) -> Length:
        """The step length on the next batch."""
        return self.window.next.scaled(self.grown)

    @property
    def small(self) -> bool:
        """Whether the steps are too short."""
        limits = t.SMALL[self.kind]
        short = self.same.value < limits.same and self.next.value < limits.next
        return short and self.window.uphill < t.UPHILL

    @property
    def surely_small(self) -> float:
        """The probability that both step lengths truly lie below their limits."""
        limits = t.SMALL[self.kind]
        return min(
            beyond(limits.same, self.same.value, self.same.error), beyond(limits.next, self.next.value, self.next.error)
        )


@rule("R2", needs=_NEEDS, silenced_by=_ABOVE)
def too_large(readings: Readings) -> Finding | None:
    """The learning rate is too large (momentum and Adam): early, steps overshoot, though the loss has not blown up.

    Over ten measured steps in the first 100. With momentum the slope along the step has reversed at its end on the next
    batch (``alpha_next`` above 0.6), and on its own it is far gone (``alpha_same`` above −0.3). With Adam, whose best
    steps go half of the way, it has reversed on both (each above 0). Not judged for SGD, RMSprop, NAdam and others,
    where good runs show the same, nor once the loss has fallen below 30 % (with Adam 5 %): later ``alpha_next`` rises
    towards 1 in every run. What was seen early stands until the settings change.
    """
    kind = family(readings)
    if kind not in t.LARGE or looks_ahead(readings):
        return None
    window = readings.derived(early)
    if window is None:
        return None
    if len(window.steps) < t.MANY:
        raise Unjudged(f"{t.MANY} measured steps are needed, there are {len(window.steps)}")
    if not _past(window, kind) or fraction_left(readings.at(window.last)) < t.LEARNING[kind]:
        return None
    confidence = _tempered(readings, RIGHT_IF_LARGE[kind])
    return Finding(
        code="R2",
        severity=_severity(confidence),
        confidence=confidence,
        title=_title("too large", confidence),
        explanation=(
            f"{_REVERSED[kind]}: {window.words}. For {FAMILY_WORDS[kind]} that means too long steps so early. "
            f"{_doubts(readings)}"
        ),
        evidence=window.evidence,
        suggestion=(
            f"Set the learning rate to {new_rate(readings.derived(rate).now, t.AFTER_LARGE)} and judge again after 25 "
            f"steps. {best_rate(readings.derived(rate).now, row(kind, window.same.value).factor)}"
        ),
        lr_factor=float(t.AFTER_LARGE),
        lr_range=row(kind, window.same.value).factor[1:],
        since=window.first,
    )


_REVERSED: dict[Family, str] = {
    "momentum": "At the end of the steps the slope has reversed on batches they have not seen",
    "adam": "The steps go past the lowest point in their direction, on their own batch and on the next one",
}


@rule("R2b", needs=_NEEDS, silenced_by=(*_ABOVE, "R2"))
def could_be_smaller(readings: Readings) -> Finding | None:
    """The learning rate could be smaller: early steps went further than in most good runs.

    ``alpha_same`` lies above the range of good runs, and a fifth or more of the calibration runs that read like this
    were too large, but the loss has not blown up and rule R2 is silent. A note.
    """
    if readings.derived(early) is None:
        return None
    seen = _ranged(readings)
    odds = posterior(readings.derived(blow_up), seen.kind, seen.same.value, seen.next.value)
    if not seen.same.value > t.IN_RANGE[seen.kind][1] or odds["large"] < t.WORTH_SAYING:
        return None
    median, _, _ = row(seen.kind, seen.same.value).factor
    factor = float(np.clip(median, t.AFTER_BLOW_UP, t.COULD_BE_SMALLER))
    return Finding(
        code="R2b",
        severity="info",
        confidence=_tempered(readings, seen.certainty * odds["large"]),
        title="The learning rate could be smaller",
        explanation=_compared(readings, seen, "Early steps went further than in most good runs"),
        evidence=seen.window.evidence,
        suggestion=(
            f"If you start again, set the learning rate to {new_rate(readings.derived(rate).now, factor)}. "
            f"{_best(readings, seen)}"
        ),
        lr_factor=factor,
        lr_range=_range(seen),
        since=seen.window.first,
    )


@rule("R3", needs=_NEEDS, silenced_by=(*_ABOVE, "R2"))
def too_small(readings: Readings) -> Finding | None:
    """The learning rate is too small: at the end of a step the slope along it is nearly what it was at its start.

    Both step lengths of the last measured stretch (five steps at least) lie below the limits of the optimizer, and
    fewer than a tenth of the steps go uphill. That the next batch agrees tells it from steps that help their own batch
    only. Not judged while the learning rate still rises (a stretch measured during a warm-up is carried over to the
    present rate), while it is being lowered after progress, once the loss is below 5 % or the gradient below a
    thousandth of what they were at the start, nor where a fault explains it.
    """
    _require_steady(readings)
    latest_first = (_seen(readings, window) for window in reversed(readings.derived(present)))
    seen = _descending(next(latest_first))
    if not seen.small:
        return None
    _require_unfinished(readings)
    agreeing = [seen, *itertools.takewhile(lambda stretch: stretch.small, latest_first)]
    odds = (posterior("none", one.kind, one.same.value)["small"] * one.surely_small for one in agreeing)
    confidence = _tempered(readings, max(odds) * (t.UNFAMILIAR if seen.same.value < t.CONCAVE else 1))
    if len(agreeing) > 1:  # two independent stretches raise the certainty by one level
        confidence = max(confidence, float(t.CONFIDENT if confidence >= t.SUSPECT else t.SUSPECT))
    factor = _raise(seen)
    return Finding(
        code="R3",
        severity=_severity(confidence),
        confidence=confidence,
        title=_title("too small", confidence),
        explanation=_compared(readings, seen, f"{_slope_left(seen)} Measured"),
        evidence=seen.window.evidence,
        suggestion=(
            f"Set the learning rate to {new_rate(readings.derived(rate).now, factor)}, never more at once, and judge "
            f"again after 25 steps. {_best(readings, seen)}"
        ),
        lr_factor=factor,
        lr_range=_range(seen),
        since=agreeing[-1].window.first,
    )


@rule("R3b", needs=_NEEDS, silenced_by=(*_ABOVE, "R2", "R2b", "R3"))
def could_be_larger(readings: Readings) -> Finding | None:
    """The learning rate could be larger: steps are shorter than in most good runs, but not clearly too short.

    ``alpha_same`` lies between the limit of "too small" and the range of good runs, where a fifth or more of the
    calibration runs were too small. A note; not judged while the learning rate rises or is being lowered, nor where
    the steps of now, twice as long, would go past those of good runs.
    """
    _require_steady(readings)
    seen = _ranged(readings)
    odds = posterior("none", seen.kind, seen.same.value)
    if not seen.same.value < t.COULD_BE_LARGER[seen.kind] or odds["small"] < t.WORTH_SAYING:
        return None
    if 2 * (1 + readings.derived(present)[-1].same.value) - 1 > t.IN_RANGE[seen.kind][1]:
        return None
    _require_unfinished(readings)
    return Finding(
        code="R3b",
        severity="info",
        confidence=_tempered(readings, seen.certainty * odds["small"]),
        title="The learning rate could be larger",
        explanation=_compared(readings, seen, "Steps are shorter than in most good runs"),
        evidence=seen.window.evidence,
        suggestion=f"Set the learning rate to {new_rate(readings.derived(rate).now, 2)}. {_best(readings, seen)}",
        lr_factor=2.0,
        lr_range=_range(seen),
        since=seen.window.first,
    )


@rule(RATE, needs=_NEEDS, silenced_by=(*_ABOVE, "R2", "R2b", "R3", "R3b"))
def in_range(readings: Readings) -> Finding | None:
    """Nothing speaks against the learning rate: the steps are as long as in good runs.

    The range of ``alpha_same`` was fitted to the first 50 steps, so the start of the run is judged if the present
    settings held then already, else the first stretch under them, with less certainty. No statement about factors
    below 2 to 3.
    """
    _require_steady(readings)
    seen = _ranged(readings)
    if seen.same.value < t.SMALL[seen.kind].same:
        raise Unjudged("steps were shorter than in good runs, but not so that they would be called too short")
    odds = posterior(readings.derived(blow_up), seen.kind, seen.same.value, seen.next.value)
    low, high = t.IN_RANGE[seen.kind]
    ranged = f"Good runs with {FAMILY_WORDS[seen.kind]} have an alpha_same of {number(low)} to {number(high)}; here"
    confidence = _tempered(readings, min(seen.certainty * odds["good"] * _surely_there(seen), GOOD_IN_RANGE[seen.kind]))
    return Finding(
        code=RATE,
        severity="info",
        confidence=confidence,
        title="No clear verdict on the learning rate" if confidence < 0.5 else f"{IN_RANGE}{_end(seen)}",
        explanation=f"{_compared(readings, seen, ranged)} {_best(readings, seen)}",
        evidence=seen.window.evidence,
        since=seen.window.first,
    )


def _past(window: Window, kind: Family) -> bool:
    """Whether the steps go further than those of good runs, by more than the noise of batches does."""
    limits, after = t.LARGE[kind], window.next
    if kind == "adam":
        after = Length(min(window.same.value, after.value), window.same.error)
    surely = after.value - after.error > limits.next - t.LARGE_MARGIN[kind]
    return window.same.value > limits.same and after.value > limits.next and surely


def _seen(readings: Readings, window: Window, certainty: float = 1.0) -> _Seen:
    """Return a stretch as it would read at the present learning rate."""
    grown = readings.derived(rate).now / window.rate if window.rate > 0 else 1.0
    return _Seen(window, family(readings), grown if grown > t.JUMP else 1.0, certainty)


def _ranged(readings: Readings) -> _Seen:
    """Return the stretch to hold against the ranges of good runs."""
    first = readings.derived(early)
    if first is None:
        return _descending(_seen(readings, readings.derived(present)[0], float(t.OTHER_TIME)))
    seen = _descending(_seen(readings, first))
    return seen if seen.grown == 1 else _seen(readings, first, float(t.OTHER_TIME))


def _descending(seen: _Seen) -> _Seen:
    """Return the stretch; raises Unjudged where its steps do not go down."""
    if not (math.isfinite(seen.same.value) and math.isfinite(seen.next.value)):
        raise Unjudged("the measured steps do not go downhill on the whole, so their length tells nothing")
    return seen


def _surely_there(seen: _Seen) -> float:
    """Return the probability that the step length truly lies where it was measured: in the range or beside it."""
    low, high = t.IN_RANGE[seen.kind]
    if not low <= seen.same.value <= high:
        low, high = t.SMALL[seen.kind].same, t.OTHER_SIDE
    return beyond(high, seen.same.value, seen.same.error) - beyond(low, seen.same.value, seen.same.error)


def _raise(seen: _Seen) -> float:
    """Return the factor by which to raise the learning rate."""
    longest = max(1 + seen.same.value, 1 + seen.next.value, 0.02)
    return float(np.clip(t.REACH[seen.kind] / longest, 2.0, t.CAP[seen.kind]))


def _require_steady(readings: Readings) -> None:
    if readings.derived(rate).rising:
        raise Unjudged("the learning rate still rises; it is judged when the warm-up is over")
    if readings.now < t.WAKING_STEPS and began_at_zero(readings):
        raise Unjudged("some weights began at 0, so that the others hardly move at first")


def _require_unfinished(readings: Readings) -> None:
    """Raise Unjudged where short steps are what a run at its stage should take."""
    left = fraction_left(readings)
    if left < t.CONVERGED_LOSS:
        raise Unjudged(f"the loss is down to {percent(left)} of where it began: short steps are natural then")
    if readings.derived(rate).lowered and not left > t.PROGRESS:
        raise Unjudged("the learning rate is being lowered after progress: short steps are meant then")
    if readings.has("grad_norm"):
        _, norms = readings.series("grad_norm")
        norms = norms[np.isfinite(norms)]
        if len(norms) and np.median(norms[-10:]) < t.CONVERGED_GRADIENT * norms[0]:
            raise Unjudged("the gradient is below a thousandth of what it was at the start: training has converged")


def _tempered(readings: Readings, confidence: float) -> float:
    """Lower a confidence where the calibration covers the optimizer or the loss badly."""
    if not calibrated(readings):
        confidence *= t.UNFAMILIAR
    elif momentum(readings) > t.COVERED_MOMENTUM:
        confidence *= t.HEAVY_MOMENTUM
    if readings.derived(start).loss <= 0:
        confidence *= t.UNFAMILIAR
    return float(confidence)


def _severity(confidence: float) -> Severity:
    return "warning" if confidence >= t.SUSPECT else "info"


def _title(verdict: str, confidence: float) -> str:
    if confidence >= t.CONFIDENT:
        return f"Learning rate {verdict}"
    return f"Learning rate {'probably' if confidence >= t.SUSPECT else 'possibly'} {verdict}"


def _end(seen: _Seen) -> str:
    low, high = t.IN_RANGE[seen.kind]
    if low <= seen.same.value <= high:
        return ""
    return ", towards its lower end" if seen.same.value < low else ", towards its upper end"


def _slope_left(seen: _Seen) -> str:
    left = -seen.window.same.value
    if seen.window.same.value < t.CONCAVE:
        return "At the end of a step the loss falls even more steeply along it than at its start."
    if left >= 1:
        return "At the end of a step the loss falls as steeply along it as at its start."
    if left > 0.99:
        return (
            "At the end of a step the loss falls nearly as steeply along it as at its start: a step goes "
            f"{number(100 * (1 - left))} % of the way to the lowest point in its direction."
        )
    return (
        f"At the end of a step the loss still falls {percent(left)} as steeply along it as at its start: a step goes "
        f"{number(100 * (1 - left))} % of the way to the lowest point in its direction."
    )


def _compared(readings: Readings, seen: _Seen, sentence: str) -> str:
    """Return what was measured, what became of the calibration runs that read so, and what limits the certainty."""
    parts = (
        f"{sentence}: {seen.window.words}.",
        _carried_over(readings, seen),
        _record(seen),
        _doubts(readings),
    )
    return " ".join(part for part in parts if part)


def _carried_over(readings: Readings, seen: _Seen) -> str:
    if seen.grown == 1:
        return ""
    return (
        f"The learning rate was {number(seen.window.rate)} then and is {number(readings.derived(rate).now)} now, which "
        f"makes alpha_same {number(seen.same.value)}."
    )


def _record(seen: _Seen) -> str:
    """Return what became of the calibration runs with such a step length."""
    small, good, large = row(seen.kind, seen.same.value).counts
    runs = "RMSprop" if seen.kind == "other" else FAMILY_WORDS[seen.kind]
    return (
        f"Of {small + good + large} calibration runs with {runs} and such an alpha_same, {small} had a too small "
        f"learning rate, {good} a good and {large} a too large one."
    )


def _best(readings: Readings, seen: _Seen) -> str:
    """Return where the best learning rate lies, as it did for runs with such a step length."""
    return best_rate(readings.derived(rate).now, row(seen.kind, seen.same.value).factor)


def _range(seen: _Seen) -> tuple[float, float]:
    """Return the factors between which the best learning rate lay in eight of ten runs with such a step length."""
    _, low, high = row(seen.kind, seen.same.value).factor
    return low, high


def _doubts(readings: Readings) -> str:
    """Return what limits the certainty."""
    doubts = []
    if not calibrated(readings):
        doubts.append("No calibration run used such an optimizer; it is judged like RMSprop, with less confidence.")
    elif momentum(readings) > t.COVERED_MOMENTUM:
        doubts.append(f"The limits were fitted for a momentum of 0.9; here it is {number(momentum(readings))}.")
    if readings.derived(start).loss <= 0:
        doubts.append("No calibration run had a loss that is not positive; check that its sign is right.")
    return " ".join([*doubts, LIMITS])
