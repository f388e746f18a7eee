"""A run's findings in one sentence, with a light that needs no colour to be read."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cockpitlite.dashboard.runs import OpenRun
from cockpitlite.diagnosis.engine import Judgement
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.light import RATE, WORDS, Light, headline, light
from cockpitlite.diagnosis.words import quiet
from cockpitlite.store import RunFileError

LOOKING_BACK = 0.2  # seconds of each judgement for what stood earlier in a long run

ICONS: dict[Light, str] = {"good": "✓", "quiet": "○", "info": "i", "warning": "!", "error": "✕", "unknown": "…"}


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


def verdict(findings: Sequence[Finding], last_step: int | None, unjudged: Mapping[str, str]) -> Verdict:
    """Return what the findings come to; they come most likely root cause first, and with why which rules found none."""
    steps = 0 if last_step is None else last_step + 1
    shown = light(findings, steps)
    if shown == "unknown" or not findings:
        why = unjudged.get(RATE) if shown == "quiet" else None
        return Verdict(shown, quiet(steps), f"The learning rate was not judged: {why}." if why else "")
    told = headline(findings)
    return Verdict(shown, told.title, told.suggestion)


def not_judged(reason: str) -> Verdict:
    """Return the verdict on a run that could not be diagnosed."""
    return Verdict("unknown", reason)


def lost() -> Verdict:
    """Return the verdict on a run that was judged, and cannot be read any more."""
    return Verdict("unknown", "The file of this run can no longer be read.", "The findings are those from before.")


class DiagnosisError(RuntimeError):
    """A rule failed; the message says how."""


@dataclass
class _Known:
    """What was found out about a run when it stood like this; ``complete`` where that holds all that has cleared."""

    stand: tuple[int | None, int]
    standing: list[Finding]
    unjudged: Mapping[str, str]
    cleared: list[Finding] = field(default_factory=list)
    complete: bool = False


class Judge:
    """Diagnoses runs, each one again only when it has grown; used by several requests at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one diagnosis at a time: the processor is the training's
        self._known: dict[str, _Known] = {}

    def findings(self, opened: OpenRun) -> list[Finding]:
        """Return what is wrong with a run, most likely root cause first.

        Raises DiagnosisError where a rule fails, and what :class:`~cockpitlite.store.Run` raises when the file is
        lost or damaged.
        """
        stand = (opened.run.last_step, len(opened.run.events()))
        with self._lock:
            known = self._known.get(opened.identity)
            if known is None or known.stand != stand:
                judgement = _diagnosed(opened)
                known = _Known(stand, judgement.findings, judgement.unjudged, known.cleared if known else [])
                self._known[opened.identity] = known
        return known.standing

    def known(self, identity: str, since: int = 0) -> list[Finding] | None:
        """Return what a run was last found to have, None where it was not judged ``since`` a step; never judges."""
        known = self._known.get(identity)
        return None if known is None or (known.stand[0] or 0) < since else known.standing

    def unjudged(self, opened: OpenRun) -> Mapping[str, str]:
        """Return the codes of the rules that could not judge a run when :meth:`findings` did, with their reasons."""
        return self._known[opened.identity].unjudged

    def cleared(self, opened: OpenRun) -> list[Finding]:
        """Return what has cleared, as far as it is known yet: of a long run each call looks back a little further.

        Raises what :meth:`findings` raises.
        """
        with self._lock:
            known = self._known[opened.identity]
            if not known.complete:
                known.cleared, known.complete = _looked_back(opened)
        return known.cleared


def _diagnosed(opened: OpenRun) -> Judgement:
    try:
        from cockpitlite.diagnosis.engine import judged  # here, so that the page stands before the rules are loaded

        return judged(opened.run)
    except (OSError, RunFileError):
        raise
    except Exception as error:  # a rule at fault must not take the page down; the page says that it failed
        raise DiagnosisError(f"{type(error).__name__}: {error}") from error


def _looked_back(opened: OpenRun) -> tuple[list[Finding], bool]:
    try:
        from cockpitlite.diagnosis.engine import past  # see _diagnosed

        return past(opened.run, LOOKING_BACK)
    except (OSError, RunFileError):
        raise
    except Exception as error:
        raise DiagnosisError(f"{type(error).__name__}: {error}") from error
