"""The rule about a run that went on from a checkpoint."""

from __future__ import annotations

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number

_BEFORE = 50  # losses before the resumption
_AFTER = 10  # and after it


@rule("F21", needs=("loss",), silenced_by=("R0", "F1"), fault=True)
def jump_at_resumption(readings: Readings) -> Finding | None:
    """The loss is far higher after the run was resumed than before: something was not restored.

    The median of the first ten losses after it is more than one and a half times that of the last fifty before it, and
    above all of them. Where the first three are back near the first loss of the run, the weights were probably not
    loaded; else the optimizer's state (its averages, its learning rate), buffers, or the data's scale. A warning, for
    the first 200 steps after the resumption.
    """
    events = readings.events("resume")
    if not events:
        return None
    at = events[-1].step
    steps, losses = readings.recent("loss", t.SPIKE_STEPS + _BEFORE)
    before, after = losses[steps < at][-_BEFORE:], losses[steps >= at][:_AFTER]
    if len(before) < _AFTER or len(after) < _AFTER:
        raise Unjudged(f"{_AFTER} losses before and after the resumption at step {at:,} are compared")
    usual, now = float(np.median(before)), float(np.median(after))
    if readings.now > at + t.SPIKE_STEPS or not usual > 0:
        return None
    if not (now > t.SPIKE_RISE * usual and now > float(np.max(before))):
        return None
    anew = float(np.median(after[: t.ROWS])) > t.ANEW * readings.derived(start).loss
    shown = (steps >= steps[steps < at][-_AFTER]) & (steps < at + _AFTER)
    return Finding(
        code="F21",
        severity="warning",
        confidence=0.8,
        title=f"The loss jumped when the run was resumed at step {at:,}"
        + (": the weights were probably not loaded" if anew else ""),
        explanation=(
            f"The median of the {len(before)} losses before was {number(usual)}, that of the {_AFTER} after it is "
            f"{number(now)}; the run began at {number(readings.derived(start).loss)}."
        ),
        evidence=(Evidence.of("loss", steps[shown], losses[shown]),),
        suggestion=(
            "Load the model's state_dict before going on, into the very model that is trained."
            if anew
            else "Load the optimizer's and the scheduler's state_dict as well as the model's, buffers included, and "
            "check that the data are prepared as before."
        ),
        since=at,
    )
