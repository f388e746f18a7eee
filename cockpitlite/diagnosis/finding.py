"""What a diagnosis says: one fault (or its absence) with its evidence and its remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Evidence:
    """A reading and the steps at which its values speak; where it is one layer's (or parameter's), which one's."""

    reading: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    layer: str | None = None

    @classmethod
    def of(cls, reading: str, steps: Iterable[int], values: Iterable[float], layer: str | None = None) -> Self:
        """Return it from steps and values of any kind of number."""
        numbers = tuple(float(value) + 0.0 for value in values)  # no -0
        return cls(reading, tuple(int(step) for step in steps), numbers, layer)

    @property
    def what(self) -> str:
        """The reading in words, with its layer."""
        return self.reading if self.layer is None else f"{self.reading} of layer {self.layer}"


@dataclass(frozen=True)
class Finding:
    """One sentence a person can act on, and what it rests on.

    ``confidence`` lies in [0, 1]. ``lr_factor`` is the multiplier of the learning rate to try first (above 1 raises
    it), ``None`` where the learning rate is not the remedy; ``lr_range`` are those between which the best rate lay in
    eight of ten calibration runs that read alike, where they are known. ``since`` and ``until`` are steps; ``until`` is
    ``None`` while the finding stands.
    """

    code: str
    severity: Severity
    confidence: float
    title: str
    explanation: str
    evidence: tuple[Evidence, ...] = ()
    suggestion: str = ""
    lr_factor: float | None = None
    lr_range: tuple[float, float] | None = None
    since: int = 0
    until: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return dataclasses.asdict(self)
