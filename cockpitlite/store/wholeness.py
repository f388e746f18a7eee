"""Whether a run file is all there: a full disk, a broken copy or another program may have cut off its end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from cockpitlite.store.contents import RunFileError

MAGIC = b"SQLite format 3\0"
HEADER = 100  # bytes of a database's header
LOG_HEADER, FRAME_HEADER = 32, 24  # bytes before the frames of a write-ahead log, and before the page in each


class _Length(NamedTuple):
    """How many bytes a file has, how many it says it has, and how many a page of it has."""

    there: int
    told: int
    page: int


def check_whole(path: Path) -> None:
    """Raise RunFileError where pages of a run file are neither in it nor in its write-ahead log.

    An empty file is refused too: SQLite would take the log beside it for a leftover and delete it.
    """
    length = None
    for _ in range(2):  # the log may be moved into the file while one looks
        length = _length(path)
        if length is None or length.there >= length.told:
            return
        first, last = length.there // length.page + 1, length.told // length.page
        if length.there and set(range(first, last + 1)) <= _logged(path, length.page):
            return
    if length is not None:
        told = f"{length.there:,} of its {length.told:,}" if length.there > HEADER else f"only {length.there:,}"
        raise RunFileError(
            f"the run file {path} is cut off: {told} bytes are there; copy it again, "
            "or get what is left of it by the command .recover of SQLite's shell"
        )


def log_of(path: Path) -> Path:
    """Return the write-ahead log of a run file, which is there while it is written and after its writer was killed."""
    return path.with_name(path.name + "-wal")


def _length(path: Path) -> _Length | None:
    """Return the length of a file; None where it does not say how long it is to be."""
    try:
        with path.open("rb") as file:
            there, header = path.stat().st_size, file.read(HEADER)
    except OSError:  # opening it as a database says what is the matter
        return None
    if len(header) < HEADER:
        cut = MAGIC.startswith(header[: len(MAGIC)]) if header else _size(log_of(path)) > LOG_HEADER
        return _Length(there, HEADER, HEADER) if cut else None
    page = int.from_bytes(header[16:18], "big")
    page = 65_536 if page == 1 else page
    sure = header[:16] == MAGIC and header[24:28] == header[92:96] and page >= 512
    return _Length(there, int.from_bytes(header[28:32], "big") * page, page) if sure else None


def _logged(path: Path, page: int) -> set[int]:
    """Return the numbers of the pages in the write-ahead log."""
    found: set[int] = set()
    with contextlib.suppress(OSError), log_of(path).open("rb") as log:
        salt = log.read(LOG_HEADER)[16:24]
        while len(header := log.read(FRAME_HEADER)) == FRAME_HEADER and header[8:16] == salt:
            found.add(int.from_bytes(header[:4], "big"))
            log.seek(page, 1)
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
