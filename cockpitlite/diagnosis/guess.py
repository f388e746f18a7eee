"""The rule about a model that has learnt nothing of its inputs: it is no better than guessing."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.chance import trained_before
from cockpitlite.diagnosis.course import blow_up, latest, level, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import middle
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.words import number

_LOOK = 20  # losses whose median is "the loss now"
_PARTS = 10  # of the run, whose medians are compared
_BATCHES = 10  # whose labels are looked at


@rule("F2b", needs=("loss",), silenced_by=(FAULT, "R1", "R1b", "R2", "R3"))
def no_better_than_guessing(readings: Readings) -> Finding | None:
    """After a hundred steps the loss is still that of a model that knows how frequent the labels are, and nothing else.

    That costs the entropy of the labels, or, by the squared error, the variance of the targets, of each output by
    itself. From 97 % of it on the model has learnt nothing of its inputs, though the steps are long enough: labels that
    do not belong to the inputs look like this, and so do data without a signal. A warning for classes from 200 steps
    on, else a note. Not judged where the loss has other terms or weights, where a batch has fewer than four labels for
    each class, while the learning rate rises, nor for a model that was better than guessing from the start.
    """
    begin = readings.derived(start)
    if readings.now < begin.step + t.STUCK_STEPS:
        raise Unjudged(f"it is asked after {t.STUCK_STEPS} steps")
    if readings.derived(rate).rising or trained_before(readings):
        raise Unjudged("the learning rate still rises, or the model was trained before")
    guess, evidence, what = guessing(readings)
    if (
        not 0 < guess < math.inf
        or readings.derived(blow_up) != "none"
        or begin.loss > t.OTHER_TERMS * _nothing(readings, guess)
    ):
        return None
    now, best = level(readings, _LOOK), _best(readings)
    if not min(now, best) > t.NO_SIGNAL_LOSS * guess:
        return None
    sure = what == _ENTROPY and readings.now >= begin.step + 2 * t.STUCK_STEPS
    steps, losses = readings.recent("loss", _LOOK)
    return Finding(
        code="F2b",
        severity="warning" if sure else "info",
        confidence=0.8 if sure else 0.6,
        title="The model is no better than guessing: it has learnt nothing of its inputs",
        explanation=(
            f"The loss is {latest(readings, _LOOK)}; a model that looks at no input gets {number(guess)}, {what}."
        ),
        evidence=(Evidence.of("loss", steps, losses), evidence),
        suggestion=(
            "Check that each label belongs to its input (shuffled apart, shifted by one, sorted on one side only), and "
            "whether a few samples can be learnt by heart. If they can, the inputs may not tell what is asked."
        ),
        since=begin.step,
    )


def _nothing(readings: Readings, guess: float) -> float:
    """Return what a model costs that gives 0, if that is more than guessing."""
    if not (readings.has("target_mean") and readings.has("target_std")):
        return guess
    return max(guess, sum(middle(readings.recent(name, _BATCHES)[1]) ** 2 for name in ("target_mean", "target_std")))


def _best(readings: Readings) -> float:
    """Return the lowest median of some losses in a row, a tenth of all: of more of them the lowest is so by chance."""
    _, losses = readings.series("loss")
    size = max(_LOOK, len(losses) // _PARTS)
    return min(float(np.median(losses[at : at + size])) for at in range(0, len(losses) - size + 1, size))


_ENTROPY = "the entropy of the labels"
_VARIANCE = "the variance of the targets"


def guessing(readings: Readings) -> tuple[float, Evidence, str]:
    """Return what guessing costs, by which reading, in words; raises Unjudged where the loss is none of both kinds."""
    events = readings.events("loss_functions")
    asked = events[-1].data if events else {}
    names = asked.get("functions")
    if asked.get("factor") != 1 or asked.get("weighted"):
        raise Unjudged("what is minimised is no plain mean of a known loss")
    if names == ["cross_entropy"]:
        steps, entropies = readings.recent("label_entropy", _BATCHES, t.FEW)
        classes, labels = (middle(readings.recent(name, _BATCHES)[1]) for name in ("classes", "labels"))
        if not labels >= t.LABELS_PER_CLASS * classes:
            raise Unjudged(f"fewer than {t.LABELS_PER_CLASS} labels for each class do not tell how frequent each is")
        unseen = (classes - 1) / (2 * labels)  # by which the entropy of a sample is too low (Miller 1955)
        guess = min(middle(entropies) + unseen, math.log(classes))
        return guess, Evidence.of("label_entropy", steps, entropies), _ENTROPY
    if names == ["mse_loss"]:
        name = "target_each_std" if readings.has("target_each_std") else "target_std"
        steps, stds = readings.recent(name, _BATCHES, t.FEW)
        return middle(stds) ** 2, Evidence.of(name, steps, stds), _VARIANCE
    raise Unjudged("guessing is compared with for cross-entropy and squared error")
