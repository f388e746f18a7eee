"""What a diagnosis says: one fault (or its absence) with its evidence and its remedy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Evidence:
    """A reading and the steps at which its values speak."""

    reading: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """One sentence a person can act on, and what it rests on.

    ``confidence`` lies in [0, 1]. ``lr_factor`` is the multiplier of the learning rate to try first (above 1 raises
    it), ``None`` where the learning rate is not the remedy. ``since`` and ``until`` are steps; ``until`` is ``None``
    while the finding stands.
    """

    code: str
    severity: Severity
    confidence: float
    title: str
    explanation: str
    evidence: tuple[Evidence, ...] = ()
    suggestion: str = ""
    lr_factor: float | None = None
    since: int = 0
    until: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return dataclasses.asdict(self)
