"""A run's findings in one sentence, with a light that needs no colour to be read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cockpitlite.dashboard.runs import OpenRun
from cockpitlite.diagnosis.finding import Finding

Light = Literal["good", "info", "warning", "error", "unknown"]

ICONS: dict[Light, str] = {"good": "✓", "info": "i", "warning": "!", "error": "✕", "unknown": "…"}
WORDS: dict[Light, str] = {
    "good": "All well",
    "info": "Note",
    "warning": "Warning",
    "error": "Error",
    "unknown": "Not judged",
}


@dataclass(frozen=True)
class Verdict:
    """The light, and the sentence beside it with what to do about it."""

    light: Light
    sentence: str
    remedy: str = ""

    @property
    def icon(self) -> str:
        """A sign that tells the light without its colour."""
        return ICONS[self.light]

    @property
    def word(self) -> str:
        """The light in a word."""
        return WORDS[self.light]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return what the first finding says; findings come most likely root cause first.

    Notes alone leave the light on "all well": they name nothing that must change.
    """
    if not findings:
        return Verdict("good", "No fault found so far.")
    top = findings[0]
    light: Light = "good" if top.severity == "info" else top.severity
    return Verdict(light, top.title, top.suggestion)


def not_judged(reason: str) -> Verdict:
    """Return the verdict on a run that could not be diagnosed."""
    return Verdict("unknown", reason)


class DiagnosisError(RuntimeError):
    """A rule failed; the message says how."""


class Judge:
    """Diagnoses runs, each one again only when it has grown; used by several requests at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int | None, int], list[Finding]]] = {}

    def findings(self, opened: OpenRun) -> list[Finding]:
        """Return what is wrong with a run, most likely root cause first.

        Raises DiagnosisError where a rule fails, and what :class:`~cockpitlite.store.Run` raises when the file is
        lost or damaged.
        """
        stand = (opened.run.last_step, len(opened.run.events()))
        with self._lock:  # one diagnosis at a time: the processor is the training's
            known = self._known.get(opened.identity)
            if known is None or known[0] != stand:
                known = (stand, _diagnosed(opened))
                self._known[opened.identity] = known
        return known[1]


def _diagnosed(opened: OpenRun) -> list[Finding]:
    try:
        from cockpitlite.diagnosis import diagnose  # here, so that the page stands before the rules are loaded

        return list(diagnose(opened.run))
    except Exception as error:  # a rule at fault must not take the page down; the page says that it failed
        raise DiagnosisError(f"{type(error).__name__}: {error}") from error
