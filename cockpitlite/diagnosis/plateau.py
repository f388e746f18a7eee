"""Notes on a loss that has stopped falling: the noise of the batches, or a learning rate that is due to be lowered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import fraction_left, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import middle
from cockpitlite.diagnosis.rate import family, rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.window import SLOPES, present
from cockpitlite.diagnosis.words import new_rate, number, percent
from cockpitlite.store import Steps, Values

_PARTS = 100  # into which the last steps are divided; the median of each takes the noise out
_LOOK = 50  # tracked steps over which the noise is averaged
_ABOVE = (FAULT, "R1", "R1b", "R2", "R3")


@dataclass(frozen=True)
class _Plateau:
    """The last steps, in parts with their median losses, and how likely such a trend is without any."""

    steps: Steps
    losses: Values
    likely: float


@rule("R5", needs=("loss", "noise_trace", "grad_signal", "batch_size"), silenced_by=(*_ABOVE, "R3b"))
def noise_floor(readings: Readings) -> Finding | None:
    """The loss has stopped falling, and the gradient is mostly noise: a note.

    The gradient noise scale is more than ten times the batch size (noise and signal averaged over the last 50 tracked
    steps before they are divided), and the loss has no falling trend over the last fifth of the run. A larger batch or
    a lower learning rate lets it fall further.
    """
    found = readings.derived(_plateau)
    if found is None:
        return None
    at, traces = readings.recent("noise_trace", _LOOK, t.MANY)
    _, signals = readings.recent("grad_signal", _LOOK, t.MANY)
    _, sizes = readings.recent("batch_size", _LOOK, 1)
    trace, signal, size = _mean(traces), _mean(signals), middle(sizes)
    lost = signal <= 0
    if not lost and not trace > t.NOISE_FLOOR * signal * size:
        return None
    times = "more than any number we can tell" if lost else f"{number(trace / signal / size)}"
    return Finding(
        code="R5",
        severity="info",
        confidence=0.5,
        title="The loss has stopped falling, and the gradient is mostly noise",
        explanation=(
            f"{_no_trend(found)} The gradient noise scale is {times} times the batch size of {number(size)}"
            f"{': the signal is lost in the noise' if lost else ''}."
        ),
        evidence=(Evidence.of("loss", found.steps, found.losses), Evidence.of("noise_trace", at, traces)),
        suggestion="Lower the learning rate (÷3 to ÷10), or use a larger batch; both average the noise out.",
        since=int(found.steps[0]),
    )


@rule("R6", needs=("loss", *SLOPES), silenced_by=(*_ABOVE, "R5"))
def plateau(readings: Readings) -> Finding | None:
    """The loss has stopped falling though the steps are long enough: a note that the learning rate may be lowered.

    No falling trend in the losses of the last fifth of the run (rank test on their medians in up to a hundred parts),
    after 200 steps at least, with steps that are not too short and that do not help the next batch (`alpha_next` above
    0.8; at 1 no progress is to be expected). Silent before the loss has fallen at all, while the learning rate rises or
    is already being lowered, and once the loss is below 5 % of where it began. In a test of 6 such runs lowering helped
    in 1, so it is no more than a note.
    """
    found = readings.derived(_plateau)
    if found is None:
        return None
    window = readings.derived(present)[-1]
    long_enough = window.same.value > t.SMALL[family(readings)].same
    if not long_enough or not window.next.value > t.NO_PROGRESS_NEXT:
        return None
    now = readings.derived(rate).now
    return Finding(
        code="R6",
        severity="info",
        confidence=0.5,
        title="The loss has stopped falling",
        explanation=f"{_no_trend(found)} The steps go far but do not help the next batch: {window.words}.",
        evidence=(Evidence.of("loss", found.steps, found.losses), *window.evidence),
        suggestion=f"Lower the learning rate to {new_rate(now, 0.3)}, or end the training here; ÷3 to ÷10 is usual.",
        lr_factor=0.3,
        since=int(found.steps[0]),
    )


def _mean(values: Values) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _plateau(readings: Readings) -> _Plateau | None:
    """Return the last fifth of the run if its loss has no falling trend; raises Unjudged where that says nothing."""
    begin = readings.derived(start)
    count = readings.now - begin.step + 1
    if count < t.PLATEAU_STEPS:
        raise Unjudged(f"a plateau is looked for after {t.PLATEAU_STEPS} steps")
    if readings.derived(rate).rising:
        raise Unjudged("the learning rate still rises; a plateau is looked for when the warm-up is over")
    left = fraction_left(readings)
    if readings.derived(rate).lowered or not t.CONVERGED_LOSS < left < t.BEGUN:
        return None
    steps, losses = readings.recent("loss", math.ceil(t.PLATEAU_SHARE * count))
    parts = np.array_split(np.arange(len(losses)), min(_PARTS, max(len(losses) // 4, 1)))
    typical = np.array([np.median(losses[part]) for part in parts])
    likely = _likely(typical)
    if not likely > t.PLATEAU_P:
        return None
    return _Plateau(np.array([steps[part[0]] for part in parts]), typical, likely)


def _likely(values: Values) -> float:
    """Return the probability of so falling a trend where there is none (Mann and Kendall's test, one-sided)."""
    count = len(values)
    if count < 8 or not np.isfinite(values).all():
        return 0.0
    score = float(np.sign(values[None, :] - values[:, None])[np.triu_indices(count, 1)].sum())
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return 0.5 * math.erfc(-(score + 1) / spread / math.sqrt(2))


def _no_trend(found: _Plateau) -> str:
    return (
        f"Since step {int(found.steps[0]):,} the loss shows no falling trend (it is {number(float(found.losses[-1]))}; "
        f"a loss that stands still looks like this or falls more in {percent(found.likely)} of the cases)."
    )
