"""Print how far trainings come that start at any learning rate and follow the advice: ``python benchmarks/advice.py``.

Every problem is trained by every optimizer from start rates over 4.5 decades: at the start rate throughout, led by the
findings as in ``examples/follow_the_advice.py``, and by the mapping rate / (1 + alpha) of Cockpit's paper. What the
trainings end with is held against the best of the fixed rates. Outcomes are kept, one line of JSON each, so that the
next call with the same file only runs what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import advised
from archive import lines, opened
from cores import finished, processes
from leading import OPTIMIZERS, POLICIES, PROBLEMS, RATES, Outcome, Trial, perform
from rich.console import Console


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, print the tables and write the page."""
    options = arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    wanted = trials(options)
    known = kept(options.keep)
    run([trial for trial in wanted if trial not in known], options, console)
    known = kept(options.keep)
    outcomes = [known[trial] for trial in wanted]
    for sheet in advised.sheets(outcomes):
        console.print(sheet.table())
    if options.write:
        options.write.write_text(advised.page(outcomes, options.command), encoding="utf-8")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="by default all")
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS), help="by default all")
    add("--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="beside keep, which is always run")
    add("--seeds", type=int, default=2, metavar="N", help="for each start rate (default 2)")
    add("--sparse", action="store_true", help="advice from every third start rate only; fixed rates are all run")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes, by default one for each core")
    add("--keep", type=Path, default=Path("build/advice.jsonl"), metavar="FILE", help="outcomes (%(default)s)")
    add("--write", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args(argv)
    options.command = shlex.join(["python", "benchmarks/advice.py", *(sys.argv[1:] if argv is None else argv)])
    return options


def trials(options: argparse.Namespace) -> list[Trial]:
    """Return what is to be run, one seed after the other, so that what is kept of half a call is of use."""
    return [
        Trial(problem, optimizer, rate, seed, policy)
        for seed in range(options.seeds)
        for policy in dict.fromkeys(["keep", *options.policies])
        for problem in options.problems
        for optimizer in options.optimizers
        for rate in RATES[optimizer][:: 3 if options.sparse and policy != "keep" else 1]
    ]


def kept(path: Path) -> dict[Trial, Outcome]:
    """Return the outcomes that a file holds."""
    found = {}
    for values in map(json.loads, lines(path)):
        trial = Trial(**values.pop("trial"))
        found[trial] = Outcome(trial, **{**values, "said": tuple(values["said"])})
    return found


def run(missing: Sequence[Trial], options: argparse.Namespace, console: Console) -> None:
    """Run trials with a progress bar, and add what comes of each to the file."""
    with processes(options.jobs) as executor, opened(options.keep) as file:
        for outcome in finished([executor.submit(perform, trial) for trial in missing], "Following advice", console):
            file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
