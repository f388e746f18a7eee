"""Rules about the scale at the start: of the inputs, of the first loss and weights, and units that begin equal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.chance import FirstLoss, first_cross_entropy
from cockpitlite.diagnosis.course import blown, level, suffers
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import first_is_norm, matrices, middle, over_rows, size
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import listed, number

_LOOK = 10  # readings looked at


@dataclass(frozen=True)
class _Odd:
    """What is odd about the inputs, in words, and whether the first weights' gradient should be long or short then."""

    title: str
    story: str
    towards: int


@rule("F6a", needs=("input_mean", "input_std"), fault=True)
def bad_scale_of_inputs(readings: Readings) -> Finding | None:
    """The inputs of the model have a scale that first layers are not made for.

    Their standard deviation is above 10 (pixels from 0 to 255, one huge feature), or below 0.02 with no value above
    0.1, or their mean is more than three deviations from 0. A warning where it shows: the gradient of the first weights
    is ten times longer or shorter than that of the others, the first cross-entropy is far above chance, or the loss has
    blown up or hardly fallen. Else a note, since the model may put it right by itself; silent where the first layer is
    a norm. Whole numbers (tokens) are not looked at.
    """
    steps, stds = readings.recent("input_std", _LOOK, 1)
    _, means = readings.recent("input_mean", _LOOK, 1)
    if first_is_norm(readings) or not np.isfinite(stds).any():
        return None
    odd = _odd(readings, middle(stds), middle(means))
    if odd is None:
        return None
    shown = _shown(readings, odd.towards)
    at, _ = readings.first("input_std", 1)
    return Finding(
        code="F6a",
        severity=("error" if readings.derived(blown) else "warning") if shown else "info",
        confidence=0.9 if shown else 0.5,
        title=odd.title,
        explanation=f"{odd.story} {shown or 'Nothing shows so far that it hurts: the model may scale them itself.'}",
        evidence=(Evidence.of("input_std", steps, stds), Evidence.of("input_mean", steps, means)),
        suggestion=(
            "Standardise the inputs, each feature to mean 0 and standard deviation 1 over the training data, before "
            "changing the learning rate."
        ),
        since=int(at[0]),
    )


@rule("F6c", needs=("row_spread",), silenced_by=("R0", "F0"), fault=True)
def equal_units(readings: Readings) -> Finding | None:
    """All units of a layer have the same weights: they get the same gradient and stay equal, or nearly so.

    The rows of a weight matrix do not differ in any of the last three measured steps, ten or more steps after the
    start, so that a layer which merely began at 0 (as last layers often do) is not named. Or all matrices of the model
    began with equal rows, at 0 or at another constant: then random biases may part the units later, but slowly. The
    model's last weights are left out.
    """
    begin, layers, first = readings.first_layers("row_spread", 1)
    if not len(begin):
        raise Unjudged("row_spread by layer is known for 0 steps; 1 is needed")
    hidden = matrices(readings, layers)[:-1]
    from_start = not readings.events("resume") and int(begin[0]) == 0
    if from_start and hidden and np.all(first[0][hidden] < t.EQUAL_UNITS):
        names = [layers[index] for index in hidden]
        return _equal(readings, names, Evidence.of("row_spread", begin, first[:, hidden[0]], names[0]))
    steps, layers, spreads = readings.recent_layers("row_spread", t.ROWS, t.ROWS)
    if readings.now < int(begin[0]) + t.SYMMETRIC_STEPS:
        raise Unjudged(f"units that began equal are looked for after {t.SYMMETRIC_STEPS} steps")
    _, most = over_rows(spreads)
    equal = [index for index in matrices(readings, layers)[:-1] if most[index] < t.EQUAL_UNITS]
    if not equal:
        return None
    names = [layers[index] for index in equal]
    return _equal(readings, names, Evidence.of("row_spread", steps, spreads[:, equal[0]], names[0]))


def _equal(readings: Readings, names: list[str], evidence: Evidence) -> Finding:
    begin = int(readings.first_layers("row_spread", 1)[0][0])
    return Finding(
        code="F6c",
        severity="error" if readings.derived(blown) else "warning",
        confidence=0.95,
        title=f"All units are equal in {listed(names)}",
        explanation=(
            f"At step {evidence.steps[-1]:,} the rows of {'this matrix' if len(names) == 1 else 'these matrices'} "
            f"differed by less than {number(t.EQUAL_UNITS)} of their length: the units compute the same and get the "
            "same gradient, so a layer of any width does the work of one unit."
        ),
        evidence=(evidence,),
        suggestion=(
            "Draw the initial weights at random (Kaiming or Xavier; the default of the layers does). Only biases, and "
            "the last layer of a branch, may start at a constant."
        ),
        since=begin,
    )


@rule("F6b", silenced_by=("F6a", "F6c", "F8a"), fault=True)
def bad_start(readings: Readings) -> Finding | None:
    """The model starts wrong: its first cross-entropy is far above chance, or its initial weights have an odd scale.

    Guessing among C classes costs ln C. More than 1.5 times and 1.5 nats above that on the first batch means a model
    that is sure and wrong: too large initial weights, as a rule. A warning until the loss is down to half of ln C. A
    first loss below ln C is a pretrained model's and is left alone, as is a run that was resumed. The standard
    deviation of the initial weights, times the fourth root of the layer's parameter count, is 0.2 to 2 for the usual
    initialisations; above 4 or below 0.05 in the middle of all matrices is told, as a warning where training suffers.
    """
    if not readings.has("classes") and not readings.has("weight_std"):
        readings.require("classes")
    return _high_loss(readings) or _odd_weights(readings)


def _odd(readings: Readings, std: float, mean: float) -> _Odd | None:
    words = f"Over the first input of each batch the mean is {number(mean)} and the standard deviation {number(std)}."
    if std > t.WIDE_INPUT:
        spread = _median(readings, "input_spread")
        if spread > t.UNEVEN_INPUT:
            uneven = f"The most spread feature has {number(spread)} times the deviation of the least spread one."
            return _Odd("Some features of the input have a far larger scale than others", f"{words} {uneven}", 1)
        return _Odd(f"The inputs are not standardised: their deviation is {number(std)}", words, 1)
    largest = max(abs(_median(readings, "input_min")), abs(_median(readings, "input_max")))
    if 0 < std < t.NARROW_INPUT and largest < t.TINY_INPUT:
        tiny = f"No value is beyond {number(largest)}. Were they divided twice?"
        return _Odd(f"The inputs are tiny: their deviation is {number(std)}", f"{words} {tiny}", -1)
    if std > 0 and abs(mean) > t.OFFSET_INPUT * std:
        return _Odd(f"The inputs are far from 0: their mean is {number(abs(mean) / std)} deviations away", words, 0)
    return None


def _shown(readings: Readings, towards: int) -> str:
    """Return a sentence on where the scale of the inputs shows, empty where it does not."""
    ratio = _first_gradient(readings)
    if towards > 0 and ratio > t.FIRST_GRADIENT:
        return f"The gradient of the first weights is {number(ratio)} times as long as that of the others."
    if towards < 0 and ratio < 1 / t.FIRST_GRADIENT:
        return f"The gradient of the first weights is {number(ratio)} times as long as that of the others."
    first = first_cross_entropy(readings)
    if first is not None and first.high:
        return f"The first cross-entropy was {number(first.loss)}; guessing costs {number(first.chance)}."
    if readings.derived(suffers):
        return "The loss has blown up." if readings.derived(blown) else "The loss has hardly fallen."
    return ""


def _first_gradient(readings: Readings) -> float:
    """Return the gradient norm of the first weight matrix over that in the middle of the others, NaN where unknown."""
    _, layers, norms = readings.first_layers("grad_norm", t.ROWS)
    chosen = matrices(readings, layers)
    if len(chosen) < 2 or not len(norms):
        return math.nan
    typical = np.median(norms[:, chosen], axis=0)
    others = float(np.median(typical[1:]))
    return float(typical[0]) / others if others > 0 else math.nan


def _high_loss(readings: Readings) -> Finding | None:
    first = first_cross_entropy(readings)
    if first is None or not first.high:
        return None
    overcome = _overcome(readings, first)
    return Finding(
        code="F6b",
        severity="info" if overcome else "error" if readings.derived(blown) else "warning",
        confidence=0.9,
        title=f"The model starts far worse than by guessing: {number(first.loss)} instead of {number(first.chance)}",
        explanation=(
            f"Guessing among {first.classes} classes costs ln {first.classes} = {number(first.chance)}; the first "
            f"batch cost {number(first.loss)}: before any training the model is sure of wrong answers. The initial "
            f"weights are too large, or the inputs are.{' The loss has come down since.' if overcome else ''}"
        ),
        evidence=(Evidence.of(first.reading, (first.step,), (first.loss,)),),
        suggestion=(
            "Start with smaller weights, of the last layer above all (Kaiming or Xavier initialisation; dividing the "
            "last layer's weights by 10 is often enough), and standardise the inputs. Judge the learning rate after "
            "that."
        ),
        since=first.step,
    )


def _overcome(readings: Readings, first: FirstLoss) -> bool:
    if first.reading == "loss":
        return level(readings) < t.OVERCOME * first.chance
    _, losses = readings.recent(first.reading, _LOOK)
    return bool(middle(losses) < t.OVERCOME * first.chance)


def _odd_weights(readings: Readings) -> Finding | None:
    if readings.events("resume"):
        return None
    steps, layers, stds = readings.first_layers("weight_std", 1)
    if not len(steps) or steps[0] > 0:
        return None
    gains = {
        layers[index]: float(stds[0, index]) * size(readings, layers[index]) ** 0.25
        for index in matrices(readings, layers)
        if size(readings, layers[index]) and np.isfinite(stds[0, index])
    }
    if len(gains) < 2:
        return None
    typical = float(np.median(list(gains.values())))
    if t.NARROW_WEIGHTS <= typical <= t.WIDE_WEIGHTS:
        return None
    large, hurts = typical > t.WIDE_WEIGHTS, readings.derived(suffers)
    worst = (max if large else min)(gains, key=lambda name: gains[name])
    std = float(stds[0, layers.index(worst)])
    return Finding(
        code="F6b",
        severity="error" if large and readings.derived(blown) else "warning" if hurts else "info",
        confidence=0.7 if hurts else 0.5,
        title=f"The initial weights are too {'large' if large else 'small'}",
        explanation=(
            f"The standard deviation of the weights times the fourth root of the layer's parameter count is "
            f"{number(typical)} (median of {len(gains)} weight matrices); the usual initialisations have 0.2 to 2. "
            f"{worst} has a standard deviation of {number(std)}."
        ),
        evidence=(Evidence.of("weight_std", steps, stds[:, layers.index(worst)], worst),),
        suggestion="Use the layers' default initialisation, or Kaiming (ReLU) or Xavier (tanh), and judge again.",
        since=int(steps[0]),
    )


def _median(readings: Readings, name: str) -> float:
    """Return the median of a reading's last values, NaN where there are none."""
    if not readings.has(name):
        return math.nan
    _, values = readings.recent(name, _LOOK)
    return middle(values)
