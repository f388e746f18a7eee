"""The note on single losses that stand out."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import new_rate, number
from cockpitlite.store import Values

_LEAST_SPREAD = 0.01  # of the log-loss: a loss that hardly varies is no reason to call a small rise a spike


@rule("R8", needs=("loss",), silenced_by=("R0", "F1", "F7", "R1", "R1b"))
def spikes(readings: Readings) -> Finding | None:
    """Single losses stand far above those before them: a note.

    More than six robust standard deviations (of the logarithm, from the 50 losses before) and one and a half times
    their median, within the last 200 steps. One is a bad batch or a step too far and needs nothing; three or more mean
    that training is near instability. Not tested on labelled runs.
    """
    steps, losses = readings.recent("loss", t.SPIKE_STEPS + t.SPIKE_MEMORY)
    if len(losses) <= t.SPIKE_MEMORY:
        raise Unjudged(f"spikes are looked for after {t.SPIKE_MEMORY} steps")
    high = t.SPIKE_MEMORY + np.flatnonzero(_stand_out(losses))
    if not len(high):
        return None
    many = len(high) >= t.MANY_SPIKES
    top = int(high[np.argmax(losses[high])])
    usual = float(np.median(losses[top - t.SPIKE_MEMORY : top]))
    now = readings.derived(rate).now
    return Finding(
        code="R8",
        severity="info",
        confidence=0.7,
        title=f"The loss jumps: {len(high)} times in the last {t.SPIKE_STEPS} steps"
        if many
        else "The loss jumped once",
        explanation=(
            f"At step {int(steps[top]):,} it was {number(float(losses[top]))}, {number(float(losses[top]) / usual)} "
            f"times the median of the {t.SPIKE_MEMORY} losses before.{_gradient(readings, int(steps[top]))}"
        ),
        evidence=(Evidence.of("loss", steps[high], losses[high]),),
        suggestion=(
            f"Clip the gradient norm a little above its usual length, and try a learning rate of {new_rate(now, 0.5)}; "
            "under Adam also a smaller second beta (0.99 instead of 0.999)."
            if many
            else "Nothing, if it stays the only one. Look at that batch if it comes again."
        ),
        lr_factor=0.5 if many else None,
        since=int(steps[high[0]]),
    )


def _stand_out(losses: Values) -> NDArray[np.bool_]:
    """Return which losses, from the 51st on, stand out from the 50 before."""
    if np.any(losses[np.isfinite(losses)] <= 0):
        raise Unjudged("the loss is not positive, so it has no scale on which to stand out")
    logs = np.log(np.where(np.isfinite(losses), losses, 1.0))
    before = sliding_window_view(logs, t.SPIKE_MEMORY)[:-1]
    middle = np.median(before, axis=1)
    spread = 1.4826 * np.median(np.abs(before - middle[:, None]), axis=1)
    rise = logs[t.SPIKE_MEMORY :] - middle
    far = rise > t.SPIKE_SPREADS * np.maximum(spread, _LEAST_SPREAD)
    return np.asarray(far & (rise > np.log(t.SPIKE_RISE)) & np.isfinite(losses[t.SPIKE_MEMORY :]))


def _gradient(readings: Readings, step: int) -> str:
    """Return a sentence on the gradient of a step, empty where it was not measured."""
    if not readings.has("grad_norm"):
        return ""
    steps, norms = readings.recent("grad_norm", t.SPIKE_STEPS)
    here = norms[steps == step]
    usual = float(np.median(norms)) if len(norms) else 0.0
    return (
        f" Its gradient was {number(float(here[0]) / usual)} times as long as usual." if len(here) and usual > 0 else ""
    )
