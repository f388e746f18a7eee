"""Print what watching costs, against plain training and Cockpit 1.0.2: ``python benchmarks/price.py``.

Three parts: the price of a step under each panel at each interval, what the default budget really takes, and how the
price grows with the model. The whole takes hours; options choose a part of it, and ``--json`` gathers several runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import memory  # noqa: F401 (before torch, which it keeps quiet)
import report
import results
import scaling
import torch
from bench import Bench, Effort
from budget import COUNTED_FROM, COUNTED_TO, WINDOWS, measure_overhead
from cockpit_process import PYTHON
from pricing import Choice, measure_prices
from problems import PROBLEMS
from results import Measured
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from watching import CONTENTS, WHOLE, Setting

PARTS = ("prices", "budget", "scaling")
QUICK = Effort(rounds=2, seconds=0.3, longest=5.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    options = arguments(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", module="torch")  # of kernels that cannot be differentiated twice, and the like
    measured = results.read(options.json) if options.json else []
    console = Console() if sys.stdout.isatty() else Console(width=190)
    if options.known:
        for sheet in report.sheets(measured):
            console.print(sheet.table())
        keep(measured, options)
        return
    for device in map(torch.device, options.devices):
        for name in options.problems:
            found = measure(name, device, options, console)
            measured = results.joined(measured, found)
            for sheet in report.sheets([found]):
                console.print(sheet.table())
            keep(measured, options)  # whatever comes next


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    panels = [*CONTENTS, *WHOLE]
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    add("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    add("--devices", nargs="+", choices=("cpu", "cuda"), default=devices)
    add("--panels", nargs="+", choices=panels, default=panels, help="whole- are our presets with all they add")
    add("--intervals", nargs="+", type=int, metavar="K", help="by default 1 4 16 64 256")
    add("--samples", nargs="+", type=samples, default=[None, 32], metavar="N", help="by default all 32")
    add("--rounds", type=int, help=f"of each measurement, by default {Effort().rounds}")
    add("--seconds", type=float, help=f"of each measurement, by default {Effort().seconds:g}")
    add("--longest", type=float, help=f"seconds one measurement may take, by default {Effort().longest:g}")
    add("--steps", type=int, default=COUNTED_TO, help=f"of the budget's run, counted from {COUNTED_FROM} on, or 1/6")
    add("--quick", action="store_true", help="two rounds of short measurements at intervals 1 and 4")
    add("--no-cockpit", action="store_true", help="leave Cockpit out")
    add("--threads", type=int, help="of torch on the CPU")
    add("--known", action="store_true", help="measure nothing, and make the tables of what the file holds")
    add("--json", type=Path, metavar="FILE", help="add the numbers to this file")
    add("--write", type=Path, metavar="FILE", help="write the page, with a picture beside it")
    options = parser.parse_args(argv)
    options.intervals = options.intervals or ([1, 4] if options.quick else [1, 4, 16, 64, 256])
    usual = QUICK if options.quick else Effort()
    options.effort = Effort(
        options.rounds or usual.rounds, options.seconds or usual.seconds, options.longest or usual.longest
    )
    options.command = shlex.join(["python", "benchmarks/price.py", *(sys.argv[1:] if argv is None else argv)])
    if options.known and not options.json:
        parser.error("--known makes the tables of a file: name it by --json")
    if "prices" in options.parts and not options.known and not options.no_cockpit and not PYTHON.exists():
        parser.error("Cockpit has no environment here: `make benchmark` makes it, or give --no-cockpit")
    return options


def samples(text: str) -> int | None:
    return None if text == "all" else int(text)


def measure(name: str, device: torch.device, options: argparse.Namespace, console: Console) -> Measured:
    """Measure the wanted parts of one problem."""
    problem, effort = PROBLEMS[name], options.effort
    found = Measured(device.type, name, results.machine(device))
    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(problem.title, total=1.0)

        def tell(words: str, share: float) -> None:
            progress.update(bar, description=f"{problem.title}: {words}", completed=share)

        bench = Bench(problem, device, effort)
        if "prices" in options.parts:
            choice = Choice(options.panels, options.intervals, options.samples, cockpit=not options.no_cockpit)
            found.prices = measure_prices(bench, choice, tell)
        if "budget" in options.parts:
            first = min(COUNTED_FROM, options.steps // (WINDOWS + 1))
            runs = [(panel, each) for panel in options.panels if panel in WHOLE for each in options.samples]
            found.overheads = [measure_overhead(bench, *run, tell, first, options.steps) for run in runs]
        if "scaling" in options.parts:
            found.curves = []
            for done, axis in enumerate(problem.axes):
                tell(f"{axis} ×1 to ×8", done / len(problem.axes))
                found.curves.append(scaling.measure_curve(problem, axis, device, Setting("economy"), effort))
    return found


def keep(measured: Sequence[Measured], options: argparse.Namespace) -> None:
    """Write the files that are asked for."""
    if options.json:
        results.save(options.json, measured)
    if options.write:
        picture = options.write.with_suffix(".png")
        curves = {f"{each.problem}, {each.device}": each.curves for each in measured if each.curves}
        if curves:
            scaling.draw(curves, picture)
        page = report.page(measured, options.command, picture.name, options.write)
        options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
