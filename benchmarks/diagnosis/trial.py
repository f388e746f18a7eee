"""One run of one kind: trained under the panel, scored, and diagnosed."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import cockpitlite
from cockpitlite.diagnosis import Finding
from cockpitlite.diagnosis.engine import judge, occasions
from cockpitlite.diagnosis.readings import Readings
from cockpitlite.schedule import on_diagnosis_schedule
from cockpitlite.store import Run

from .faults import FAULTS
from .healthy import HEALTHY
from .kind import Kind
from .programs import PROGRAMS
from .training import Training

KINDS: dict[str, Kind] = FAULTS | HEALTHY
LIVE = 100  # steps between two looks of the diagnosis at a running training, beside its own schedule


@dataclass(frozen=True)
class Trial:
    """What is run: a kind of fault or of health, how strong, in which program, from which seed."""

    kind: str
    level: float
    program: str
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.kind}-{self.level:g}-{self.program}-{self.seed}"


@dataclass(frozen=True)
class Said:
    """A finding, without its explanation."""

    code: str
    severity: str
    title: str
    confidence: float
    since: int
    until: int | None


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    ``findings`` are those of the whole run with its history, in their order; ``told`` holds the first step at which
    each code stood in the eyes of one who watches live, and ``alarms`` those of them that were more than a note.
    ``limit`` replaces the program's where the training has one of its own; ``error`` is what ended it.
    """

    trial: Trial
    score: float
    limit: float | None
    findings: tuple[Said, ...]
    told: dict[str, int]
    alarms: tuple[str, ...]
    error: str = ""


def perform(trial: Trial, folder: Path | None = None) -> Outcome:
    """Run a trial; with a folder its run file stays there, and one that is there is only diagnosed again."""
    torch.set_num_threads(1)  # so small a model gains nothing from a second core
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as temporary:
        warnings.simplefilter("ignore")  # torch's own, about much of what is done wrong here
        path = (folder or Path(temporary)) / f"{trial.name}.cockpit"
        notes = path.with_suffix(".json")
        if not notes.exists():
            path.unlink(missing_ok=True)  # of a training that was ended
            notes.write_text(json.dumps(_train(trial, path)), encoding="utf-8")
        return Outcome(trial, **json.loads(notes.read_text(encoding="utf-8")), **_diagnose(path, notes))


def reference(program: str, seed: int) -> float:
    """Return the score of a program as it is, unwatched."""
    torch.set_num_threads(1)
    return Training(PROGRAMS[program], seed).run()


def _train(trial: Trial, path: Path) -> dict[str, object]:
    training = KINDS[trial.kind].training(PROGRAMS[trial.program], trial.level, trial.seed)
    score, error = float("inf"), ""
    try:
        score = training.run(path)
    except Exception as reason:
        error = f"{type(reason).__name__}: {reason}"
        if path.exists():
            training.optimizer.cockpit.close()  # type: ignore[attr-defined]
    return {"score": score, "limit": training.limit, "error": error}


def _diagnose(path: Path, notes: Path) -> dict[str, object]:
    if not path.exists():
        refused = json.loads(notes.read_text(encoding="utf-8"))["error"]
        return _only("refused", refused)
    try:
        return _judged(cockpitlite.load(path))
    except Exception as reason:
        return _only("crash", f"{type(reason).__name__}: {reason}")


def _judged(run: Run) -> dict[str, object]:
    told: dict[str, int] = {}
    alarms: dict[str, None] = {}
    for step, findings in _live(Readings(run)):
        for finding in findings:
            told.setdefault(finding.code, step)
            if finding.severity != "info":
                alarms[finding.code] = None
    findings = cockpitlite.diagnose(run, history=True)
    return {"findings": tuple(map(_said, findings)), "told": told, "alarms": tuple(alarms)}


def _only(code: str, words: str) -> dict[str, object]:
    """Return what stands for findings where there are none: watching was refused, or a rule failed."""
    return {"findings": (Said(code, "error", words, 1.0, 0, None),), "told": {code: 0}, "alarms": (code,)}


def _live(readings: Readings) -> Iterator[tuple[int, list[Finding]]]:
    """Yield what stood at each step at which a running training is looked at."""
    looks = {step for step in range(readings.now + 1) if on_diagnosis_schedule(step) or step % LIVE == 0}
    for step in sorted(looks | set(occasions(readings))):
        yield step, judge(readings.at(step)).findings


def _said(finding: Finding) -> Said:
    return Said(**{field.name: getattr(finding, field.name) for field in dataclasses.fields(Said)})
