"""The file that outcomes are added to, one on each line, so that nothing is trained twice."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from .trial import Outcome, Trial


def known(path: Path) -> dict[Trial, Outcome]:
    """Return the outcomes that a file holds; a last line that was not finished is left out."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return {outcome.trial: outcome for outcome in map(Outcome.of, lines)}


def opened(path: Path) -> TextIO:
    """Open a file to add outcomes to it, without a last line that was not finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    return path.open("a", encoding="utf-8")
