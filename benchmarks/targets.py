"""What was promised of the price, held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from budget import COUNTED_FROM, COUNTED_TO, Overhead
from interleaving import Spread
from pricing import SCALARS, Price

# The ratio of a step to a plain one with everything measured at every step, by panel and number of samples.
RATIOS: dict[tuple[str, int | None], dict[str, float]] = {
    ("economy", None): {"3c3d": 1.8, "mlp": 2.0},
    ("economy", 32): {"3c3d": 1.2, "mlp": 1.5},
    ("business", None): {"3c3d": 4.0, "mlp": 4.0},
    ("full", None): {"3c3d": 12.0, "mlp": 12.0},
}
UNTRACKED_SHARE, UNTRACKED_SECONDS = 0.01, 100e-6  # the second where a step is so short that a share says little
SHORT = "mlp"
PEAK = 1.5
SCALAR_BYTES = 600.0
MOST_OVERHEAD, LEAST_OVERHEAD = 0.12, 0.05


@dataclass(frozen=True)
class Target:
    """A promise, and whether it was kept; None where the measurement cannot tell."""

    words: str
    kept: bool | None

    def __str__(self) -> str:
        return f"{self.words} {'?' if self.kept is None else '✓' if self.kept else '✗'}"


def _within(spread: Spread, limit: float, nothing: float) -> bool | None:
    """Whether a cost is within a limit; None where its quartiles lie on both sides, or its noise does.

    No cost is below ``nothing``: as far as one was measured there, as far it may lie above.
    """
    high = max(spread.high, 2 * nothing - spread.low)
    return None if spread.low <= limit < high else spread.median <= limit


def targets_of_price(problem: str, price: Price) -> list[Target]:
    """Return what was promised of a row."""
    if price.program != "cockpitlite":
        return []
    found = []
    limit = RATIOS.get((price.panel, price.samples), {}).get(problem)
    if limit is not None and price.every == 1 and price.whole_ratio is not None:
        found.append(Target(f"≤ {limit:g}", price.whole_ratio <= limit))
    if price.panel == "untracked" and price.ratio is not None and price.added is not None:
        if problem == SHORT:
            found.append(Target(f"≤ {UNTRACKED_SECONDS * 1e6:g} µs", _within(price.added, UNTRACKED_SECONDS, 0.0)))
        else:
            found.append(Target(f"≤ {UNTRACKED_SHARE:.0%}", _within(price.ratio, 1 + UNTRACKED_SHARE, 1.0)))
    if (
        (price.panel, price.samples, price.every) == ("economy", None, 1)
        and price.first_peak
        and price.peak
        and price.plain_peak
    ):
        found.append(Target(f"peaks ≤ {PEAK:g}×", max(price.first_peak, price.peak) <= PEAK * price.plain_peak))
    if price.panel == SCALARS.panel and problem == SHORT and price.file is not None:
        found.append(Target(f"≤ {SCALAR_BYTES:g} B", price.file <= SCALAR_BYTES))
    return found


def targets_of_overhead(overhead: Overhead) -> list[Target]:
    """Return what was promised of the default budget, of the steps that it was promised of."""
    if (overhead.first, overhead.last) != (COUNTED_FROM, COUNTED_TO):
        return []
    return [
        Target(f"≤ {MOST_OVERHEAD:.0%}", overhead.overhead <= MOST_OVERHEAD),
        Target(f"≥ {LEAST_OVERHEAD:.0%}", overhead.overhead >= LEAST_OVERHEAD),
    ]
