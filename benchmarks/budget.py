"""What the default budget really takes: a whole run, chunk by chunk in turns with a plain one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from bench import Bench
from interleaving import Spread
from pricing import Tell
from training import Training
from watching import Setting, WatchedTraining

import cockpitlite

COUNTED_FROM, COUNTED_TO = 200, 1200
WINDOWS = 5
CHUNK, CHUNK_SECONDS = 25, 0.5


@dataclass(frozen=True)
class Overhead:
    """Watching time over plain time from one step to another, and what the run file itself says of it.

    ``windows`` is the spread over parts of the run; ``interval`` is the mean number of steps to the next tracked one.
    """

    panel: str
    samples: int | None
    first: int
    last: int
    plain: float
    overhead: float
    windows: Spread
    stated: float
    interval: float


class StandingClock:
    """A clock in place of ``time.perf_counter`` that stands still while another trains.

    Else a watched run would take the other's time for its own plain time, and spend a share of it. A GPU has a clock of
    its own: there one step of each chunk is too long, and the run's medians leave it out.
    """

    def __init__(self) -> None:
        self._running = time.perf_counter
        self._lost = 0.0

    def __call__(self) -> float:
        return self._running() - self._lost

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let the time of the body not count."""
        begin = self._running()
        yield
        self._lost += self._running() - begin

    @contextmanager
    def in_place(self) -> Iterator[StandingClock]:
        """Give this time to everyone in the body who asks for the time."""
        time.perf_counter = self
        try:
            yield self
        finally:
            time.perf_counter = self._running


def measure_overhead(
    bench: Bench, panel: str, samples: int | None, tell: Tell, first: int = COUNTED_FROM, last: int = COUNTED_TO
) -> Overhead:
    """Train from the start to ``last`` twice, in turns, and compare from ``first`` on."""
    window = (last - first) // WINDOWS
    last = first + WINDOWS * window
    longest = max(CHUNK, round(CHUNK_SECONDS / bench.plain_seconds))
    chunk = max(size for size in range(1, longest + 1) if math.gcd(window, first) % size == 0)
    plain = Training(*bench.place)
    took: list[tuple[float, float]] = []
    with StandingClock().in_place() as clock:
        watched = WatchedTraining(*bench.place, Setting(panel, None, samples))
        try:
            for step in range(0, last, chunk):
                tell(f"budget, {panel}{'' if samples is None else f', samples={samples}'}", step / last)
                with clock.standing():
                    plain_seconds = plain.run(chunk)
                took.append((watched.run(chunk), plain_seconds))
            stated, interval = what_the_file_says(watched, first, last)
        finally:
            watched.close()
    counted = np.array(took[first // chunk :])
    parts = counted.reshape(WINDOWS, -1, 2).sum(axis=1)
    whole = counted.sum(axis=0)
    return Overhead(
        panel=panel,
        samples=samples,
        first=first,
        last=last,
        plain=float(whole[1]) / (last - first),
        overhead=float(whole[0] / whole[1]) - 1,
        windows=Spread.of([float(each) for each in parts[:, 0] / parts[:, 1] - 1]),
        stated=stated,
        interval=interval,
    )


def what_the_file_says(watched: WatchedTraining, first: int, last: int) -> tuple[float, float]:
    """Return the overhead that the run file states at last, of the 500 steps before, and the mean interval in it."""
    watched.finish()
    run = cockpitlite.load(watched.path)
    steps = run.series("grad_norm")[0]
    interval = (last - first) / max(1, int((steps >= first).sum()))
    if "cost_share" not in run.names():  # a panel without vitals
        return float("nan"), interval
    share = float(run.series("cost_share")[1][-1])
    return share / (1 - share), interval
