"""Rules about what a step achieves: it goes the wrong way, or helps its own batch only."""

from __future__ import annotations

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import blow_up, fraction_left, level, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.rate import family
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.window import SLOPES, present
from cockpitlite.diagnosis.words import number, percent

# Faults with a name of their own, which look like this.
_EXPLAINED_BY = ("F3", "F4a", "F5", "F6a", "F6b", "F6c", "F7", "F8a", "F8c", "F8d", "F15", "F18", "F19")
_ENOUGH = 8  # measured steps for "no learnable signal": most of a stretch


@rule("F1", needs=SLOPES[:2], fault=True)
def wrong_sign(readings: Readings) -> Finding | None:
    """Nearly every step goes up the slope of its own batch, and the loss of that batch is higher at its end.

    Momentum goes uphill now and then (at most a third of the steps in good runs); nine steps in ten means that the
    loss, the gradient or the update has the wrong sign. It is never a matter of the learning rate.
    """
    window = readings.derived(present)[-1]
    if window.uphill < t.WRONG_SIGN_UPHILL or window.rose < t.WRONG_SIGN_RISE:
        return None
    count = len(window.steps)
    steps = tuple(int(step) for step in window.steps)
    return Finding(
        code="F1",
        severity="error",
        confidence=0.99 if count >= t.MANY else 0.9,
        title="The steps go uphill: something has the wrong sign",
        explanation=(
            f"{percent(window.uphill)} of {count} measured steps went up the slope of the very batch they were made "
            f"from, and {percent(window.rose)} ended at a higher loss of it. At most a third did in good runs."
        ),
        evidence=(Evidence("slope_same_start", steps, tuple(float(slope) for slope in window.slopes[0])),),
        suggestion=(
            "Check the sign of the loss, maximize=, and any update of your own making. Do not change the learning rate."
        ),
        since=window.first,
    )


@rule("F2", needs=("loss", *SLOPES), silenced_by=("R0", "F0", "F1", *_EXPLAINED_BY), fault=True)
def no_signal(readings: Readings) -> Finding | None:
    """Each step fits its own batch a little but does not help the next one, and the loss stays where it began.

    That is no small learning rate, with which steps help every batch: nothing that can be learnt reaches the weights.
    Shuffled labels, dead or vanished layers, inputs of the wrong scale and weights that start at 0 look like this; so
    does data that is pure noise.
    """
    window = readings.derived(present)[-1]
    if len(window.steps) < _ENOUGH:
        raise Unjudged(f"{_ENOUGH} measured steps are needed, there are {len(window.steps)}")
    small = t.SMALL[family(readings)]
    if readings.derived(blow_up) != "none" or not fraction_left(readings) > t.NO_SIGNAL_LOSS:
        return None
    if not (window.same.value < t.NO_SIGNAL_SAME and window.next.value > small.next):
        return None
    begin = readings.derived(start)
    return Finding(
        code="F2",
        severity="warning",
        confidence=0.9,
        title="The steps do not help the next batch: nothing learnable reaches the weights",
        explanation=(
            f"On its own batch a step could go much further; on the next batch it could not: {window.words}. The "
            f"loss was {number(begin.loss)} at step {begin.step:,} and is {number(level(readings))}. 9 of 12 runs with "
            "such a fault read like this, and 0 of 734 without."
        ),
        evidence=window.evidence,
        suggestion=(
            "Do not change the learning rate. Check that inputs and labels belong together, the scale of the inputs "
            "(standardise them), the initial weights, and whether layers are dead."
        ),
        since=window.first,
    )
