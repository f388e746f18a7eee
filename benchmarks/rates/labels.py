"""What a learning rate was worth, from final results alone: the band of good rates, and where a run lies beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from .training import Result
from .trial import Outcome

Label = Literal["small", "good", "large", "diverged"]
LABELS: tuple[Label, ...] = ("small", "good", "large", "diverged")

Criterion = Literal["train", "valid", "error"]
CRITERIA: tuple[Criterion, ...] = ("train", "valid", "error")  # a rate is good by any of them

AS_GOOD = 1.1  # times the lowest final loss
ERROR_SLACK = 0.005  # share of wrong classes on top
DIVERGED = 1.05  # final over first loss
ROUNDING = 1e-9  # of the rates themselves, which come from a power


@dataclass(frozen=True)
class Band:
    """The lowest and the highest good learning rate, the rates that were tried, and the best by its final loss."""

    low: float
    high: float
    best: float
    tried: tuple[float, ...]

    def label(self, rate: float, result: Result) -> Label:
        """Return what a run at a learning rate was."""
        if not result.train <= DIVERGED * result.begin:
            return "diverged"
        if rate < self.low * (1 - ROUNDING):
            return "small"
        return "large" if rate > self.high * (1 + ROUNDING) else "good"

    def distance(self, rate: float) -> float:
        """Return the factor by which a rate lies beside the band, at least 1."""
        return max(1.0, self.low / rate, rate / self.high)

    @property
    def open(self) -> bool:
        """Whether it reaches to the end of the rates that were tried, so that it may be wider."""
        return self.low == min(self.tried) or self.high == max(self.tried)


def bands(outcomes: Iterable[Outcome], by: Sequence[Criterion] = CRITERIA) -> dict[tuple[str, str, str], Band]:
    """Return the band of each problem, optimizer and condition, on the mean over the seeds."""
    groups: dict[tuple[str, str, str], dict[float, list[Result]]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.trial.group, {}).setdefault(outcome.trial.rate, []).append(outcome.result)
    return {group: band(results, by) for group, results in groups.items()}


def band(results: Mapping[float, list[Result]], by: Sequence[Criterion] = CRITERIA) -> Band:
    """Return the band of some rates, with the results of each rate's seeds."""
    means = {rate: _mean(several) for rate, several in results.items()}
    most = {name: _most(name, (getattr(mean, name) for mean in means.values())) for name in by}
    good = [rate for rate, mean in means.items() if any(getattr(mean, name) <= most[name] for name in by)]
    best = min(means, key=lambda rate: means[rate].train)
    return Band(min(good), max(good), best, tuple(sorted(means)))


def _most(criterion: Criterion, values: Iterable[float]) -> float:
    """Return the highest value that is still as good as the lowest, NaN where nothing is known."""
    least = min((value for value in values if not math.isnan(value)), default=math.nan)
    return AS_GOOD * least + (ERROR_SLACK if criterion == "error" else 0.0)


def _mean(several: list[Result]) -> Result:
    return Result(*(fmean(getattr(each, name) for each in several) for name in ("begin", "train", "valid", "error")))
