"""Print how well the diagnosis tells faults from healthy trainings: ``python benchmarks/diagnosis/run.py``.

Every fault and every healthy kind is trained in each program it applies to, at each level, from several seeds, on all
cores. The whole takes some hours of one core; options choose a part of it. ``--keep`` keeps the run files, so that the
next call with the same folder only diagnoses them again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

if not __package__:  # run as a script: its package stands beside it, and its folder must not be searched
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cores import finished, processes
from rich.console import Console

from diagnosis import judging, report
from diagnosis.faults import FAULTS
from diagnosis.healthy import HEALTHY
from diagnosis.programs import PROGRAMS
from diagnosis.trial import KINDS, Outcome, Trial, perform, reference

FIRST_REFERENCE = 1000  # seeds of the runs that say what healthy is, which no trial has


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for, print the tables and write the files."""
    options = arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    with processes(options.jobs) as executor:
        limits = references(executor, options, console)
        outcomes = run(executor, trials(options), options, console)
    runs = judging.judged(outcomes, limits)
    for sheet in report.sheets(runs, limits):
        console.print(sheet.table())
    if options.json:
        saved = {"limits": limits, "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    if options.write:
        options.write.write_text(report.page(runs, limits, options.command, part(options)), encoding="utf-8")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--faults", nargs="*", choices=FAULTS, default=list(FAULTS), metavar="FAULT", help=", ".join(FAULTS))
    add("--healthy", nargs="*", choices=HEALTHY, default=list(HEALTHY), metavar="KIND", help=", ".join(HEALTHY))
    add("--programs", nargs="+", choices=PROGRAMS, help="by default all")
    add("--half", choices=report.HALVES, help="only its programs")
    add("--seeds", type=int, default=3, metavar="N", help="of faults (default 3)")
    add("--healthy-seeds", type=int, metavar="N", help="of healthy kinds (by default twice as many)")
    add("--strongest", action="store_true", help="only the strongest level of each fault")
    add("--short", action="store_true", help="one seed, and the strongest level of each kind")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes, by default one for each core")
    add("--keep", type=Path, metavar="FOLDER", help="keep run files there, and diagnose those that are there again")
    add("--json", type=Path, metavar="FILE", help="write every outcome")
    add("--write", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args(argv)
    options.programs = options.programs or list(PROGRAMS)
    if options.healthy_seeds is None:
        options.healthy_seeds = 2 * options.seeds
    if options.half:
        options.programs = [name for name in options.programs if PROGRAMS[name].half == options.half]
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    options.command = shlex.join(["python", "benchmarks/diagnosis/run.py", *(sys.argv[1:] if argv is None else argv)])
    return options


def part(options: argparse.Namespace) -> str:
    """Return in words which part of the whole is run."""
    if options.short:
        return "Every kind was run at its strongest level only, from one seed."
    levels = "at their strongest level only" if options.strongest else "at all levels"
    return f"Faults were run {levels} from {options.seeds} seeds, healthy kinds from {options.healthy_seeds}."


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Yield what is to be run."""
    for name in (*options.faults, *options.healthy):
        kind = KINDS[name]
        seeds = 1 if options.short else options.healthy_seeds if kind.healthy else options.seeds
        strongest = options.short or (options.strongest and not kind.healthy)
        for level in kind.levels[-1:] if strongest else kind.levels:
            for program in kind.programs:
                if program in options.programs:
                    yield from (Trial(name, level, program, seed) for seed in range(seeds))


def references(executor: Executor, options: argparse.Namespace, console: Console) -> dict[str, float]:
    """Return the score of each program above which a run is worse than healthy ones."""
    stored = options.keep / "limits.json" if options.keep else None
    known = json.loads(stored.read_text(encoding="utf-8")) if stored and stored.exists() else {}
    missing = [name for name in options.programs if name not in known]
    seeds = range(FIRST_REFERENCE, FIRST_REFERENCE + judging.REFERENCES)
    tasks = [(name, executor.submit(reference, name, seed)) for name in missing for seed in seeds]
    list(finished([task for _, task in tasks], "What is healthy", console))
    for name in missing:
        known[name] = judging.limit([task.result() for owner, task in tasks if owner == name])
    if stored:
        stored.write_text(json.dumps(known), encoding="utf-8")
    return {name: known[name] for name in options.programs}


def run(executor: Executor, wanted: Iterator[Trial], options: argparse.Namespace, console: Console) -> list[Outcome]:
    """Run all trials, with a progress bar, and return what came of them in their order."""
    tasks = [executor.submit(perform, trial, options.keep) for trial in wanted]
    list(finished(tasks, "Faults and healthy runs", console))
    return [task.result() for task in tasks]


if __name__ == "__main__":
    main()
