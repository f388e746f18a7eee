"""The rule about weight decay that outweighs the gradient."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import stuck
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import middle
from cockpitlite.diagnosis.rate import decoupled, rate, weight_decay
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number, percent
from cockpitlite.store import Steps, Values

_LOOK = 10  # tracked steps looked at


@rule("F18", needs=("loss", "update_size", "update_ratio"), silenced_by=("R0", "F0", "F6a", "F8a"), fault=True)
def weight_decay_dominates(readings: Readings) -> Finding | None:
    """Weight decay outweighs the gradient: the weights shrink towards 0 and the loss does not fall.

    Where the loss has hardly fallen in a hundred steps: the weights are shorter than 30 % of what they were, and decay
    alone would have shrunk them so far; or more than half of a step (with L2 decay: of the gradient) is decay, or was
    at the start. Silent while the loss falls, since weights in balance with their decay are healthy.
    """
    decay = weight_decay(readings)
    if decay is None:
        raise Unjudged("the weight decay is not known")
    if not decay > 0 or not readings.derived(stuck):
        return None
    begin, before = _norms(*_sizes(readings, first=True))
    steps, after = _norms(*_sizes(readings, first=False))
    if not len(before) or not len(after):
        raise Unjudged("the length of the weights is not known")
    settings = readings.derived(rate)
    total = (
        decay * float(np.mean(settings.values)) * (readings.now - int(begin[0]) + 1) if len(settings.values) else 0.0
    )
    left = float(after[-1] / before[0])
    share = max(_share(readings, decay, before, first=True), _share(readings, decay, after, first=False))
    if not ((left < t.SHRUNK and total > t.DECAYED_AWAY) or share > t.DECAY_SHARE):
        return None
    return Finding(
        code="F18",
        severity="warning",
        confidence=0.8,
        title=f"Weight decay outweighs the gradient: the weights are down to {percent(left)} of their length",
        explanation=(
            f"Their length was {number(float(before[0]))} at step {int(begin[0]):,} and is {number(float(after[-1]))} "
            f"at step {int(steps[-1]):,}. Learning rate times weight decay ({number(decay)}) adds up to "
            f"{number(total)} so far; 1 shrinks weights to 37 %."
            + (f" Decay makes up {percent(share)} of what moves them." if share > t.DECAY_SHARE else "")
        ),
        evidence=(
            Evidence.of("update_ratio", *_sizes(readings, first=False)[::2]),
            Evidence.of("update_size", *_sizes(readings, first=False)[:2]),
        ),
        suggestion=(
            f"Lower the weight decay, at first to {number(decay / 100)} (÷100); 1e-4 for SGD and 0.01 to 0.1 for AdamW "
            "are usual. Norms, biases and embeddings go without."
        ),
        since=int(begin[0]),
    )


def _sizes(readings: Readings, first: bool) -> tuple[Steps, Values, Values]:
    """Return steps at which both are known, lengths of the step, and those over the weights' lengths."""
    read = readings.first if first else readings.recent
    (at, sizes), (others, ratios) = read("update_size", _LOOK), read("update_ratio", _LOOK)
    steps, left, right = np.intersect1d(at, others, assume_unique=True, return_indices=True)
    return steps, sizes[left], ratios[right]


def _norms(steps: Steps, sizes: Values, ratios: Values) -> tuple[Steps, Values]:
    """Return the steps at which the length of the weights is known, and that."""
    known = (sizes > 0) & (ratios > 0) & np.isfinite(sizes) & np.isfinite(ratios)
    return steps[known], sizes[known] / ratios[known]


def _share(readings: Readings, decay: float, norms: Values, first: bool) -> float:
    """Return how much of the step, or of the gradient that the optimizer sees, is decay; 0 where that is unknown."""
    if decoupled(readings):
        steps, _, ratios = _sizes(readings, first)
        share = readings.derived(rate).at(int(steps[-1])) * decay / middle(ratios)
        return min(share, 1.0) if math.isfinite(share) else 0.0
    if not readings.has("grad_norm"):
        return 0.0
    _, gradients = (readings.first if first else readings.recent)("grad_norm", _LOOK)
    pull, gradient = decay * middle(norms), middle(gradients)
    return pull / (pull + gradient) if pull + gradient > 0 else 0.0
