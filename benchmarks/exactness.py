"""Print how exact every instrument is on every kind of model and training: ``python benchmarks/exactness.py``.

Each row is trained three times, unwatched, recorded and watched with the full panel; every reading of the run file is
held against a float64 twin made of whole Jacobians and Hessians. The rows and the judge are those of the tests.
"""

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from judging import INSTRUMENTS, Verdict, judge_row  # noqa: E402 (the tests are no package)
from matrix import ROWS, Row  # noqa: E402

Matrix = Mapping[str, Mapping[str, Verdict]]

HEAD = """# How exact the instruments are

Made by `make matrix`; the tests hold every cell to it.

A row is a small model or a way to train, run in float64 unless its name says otherwise; a column is an instrument.
`=1e-12` is exact: the largest relative error of its readings, over all steps and layers, against a twin in float64 that
writes out whole Jacobians and Hessians; `=0` is equal to the last bit. `~0.8σ` is an estimate: how many standard errors
it is from the truth at most or, for an eigenvalue that is still converging, how many of its stated residuals. `–` is
unavailable, and the note says what a user reads instead; a note on a number says what is missing beside it. `·` has no
meaning there: no classes, no rectifier.
"""


def main() -> None:
    """Judge the rows and print the matrix."""
    options = arguments()
    torch.set_num_threads(1)
    rows = [row for row in ROWS if options.only in row.name]
    console = Console(stderr=True)
    matrix = {row.name: judged(row) for row in track(rows, "Judging", console=console)}
    text = f"{HEAD}\n{table(matrix)}\n{summary(matrix)}\n"
    if options.write is None:
        print(text)
    else:
        options.write.write_text(text)
        console.print(f"{summary(matrix)}\nwritten to {options.write}")
    sys.exit(any(verdict.kind in ("wrong", "missing") for row in matrix.values() for verdict in row.values()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the matrix to a file instead")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows with this in their name")
    return parser.parse_args()


def judged(row: Row) -> Mapping[str, Verdict]:
    """Return a row's verdicts; a crash is one too, on every instrument."""
    torch.compiler.reset()  # a watch looks twice where anything in its process was compiled
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about compiling and schedules
        try:
            return judge_row(row, Path(folder)).verdicts
        except Exception as error:
            crash = Verdict("wrong", float("inf"), f"crash: {type(error).__name__}: {error}")
            return dict.fromkeys(INSTRUMENTS, crash)


def table(matrix: Matrix) -> str:
    """Return the matrix as markdown, reasons as numbered notes below it."""
    notes: dict[str, int] = {}
    lines = [line(["", *INSTRUMENTS]), line(["---"] * (len(INSTRUMENTS) + 1))]
    for name, verdicts in matrix.items():
        lines.append(line([name, *(cell(verdicts[instrument], notes) for instrument in INSTRUMENTS)]))
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in notes.items()), ""])


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell(verdict: Verdict, notes: dict[str, int]) -> str:
    """Return one cell; a reason becomes a raised number."""
    note = raised(notes.setdefault(verdict.reason, len(notes) + 1)) if verdict.reason else ""
    match verdict.kind:
        case "exact":
            return f"={'0' if verdict.error == 0 else f'{verdict.error:.0e}'}{note}"
        case "estimated":
            return f"~{verdict.error:.1f}σ{note}"
        case "unavailable":
            return f"–{note}"
        case "none":
            return "·"
        case _:
            return f"**{verdict.kind}**{note}"


def raised(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def summary(matrix: Matrix) -> str:
    kinds = Counter(verdict.kind for row in matrix.values() for verdict in row.values() if verdict.kind != "none")
    shares = ", ".join(f"{count} {kind} ({count / kinds.total():.1%})" for kind, count in kinds.most_common())
    return f"{kinds.total()} cells with a meaning: {shares}."


if __name__ == "__main__":
    main()
