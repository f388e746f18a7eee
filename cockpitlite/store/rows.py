"""Rows of numbers as they are, and how many of them are read."""

from __future__ import annotations

import sqlite3

import numpy as np

from cockpitlite.store.contents import Steps, Values

WHOLE = 2**31 - 1  # bytes, the most that SQLite counts to
LAST = 2**63 - 1  # the last step there can be


def rows_of(
    db: sqlite3.Connection,
    key: int,
    start: int,
    stop: int = LAST,
    offset: int = 0,
    width: int | None = None,
    most: int | None = None,
) -> tuple[Steps, Values]:
    """Return the steps ``[T]`` and numbers ``[T, W]`` of rows from ``start`` to before ``stop``, the first ``most``.

    ``key`` is the id of a layout of frames, of whose rows ``width`` numbers are taken from the ``offset``-th on; or
    less than 0 that of a name whose values have rows of their own.
    """
    if key < 0:
        query, arguments = "SELECT step, value FROM reading WHERE name = ?", [-key]
    else:
        query = 'SELECT step, substr("values", ?, ?) FROM frame WHERE layout = ?'
        arguments = [8 * offset + 1, WHOLE if width is None else 8 * width, key]
    query += " AND step >= ? AND step < ? ORDER BY step LIMIT ?"
    rows = db.execute(query, (*arguments, start, stop, limit(most))).fetchall()
    steps = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    if key < 0:
        values = np.fromiter((np.nan if row[1] is None else row[1] for row in rows), np.float64, len(rows))
        return steps, values[:, None]
    numbers = np.frombuffer(b"".join(row[1] for row in rows), "<f8")
    return steps, numbers.reshape(len(rows), width or -1) if len(rows) else numbers.reshape(0, width or 0)


def limit(most: int | None) -> int:
    """Return how many rows SQLite is to give; -1 are all."""
    return -1 if most is None else most
