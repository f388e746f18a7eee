"""Rules about what a step achieves: it goes the wrong way, or helps its own batch only."""

from __future__ import annotations

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.chance import trained_before
from cockpitlite.diagnosis.course import blow_up, fraction_left, latest, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import began_at_zero
from cockpitlite.diagnosis.rate import family, rate, settings
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.window import SLOPES, Window, present, windows
from cockpitlite.diagnosis.words import listed, number, percent

# Faults with a name of their own, which look like this.
_EXPLAINED_BY = ("F3", "F4a", "F5", "F6a", "F6b", "F6c", "F7", "F8a", "F8c", "F8d", "F8e", "F15", "F18", "F19")
_FAMILIAR = 10  # steps in which three measured ones lie
_ENOUGH = 8  # measured steps for "no learnable signal": most of a stretch


@rule("F1", fault=True)
def wrong_sign(readings: Readings) -> Finding | None:
    """The steps go uphill, or downhill on the negative of a loss: something has the wrong sign.

    Nine in ten measured steps go up the slope of their own batch and end at a higher loss of it; momentum goes uphill
    now and then (at most a third of the steps in good runs). Two steps suffice where the first of the run is one of
    them: nothing but the gradient has made it. Or the loss is a cross-entropy or the distance of predictions from
    targets, and is maximised: by `-loss`, or by `maximize=True`, with the same factor at three measured steps in a row.
    Not where another network stands between model and loss, as in a GAN, nor where samples have weights of their own or
    the factor changes, as with rewards. It is never a matter of the learning rate.
    """
    return _maximised(readings) or _uphill(readings)


def _maximised(readings: Readings) -> Finding | None:
    events = readings.events("loss_functions")
    factors = {event.data.get("factor") for event in events}
    factor = next(iter(factors)) if len(factors) == 1 else None
    if not isinstance(factor, int | float) or not factor < 0 or readings.now < events[-1].step + _FAMILIAR:
        return None
    names = listed([str(name) for name in events[-1].data.get("functions", [])])
    set_so = any(group.get("maximize") for group in settings(readings))
    steps, losses = readings.recent("loss", _ENOUGH)
    return Finding(
        code="F1",
        severity="error",
        confidence=0.98,
        title="The loss has the wrong sign: it is maximised",
        explanation=(
            f"The steps go down {number(factor)} times the mean of {names}, which is smallest where predictions are "
            f"right: training makes them as wrong as can be. {_HOW[set_so]}"
        ),
        evidence=(Evidence.of("loss", steps, losses),),
        suggestion=(
            f"{'Leave out maximize=True' if set_so else 'Leave out the minus before the loss'}, unless the model is "
            "to get worse at this, as in unlearning. Do not change the learning rate."
        ),
        since=events[0].step,
    )


_HOW = {
    True: "The optimizer was made with maximize=True.",
    False: "Backward was given the negative of a loss.",
}


def _uphill(readings: Readings) -> Finding | None:
    for name in SLOPES[:2]:
        readings.require(name)
    window = _from_the_start(readings) or readings.derived(present)[-1]
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


def _from_the_start(readings: Readings) -> Window | None:
    """Return the stretch from the first step of a run that has few measured steps, if that step went uphill."""
    stretches = readings.derived(windows)
    first = stretches[0] if len(stretches) == 1 else None
    resumed = bool(readings.events("resume"))
    if first is None or resumed or first.first > 0 or not 2 <= len(first.steps) < t.FEW or first.slopes[0][0] <= 0:
        return None
    return first


@rule("F2", needs=("loss", *SLOPES), silenced_by=("R0", "F0", "F0b", "F1", *_EXPLAINED_BY), fault=True)
def no_signal(readings: Readings) -> Finding | None:
    """Each step fits its own batch a little but does not help the next one, and the loss stays where it began.

    That is no small learning rate, with which steps help every batch: nothing that can be learnt reaches the weights.
    Shuffled labels, dead or vanished layers, inputs of the wrong scale and weights that start at 0 look like this; so
    does data that is pure noise. Not judged while the learning rate rises, by steps taken when it was less than half
    of what it is now, in the first hundred steps of batches below 16 samples or the first fifty of weights that begin
    at 0, nor for a model that was better than guessing from the start, as in fine-tuning.
    """
    window = readings.derived(present)[-1]
    if len(window.steps) < _ENOUGH:
        raise Unjudged(f"{_ENOUGH} measured steps are needed, there are {len(window.steps)}")
    _require_signal_time(readings, window)
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
            f"loss was {number(begin.loss)} at step {begin.step:,} and is {latest(readings)} now. 9 of 12 runs with "
            "such a fault read like this, and 0 of 734 without."
        ),
        evidence=window.evidence,
        suggestion=(
            "Do not change the learning rate. Check that inputs and labels belong together, the scale of the inputs "
            "(standardise them), the initial weights, and whether layers are dead."
        ),
        since=window.first,
    )


def _require_signal_time(readings: Readings, window: Window) -> None:
    """Raise Unjudged where steps that help no other batch are natural, or were measured under other conditions."""
    known = readings.derived(rate)
    if known.rising:
        raise Unjudged("the learning rate still rises; it is judged when the warm-up is over")
    if window.rate < t.WARMED_UP * known.now:
        raise Unjudged("the measured steps were taken early in the warm-up")
    if readings.now < t.WAKING_STEPS and began_at_zero(readings):
        raise Unjudged("some weights began at 0, so that the others hardly move at first")
    if readings.now < t.EARLY_STEPS and readings.has("batch_size"):
        _, sizes = readings.first("batch_size", 1)
        if len(sizes) and sizes[0] < t.FEW_SAMPLES:
            raise Unjudged("batches of few samples differ too much to tell so early")
    if trained_before(readings):
        raise Unjudged("the model was better than guessing from the start, so what can be learnt may be learnt")
