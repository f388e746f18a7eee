"""Rules about what enters the loss, and how it is reduced."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.chance import first_cross_entropy
from cockpitlite.diagnosis.course import Start, blown, rose_early, start, suffers
from cockpitlite.diagnosis.finding import Evidence, Finding, Severity
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number
from cockpitlite.store import Values


def _nearly_always(readings: Readings, reading: str, least: int = 1) -> Evidence | None:
    """Return the last measured shares where all of them are nearly 1, else None."""
    steps, shares = readings.recent(reading, t.ROWS, least)
    return Evidence.of(reading, steps, shares) if np.all(shares >= t.NEARLY_ALL) else None


@rule("F8a", needs=("probability_rows",), fault=True)
def probabilities_into_cross_entropy(readings: Readings) -> Finding | None:
    """What enters cross-entropy are probabilities already: a softmax is applied twice.

    Nearly all rows are not negative and sum to 1, in each of the last measured steps, three at most. The loss then
    cannot fall below ln(e + C - 1) - 1 (1.46 for ten classes), gradients are small, and it looks like too small a
    learning rate.
    """
    seen = _nearly_always(readings, "probability_rows")
    if seen is None or readings.has("unnormalized_rows"):
        return None
    return Finding(
        code="F8a",
        severity="warning",
        confidence=0.99,
        title="Probabilities enter the cross-entropy: the softmax is applied twice",
        explanation=f"The rows given to the loss are not negative and sum to 1. {_floor(_classes(readings))}",
        evidence=(seen,),
        suggestion=(
            "Give the loss what comes before the softmax (logits): remove nn.Softmax from the end of the model, and "
            "apply it only where probabilities are shown."
        ),
        since=int(readings.first("probability_rows", 1)[0][0]),
    )


@rule("F8b", needs=("log_probability_rows",), silenced_by=("F8a",), fault=True)
def log_probabilities_into_cross_entropy(readings: Readings) -> Finding | None:
    """What enters cross_entropy are log-probabilities: needless, but harmless.

    Nearly all rows are not positive, and their exponentials sum to 1. A second log_softmax changes nothing. A note; for
    nll_loss, which takes log-probabilities, there is nothing to say.
    """
    seen = _nearly_always(readings, "log_probability_rows")
    if seen is None:
        return None
    return Finding(
        code="F8b",
        severity="info",
        confidence=0.99,
        title="Log-probabilities enter the cross-entropy",
        explanation=(
            "The exponentials of the rows given to cross_entropy sum to 1: log_softmax is applied a second time, which "
            "changes nothing but costs a little."
        ),
        evidence=(seen,),
        suggestion="Nothing needs to change; log_softmax can be left out of the model, or nll_loss be used.",
        since=int(readings.first("log_probability_rows", 1)[0][0]),
    )


@rule("F8c", needs=("unnormalized_rows",), fault=True)
def no_log_probabilities_into_nll(readings: Readings) -> Finding | None:
    """What enters nll_loss are no log-probabilities, so it is no likelihood: its value can fall without end.

    Nearly all rows do not have exponentials that sum to 1, in each of the last measured steps, three at most. They are
    probabilities without the logarithm, or scores that have passed through no log_softmax. An error where the loss has
    blown up.
    """
    seen = _nearly_always(readings, "unnormalized_rows")
    if seen is None:
        return None
    plain = readings.has("probability_rows") and bool(np.all(readings.recent("probability_rows", 1)[1] >= t.NEARLY_ALL))
    return Finding(
        code="F8c",
        severity="error" if readings.derived(blown) else "warning",
        confidence=0.99,
        title=f"{'Probabilities' if plain else 'Scores'} enter nll_loss, which takes log-probabilities",
        explanation=(
            "The rows given to nll_loss sum to 1 themselves: the logarithm is missing, and large errors count little."
            if plain
            else "The exponentials of the rows given to nll_loss do not sum to 1: the loss falls for ever as scores "
            "grow, whatever the labels are."
        ),
        evidence=(seen,),
        suggestion="Use F.cross_entropy on scores (without softmax), or F.nll_loss on the output of log_softmax.",
        since=int(readings.first("unnormalized_rows", 1)[0][0]),
    )


@rule("F8d", needs=("unit_scores",), fault=True)
def probabilities_into_logits_loss(readings: Readings) -> Finding | None:
    """What enters binary_cross_entropy_with_logits are probabilities already: a sigmoid is applied twice.

    All scores lie between 0 and 1, in each of the last three measured steps. The model then cannot say less than 50 %,
    so the loss cannot fall below ln 2 for what is off.
    """
    seen = _nearly_always(readings, "unit_scores", t.ROWS)
    if seen is None:
        return None
    return Finding(
        code="F8d",
        severity="warning",
        confidence=0.95,
        title="Probabilities enter binary cross-entropy with logits: the sigmoid is applied twice",
        explanation=(
            "All scores given to the loss lie between 0 and 1. After the sigmoid of the loss they lie between 0.5 and "
            "0.73: a sample whose right answer is 0 costs ln 2 = 0.693 at least."
        ),
        evidence=(seen,),
        suggestion=(
            "Remove the sigmoid from the end of the model, or use F.binary_cross_entropy, which takes probabilities."
        ),
        since=int(readings.first("unit_scores", 1)[0][0]),
    )


@rule("F8f", silenced_by=("F8a",), fault=True)
def bounded_scores(readings: Readings) -> Finding | None:
    """The scores that enter cross-entropy come right out of a sigmoid, a tanh or a rectifier, which bound them.

    Its softmax tells classes apart by the differences of their scores. Those of a sigmoid differ by 1 at most, those of
    a tanh by 2, so the loss cannot come near 0; a rectifier gives no gradient to scores below 0. A warning for a
    sigmoid, and for the others where the loss has blown up or hardly fallen; else a note.
    """
    since, name = _made_by(readings, "cross_entropy", _BOUNDS)
    if not name:
        return None
    sure = name == "sigmoid" or readings.derived(suffers)
    return Finding(
        code="F8f",
        severity="warning" if sure else "info",
        confidence=0.95 if sure else 0.6,
        title=f"The scores that enter the cross-entropy come out of a {name}",
        explanation=_bounded(name, _classes(readings)),
        suggestion="Give the loss what comes before it: the last linear layer's outputs, as they are.",
        since=since,
    )


@rule("F8g", needs=("target_std", "target_mean"), fault=True)
def squared_error_of_classes(readings: Readings) -> Finding | None:
    """Classes are learnt by the squared error of their probabilities, whose gradient vanishes where the model is wrong.

    The loss is `mse_loss` of the output of a softmax, and the targets are 0 and 1, one 1 in each row, by their mean and
    deviation. A note, since it is a proper score and may be meant; a warning where the loss has hardly fallen.
    """
    since, name = _made_by(readings, "mse_loss", ("softmax",))
    steps, means = readings.recent("target_mean", t.ROWS, t.ROWS)
    _, stds = readings.recent("target_std", t.ROWS, t.ROWS)
    if not name or not _one_of_each_row(means, stds):
        return None
    hurts = readings.derived(suffers)
    return Finding(
        code="F8g",
        severity="warning" if hurts else "info",
        confidence=0.8 if hurts else 0.6,
        title="Classes are learnt by the squared error of their probabilities",
        explanation=(
            "The output of a softmax is compared with 0 and 1. Where the model is sure of a wrong class the softmax is "
            "flat, and the gradient is nearly 0: cross-entropy has the largest one there."
        ),
        evidence=(Evidence.of("target_mean", steps, means), Evidence.of("target_std", steps, stds)),
        suggestion="Use F.cross_entropy on what comes before the softmax, with the labels as whole numbers.",
        since=since,
    )


@rule("F15", needs=("loss", "batch_size"), silenced_by=("F8a",), fault=True)
def summed_loss(readings: Readings) -> Finding | None:
    """The loss is a sum over the batch and not a mean, so the learning rate means something else for each batch size.

    By the way from a known loss function to the loss: what is minimised is the batch size times a mean, or the sum of
    all single losses. Or, where that way is not seen: the first loss is the batch size times the cross-entropy that one
    sample costs (or, where that is unknown, times ln C, what guessing costs). A warning where the loss has blown up or
    hardly fallen; else a note, since the learning rate may have been chosen for it, and Adam does not mind.
    """
    begin = readings.derived(start)
    at, sizes = readings.first("batch_size", 1)
    if not len(at) or at[0] != begin.step:
        raise Unjudged("the size of the first batch is not known")
    count = float(sizes[0])
    if count < t.SUM_BATCH or not _is_summed(readings, begin, count):
        return None
    return Finding(
        code="F15",
        severity=_severity(readings),
        confidence=0.9,
        title="The loss is a sum over the batch, not a mean",
        explanation=(
            f"The first loss was {number(begin.loss)}, for {number(count)} samples. Gradients are {number(count)} "
            "times as long as those of the mean, as if the learning rate were so many times as large, and they change "
            "with the batch size."
        ),
        evidence=(Evidence.of("loss", (begin.step,), (begin.loss,)), Evidence.of("batch_size", at, sizes)),
        suggestion=(
            f"Use reduction='mean', or divide the loss by the batch size; or divide the learning rate by "
            f"{number(count)}."
        ),
        since=begin.step,
    )


_BOUNDS = ("sigmoid", "tanh", "relu")


def _made_by(readings: Readings, loss: str, makers: tuple[str, ...]) -> tuple[int, str]:
    """Return since when one of these functions gives a loss function its predictions, and which; empty for none."""
    events = readings.events("loss_functions")
    if not events or "makers" not in events[-1].data:
        raise Unjudged("the run does not say what gives the loss its predictions")
    found = [name for name in events[-1].data["makers"].get(loss, []) if name in makers]
    return events[0].step, found[0] if found else ""


def _bounded(name: str, classes: int) -> str:
    if name == "relu":
        return (
            "A rectifier gives no gradient where its input is below 0: a class whose score is 0 is not taught that it "
            "should be higher, and none can be scored below 0."
        )
    spread = 1 if name == "sigmoid" else 2
    floor = f"ln(1 + {classes - 1} / e{'' if spread == 1 else '²'}) = " if classes else ""
    least = number(math.log1p((classes - 1) * math.exp(-spread))) if classes else "a value well above 0"
    return f"They differ by {spread} at most, so the loss cannot fall below {floor}{least}, however sure the model is."


def _one_of_each_row(means: Values, stds: Values) -> bool:
    """Whether targets are 0 and 1 (then their variance is mean · (1 − mean)) with the same share of 1 in each batch."""
    binary = np.allclose(stds**2, means * (1 - means), rtol=1e-3) and bool(np.all(means > 0))
    return binary and bool(np.ptp(means) < 1e-6) and abs(1 / means[0] - round(1 / means[0])) < 1e-3


def _is_summed(readings: Readings, begin: Start, count: float) -> bool:
    """Whether a loss is known to be a sum, or else as many times the cross-entropy of a sample as there are samples."""
    events = readings.events("loss_functions")
    if events and events[-1].data.get("factor") is not None:
        return bool(events[-1].data.get("summed"))
    readings.require("classes")
    first = first_cross_entropy(readings)
    if first is None or begin.step > 0:
        raise Unjudged("the first loss of the run and its number of classes are not both known")
    each = first.loss if first.reading == "class_loss" else first.chance
    ratio = begin.loss / (count * each) if each > 0 else math.nan
    return bool(t.SUMMED <= ratio <= 1 / t.SUMMED)


def _severity(readings: Readings) -> Severity:
    if readings.derived(blown):
        return "error"
    return "warning" if readings.derived(suffers) or readings.derived(rose_early) else "info"


def _classes(readings: Readings) -> int:
    if not readings.has("classes"):
        return 0
    _, classes = readings.recent("classes", 1)
    return int(classes[-1]) if len(classes) and classes[-1] >= 2 else 0


def _floor(classes: int) -> str:
    if not classes:
        return "The loss cannot come near 0 then, and gradients are small."
    return (
        f"With {classes} classes the loss cannot fall below ln(e + {classes - 1}) - 1 = "
        f"{number(math.log(math.e + classes - 1) - 1)}, however sure the model is, and gradients are small."
    )
