"""Which runs count, by their final results, and how good the diagnosis of those is."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .kind import Kind
from .programs import PROGRAMS
from .trial import KINDS, Outcome

REFERENCES = 10  # runs of each program as it is, on whose scores the limit rests
QUANTILE = 4.297  # of Student's t with 9 degrees of freedom: one healthy run in 1000 is further above the mean
LEAST = 0.05  # a score that is not this share above the mean is as good, however little the references scatter

Limits = Mapping[str, float]


def limit(scores: Sequence[float]) -> float:
    """Return the score above which a run is significantly worse than these healthy ones (a prediction interval)."""
    mean, deviation = statistics.fmean(scores), statistics.stdev(scores)
    return mean + max(QUANTILE * deviation * math.sqrt(1 + 1 / len(scores)), LEAST * mean)


@dataclass(frozen=True)
class Judged:
    """A run with its kind and whether its result makes it count."""

    outcome: Outcome
    limit: float

    @property
    def kind(self) -> Kind:
        """What was done to the program."""
        return KINDS[self.outcome.trial.kind]

    @property
    def half(self) -> str:
        """The half of the benchmark that its program belongs to."""
        return PROGRAMS[self.outcome.trial.program].half

    @property
    def hurt(self) -> bool:
        """Whether the final score is significantly worse than that of healthy runs."""
        bound = self.limit if self.outcome.limit is None else self.outcome.limit
        return not self.outcome.score <= bound

    @property
    def counts(self) -> bool:
        """Whether a faulty run is one (it hurts, or breaks an invariant), or a healthy one is healthy."""
        return not self.hurt if self.kind.healthy else self.hurt or bool(self.kind.breaks)

    @property
    def detected(self) -> bool:
        """Whether anything above a note was said of a fault, or a right note."""
        return any(each.severity != "info" or each.code in self.kind.accepted for each in self.outcome.findings)

    def right_within(self, count: int) -> bool:
        """Whether a right cause is among the first findings."""
        return any(each.code in self.kind.accepted for each in self.outcome.findings[:count])

    @property
    def told(self) -> int | None:
        """The first step at which a right cause stood, for one who watches live."""
        steps = [step for code, step in self.outcome.told.items() if code in self.kind.accepted]
        return min(steps, default=None)

    @property
    def false_alarms(self) -> list[str]:
        """What a healthy run was wrongly warned of."""
        return [each.code for each in self.outcome.findings if each.severity != "info"]

    @property
    def live_alarms(self) -> list[str]:
        """The same, of what stood at any moment of the run."""
        return list(self.outcome.alarms)


def judged(outcomes: Sequence[Outcome], limits: Limits) -> list[Judged]:
    """Judge every run."""
    return [Judged(each, limits[each.trial.program]) for each in outcomes]


@dataclass(frozen=True)
class Tally:
    """How the faults in some runs that count were diagnosed."""

    runs: int
    counted: int
    detected: int
    first: int
    third: int
    steps: float | None  # median until the verdict

    @classmethod
    def of(cls, runs: Sequence[Judged]) -> Tally:
        """Count."""
        counted = [run for run in runs if run.counts]
        told = [run.told for run in counted if run.told is not None]
        return cls(
            len(runs),
            len(counted),
            sum(run.detected for run in counted),
            sum(run.right_within(1) for run in counted),
            sum(run.right_within(3) for run in counted),
            statistics.median(told) if told else None,
        )

    @property
    def precision(self) -> float:
        """The share of right first causes among what was detected."""
        return self.first / self.detected if self.detected else math.nan


def instead(runs: Sequence[Judged]) -> Counter[str]:
    """Count what was said first of the runs whose right cause is not among the first three findings."""
    missed = [run for run in runs if run.counts and not run.right_within(3)]
    return Counter(
        run.outcome.findings[0].code + _mark(run.outcome.findings[0].severity) if run.outcome.findings else "–"
        for run in missed
    )


def _mark(severity: str) -> str:
    """Mark notes, which are no answer to a fault."""
    return "·" if severity == "info" else ""
