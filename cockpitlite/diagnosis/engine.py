"""The rule engine: asks every rule, leaves out what another finding explains, and puts the root cause first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from cockpitlite.diagnosis import (
    architecture,
    balance,
    blow_up,
    data,
    decay,
    depth,
    descent,
    edge,
    frozen,
    gradients,
    guess,
    held_out,
    hyperparameters,
    machine,
    mode,
    nonfinite,
    outputs,
    plateau,
    resumption,
    scale,
    schedule,
    spikes,
    standstill,
    step_length,
    structure,
    targets,
    units,
)
from cockpitlite.diagnosis.blocks import LATE
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.history import History, occasions
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import Rule
from cockpitlite.store import Run, load

# In the order in which they are asked: faults before the learning rate, too large before too small.
THEMES: tuple[ModuleType, ...] = (
    nonfinite,
    structure,
    standstill,
    frozen,
    gradients,
    outputs,
    targets,
    hyperparameters,
    architecture,
    scale,
    units,
    decay,
    depth,
    data,
    mode,
    schedule,
    descent,
    resumption,
    blow_up,
    step_length,
    guess,
    held_out,
    balance,
    plateau,
    spikes,
    machine,
    edge,
)
RULES: tuple[Rule, ...] = tuple(thing for theme in THEMES for thing in vars(theme).values() if isinstance(thing, Rule))

_SEVERITIES = ("error", "warning", "info")
_LED_TO = ("R0", "F3", "F5")  # by a blow-up: NaN, and units that have died or stick at the ends of their range
_USUALLY_MEANT = ("F9c", "F9d", "F8b", "F3", "F5")  # as notes: parts that others train, units that rest for now
_BLOWS_UP = ("R1", "F1", "F6a", "F6b", "F6c", "F6d", "F7", "F8c", "F15")  # what makes the loss blow up, as an error


@dataclass(frozen=True)
class Judgement:
    """What stands at a step, most likely root cause first, and why which rules could not judge."""

    findings: list[Finding]
    unjudged: dict[str, str]


def diagnose(run: Run | str | Path, history: bool = False) -> list[Finding]:
    """Return what stands at the end of a run, the most likely root cause first.

    A finding that another one explains is left out. ``history`` adds the findings that have cleared, each with the step
    by which it had (``until``). An empty list means that nothing was found; :func:`unjudged` says what could not be
    looked for. Of a run that grows, only what is new is read when the same object is given again. Raises what
    :func:`cockpitlite.load` raises.
    """
    run = _opened(run)
    with run.held() as file:
        readings = Readings(file, run.memory)
        standing = judge(readings).findings
        return standing + look_back(readings)[0] if history else standing


def judged(run: Run | str | Path) -> Judgement:
    """Return what :func:`diagnose` and :func:`unjudged` do, at the price of one."""
    run = _opened(run)
    with run.held() as file:
        return judge(Readings(file, run.memory))


def past(run: Run, seconds: float) -> tuple[list[Finding], bool]:
    """Return the findings of a run that have cleared, as many as are found in so many seconds; whether that is all."""
    with run.held() as file:
        return look_back(Readings(file, run.memory), seconds)


def unjudged(run: Run | str | Path) -> dict[str, str]:
    """Return the codes of the rules that could not judge a run, with the reason for each."""
    return judged(run).unjudged


def judge(readings: Readings) -> Judgement:
    """Ask every rule what stands at the step ``readings.now``."""
    found: list[tuple[Rule, Finding]] = []
    reasons: dict[str, str] = {}
    if readings.now < 0 and not readings.events("no_step", coming=True):
        return Judgement([], {rule.code: "no step has been recorded yet" for rule in RULES})
    for rule in RULES:
        if any(_silences(other, finding, rule) for other, finding in found):
            continue
        try:
            for name in rule.needs:
                readings.require(name)
            with np.errstate(all="ignore"):  # numbers of a run that diverges may overflow
                finding = rule.judge(readings)
        except Unjudged as reason:
            reasons[rule.code] = str(reason)
            continue
        if finding is not None:
            found.append((rule, finding))
    return Judgement(_ordered(found), reasons)


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else load(run)


def look_back(readings: Readings, seconds: float = math.inf) -> tuple[list[Finding], bool]:
    """Return the findings that stood earlier in the run and do not stand any more, and whether these are all of them.

    Where it takes longer than ``seconds`` it ends early, and goes on from there the next time: what can change no more
    is looked at once.
    """
    end = time.monotonic() + seconds
    known = readings.shared(History, History)
    steps = [step for step in occasions(readings) if step > known.step]
    for step in [step for step in steps if step <= readings.now - LATE]:
        known.advance(step, judge(readings.at(step)).findings)
        if time.monotonic() > end:
            return known.cleared, False
    latest = known.copy()
    for step in [step for step in steps if step > readings.now - LATE]:
        latest.advance(step, judge(readings.at(step)).findings)
    return latest.cleared, True


def _silences(rule: Rule, finding: Finding, other: Rule) -> bool:
    """Whether a rule's finding explains what another rule would say; a mere note on a fault explains nothing."""
    note = finding.severity == "info"
    return not (rule.fault and note) and other.silenced(rule.code, rule.fault)


def _ordered(found: list[tuple[Rule, Finding]]) -> list[Finding]:
    """Put errors before warnings before notes, and a blow-up before what it led to.

    Of notes, those on a fault come first: where nothing else is said, they are right more often than not. Then those on
    the learning rate and the course of the loss, such as that nothing speaks against them, and last what is usually
    meant. Gradients that vanish come before tensors that stand still by them: steps below the numbers' precision are
    lost.
    """
    causes = [f.since for rule, f in found if rule.code in _BLOWS_UP and (f.severity == "error" or rule.code == "R1")]
    blown = min(causes, default=math.inf)
    vanished = any(rule.code == "F4a" for rule, _ in found)

    def place(entry: tuple[Rule, Finding]) -> tuple[int, bool, int, int]:
        rule, finding = entry
        follows = (rule.code in _LED_TO and blown < finding.since) or (rule.code == "F9a" and vanished)
        meant = rule.code in _USUALLY_MEANT and finding.lr_factor is None
        kind = 0 if finding.severity != "info" else 2 if meant else rule.code.startswith("R")
        return _SEVERITIES.index(finding.severity), follows, kind, RULES.index(rule)

    return [finding for _, finding in sorted(found, key=place)]
