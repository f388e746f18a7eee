"""Rules about what the batches hold: the same one again and again, or labels that are nearly all of one class."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding, Severity
from cockpitlite.diagnosis.layers import middle, unbroken
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number, percent
from cockpitlite.store import Steps, Values

_LOOK = 20  # measured steps looked at


@rule("F13", needs=("input_fingerprint",), fault=True)
def same_batch(readings: Readings) -> Finding | None:
    """The same batch comes again and again, by a checksum of the inputs.

    A warning where five or more steps in a row got the same batch though earlier ones did not (the loader is stuck), or
    a third of neighbouring steps did (workers that draw the same random numbers, a batch that is used several times).
    Only a note where every measured step since the first had the same batch: that is right for training on the whole
    data at once, and for trying to overfit one batch.
    """
    steps, prints = readings.recent("input_fingerprint", _LOOK, t.STUCK_BATCH)
    first_steps, first = readings.first("input_fingerprint", 10)
    if np.all(prints == prints[-1]) and np.all(first == prints[-1]):
        return _always(steps, prints, int(first_steps[0]), int(np.max(np.diff(steps))))
    near = np.diff(steps) == 1
    equal = near & (prints[1:] == prints[:-1])
    row = int(np.argmin([*equal[::-1], False]))  # neighbours that are equal, counted from the last
    if row + 1 >= t.STUCK_BATCH:
        return _stuck(readings, steps, prints)
    if near.sum() >= t.STUCK_BATCH and equal.sum() >= t.REPEATED * near.sum():
        return _repeated(steps, prints, float(equal.sum() / near.sum()))
    return None


@rule("F14", needs=("label_entropy", "classes", "batch_size"), fault=True)
def one_class_per_batch(readings: Readings) -> Finding | None:
    """Batches hold labels of one class, or of few: the data are sorted by class and not shuffled, or all labels agree.

    The entropy of a batch's labels is below a quarter of what it could be, in the middle of the last ten measured
    steps, and a batch has at most half of the classes that the last tracked ones had together. Rare classes that are
    missing or few in every batch alike are an imbalance and no case of this. A note for two classes, since the two
    sides of a GAN look like this too. Not judged for batches of fewer than eight samples.
    """
    steps, entropies = readings.recent("label_entropy", 10, t.FEW)
    _, counts = readings.recent("classes", 1, 1)
    _, sizes = readings.recent("batch_size", 10, 1)
    classes, samples = int(counts[-1]) if np.isfinite(counts[-1]) else 0, float(np.median(sizes))
    if samples < t.LABELLED_BATCH or classes < 2:
        raise Unjudged(f"batches of {t.LABELLED_BATCH} samples and more with two classes or more are judged")
    typical = middle(entropies)
    if not typical < t.FEW_LABELS * math.log(min(classes, samples)):
        return None
    each, together = _classes_met(readings)
    if not each or each > max(1.0, t.FEW_CLASSES * together) or (together == 1 and classes == 2):
        return None
    one = together == 1
    severity: Severity = "info" if classes == 2 else "warning"
    return Finding(
        code="F14",
        severity=severity,
        confidence=0.8 if one or classes == 2 else 0.9,
        title="All labels are of one class" if one else "Each batch holds few classes: the data are sorted by class",
        explanation=(
            f"The entropy of a batch's labels is {number(typical)} (median of the last {len(steps)} measured "
            f"steps); {classes} classes in equal parts would give {number(math.log(classes))}. A batch has "
            f"{number(each)} {'class' if each == 1 else 'classes'}; the last batches together have {together}."
        ),
        evidence=(Evidence.of("label_entropy", steps, entropies),),
        suggestion=(
            "Check the labels: there is nothing to tell apart."
            if one
            else "Shuffle the data (DataLoader(shuffle=True)): on sorted data each step forgets the other classes."
        ),
        since=_since(readings, t.FEW_LABELS * math.log(min(classes, samples))),
    )


def _always(steps: Steps, prints: Values, since: int, gap: int) -> Finding:
    seen = "every step" if gap == 1 else "every measured step"
    return Finding(
        code="F13",
        severity="info",
        confidence=0.5,
        title=f"The same batch at {seen} so far",
        explanation=(
            "The checksum of the inputs has not changed since the first step. That is right where the batch is the "
            "whole data, or a test whether one batch can be learnt by heart; else the loader always gives its first "
            "batch."
        ),
        evidence=(Evidence.of("input_fingerprint", steps, prints),),
        suggestion="If the data are more than one batch: make the loader's iterator once per epoch, not at each step.",
        since=since,
    )


def _stuck(readings: Readings, steps: Steps, prints: Values) -> Finding:
    at, everything = readings.series("input_fingerprint")
    since = unbroken(at, everything == prints[-1])
    return Finding(
        code="F13",
        severity="warning",
        confidence=0.9,
        title=f"The same batch comes at every step since step {since:,}",
        explanation=(
            f"The checksum of the inputs is the same at all measured steps from {since:,} to {int(steps[-1]):,}, and "
            "was another one before."
        ),
        evidence=(Evidence.of("input_fingerprint", steps, prints),),
        suggestion="Look at the data loader: it gives the same batch again and again.",
        since=since,
    )


def _repeated(steps: Steps, prints: Values, share: float) -> Finding:
    return Finding(
        code="F13",
        severity="warning",
        confidence=0.7,
        title=f"{percent(share)} of the steps get the batch of the step before",
        explanation="A checksum of the inputs says so, at neighbouring measured steps. The other batches differ.",
        evidence=(Evidence.of("input_fingerprint", steps, prints),),
        suggestion=(
            "Look at the data loader: workers with the same seed give the same samples. If a batch is used for several "
            "steps on purpose, nothing needs to change."
        ),
        since=int(steps[0]),
    )


def _classes_met(readings: Readings) -> tuple[float, int]:
    """Return how many classes a tracked batch has, in the middle, and how many the last ones have together."""
    _, _, losses = readings.recent_layers("class_loss", _LOOK)
    met = np.isfinite(losses)
    met = met[met.any(axis=1)]
    return (float(np.median(met.sum(axis=1))), int(met.any(axis=0).sum())) if len(met) else (0.0, 0)


def _since(readings: Readings, limit: float) -> int:
    steps, entropies = readings.series("label_entropy")
    many = entropies >= limit
    # Batches at the border between two classes do not end it: three in a row do.
    broken = np.flatnonzero(np.convolve(many, np.ones(3), "valid") == 3)
    return int(steps[min(broken[-1] + 3, len(steps) - 1)]) if len(broken) else int(steps[0])
