"""Rules about the optimizer's settings beside the learning rate, as they are given."""

from __future__ import annotations

from typing import Any

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.rate import optimizer_class, settings
from cockpitlite.diagnosis.readings import Readings
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number


@rule("F20", fault=True)
def exchanged_betas(readings: Readings) -> Finding | None:
    """Adam averages gradients over more steps than their squares: its two betas stand in the wrong order.

    `betas` are the decay of the average gradient first (usually 0.9) and that of the average square second (0.999, or
    0.95). In the other order a step follows gradients of long ago, scaled by the last few, and Adam need not converge.
    A warning by the settings alone, whatever the readings are.
    """
    if "Adam" not in optimizer_class(readings):
        return None
    for group in settings(readings):
        betas = _decays(group.get("betas"))
        if betas is not None and betas[0] > betas[1]:
            return Finding(
                code="F20",
                severity="warning",
                confidence=0.95,
                title=f"Adam's betas are exchanged: ({number(betas[0])}, {number(betas[1])})",
                explanation=(
                    f"The first one averages gradients over about {number(1 / (1 - betas[0]))} steps, the second one "
                    f"their squares over about {number(1 / (1 - betas[1]))}: steps follow gradients of long ago, at a "
                    "scale set by the last few. Usual are (0.9, 0.999)."
                ),
                suggestion=f"Set betas=({number(betas[1])}, {number(betas[0])}).",
            )
    return None


@rule("F20b", fault=True)
def heavy_momentum(readings: Readings) -> Finding | None:
    """SGD has a momentum above 0.995: each gradient goes on moving the weights for hundreds of steps. A note.

    Steps add up to 1 / (1 − momentum) times the learning rate, and training swings for as many steps. Usual are 0.9 to
    0.99.
    """
    for group in settings(readings):
        momentum = group.get("momentum")
        if isinstance(momentum, int | float) and t.LASTING_MOMENTUM < momentum < 1:
            steps = number(1 / (1 - momentum))
            return Finding(
                code="F20b",
                severity="info",
                confidence=0.8,
                title=f"The momentum is {number(momentum)}: each gradient goes on for about {steps} steps",
                explanation=(
                    f"The steps of one gradient add up to {steps} times the learning rate, long after the slope has "
                    "changed. Usual are 0.9 to 0.99."
                ),
                suggestion="Set momentum=0.9, and judge the learning rate after that.",
            )
    return None


def _decays(given: Any) -> tuple[float, float] | None:
    """Return a pair of decays, each from 0 to below 1; None for anything else, which a file may hold."""
    sound = isinstance(given, list) and all(isinstance(each, int | float) and 0 <= each < 1 for each in given)
    return (given[0], given[1]) if sound and len(given) == 2 else None
