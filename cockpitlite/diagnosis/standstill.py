"""Rules about steps that are never taken, or taken back."""

from __future__ import annotations

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule

_LOOK = 20  # tracked steps looked at


@rule("F0c", fault=True)
def step_never_called(readings: Readings) -> Finding | None:
    """Gradients are computed again and again, but the optimizer has never taken a step.

    Told after 50 backwards that reached the watched parameters, or five where the run has ended, if no step of this
    optimizer followed any of them. Its first step clears it: until then the backwards may be one long accumulation.
    """
    events = readings.events("no_step", coming=True)
    count = int(events[-1].data.get("count", 0)) if events else 0
    ended = readings.meta.get("status") in ("finished", "stopped")
    if count < (t.FEW if ended else t.STEPLESS):
        return None
    scaled = bool(events[-1].data.get("scaled"))
    return Finding(
        code="F0c",
        severity="error",
        confidence=0.98,
        title="The GradScaler has let no step through" if scaled else "optimizer.step() is never called",
        explanation=(
            f"{count:,} backwards have given the parameters a gradient, and none was followed by a step of this "
            "optimizer: nothing is trained."
        ),
        suggestion=(
            "Check that scaler.step(optimizer) and scaler.update() are called. If they are, the scaled gradients are "
            "never finite: look for a value that overflows in float16, and use bfloat16 or float32 there."
            if scaled
            else "Call optimizer.step() after backward(), on the optimizer that watch() returned. If another optimizer "
            "trains these parameters, watch that one."
        ),
        since=events[-1].step,
    )


@rule("F0b", needs=("update_size", "distance"), silenced_by=("F0",), fault=True)
def weights_put_back(readings: Readings) -> Finding | None:
    """Every step starts where the run began: something puts the old weights back after each step.

    Before each of the last tracked steps (five at least, and twenty steps in all) the parameters are exactly what they
    were when watching began, though every step moved them. Typical of an average, a copy or a checkpoint that is loaded
    into the model at every step. An error, as if nothing moved.
    """
    at, lengths = readings.recent("update_size", _LOOK)
    where, distances = readings.recent("distance", _LOOK)
    begin = int(readings.first("distance", 1)[0][0])
    steps, here, there = np.intersect1d(at, where, return_indices=True)
    later = steps > begin
    if later.sum() < t.FEW or readings.now < begin + _LOOK - 1:
        raise Unjudged(f"{t.FEW} tracked steps and {_LOOK} steps in all are needed")
    steps, lengths, distances = steps[later], lengths[here][later], distances[there][later]
    if not (np.all(lengths > 0) and np.all(distances == 0)):
        return None
    return Finding(
        code="F0b",
        severity="error",
        confidence=0.98,
        title="The weights are put back after each step: nothing is learnt",
        explanation=(
            f"Before each of the last {len(steps)} tracked steps the parameters were exactly what they were when the "
            "run began, though every step moved them."
        ),
        evidence=(Evidence.of("distance", steps, distances), Evidence.of("update_size", steps, lengths)),
        suggestion=(
            "Look for what writes old values into the model after a step: load_state_dict(), an average of the weights "
            "that is swapped in and not out, or copy_() in the wrong direction."
        ),
        since=begin,
    )
