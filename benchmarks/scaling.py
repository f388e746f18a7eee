"""How the price grows with the model: added time over plain time must stay flat along each axis."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from bench import Effort
from interleaving import Pair, Spread, take_turns
from problems import Problem, Size
from training import Training
from watching import MOST, WARM, Setting, WatchedTraining

FACTORS = (1, 2, 4, 8)
AXES = ("width", "depth", "batch", "length")


@dataclass(frozen=True)
class Point:
    """At one size: seconds of a plain step, and added time over plain time."""

    factor: int
    plain: float
    added: Spread


@dataclass(frozen=True)
class Curve:
    """The points along one axis of a problem; ``note`` says why there are no more."""

    axis: str
    points: Sequence[Point]
    note: str = ""

    @property
    def growth(self) -> float:
        """The added share at the last point over that at the first."""
        return self.points[-1].added.median / self.points[0].added.median


def measure_curve(problem: Problem, axis: str, device: torch.device, setting: Setting, effort: Effort) -> Curve:
    """Measure ever larger models, until a step takes too long."""
    points: list[Point] = []
    for factor in FACTORS:
        point, seconds = measure_point(problem, Size().along(axis, factor), factor, device, setting, effort)
        points.append(point)
        # What comes next takes at least twice as long, four times along the width, for each of the steps that warm up.
        if factor < FACTORS[-1] and 2 * seconds * WARM > effort.longest:
            return Curve(axis, points, f"not beyond ×{factor}: a step takes too long here")
    return Curve(axis, points)


def measure_point(
    problem: Problem, size: Size, factor: int, device: torch.device, setting: Setting, effort: Effort
) -> tuple[Point, float]:
    """Return the point at a size, and the seconds of a watched step."""
    batches = problem.batches(size, device)
    plain = Training(problem, size, device, batches)
    watched = WatchedTraining(problem, size, device, batches, setting)
    try:
        plain.run(WARM)
        watched.run(WARM)
        seconds = Pair(watched.run(1), plain.run(1))
        most = MOST // effort.rounds
        steps = min(most, max(1, round(effort.seconds / seconds.watched)))
        pairs = [take_turns(watched, plain, steps, seconds) for _ in range(effort.rounds)]
    finally:
        watched.close()
    median = statistics.median(pair.plain for pair in pairs)
    return Point(factor, median, Spread.of([pair.ratio - 1 for pair in pairs])), seconds.watched


def draw(curves: dict[str, Sequence[Curve]], path: Path) -> None:
    """Draw the curves of all problems, one plot for each axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(1, len(AXES), figsize=(12, 3), sharey=True, layout="constrained")
    for axis, plot in zip(AXES, plots, strict=True):
        plot.set(
            title=axis, xlabel="times larger", xscale="log", xticks=FACTORS, xticklabels=[f"×{f}" for f in FACTORS]
        )
        plot.minorticks_off()
        plot.grid(alpha=0.3)
        for number, (name, several) in enumerate(curves.items()):
            for curve in several:
                if curve.axis == axis:
                    along = [point.factor for point in curve.points]
                    added = [[p.added.low, p.added.median, p.added.high] for p in curve.points]
                    low, median, high = zip(*added, strict=True)
                    plot.plot(along, median, "o-", color=f"C{number}", label=name)
                    plot.fill_between(along, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    plots[0].set(ylabel="added time over plain time")
    plots[0].set_ylim(bottom=0)
    plots[0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
