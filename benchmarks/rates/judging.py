"""How good the verdicts on learning rates are: counts of what was true against what was said."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cockpitlite.diagnosis.calibration import PRIOR

from .labels import CRITERIA, LABELS, Band, Criterion, Label, bands
from .limits import CLASSES, SHIPPED, Fitted, Table, fit, verdicts
from .looking import LARGE, SMALL, Look
from .trial import RATES, Outcome, Trial

STEP = 50  # after which a verdict is judged
NEAR, FAR = 4.6, 10.0  # times beside the band
SURENESS = (0.0, 0.6, 0.8, 0.9, 1.01)  # bounds of confidence, from notes to statements
DISTANCES = (2.2, NEAR, FAR, math.inf)  # as in the study that the shipped thresholds come from


@dataclass(frozen=True)
class Judged:
    """A run with what its learning rate was, which ones were good beside it, and what was said of it."""

    trial: Trial
    look: Look
    label: Label
    band: Band
    said: str

    @property
    def truth(self) -> str:
        """The class that should be said: a diverged run had a too large rate."""
        return "large" if self.label == "diverged" else self.label

    @property
    def distance(self) -> float:
        """The factor by which the rate lies beside the good ones, at least 1."""
        return self.band.distance(self.trial.rate)

    @property
    def right(self) -> bool:
        """Whether the verdict is the class."""
        return self.said == self.truth


def judged(outcomes: Iterable[Outcome], step: int = STEP, by: Sequence[Criterion] = CRITERIA) -> list[Judged]:
    """Judge the runs that were looked at after a step, by the shipped rules; groups that lack runs are left out."""
    kept = complete(outcomes)
    found = bands(kept, by)
    runs = []
    for outcome in kept:
        trial, band = outcome.trial, found[outcome.trial.group]
        if step in outcome.looks:
            look, label = outcome.looks[step], band.label(trial.rate, outcome.result)
            runs.append(Judged(trial, look, label, band, look.verdict))
    return runs


def complete(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the runs of which all learning rates are there, for each problem, optimizer, condition and seed."""
    outcomes = list(outcomes)
    counts = Counter((outcome.trial.group, outcome.trial.seed) for outcome in outcomes)
    return [outcome for outcome in outcomes if counts[outcome.trial.group, outcome.trial.seed] == RATES]


def refitted(runs: Sequence[Judged]) -> tuple[list[Judged], dict[str, Fitted]]:
    """Return the runs of each problem judged with limits fitted to the other problems, and these limits."""
    table = Table.of([run.look for run in runs])
    truth = np.array([run.truth for run in runs])
    problem = np.array([run.trial.problem for run in runs])
    said, found = np.empty_like(truth, dtype=object), {}
    for left_out in dict.fromkeys(map(str, problem)):
        of = problem == left_out
        found[left_out] = fit(table[~of], truth[~of]) if not of.all() else SHIPPED
        said[of] = verdicts(table[of], found[left_out])
    return [replace(run, said=str(verdict)) for run, verdict in zip(runs, said, strict=True)], found


def again(runs: Sequence[Judged], limits: Fitted) -> list[Judged]:
    """Return the runs judged with some limits."""
    said = verdicts(Table.of([run.look for run in runs]), limits)
    return [replace(run, said=str(verdict)) for run, verdict in zip(runs, said, strict=True)]


def overfitted(runs: Sequence[Judged]) -> list[Judged]:
    """Return the runs judged with limits that were fitted to them: no limits can do much better."""
    table, truth = Table.of([run.look for run in runs]), np.array([run.truth for run in runs])
    return again(runs, fit(table, truth))


def told_by_another_seed(outcomes: Iterable[Outcome]) -> list[Judged]:
    """Return the runs of each seed, called what those of another seed were in the end: no early reading knows as much.

    Runs of some seeds are held against those of every other, each seed with good rates of its own.
    """
    kept = complete(outcomes)
    seeds = {seed: judged([one for one in kept if one.trial.seed == seed]) for seed in {one.trial.seed for one in kept}}
    found = []
    for own, other in itertools.permutations(seeds, 2):
        truth = {replace(run.trial, seed=own): run.truth for run in seeds[other]}
        found += [replace(run, said=truth[run.trial]) for run in seeds[own] if run.trial in truth]
    return found


@dataclass(frozen=True)
class Share:
    """A part of some runs."""

    part: int
    whole: int

    @classmethod
    def of(cls, runs: Iterable[Judged], holds: Callable[[Judged], bool]) -> Self:
        """Return for how many of the runs something holds."""
        runs = list(runs)
        return cls(sum(map(holds, runs)), len(runs))

    @property
    def words(self) -> str:
        """The share with both counts."""
        return f"{self.part / self.whole:.1%} ({self.part}/{self.whole})" if self.whole else "–"


def accuracy(runs: Sequence[Judged]) -> Share:
    """Return the share of right verdicts."""
    return Share.of(runs, lambda run: run.right)


def wrong_way(runs: Sequence[Judged]) -> Share:
    """Return the share of verdicts that say too large of a too small rate, or the reverse."""
    return Share.of(runs, lambda run: {run.said, run.truth} == {"small", "large"})


def far_off(runs: Sequence[Judged]) -> Share:
    """Return the share of the rates far beside the good ones that are called what they are."""
    return Share.of((run for run in runs if run.truth != "good" and run.distance > FAR), lambda run: run.right)


def left_alone(runs: Sequence[Judged]) -> Share:
    """Return the share of good rates of which nothing is said."""
    return Share.of((run for run in runs if run.truth == "good"), lambda run: run.right)


def precision(runs: Sequence[Judged], verdict: str) -> Share:
    """Return how often a verdict is right."""
    return Share.of((run for run in runs if run.said == verdict), lambda run: run.right)


def recall(runs: Sequence[Judged], truth: str) -> list[Share]:
    """Return the share of the rates of a class that are called so, by their distance from the good ones."""
    lower = (0.0, *DISTANCES)
    of = [run for run in runs if run.truth == truth]
    return [
        Share.of((run for run in of if low < run.distance <= high), lambda run: run.right)
        for low, high in zip(lower, DISTANCES, strict=False)
    ]


def reason(run: Judged) -> str:
    """Return in words how a wrong verdict came about."""
    if run.look.faults:
        return f"{run.label}, and another fault was warned of instead"
    if run.said == "good":
        return f"{run.truth}, {'at most' if run.distance <= NEAR else 'more than'} {NEAR:g} times beside the good rates"
    if run.truth == "good" and run.said == "small":
        larger = run.band.best / run.trial.rate
        return f"good, the lowest training loss {'more than' if larger > NEAR else 'at most'} {NEAR:g} times higher"
    if run.truth == "good":
        return f"good, after a blow-up ({run.look.blow_up})" if run.look.blown else "good, without a blow-up"
    return "the reverse is true"


def helped(runs: Sequence[Judged]) -> Share:
    """Return how often the factor of a verdict brings the rate nearer to the good ones, of rates that are not good."""
    advised = [(run, said.factor) for run in runs for said in run.look.naming(*LARGE, *SMALL)[:1] if said.factor]
    off = [(run, factor) for run, factor in advised if run.distance > 1]
    return Share(sum(run.band.distance(run.trial.rate * factor) < run.distance for run, factor in off), len(off))


def sureness(runs: Sequence[Judged], code: str) -> list[tuple[float, Share, float]]:
    """Return, for findings with a code from unsure to sure, their mean confidence and how often they were right.

    The last number is how often they would be right if the classes were as frequent as the diagnosis takes them to be.
    """
    found = sorted(((said.confidence, run) for run in runs for said in run.look.naming(code)), key=lambda pair: pair[0])
    parts = [[pair for pair in found if low <= pair[0] < high] for low, high in itertools.pairwise(SURENESS)]
    counts = Counter(run.truth for run in runs)
    weights = {name: PRIOR[name] / counts[name] for name in CLASSES if counts[name]}
    return [
        (
            statistics.fmean(sure for sure, _ in part),
            Share.of((run for _, run in part), lambda run: _true(code, run)),
            sum(weights[run.truth] * _true(code, run) for _, run in part) / sum(weights[run.truth] for _, run in part),
        )
        for part in parts
        if part
    ]


def _true(code: str, run: Judged) -> bool:
    return run.truth == ("small" if code in (*SMALL, "R3b") else "large" if code in (*LARGE, "R2b") else "good")


def confusion(runs: Sequence[Judged]) -> dict[str, list[int]]:
    """Return for each label how many runs were called small, good and large."""
    counts = Counter((run.label, run.said) for run in runs)
    return {label: [counts[label, verdict] for verdict in CLASSES] for label in LABELS}
