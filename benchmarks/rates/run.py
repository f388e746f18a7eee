"""Print what the diagnosis says of learning rates whose worth is known: ``python benchmarks/rates/run.py``.

Every problem is trained by every optimizer at twelve learning rates from several seeds, on all cores, and some of them
under other conditions. What came of a run is added to a file at once, so that an interrupted call goes on where it
stopped, and the tables can be made again without any training. The whole takes some hours of one core; options choose a
part of it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if not __package__:  # run as a script: its package stands beside it, and its folder must not be searched
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from archive import lines, opened
from cores import finished, processes
from results import machine
from rich.console import Console

from rates import report
from rates.methods import CONDITIONS, METHODS, PLAIN
from rates.problems import PROBLEMS
from rates.trial import RATES, Outcome, Trial, perform

QUICK = ("mlp-64", "logistic", "regression")  # some tens of seconds with the first three optimizers


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for and is not known yet, print the tables and write the page."""
    options = arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    outcomes = run(list(trials(options)), options, console)
    for sheet in report.sheets(outcomes):
        console.print(sheet.table())
    if options.write:
        torch.set_num_threads(1)  # as the runs had
        page = report.page(outcomes, options.command, machine(torch.device("cpu")), options.write)
        options.write.write_text(page, encoding="utf-8")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM", help=", ".join(PROBLEMS))
    add("--optimizers", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME", help=", ".join(METHODS))
    add(
        "--conditions",
        nargs="+",
        choices=CONDITIONS,
        default=list(CONDITIONS),
        metavar="NAME",
        help=", ".join(CONDITIONS),
    )
    add("--seeds", type=int, default=3, metavar="N", help="how many, by default 3")
    add("--first-seed", type=int, default=0, metavar="N", help="by default 0, which some rules were chosen on")
    add("--quick", action="store_true", help="one seed, three problems, three optimizers, plain training")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes, by default one for each core")
    add("--results", type=Path, default=Path("build/rates.jsonl"), metavar="FILE", help="what is known (%(default)s)")
    add("--known", action="store_true", help="train nothing, and make the tables of what is known")
    add("--write", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args(argv)
    if options.quick:
        options.problems = [name for name in options.problems if name in QUICK]
        options.optimizers, options.conditions, options.seeds = list(METHODS)[:3], [PLAIN.name], 1
    options.command = shlex.join(["python", "benchmarks/rates/run.py", *(sys.argv[1:] if argv is None else argv)])
    return options


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Yield what is to be run, seed by seed."""
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.conditions:
            condition = CONDITIONS[name]
            for method in (one for one in options.optimizers if name == PLAIN.name or one in condition.methods):
                for problem in options.problems:
                    if name == PLAIN.name or problem in condition.problems:
                        yield from (Trial(problem, method, name, index, seed) for index in range(RATES))


def known(path: Path) -> dict[Trial, Outcome]:
    """Return the outcomes that a file holds."""
    return {outcome.trial: outcome for outcome in map(Outcome.of, lines(path))}


def run(wanted: Sequence[Trial], options: argparse.Namespace, console: Console) -> list[Outcome]:
    """Run what is not known yet, with a progress bar, and return all that is known of what is wanted."""
    found = known(options.results)
    missing = [] if options.known else [trial for trial in wanted if trial not in found]
    if missing:
        with processes(options.jobs) as executor, opened(options.results) as file:
            for outcome in finished([executor.submit(perform, trial) for trial in missing], "Learning rates", console):
                file.write(outcome.line() + "\n")
                file.flush()
                found[outcome.trial] = outcome
    return [found[trial] for trial in wanted if trial in found]


if __name__ == "__main__":
    main()
