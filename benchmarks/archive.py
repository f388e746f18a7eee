"""A file that outcomes are added to, one on each line, so that nothing is trained twice."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none where there is no file; a last one that was not finished is left out."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def opened(path: Path) -> TextIO:
    """Open a file to add lines to it, without a last one that was not finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    return path.open("a", encoding="utf-8")
