"""Findings in plain words: numbers, sentences, and whole findings for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.light import headline, light

WIDTH = 100
QUIET = "No fault found so far."
_SHOWN = 10  # values of one reading that a terminal shows


def describe(finding: Finding) -> str:
    """Return a finding as several lines of plain text: what, how sure, why, on what evidence, and what to change."""
    head = f"{finding.severity.upper()} {finding.code}: {finding.title} ({percent(finding.confidence)} sure)"
    parts = [finding.explanation, *map(_evidence, finding.evidence)]
    if finding.suggestion:
        parts.append(f"What to do: {finding.suggestion}")
    parts.append(_time(finding))
    return "\n".join([head, *(_indented(part) for part in parts if part)])


def verdict(findings: Sequence[Finding], steps: int | None = None) -> str:
    """Return the most likely root cause in one sentence; findings come in the order that ``diagnose`` gives them.

    ``steps`` is how many the run has; where it is not given, they are taken to be enough to tell.
    """
    standing = [finding for finding in findings if finding.until is None]
    if not standing:
        return QUIET if steps is None else quiet(steps)
    if steps is not None and light(standing, steps) == "unknown":
        return quiet(steps)
    first = headline(standing)
    serious = sum(finding.severity != "info" for finding in standing[1:])
    more = f"; {serious} more {plural('finding', serious)}" if serious else ""
    return f"{first.title} ({percent(first.confidence)} sure{more})."


def quiet(steps: int) -> str:
    """Return what is said of a run with so many steps in which nothing was found."""
    if steps >= t.FIRST_VERDICT:
        return QUIET
    if steps == 0:
        return "Too early to tell: no step has been recorded yet."
    return f"Too early to tell: {steps} {plural('step', steps)} so far, and no fault found in {_them(steps)}."


def number(value: float) -> str:
    """Return three significant digits, as a plain number where that is short: 1,000 and 0.0001, but 1e-5."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    magnitude = int(exponent)
    if not -4 <= magnitude < 6:
        return f"{mantissa.rstrip('0').rstrip('.')}e{magnitude}"
    digits = max(0, 2 - magnitude)
    text = f"{float(f'{value:.2e}'):,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def measured(value: float, error: float) -> str:
    """Return a value with its standard error, both to the digits that the error justifies."""
    if not math.isfinite(error) or not math.isfinite(value):
        return number(value)
    digits = min(max(1 - math.floor(math.log10(error)), 0), 6) if error > 0 else 3
    if 0 < error < 0.5 * 10**-digits or abs(value) >= 1e4:
        return f"{value:.3g} ± {error:.1g}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def percent(share: float) -> str:
    """Return a share in whole per cent; only what is certain is called 100 %, and only nothing 0 %."""
    if 0 < share < 0.005:
        return "less than 1 %"
    return f"{round(100 * share) if share >= 1 else min(round(100 * share), 99)} %"


def times(factor: float) -> str:
    """Return a factor as a multiplication or a division: ×10, ÷4."""
    return f"×{number(factor)}" if factor >= 1 else f"÷{number(1 / factor)}"


def new_rate(rate: float, factor: float) -> str:
    """Return a learning rate to try beside the present one: 0.025 instead of 0.1 (÷4)."""
    return (
        f"{number(rate * factor)} instead of {number(rate)} ({times(factor)})"
        if rate > 0
        else f"the present one {times(factor)}"
    )


def best_rate(rate: float, factor: tuple[float, float, float]) -> str:
    """Return where the best learning rate lies, with the odds, by how it related to those of runs that read alike.

    ``factor`` is best over used learning rate: the median, and the ends between which eight of ten runs lie.
    """
    median, low, high = factor
    here = f": here {number(rate * low)} to {number(rate * high)}" if rate > 0 else ""
    return (
        f"In eight of ten calibration runs that read like this, the best learning rate was {number(low)} to "
        f"{number(high)} times theirs (median {number(median)}){here}."
    )


def plural(noun: str, count: int) -> str:
    """Return a noun as it stands beside a number."""
    return noun if count == 1 else f"{noun}s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names as a list, the rest of a long one as a number."""
    shown, rest = list(names[:most]), len(names) - most
    if rest > 0:
        shown.append(f"{rest} {'other' if rest == 1 else 'others'}")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _evidence(evidence: Evidence) -> str:
    pairs = list(zip(evidence.steps, evidence.values, strict=True))
    if len(pairs) > _SHOWN:
        chosen = np.unique(np.linspace(0, len(pairs) - 1, _SHOWN).round().astype(int))
        pairs = [pairs[index] for index in chosen]
    values = ", ".join(f"{step:,}: {number(value)}" for step, value in pairs)
    return f"Evidence: {evidence.what} at step {values}"


def _time(finding: Finding) -> str:
    if finding.until is None:
        return f"Since step {finding.since:,}."
    return f"From step {finding.since:,}; cleared by step {finding.until:,}."


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
