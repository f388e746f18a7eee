"""A table with a title, for the terminal and for a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """A table with a title; ``notes`` stand below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Return it as markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([f"### {self.title}", table, *self.notes]) + "\n"

    def table(self) -> Table:
        """Return it for the terminal."""
        table = Table(title=self.title, caption="\n".join(self.notes) or None, title_justify="left")
        for column in self.columns:
            table.add_column(column, justify="left" if not table.columns else "right")
        for row in self.rows:
            table.add_row(*row)
        return table


MARK = "<!-- What follows is made by the benchmark; what stands above is kept. -->"


def words_of(page: Path, title: str) -> str:
    """Return what was written by hand at the top of a page, to its mark; only a title where there is none yet."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    return (old.partition(MARK)[0] if MARK in old else f"{title}\n") + MARK + "\n"
