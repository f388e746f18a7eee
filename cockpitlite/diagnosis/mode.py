"""The rule about the mode that a model is trained in."""

from __future__ import annotations

from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.layers import has_batch_norm
from cockpitlite.diagnosis.readings import Readings
from cockpitlite.diagnosis.rule import rule


@rule("F16", fault=True)
def trained_in_eval_mode(readings: Readings) -> Finding | None:
    """The model was in eval mode in a training step: dropout is off then, and batch norms use and keep old statistics.

    Typical after a validation that called `eval()` without `train()` after it. Norms that are set to eval on purpose
    inside of a model in train mode do not count. Noted once, the first time; less sure where no batch norm is seen, as
    dropout has no parameters to be seen by.
    """
    events = readings.events("eval_mode")
    if not events:
        return None
    normed = has_batch_norm(readings)
    step = events[0].step
    return Finding(
        code="F16",
        severity="warning",
        confidence=0.9 if normed else 0.7,
        title=f"The model was trained in eval mode at step {step:,}",
        explanation=(
            "Its batch norms then use the running statistics and do not update them, and dropout is off."
            if normed
            else "Dropout is off then. Without dropout and batch norm it makes no difference."
        ),
        suggestion="Call model.train() after each validation, before the next training step.",
        since=step,
    )
