"""Print where the time of a tracked step goes: ``python benchmarks/breakdown.py 3c3d economy``.

First the statistics and instruments, each without those it asks for; then the functions and operators that take most.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import memory  # noqa: F401 (before torch, which it keeps quiet)
import torch
from price import samples
from problems import PROBLEMS, Size
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from training import Training, synchronize
from watching import PANELS, WARM, Setting, WatchedTraining

from cockpitlite.instruments import choose
from cockpitlite.statistics import Supply

TOP = 20


class Shares:
    """Seconds spent in named parts, each without the parts inside of it."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._inside: list[float] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count the body's time to a part."""
        begin = self._now()
        self._inside.append(0.0)
        try:
            yield
        finally:
            took = self._now() - begin
            self.seconds[name] += took - self._inside.pop()
            if self._inside:
                self._inside[-1] += took

    def _now(self) -> float:
        synchronize(self._device)
        return perf_counter()


@contextmanager
def shared_out(shares: Shares, panel: Any) -> Iterator[None]:
    """Count the time of statistics and instruments while the body runs."""
    supply = Supply.__call__
    kinds = {type(instrument) for instrument in choose(panel)}
    reads = {kind: kind.read for kind in kinds}

    def supplied(self: Supply, kind: Any) -> Any:
        with shares.of(f"statistic {getattr(kind, '__name__', kind)}"):
            return supply(self, kind)

    def timed(kind: type, read: Any) -> Any:
        def reading(self: Any, *given: Any, **named: Any) -> Any:
            with shares.of(f"instrument {kind.__name__}"):
                return read(self, *given, **named)

        return reading

    Supply.__call__ = supplied
    for kind, read in reads.items():
        kind.read = timed(kind, read)
    try:
        yield
    finally:
        Supply.__call__ = supply
        for kind, read in reads.items():
            kind.read = read


def main() -> None:
    """Train a few steps in each of three ways: with parts timed, with functions, and with operators profiled."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    console, device, problem = Console(), torch.device(options.device), PROBLEMS[options.problem]
    place = (problem, Size(), device, problem.batches(Size(), device))
    plain = Training(*place)
    plain.run(WARM)
    plain_step = plain.run(options.steps) / options.steps
    setting = Setting(options.panel, 1, options.samples)
    shares, watched = Shares(device), WatchedTraining(*place, setting)
    watched.run(WARM)
    step = watched.run(options.steps) / options.steps
    with shared_out(shares, setting.options(watched.path.with_name("names"))["panel"]):
        watched.run(options.steps)
    console.print(share_table(shares, options.steps, plain_step, step))
    functions = cProfile.Profile()
    functions.runcall(watched.run, options.steps)
    words = io.StringIO()
    pstats.Stats(functions, stream=words).sort_stats("tottime").print_stats(options.top)
    print(words.getvalue())
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds, acc_events=True) as profiler:
        watched.run(options.steps)
    watched.close()
    order = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=options.top))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("panel", choices=[name for name in PANELS if " " not in name])
    parser.add_argument("--samples", type=samples, help="all unless given")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--top", type=int, default=TOP, help="how many functions and operators")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    return parser.parse_args()


def share_table(shares: Shares, steps: int, plain: float, step: float) -> Table:
    """Return the parts by their time in a step; what is left over is hooks, checks, copies and the recorder."""
    table = Table(
        title=f"A plain step takes {plain * 1e3:.2f} ms, a tracked one {step * 1e3:.2f} ms", title_justify="left"
    )
    for column in ("part", "ms a step", "of what is added"):
        table.add_column(column, justify="left" if column == "part" else "right")
    added = step - plain
    parts = {name: seconds / steps for name, seconds in shares.seconds.items()}
    parts["everything else: hooks, copies, checks, recorder"] = added - sum(parts.values())
    for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
        table.add_row(name, f"{seconds * 1e3:.3f}", f"{seconds / added:.1%}")
    return table


if __name__ == "__main__":
    sys.exit(main())
