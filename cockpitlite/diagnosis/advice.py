"""The learning rate that a diagnosis suggests, in words and as a place on the unit parabola of step lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.words import new_rate, number, percent

READING = "alpha_same"  # the step length that learning rates are judged by


@dataclass(frozen=True)
class Advice:
    """A learning rate to try, ``factor`` times the present ``rate`` (NaN where that is unknown).

    ``span`` are the factors between which the best rate lay in eight of ten calibration runs that read alike, None
    where the advice rests on something else.
    """

    title: str
    confidence: float
    factor: float
    span: tuple[float, float] | None
    rate: float

    @property
    def label(self) -> str:
        """The learning rate to try, in a few letters."""
        return f"try {number(self.rate * self.factor)}" if self.rate > 0 else f"try ×{number(self.factor)}"

    @property
    def words(self) -> str:
        """What to try and why, with the odds."""
        tried = f"{self.title} ({percent(self.confidence)} sure): try {new_rate(self.rate, self.factor)}."
        if self.span is None:
            return tried
        ends = [factor * (self.rate if self.rate > 0 else 1) for factor in self.span]
        times = "" if self.rate > 0 else " times that"
        return (
            f"{tried} In eight of ten calibration runs that read like this the best was {number(ends[0])} to "
            f"{number(ends[1])}{times}."
        )

    def place(self, length: float, factor: float | None = None) -> float:
        """Return where steps of a normalized ``length`` would end at the suggested rate: 1 + length grows with it.

        NaN where steps do not go down, so that no rate can be told from their length.
        """
        reach = 1 + length
        return reach * (self.factor if factor is None else factor) - 1 if reach > 0 else math.nan


def advice(findings: Sequence[Finding] | None, rate: float) -> Advice | None:
    """Return what the first finding that stands and names another learning rate suggests; None where there is none."""
    for finding in findings or ():
        if finding.until is None and finding.lr_factor is not None:
            return Advice(finding.title, finding.confidence, finding.lr_factor, finding.lr_range, rate)
    return None
