"""What a run's findings come to in a word: whether all is well, nothing was found, or something is to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from cockpitlite.diagnosis.finding import Severity
from cockpitlite.diagnosis.thresholds import FIRST_VERDICT

Light = Literal["good", "quiet", "info", "warning", "error", "unknown"]

WORDS: dict[Light, str] = {
    "good": "All well",
    "quiet": "Nothing found",
    "info": "Note",
    "warning": "Warning",
    "error": "Error",
    "unknown": "No verdict",
}
STYLES: dict[Light, str] = {  # in a terminal
    "good": "green",
    "quiet": "",
    "info": "cyan",
    "warning": "yellow",
    "error": "bold red",
    "unknown": "dim",
}
RATE = "R4"  # the rule that affirms a learning rate, or says why it is not judged
IN_RANGE = "Learning rate in range"  # how the title begins with which it does


class Brief(Protocol):
    """What of a finding the light depends on."""

    @property
    def code(self) -> str:
        """The code of its rule."""

    @property
    def severity(self) -> Severity:
        """How serious it is."""

    @property
    def title(self) -> str:
        """What it says in short."""


Found = TypeVar("Found", bound=Brief)


def light(findings: Sequence[Brief], steps: int | None = None) -> Light:
    """Return the light of a run with so many steps, of which this stands, most likely root cause first.

    Where the steps are not given, they are taken to be enough to tell.

    All is well only where the learning rate was found to be in range, and nothing else is to be said. Where nothing was
    found, but the learning rate was not judged, that is all that is known. A note is no alarm, but no praise either.
    """
    severity = findings[0].severity if findings else "info"
    if severity != "info":
        return severity
    if steps is not None and steps < FIRST_VERDICT:
        return "unknown"
    if not findings:
        return "quiet"
    return "good" if all(map(affirms, findings)) else "info"


def headline(findings: Sequence[Found]) -> Found:
    """Return the finding that the light is for: the first, unless that only says that something is well."""
    return next((finding for finding in findings if not affirms(finding)), findings[0])


def affirms(finding: Brief) -> bool:
    """Whether a finding only says that something is well."""
    return finding.code == RATE and finding.title.startswith(IN_RANGE)
