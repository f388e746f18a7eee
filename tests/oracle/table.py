"""Print the table of ``docs/cockpit.md``, with the errors measured here: ``.venv/bin/python tests/oracle/table.py``."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from oracle.agreement import DRAW, DRAWN, EIGENVALUES, NOT_COMPARED, POWER, RELATIONS, ask_cockpit, drawn, of_total
from oracle.ours import SPECTRUM, Training, draw, train_all, with_diagonal
from oracle.problems import PROBLEMS, SMALL

Row = tuple[str, str, str, str]


def of_relations(answers: dict[str, Any], trained: dict[str, dict[str, Training]]) -> Iterator[Row]:
    for relation in RELATIONS:
        found = [relation.differences(answers[name], trained[name]).values() for name in PROBLEMS]
        yield relation.quantity, relation.reading, _number(max(max(part) for part in found if part)), relation.why


def of_eigenvalues(answers: dict[str, Any], trained: dict[str, dict[str, Training]]) -> Iterator[Row]:
    for quantity, (reading, why) in EIGENVALUES.items():
        away = []
        for name in SMALL:
            found = of_total(trained[name]["first"].run, reading)
            expected = answers[name]["readings"][quantity].items()
            away += [abs(found[int(step)] / value - 1) for step, value in expected]
        yield quantity, reading, f"{_number(away[0])} at first, {_number(max(away))} at most", why
    away = []
    for name in SMALL:
        ends = [of_total(trained[name]["first"].run, reading) for reading in SPECTRUM]
        powers = answers[name]["readings"]["HessMaxEV power"].items()
        away += [abs(value / max((end[int(step)] for end in ends), key=abs) - 1) for step, value in powers]
    yield "HessMaxEV power", "the one of `hess_max_ev`, `hess_min_ev`", _number(max(away)), POWER


def of_draws(answers: dict[str, Any], folder: Path) -> Iterator[Row]:
    run = draw(with_diagonal("ggn_mc"), folder / "draws.cockpit")
    for quantity, reading in DRAWN.items():
        ours, theirs = drawn(of_total(run, reading)), drawn(answers[quantity])
        error = np.hypot(ours.std(ddof=1), theirs.std(ddof=1)) / len(ours) ** 0.5
        away = abs(ours.mean() - theirs.mean()) / error
        spread = ours.std() / theirs.std()
        yield quantity, reading, f"means {away:.1f} standard errors apart, spreads as {spread:.2f} to 1", DRAW


def _number(error: float) -> str:
    return "0" if error == 0 else f"{error:.0e}"


def _line(quantity: str, reading: str, error: str, why: str) -> str:
    theirs = ", ".join(f"`{part}`" for part in quantity.split())
    ours = f"`{reading}`" if reading.isidentifier() else reading
    return f"| {theirs} | {ours} | {error} | {why} |"


def main() -> None:
    """Train everything in both programs, and print a row for each quantity."""
    torch.set_num_threads(1)
    answer = ask_cockpit()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in PROBLEMS}
        for folder in folders.values():
            folder.mkdir()
        trained = {name: train_all(name, problem, folders[name]) for name, problem in PROBLEMS.items()}
        rows = [
            *of_relations(answer["problems"], trained),
            *of_eigenvalues(answer["problems"], trained),
            *of_draws(answer["draws"], Path(scratch)),
            *((name, "—", "—", why) for name, why in NOT_COMPARED.items()),
        ]
    print("| Cockpit | Cockpitlite | largest relative difference | what differs |\n|---|---|---|---|")
    print("\n".join(_line(*row) for row in rows))


if __name__ == "__main__":
    main()
