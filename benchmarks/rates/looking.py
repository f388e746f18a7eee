"""What the diagnosis says of a run at some step, and the statistics that it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cockpitlite.diagnosis.course import blow_up, fraction_left
from cockpitlite.diagnosis.engine import RULES, judge
from cockpitlite.diagnosis.rate import family, rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.window import windows

BLOWN = ("R1", "R1b")  # codes that call a learning rate too large because the loss has blown up
LARGE = (*BLOWN, "R2")
SMALL = ("R3",)
_FAULTS = {rule.code for rule in RULES if rule.fault}


@dataclass(frozen=True)
class Look:
    """What stood at a step: ``said`` are codes with their severity.

    ``slopes`` are those of every step measured so far, ``[4, T]`` in the order of ``cockpitlite.diagnosis.window``:
    own batch at start and end of the step, next batch at start and end. ``rates`` are the learning rates of these steps
    over that of now. ``blow_up`` is the course of the early loss, ``left`` the loss now over the first one.
    """

    said: tuple[tuple[str, str], ...]
    family: str
    steps: tuple[int, ...]
    slopes: tuple[tuple[float, ...], ...]
    rates: tuple[float, ...]
    blow_up: str
    left: float

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Return what JSON gives back."""
        said = tuple((code, severity) for code, severity in found.pop("said"))
        slopes = tuple(map(tuple, found.pop("slopes")))
        return cls(said, steps=tuple(found.pop("steps")), slopes=slopes, rates=tuple(found.pop("rates")), **found)

    @property
    def verdict(self) -> str:
        """What the shipped rules say of the learning rate: too small, too large, or nothing against it."""
        codes = [code for code, _ in self.said]
        if any(code in LARGE for code in codes):
            return "large"
        return "small" if any(code in SMALL for code in codes) else "good"

    @property
    def blown(self) -> bool:
        """Whether the loss has blown up."""
        return any(code in BLOWN for code, _ in self.said)

    @property
    def faults(self) -> list[str]:
        """Other causes that were warned of, which silence verdicts on the learning rate."""
        return [code for code, severity in self.said if code in _FAULTS and severity != "info"]


def look(readings: Readings) -> Look:
    """Ask the diagnosis what stands now, and note what it rests on."""
    said = tuple((finding.code, finding.severity) for finding in judge(readings).findings)
    measured = readings.derived(windows)
    steps = np.concatenate([np.empty(0, np.int64), *(window.steps for window in measured)])
    slopes = np.concatenate([np.empty((4, 0)), *(window.slopes for window in measured)], axis=1)
    known = readings.derived(rate)
    return Look(
        said,
        family(readings),
        tuple(map(int, steps)),
        tuple(tuple(float(f"{slope:.6g}") for slope in row) for row in slopes),
        tuple(known.at(int(step)) / known.now for step in steps),
        _maybe(blow_up, readings, "none"),
        _maybe(fraction_left, readings, math.nan),
    )


def _maybe(of: Any, readings: Readings, otherwise: Any) -> Any:
    try:
        return readings.derived(of)
    except Unjudged:
        return otherwise
