"""What a live update of the diagnosis costs in a long run: `python benchmarks/live_diagnosis.py`."""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sheet import Sheet
from torch import nn

import cockpitlite
from cockpitlite.diagnosis import diagnose
from cockpitlite.schedule import on_diagnosis_schedule
from cockpitlite.store import Column, Run, RunWriter

RECORDED = 64  # steps of real training whose readings the long run repeats
OTHER = 7  # every so many of them are tracked, which tells the panel's readings from those of the diagnosis schedule
GROWTH = 25  # steps that come between two updates


@dataclass(frozen=True)
class Kind:
    """The columns that steps of one kind have, and the numbers ``[T, Σ width]`` that such steps had."""

    columns: tuple[Column, ...]
    numbers: np.ndarray


@dataclass
class LongRun:
    """A run file that grows like one of a real training, with its readings over and over."""

    writer: RunWriter
    untracked: Kind
    tracked: Kind
    diagnosed: Kind
    every: int
    step: int = 0

    def grow(self, steps: int) -> None:
        """Write that many further steps, as they come while a training runs."""
        for step in range(self.step, self.step + steps):
            kind = self.diagnosed if on_diagnosis_schedule(step) else self.untracked
            kind = self.tracked if kind is self.untracked and step % self.every == 0 else kind
            self.writer.frame(step, kind.columns, kind.numbers[step % len(kind.numbers)])
        self.step += steps
        self.writer.commit()


def record(path: Path) -> Run:
    """Watch a small network for a few steps with the default panel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watched = cockpitlite.watch(optimizer, model, run=path, every=OTHER)
    x, y = torch.randn(RECORDED, 32, 64), torch.randint(10, (RECORDED, 32))
    for inputs, labels in zip(x, y, strict=True):
        watched.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        watched.step()
    watched.cockpit.close()
    return cockpitlite.load(path)


def kind_of(run: Run, wanted: Callable[[int], bool]) -> Kind:
    """Return what all recorded steps have that are ``wanted``."""
    steps = [step for step in range(RECORDED) if wanted(step)]
    columns, numbers = [], []
    for name in run.names():
        for column, at, values in _read(run, name):
            rows = np.searchsorted(at, steps)
            if len(at) and np.array_equal(at[np.minimum(rows, len(at) - 1)], steps):
                columns.append(column)
                numbers.append(values[rows])
    return Kind(tuple(columns), np.concatenate(numbers, axis=1))


def _read(run: Run, name: str) -> Iterator[tuple[Column, np.ndarray, np.ndarray]]:
    try:
        steps, totals = run.series(name)
    except KeyError:  # a histogram
        return
    if not len(steps):
        return
    try:
        at, layers, values = run.layers(name)
    except KeyError:
        yield Column(name), steps, totals[:, None]
        return
    if np.array_equal(at, steps):
        yield Column(name, tuple(layers)), steps, np.column_stack([totals, values])


def begin(folder: Path, every: int) -> LongRun:
    """Return a long run before its first step."""
    recorded = record(folder / "recorded.cockpit")
    writer = RunWriter(folder / "long.cockpit")
    writer.meta(**recorded.meta)
    for event in recorded.events():
        writer.event(event.step, event.kind, event.data)
    return LongRun(
        writer,
        untracked=kind_of(recorded, lambda step: True),
        tracked=kind_of(recorded, lambda step: step % OTHER == 0),
        diagnosed=kind_of(recorded, lambda step: step < 50 and step % 35 == 0),
        every=every,
    )


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds that an action takes by the clock, and those of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor)


def spread(values: Sequence[float]) -> str:
    """Return the median, with the quartiles in brackets."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def measure(run: LongRun, steps: int, updates: int) -> list[str]:
    """Grow the run to so many steps, then go on in small parts with a look at each; return a row of the table."""
    run.grow(max(steps - run.step, 0))
    reader = cockpitlite.load(run.writer.path)
    first, _ = timed(lambda: diagnose(reader))
    looks = []
    for _ in range(updates):
        run.grow(GROWTH)
        looks.append(timed(lambda: diagnose(reader)))
    clock, processor = zip(*looks, strict=True)
    return [
        f"{steps:,}",
        f"{first:,.0f}",
        spread(clock),
        f"{max(clock):.1f}",
        spread(processor),
        f"{max(processor):.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="lengths of the run")
    parser.add_argument("--updates", type=int, default=100, help="live updates at each length")
    parser.add_argument("--every", type=int, default=10, help="every so many steps the whole panel is measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = begin(Path(folder), arguments.every)
        rows = [measure(run, steps, arguments.updates) for steps in sorted(arguments.steps)]
        names = len({column.name for column in run.diagnosed.columns} | {column.name for column in run.tracked.columns})
        run.writer.close()
    sheet = Sheet(
        "The diagnosis of a run that grows",
        ["steps", "first look, ms", f"update after {GROWTH} steps, ms", "slowest", "processor, ms", "most"],
        rows,
        [
            f"{arguments.updates} updates at each length: median, quartiles in brackets. {names} readings of a real "
            f"training with the default panel, over and over; the panel every {arguments.every} steps, the loss at "
            "each, the diagnosis on its schedule.",
            f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one process.",
        ],
    )
    print(sheet.markdown())


if __name__ == "__main__":
    main()
