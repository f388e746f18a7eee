"""Rules about what predictions are compared with: targets of another shape, or on another scale."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import blown, rose_early, start, suffers
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import middle
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number

_LOOK = 10  # readings looked at


@rule("F8e", fault=True)
def every_prediction_with_every_target(readings: Readings) -> Finding | None:
    """Predictions and targets differ in their number of axes, so each prediction is compared with every target.

    Typical of a model that gives `[N, 1]` and targets of shape `[N]`: their difference is `[N, N]`, and the best a
    model can do is to predict the mean. Seen in the loss functions of `torch.nn` and in plain differences. An error.
    """
    events = readings.events("loss_functions")
    if not events:
        raise Unjudged("no known loss function was seen on the way from the model's output to the loss")
    shapes = events[-1].data.get("crossed")
    if not shapes:
        return None
    prediction, target = (f"[{', '.join(map(str, shape))}]" for shape in shapes)
    return Finding(
        code="F8e",
        severity="error",
        confidence=0.98,
        title=f"Each prediction is compared with every target of the batch: shapes {prediction} and {target}",
        explanation=(
            f"Predictions have the shape {prediction} and targets {target}, so one is spread over the other: the loss "
            "asks of each sample to be near the targets of all. The model can learn their mean and nothing else."
        ),
        suggestion=(
            "Give both the same shape: output.squeeze(-1), or targets.unsqueeze(-1). A loss that has fallen to the "
            "variance of the targets has learnt nothing."
        ),
        since=next(event.step for event in events if event.data.get("crossed")),
    )


@rule("F6d", needs=("target_std", "target_mean"), silenced_by=("F8e", "F15"), fault=True)
def bad_scale_of_targets(readings: Readings) -> Finding | None:
    """The targets are numbers of a size that a new model does not give: they are not standardised.

    Their standard deviation, or the size of their mean, is above 10. Squared errors and their gradients are a hundred
    times as large then and more, and the learning rate that suits them as many times smaller. A warning where the loss
    has blown up or hardly fallen, an error where it has not come back; else a note. Silent where the first loss is
    small beside the targets: the model is made for them, or trained.
    """
    steps, stds = readings.recent("target_std", _LOOK, 1)
    _, means = readings.recent("target_mean", _LOOK, 1)
    std, mean = middle(stds), middle(means)
    size = math.hypot(std, mean)
    if not max(std, abs(mean)) > t.WIDE_INPUT or _met_at_once(readings, size):
        return None
    at, _ = readings.first("target_std", 1)
    hurts = readings.derived(suffers) or readings.derived(rose_early)
    return Finding(
        code="F6d",
        severity="error" if readings.derived(blown) else "warning" if hurts else "info",
        confidence=0.9 if hurts else 0.5,
        title=f"The targets are not standardised: their deviation is {number(std)}",
        explanation=(
            f"The numbers that predictions are compared with have the mean {number(mean)} and the standard deviation "
            f"{number(std)}. A new model gives numbers near 1, so its errors are about {number(size)} and gradients "
            "many times as long as usual."
        ),
        evidence=(Evidence.of("target_std", steps, stds), Evidence.of("target_mean", steps, means)),
        suggestion=(
            "Train on (target - mean) / deviation, with both taken from the training data, and turn predictions back "
            "with the same numbers; or let the last layer multiply by the deviation and add the mean. Judge the "
            "learning rate after that."
        ),
        since=int(at[0]),
    )


def _met_at_once(readings: Readings, size: float) -> bool:
    """Whether the first loss is far smaller than errors of the targets' size would make it, whatever its power."""
    try:
        first = readings.derived(start).loss
    except Unjudged:
        return False
    return bool(np.isfinite(first)) and first < t.MET_TARGETS * size
