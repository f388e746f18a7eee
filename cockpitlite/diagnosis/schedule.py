"""The rule about a schedule that lowers the learning rate too early."""

from __future__ import annotations

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import fraction_left
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import unbroken
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number, percent


@rule("F17", needs=("learning_rate",), silenced_by=("R0",), fault=True)
def rate_falls_early(readings: Readings) -> Finding | None:
    """The learning rate has been near 0 for most of the run: its schedule ends too early.

    It is below a hundredth of its highest value for at least half of the steps, and a hundred steps, up to now. Typical
    of a schedule that was made for epochs and is stepped at every batch. A cosine to 0 spends 6 % of its steps there. A
    warning while the loss is above 30 % of where it began, else a note; silent once it is below 5 %.
    """
    known = readings.derived(rate)
    if not len(known.values):
        raise Unjudged("the learning rate is not known")
    highest = float(known.values.max())
    low = known.values < t.FALLEN_RATE * highest
    if not low[-1] or known.now == 0 or _converged(readings):  # at 0 nothing moves, which rule F0 tells
        return None
    since = unbroken(known.steps, low)
    spent, steps = readings.now - since + 1, readings.now - int(known.steps[0]) + 1
    if spent < t.DECAY_STEPS or spent < t.LONG_FALLEN * steps:
        return None
    peak = int(known.steps[known.values.argmax()])
    warned = not _left(readings) < t.FALLEN
    shown = sorted({peak, since, int(known.steps[-1])})
    return Finding(
        code="F17",
        severity="warning" if warned else "info",
        confidence=0.8 if warned else 0.5,
        title=f"The learning rate has been near 0 since step {since:,}",
        explanation=(
            f"It was {number(highest)} at step {peak:,} and has been below a hundredth of that for the last {spent:,} "
            f"steps, {percent(spent / steps)} of the run; now it is {number(known.now)}. What is left of the loss is "
            "not learnt at such a rate."
        ),
        evidence=(Evidence.of("learning_rate", shown, (known.at(step) for step in shown)),),
        suggestion=(
            "Check how often scheduler.step() is called: a schedule counted in epochs must not be stepped at every "
            "batch. Else make it last as long as the training."
        ),
        since=since,
    )


def _converged(readings: Readings) -> bool:
    return _left(readings) < t.CONVERGED_LOSS


def _left(readings: Readings) -> float:
    try:
        return fraction_left(readings)
    except Unjudged:
        return float("nan")
