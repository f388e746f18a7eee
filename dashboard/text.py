"""Words and numbers as a page shows them, and names from run files made harmless."""

from __future__ import annotations

import html
import math

LONGEST_NAME = 48


def plain(text: object) -> str:
    """Return a text that a chart shows as it stands.

    Charts read a subset of HTML in their labels, and a run file may come from a stranger: its names are text.
    """
    return html.escape(shortened(text), quote=False)


def shortened(text: object) -> str:
    """Return a text of at most 48 characters, the middle left out of longer ones."""
    words = str(text)
    if len(words) <= LONGEST_NAME:
        return words
    half = (LONGEST_NAME - 1) // 2
    return f"{words[:half]}…{words[-half:]}"


def number(value: float) -> str:
    """Return a number with four significant digits, for people: 0.03124, 12,340, 1.2e−5, NaN, ∞."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size != 0 and not 1e-3 <= size < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        digits = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        digits = f"{value:z,.0f}" if size >= 1e4 or value == int(value) else f"{value:.4g}"
    return digits.replace("-", "−")


def steps_phrase(steps: tuple[int, ...]) -> str:
    """Return steps in words: "step 12", "steps 0 to 45 (10 of them)"."""
    if not steps:
        return "no step"
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    return f"steps {min(steps):,} to {max(steps):,} ({len(steps):,} of them)"
