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
class Said:
    """A finding, in short: ``factor`` is what it would multiply the learning rate by, if anything."""

    code: str
    severity: str
    confidence: float
    factor: float | None

    @property
    def words(self) -> str:
        """The code; a dot marks a note."""
        return f"{self.code}·" if self.severity == "info" else self.code


@dataclass(frozen=True)
class Look:
    """What stood at a step.

    ``slopes`` are those of every step measured so far, ``[4, T]`` in the order of ``cockpitlite.diagnosis.window``:
    own batch at start and end of the step, next batch at start and end. ``rates`` are the learning rates of these steps
    over that of now. ``blow_up`` is the course of the early loss, ``left`` the loss now over the first one.
    """

    findings: tuple[Said, ...]
    family: str
    steps: tuple[int, ...]
    slopes: tuple[tuple[float, ...], ...]
    rates: tuple[float, ...]
    blow_up: str
    left: float

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Return what JSON gives back."""
        findings = tuple(Said(**each) for each in found.pop("findings"))
        slopes = tuple(map(tuple, found.pop("slopes")))
        return cls(findings, steps=tuple(found.pop("steps")), slopes=slopes, rates=tuple(found.pop("rates")), **found)

    @property
    def verdict(self) -> str:
        """What the shipped rules say of the learning rate: too small, too large, or nothing against it."""
        if self.lowered or self.naming(*LARGE):
            return "large"
        return "small" if self.naming(*SMALL) else "good"

    @property
    def blown(self) -> bool:
        """Whether the loss has blown up."""
        return bool(self.naming(*BLOWN))

    @property
    def lowered(self) -> bool:
        """Whether a blow-up, or a warning of a fault that it led to, asks for a smaller rate."""
        asking = (each.severity != "info" and (each.factor or 1) < 1 for each in self.naming(*BLOWN, *_FAULTS))
        return self.blown or any(asking)

    @property
    def faults(self) -> list[str]:
        """Other causes that were warned of, which silence verdicts on the learning rate."""
        return [each.code for each in self.naming(*_FAULTS) if each.severity != "info"]

    def naming(self, *codes: str) -> list[Said]:
        """Return the findings that have one of these codes."""
        return [each for each in self.findings if each.code in codes]


def look(readings: Readings) -> Look:
    """Ask the diagnosis what stands now, and note what it rests on."""
    findings = judge(readings).findings
    measured = readings.derived(windows)
    steps = np.concatenate([np.empty(0, np.int64), *(window.steps for window in measured)])
    slopes = np.concatenate([np.empty((4, 0)), *(window.slopes for window in measured)], axis=1)
    known = readings.derived(rate)
    return Look(
        tuple(Said(each.code, each.severity, each.confidence, each.lr_factor) for each in findings),
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
