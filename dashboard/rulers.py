"""What the steps on a chart are labelled with: steps, the time or the epoch at which they were taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cockpitlite.dashboard.readings import Window
from cockpitlite.store import Run, Steps, Values

LABELS = 5  # on an axis, at most
NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True)
class Ruler:
    """Ascending steps ``[K]`` and what was reached at each ``[K]``: seconds since the start of the run, or epochs."""

    steps: Steps
    reached: Values

    def at(self, step: float) -> float:
        """Return what was reached at a step; between those that are known it is interpolated."""
        return float(np.interp(step, self.steps, self.reached))

    def along(self, steps: Steps) -> Values:
        """Return what was reached at each of some steps, before and after those that are known at their pace."""
        found: Values = np.interp(steps, self.steps, self.reached)
        for side, (near, far) in ((steps < self.steps[0], (0, 1)), (steps > self.steps[-1], (-1, -2))):
            pace = (self.reached[far] - self.reached[near]) / (self.steps[far] - self.steps[near])
            found[side] = self.reached[near] + pace * (steps[side] - self.steps[near])
        return found

    def step(self, reached: float) -> float:
        """Return the step at which so much was reached."""
        return float(np.interp(reached, self.reached, self.steps))


def clock(run: Run) -> Ruler | None:
    """Return the seconds since the start of a run, None where it does not tell the time."""
    return _ruler(*run.clock())


def epochs(run: Run) -> Ruler | None:
    """Return the epochs of a run, None where none were logged."""
    if "epoch" not in run.names():
        return None
    outline = run.outline("epoch")
    return _ruler(outline.steps, outline.values)


def _ruler(steps: Steps, reached: Values) -> Ruler | None:
    """Keep what goes forward: a clock that was set back, or an epoch counted anew, would label steps twice."""
    known = np.isfinite(reached)
    steps, reached = steps[known], reached[known]
    forward = reached > np.maximum.accumulate(np.concatenate([[-math.inf], reached]))[:-1]
    return Ruler(steps[forward], reached[forward]) if forward.sum() > 1 else None


def ticks(ruler: Ruler | None, axis: str, window: Window | None, last: int) -> dict[str, Any]:
    """Return the labels of a chart's steps, as its axis holds them; those of steps where there is no ruler."""
    if ruler is None or axis == "step":
        return {"tickmode": "auto", "tickprefix": "step ", "ticklabeloverflow": "allow"}
    low, high = (ruler.at(step) for step in (window or (0, last)))
    distance = _seconds(high - low) if axis == "time" else max(_round(high - low), 1.0)
    short = axis == "time" and distance < 1
    places = np.arange(math.ceil(low / distance), math.floor(high / distance) + 1) * distance
    spelled = duration if axis == "time" and not short else "{:g} s".format if short else "{:g}".format
    words = [spelled(place) for place in places.tolist()]
    if axis == "epoch" and words:
        words[0] = f"epoch {words[0]}"
    steps = [ruler.step(place) for place in places.tolist()]
    labels = {"tickmode": "array", "tickvals": steps, "ticktext": words, "tickprefix": ""}
    return labels | {"ticklabeloverflow": "hide past div"}  # these are long


def _seconds(spread: float) -> float:
    """Return a round distance of labels in seconds."""
    wanted = spread / LABELS
    if wanted <= 0.5:
        return _round(spread)
    return float(next((nice for nice in NICE_SECONDS if nice >= wanted), _round(spread, 86_400.0)))


def _round(spread: float, unit: float = 1.0) -> float:
    """Return a distance of labels that is 1, 2 or 5 times a power of ten, in a unit."""
    wanted = max(spread / LABELS / unit, 1e-9)
    power = 10.0 ** math.floor(math.log10(wanted))
    return unit * power * next(nice for nice in (1, 2, 5, 10) if nice * power >= wanted * (1 - 1e-9))


def duration(seconds: float) -> str:
    """Return a time since the start in words: 45 s, 12 min, 1 h 30 min, 2 d 6 h."""
    parts = []
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(round(seconds), size)
        if count:
            parts.append(f"{count} {word}")
    return " ".join(parts[:2]) or "0"
