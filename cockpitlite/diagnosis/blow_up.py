"""Rules about a loss that runs away: early, which is remembered, or late."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.calibration import BLOW_UP_FACTOR, BLOW_UPS, posterior
from cockpitlite.diagnosis.course import Peak, latest, level, limit, peak, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import best_rate, new_rate, number

# Faults that make a loss blow up at a learning rate that would be right without them.
_EXPLAINED_BY = ("F6a", "F6b", "F6c", "F6d", "F7", "F8c", "F8e", "F15")
_NEGATIVE = "The loss is not positive, a case the calibration does not cover."


@rule("R1", needs=("loss",), silenced_by=("F1", *_EXPLAINED_BY))
def blown_up(readings: Readings) -> Finding | None:
    """The learning rate is too large: within the first 100 steps the loss rose far above where it began.

    Far means above the initial loss plus 20 % and eight standard errors of it (of the first batch's mean, from the
    spread over its samples; three times the initial loss where that is unknown). Such a blow-up shows itself within the
    first ten steps and nothing tells it later, so it is remembered to the end of the run. An error if the loss had not
    come back below 80 % of where it began 20 to 30 steps after its peak; nearly all good ones of the calibration runs
    that blew up had, so then it is a warning. Where it has fallen below a tenth of where it began, other than with
    Adam, training has overcome the blow-up, and nothing is said of it. Not meant for losses that need not fall, as of
    a GAN.
    """
    found = readings.derived(peak)
    if found is None or found.course == "overcome":
        return None
    begin = readings.derived(start)
    confidence = posterior(found.course)["large"] * (1 if begin.loss > 0 else t.UNFAMILIAR)
    recovered = found.course == "recovered"
    used = readings.derived(rate).at(found.since)
    return Finding(
        code="R1",
        severity="error" if found.course == "lasting" and begin.loss > 0 else "warning",
        confidence=confidence,
        title=_title(found, level(readings), begin.loss),
        explanation=_story(readings, found),
        evidence=_evidence(readings, found),
        suggestion=_mild_remedy(used) if recovered else _remedy(used),
        lr_factor=float(t.AFTER_SPIKE if recovered else t.AFTER_BLOW_UP),
        lr_range=None if recovered else BLOW_UP_FACTOR[1:],
        since=found.since,
    )


@rule("R1b", needs=("loss",), silenced_by=("R0", "F1", "R1", *_EXPLAINED_BY))
def diverges_late(readings: Readings) -> Finding | None:
    """The loss stands far above where it began, after more than 100 steps without an early blow-up.

    The median of the last 20 losses is above the initial loss plus 20 % and eight standard errors of it, so it is not
    one bad batch. Typical of a learning rate that became too large during a warm-up, or of training that had been close
    to instability. Not meant for losses that need not fall, as of a GAN.
    """
    steps, losses = readings.recent("loss", t.LATE_STEPS)
    begin = readings.derived(start)
    if len(losses) < t.LATE_STEPS or readings.now < begin.step + t.BLOW_UP_STEPS:
        raise Unjudged(f"a late divergence is looked for after {t.BLOW_UP_STEPS} steps")
    now = level(readings, t.LATE_STEPS)
    if not now > begin.loss:
        return None
    high = readings.derived(limit)
    if not now > high.loss:
        return None
    since = _above_since(readings, high.loss)
    used = readings.derived(rate).now
    return Finding(
        code="R1b",
        severity="error" if begin.loss > 0 else "warning",
        confidence=0.8 if begin.loss > 0 else 0.8 * t.UNFAMILIAR,
        title="Training diverges: the loss stands far above where it began",
        explanation=(
            f"The loss was {number(begin.loss)} at step {begin.step:,}; the median of the last {t.LATE_STEPS} is "
            f"{number(now)}, above {high.words} ({number(high.loss)}). It has stayed there since step {since:,}."
            + ("" if begin.loss > 0 else f" {_NEGATIVE}")
        ),
        evidence=(Evidence("loss", tuple(map(int, steps)), tuple(map(float, losses))),),
        suggestion=(
            f"Go back to a checkpoint before step {since:,} with a learning rate of "
            f"{new_rate(used, t.AFTER_BLOW_UP)}, and clip the gradient norm. This does not hold for a loss that need "
            "not fall, as of a GAN."
        ),
        lr_factor=float(t.AFTER_BLOW_UP),
        since=since,
    )


def _above_since(readings: Readings, high: float) -> int:
    """Return the step since which every loss has been above a limit."""
    steps, losses = readings.series("loss")
    calm = np.flatnonzero(losses <= high)
    return int(steps[min(int(calm[-1]) + 1, len(steps) - 1)])


def _mild_remedy(used: float) -> str:
    return (
        f"If you start again, try a learning rate of {new_rate(used, t.AFTER_SPIKE)}, or a warm-up over some hundred "
        "steps; nothing needs to change in this run."
    )


def _remedy(used: float) -> str:
    return (
        f"Restart from the initial parameters with a learning rate of {new_rate(used, t.AFTER_BLOW_UP)}, and a tenth "
        "of that if the loss blows up again; or with a warm-up over at least 100 steps. Going on from here does "
        f"not help: the network may be damaged (dead units). {best_rate(used, BLOW_UP_FACTOR)}"
    )


def _title(found: Peak, now: float, begin: float) -> str:
    if found.course == "recovered":
        return "The start was unstable: the learning rate may be too large"
    if found.course == "pending":
        return "Learning rate too large: the loss blows up"
    if not now <= begin + (t.DIVERGED - 1) * abs(begin):
        return "Learning rate too large: training diverged"
    return "Learning rate too large: the loss blew up and did not come back"


def _story(readings: Readings, found: Peak) -> str:
    begin, high = readings.derived(start), readings.derived(limit)
    rise = (
        f"The loss rose from {number(begin.loss)} at step {begin.step:,} to {number(found.loss)} at step "
        f"{found.step:,}. More than {number(high.loss)} ({high.words}) counts as a blow-up."
    )
    parts = [rise, _aftermath(readings, found)]
    if begin.loss <= 0:
        parts.append(_NEGATIVE)
    return " ".join(parts)


def _aftermath(readings: Readings, found: Peak) -> str:
    _, good, large = BLOW_UPS[found.course]
    if found.course == "pending":
        return (
            f"Whether it comes back shows 20 to 30 steps after the peak. Of {good + large} calibration runs that rose "
            f"so, {large} had a too large learning rate."
        )
    if found.course == "recovered":
        return (
            f"20 to 30 steps later it was down to {number(found.after)} (median). Of {good + large} calibration runs "
            f"that came back so, {large} had a too large learning rate, but {good} ended well: the loss may jump once "
            "and settle where it is flatter."
        )
    if math.isinf(found.after):
        later = "After that it was not a finite number any more."
    else:
        later = f"20 to 30 steps later it was {number(found.after)} (median), and it is {latest(readings)} now."
    return f"{later} Of {good + large} calibration runs that did so, {large} had a too large learning rate."


def _evidence(readings: Readings, found: Peak) -> tuple[Evidence, ...]:
    steps, losses = readings.series("loss")
    begin = readings.derived(start).step
    wanted = {begin, found.since, found.step, *range(found.step + 20, found.step + 31, 5)}
    chosen = np.isin(steps, sorted(wanted))
    risen = Evidence.of("loss", steps[chosen], losses[chosen])
    return (risen,) if chosen[-1] else (risen, Evidence.of("loss", steps[-1:], losses[-1:]))
