"""Notes on the size of updates beside the weights: layers out of balance, and AdamW far from its equilibrium."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.blocks import LayerRows
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import followed_by_norm, matrices
from cockpitlite.diagnosis.rate import decoupled, rate, weight_decay
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.words import number

_SETTLED = 50  # steps, after which the first updates are over


@rule("F11", needs=("update_ratio",), silenced_by=(FAULT, "R1", "R1b", "R2", "R2b", "R3"))
def layers_out_of_balance(readings: Readings) -> Finding | None:
    """Layers move at very different speeds, or one is rewritten: a note.

    Over the last ten tracked steps, the step over the weight norm of one weight matrix is more than 1000 times that of
    another, or above 0.1. Biases, norms and embeddings are left out, and so is what stands still altogether. This
    threshold is taken from practice and has not been tested.
    """
    steps, layers, ratios = readings.recent_layers("update_ratio", t.MANY, t.MANY)
    if readings.now < _SETTLED:
        raise Unjudged(f"the balance of the layers is looked at after {_SETTLED} steps")
    middle = np.median(ratios, axis=0)
    chosen = [index for index in matrices(readings, layers) if np.isfinite(middle[index]) and middle[index] > 0]
    if not chosen:
        return None
    fast = max(chosen, key=lambda index: middle[index])
    slow = min(chosen, key=lambda index: middle[index])
    rewritten = middle[fast] > t.MOVES_TOO_FAR
    if not rewritten and not middle[fast] > t.IMBALANCE * middle[slow]:
        return None
    return Finding(
        code="F11",
        severity="info",
        confidence=0.6,
        title=f"{layers[fast]} is rewritten quickly" if rewritten else "The layers move at very different speeds",
        explanation=(
            f"Length of the step over that of the weights (median of the last {len(steps)} tracked steps): "
            f"{number(middle[fast])} in {layers[fast]}, {number(middle[slow])} in {layers[slow]}; usual are 0.004 to "
            "0.08."
        ),
        evidence=tuple(Evidence.of("update_ratio", steps, ratios[:, one], layers[one]) for one in (fast, slow)),
        suggestion="Give these layers a learning rate of their own, or look at how their weights start.",
        since=_since(readings, layers[fast], layers[slow], bool(rewritten)),
    )


@rule("F12", needs=("update_ratio",), silenced_by=(FAULT, "R1", "R1b", "R2", "R3", "F11"))
def far_from_equilibrium(readings: Readings) -> Finding | None:
    """Under AdamW, weights before a norm move much less than in equilibrium with their weight decay: a note.

    There the step over the weight norm settles at √(2 · learning rate · weight decay), within 1/(learning rate · weight
    decay) steps (Kosson et al. 2023). Below 0.3 of that the weights started too large for their learning rate and
    effectively train with a smaller one. Not tested on runs of ours.
    """
    decay, now = weight_decay(readings), readings.derived(rate).now
    if not decay or not decoupled(readings) or not now > 0:
        raise Unjudged("it is looked for under AdamW with weight decay")
    if readings.now < 1 / (now * decay) or readings.derived(rate).lowered:
        raise Unjudged(f"the equilibrium takes {number(1 / (now * decay))} steps at a constant learning rate")
    steps, layers, ratios = readings.recent_layers("update_ratio", t.MANY, t.MANY)
    chosen = [index for index in matrices(readings, layers) if followed_by_norm(readings, layers[index])]
    if not chosen:
        raise Unjudged("no weights stand before a norm")
    each = np.median(ratios[:, chosen], axis=1)
    expected = math.sqrt(2 * now * decay)
    if not np.median(each) < t.EQUILIBRIUM * expected:
        return None
    return Finding(
        code="F12",
        severity="info",
        confidence=0.5,
        title="Weights before norms move less than in equilibrium with their decay",
        explanation=(
            f"A step is {number(float(np.median(each)))} times as long as the weights (median of {len(chosen)} "
            f"matrices); in equilibrium it is √(2 · {number(now)} · {number(decay)}) = {number(expected)}."
        ),
        evidence=(Evidence.of("update_ratio", steps, each),),
        suggestion="Start with smaller weights in these layers, or raise learning rate or weight decay a little.",
        since=int(steps[0]),
    )


def _since(readings: Readings, fast: str, slow: str, rewritten: bool) -> int:
    def holds(rows: LayerRows) -> NDArray[np.bool_]:
        quick, other = rows.of([fast, slow]).T
        return np.asarray(quick > t.MOVES_TOO_FAR if rewritten else quick > t.IMBALANCE * other)

    return readings.holding_since("update_ratio", (fast, slow, rewritten), holds)
