"""Rules about gradients between backward and the optimizer: left over, lost in 16-bit numbers, or clipped away."""

from __future__ import annotations

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import stuck
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import matrices, middle
from cockpitlite.diagnosis.rate import family, rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.window import present
from cockpitlite.diagnosis.words import listed, number, percent

_LOOK = 10  # tracked steps looked at


@rule("F7", needs=("stale_gradient",), fault=True)
def gradients_not_cleared(readings: Readings) -> Finding | None:
    """The gradients of the step before are still there when backward begins, so every step adds to all earlier ones.

    Seen before the first backward of each of the last three measured steps: what was left there is at least a hundredth
    of what is added, in all parameters or in some, which are named then. Accumulation over several backwards before one
    step is no such case. An error: the step then follows the sum of all gradients since the start.
    """
    steps, left = readings.recent("stale_gradient", t.ROWS, 2)
    if not np.all(left > t.STALE):
        return None
    at, everything = readings.first("stale_gradient", 2 * t.ROWS)
    since = int(at[np.argmax(everything > t.STALE)]) if np.any(everything > t.STALE) else int(steps[0])
    some = _uncleared(readings)
    return Finding(
        code="F7",
        severity="error",
        confidence=0.98,
        title=f"Gradients are not cleared between steps{f': {listed(some)}' if some else ''}",
        explanation=(
            f"When the first backward() of step {int(steps[-1]):,} began, the gradients of earlier steps were still "
            f"there, {number(float(left[-1]))} times as long as what this step added. The same holds for all of the "
            f"last {len(steps)} measured steps: each of them follows the sum of all gradients so far."
        ),
        evidence=(Evidence.of("stale_gradient", steps, left),),
        suggestion=(
            "Call optimizer.zero_grad() once per step, before backward()"
            + (": zero_grad() of a part of the model clears that part only." if some else ".")
            + " Judge the learning rate after that."
        ),
        since=since,
    )


def _uncleared(readings: Readings) -> list[str]:
    """Return the tensors whose gradients are not cleared where others are."""
    _, layers, left = readings.recent_layers("stale_gradient", t.ROWS)
    stale = [name for name, column in zip(layers, left.T, strict=True) if np.all(column > t.STALE)]
    return stale if len(stale) < len(layers) else []


@rule("F19", silenced_by=("R0", "F0"), fault=True)
def half_precision_underflow(readings: Readings) -> Finding | None:
    """Gradients are lost in 16-bit numbers: they become exactly 0, or the GradScaler throws the steps away.

    Where layers compute in float16: more than half of the gradient elements are 0 in most weight matrices, in each of
    the last three measured steps, or the GradScaler has skipped more than 20 steps and a fifth of all. A few skipped
    steps are how it finds its scale. bfloat16 does not underflow.
    """
    if "float16" not in _formats(readings):
        return None
    return _skips(readings) or _underflows(readings)


@rule("F10", needs=("clip_factor",), silenced_by=("F0", "F7", "F19"), fault=True)
def clipping_dominates(readings: Readings) -> Finding | None:
    """Clipping shortens most gradients to less than a third, so the learning rate that counts is a smaller one.

    More than half of the last ten measured steps are clipped, to 0.3 or less in the middle. A warning under SGD where
    the steps are too short or the loss has hardly fallen; else a note: clipping to a tuned length is common, and Adam
    divides by the gradient's length again.
    """
    steps, factors = readings.recent("clip_factor", _LOOK, t.FEW)
    typical = middle(factors)
    often = float(np.mean(factors < 0.99))
    if not (often > t.OFTEN_CLIPPED and typical <= t.CLIPPED):
        return None
    matters = family(readings) in ("sgd", "momentum") and (_short_steps(readings) or readings.derived(stuck))
    now = readings.derived(rate).now
    return Finding(
        code="F10",
        severity="warning" if matters else "info",
        confidence=0.9 if matters else 0.6,
        title=f"Clipping shortens the gradient to {number(100 * typical)} % of its length",
        explanation=(
            f"{percent(often)} of the last {len(steps)} measured steps were clipped. With the learning rate "
            f"{number(now)} the steps are as long as with {number(now * typical)} unclipped."
            if np.isfinite(now)
            else f"{percent(often)} of the last {len(steps)} measured steps were clipped."
        ),
        evidence=(Evidence.of("clip_factor", steps, factors),),
        suggestion=(
            "Raise the limit, to about the usual gradient norm, so that it cuts rare long gradients only; leave the "
            "learning rate as it is. With a GradScaler, call unscale_() before clipping."
            if matters
            else "Nothing, if training goes well. To clip rare long gradients only, raise the limit."
        ),
        since=_clipped_since(readings),
    )


def _skips(readings: Readings) -> Finding | None:
    events = readings.events("skipped_step")
    count = events[-1].data.get("count") if events else None
    if not isinstance(count, int) or count <= t.SKIPPED or count <= t.OFTEN_SKIPPED * (events[-1].step + 1):
        return None
    return Finding(
        code="F19",
        severity="warning",
        confidence=0.9,
        title="The GradScaler skips most steps" if 2 * count > events[-1].step else "The GradScaler skips many steps",
        explanation=(
            f"{count:,} steps were skipped up to step {events[-1].step:,} because the scaled gradients were not "
            "finite. One that works skips a few at the start and then about one in 2,000."
        ),
        suggestion=(
            "Some value overflows in float16 at any scale: use bfloat16, or compute that part (a softmax, a norm, the "
            "loss) in float32."
        ),
        since=events[0].step,
    )


def _underflows(readings: Readings) -> Finding | None:
    steps, layers, shares = readings.recent_layers("zero_gradient", t.ROWS, t.ROWS)
    chosen = matrices(readings, layers)
    if not chosen:
        raise Unjudged("the run does not say which parameters are weight matrices")
    typical = np.array([middle(row[chosen]) for row in shares])
    if not np.all(typical > t.UNDERFLOW):
        return None
    begin, _, _ = readings.first_layers("zero_gradient", 1)
    return Finding(
        code="F19",
        severity="warning",
        confidence=0.8,
        title=f"{percent(float(typical[-1]))} of the gradient is exactly 0 in float16",
        explanation=(
            f"That is the median over {len(chosen)} weight matrices; it was more than half in each of the last "
            f"{len(steps)} measured steps. Gradients below 6e-8 become 0 in float16."
        ),
        evidence=(Evidence.of("zero_gradient", steps, typical),),
        suggestion="Scale the loss with torch.amp.GradScaler, or use bfloat16.",
        since=int(begin[0]),
    )


def _formats(readings: Readings) -> set[str]:
    events = readings.events("dtypes")
    if not events:
        raise Unjudged("the run does not say in which number format its layers compute")
    return {str(name) for name in events[-1].data.values()}


def _short_steps(readings: Readings) -> bool:
    """Whether the last measured steps are as short as under a too small learning rate."""
    try:
        window = readings.derived(present)[-1]
    except Unjudged:
        return False
    limits = t.SMALL[family(readings)]
    return window.same.value < limits.same and window.next.value < limits.next


def _clipped_since(readings: Readings) -> int:
    steps, factors = readings.series("clip_factor")
    return int(steps[np.argmax(factors <= t.CLIPPED)])
