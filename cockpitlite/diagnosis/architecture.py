"""Rules about what the model lets through: by its graph and its layers, as the run noted them at the first steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import suffers
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import listed, percent, plural


@rule("F22", fault=True)
def strong_dropout(readings: Readings) -> Finding | None:
    """Dropout layers drop nine tenths or more of what they are given.

    By their settings, of layers in train mode. In use are 0.1 to 0.5, rarely 0.8: what is left of so few units is
    mostly noise, ten times as large. A warning by the setting alone.
    """
    since, noted = _noted(readings)
    share, names = noted.get("dropout"), noted.get("dropping")
    if not isinstance(share, float) or share < t.STRONG_DROPOUT or not isinstance(names, list):
        return None
    return Finding(
        code="F22",
        severity="warning",
        confidence=0.9,
        title=f"Dropout drops {percent(share)} of what {plural('layer', len(names))} {listed(names)} "
        f"{'is' if len(names) == 1 else 'are'} given",
        explanation=(
            "What little is left is scaled up to make good for the rest, so the layers behind it see mostly noise and "
            "the loss cannot fall far. Usual are 0.1 to 0.5."
        ),
        suggestion="Lower it to 0.5 or less. The argument is the share that is dropped, not the one that is kept.",
        since=since,
    )


@rule("F23", fault=True)
def single_number(readings: Readings) -> Finding | None:
    """All that the model computes passes through the single output of one linear layer, with wider layers after it.

    By the graph behind the model's output: nothing goes around it, as a residual connection, an attention or a gate
    would. Of each sample (or each place in it) the layers behind know one number. A note, since it may be meant, as in
    an autoencoder with one hidden number; a warning where the loss has blown up or hardly fallen.
    """
    since, noted = _noted(readings)
    name = noted.get("narrow")
    if not isinstance(name, str):
        return None
    hurts = readings.derived(suffers)
    return Finding(
        code="F23",
        severity="warning" if hurts else "info",
        confidence=0.9 if hurts else 0.7,
        title=f"The model narrows to a single number at {name}",
        explanation=(
            "This layer has one output, and nothing goes around it: whatever the layers before it find out, those "
            "behind it are given one number for each sample, or for each place in it."
        ),
        suggestion="Give the layer more outputs, unless one number is all that is to be kept.",
        since=since,
    )


@rule("F24", fault=True)
def tiny_norm_batches(readings: Readings) -> Finding | None:
    """A batch norm in train mode takes its mean and deviation from four values or fewer.

    So few values give a variance that is off by 80 % and more, and of two values the norm leaves nothing but the signs.
    Training sees other numbers than the running statistics give later. Places of a picture or a text count as values.
    A warning by the shapes alone, as they were at the first measured step.
    """
    since, noted = _noted(readings)
    count = noted.get("norm_values")
    if not isinstance(count, int) or count > t.FEW_NORMED:
        return None
    return Finding(
        code="F24",
        severity="warning",
        confidence=0.9,
        title=f"A batch norm takes its statistics from {count} {plural('value', count)}",
        explanation=(
            f"In train mode each feature was scaled by the mean and the deviation of {count} "
            f"{plural('value', count)}, which is mostly noise"
            f"{'; of two values only the signs are left' if count == 2 else ''}. In eval mode the model "
            "works with running averages that no training step has seen."
        ),
        suggestion="Use larger batches (16 or more), or a norm that does without them: LayerNorm or GroupNorm.",
        since=since,
    )


def _noted(readings: Readings) -> tuple[int, Mapping[str, Any]]:
    """Return the step at which the graph was looked at, and what was seen; raises Unjudged where it was not."""
    events = readings.events("graph")
    if not events:
        raise Unjudged("the run does not say how its model is built")
    return events[0].step, events[0].data
