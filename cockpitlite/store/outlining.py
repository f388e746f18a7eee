"""Summaries of stretches in a run file: put as it is written, and read in place of what they sum up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import numpy as np

from cockpitlite.store import pyramid
from cockpitlite.store.contents import Steps
from cockpitlite.store.pyramid import LEAST_ROWS, STRETCHES, SUMMARY, Rows, Stretches, Summaries
from cockpitlite.store.rows import WHOLE, rows_of

Place = tuple[int, int]  # a key and the first step of a stretch


class Summarist:
    """Keeps the summaries of a file in step with its rows; used by its writer.

    What is summed up is named by a key: the id of a layout of frames, or less than 0 that of a name whose values have
    rows of their own. A stretch is summed up when a later step has come, and again when one of its rows changes.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._newest: dict[int, int] = {}
        self._changed: list[set[Place]] = [set() for _ in STRETCHES]
        for key in _keys(db):
            self._take_up(key)

    def _take_up(self, key: int) -> None:
        """Find what the last writer left without a summary, at the end."""
        table, column, of = _table(key)
        for level, stretch in enumerate(STRETCHES):
            last = self._db.execute("SELECT max(start) FROM stretch WHERE key = ? AND level = ?", (key, level))
            begin = (last.fetchone()[0] or -stretch) + stretch
            query = f"SELECT DISTINCT step - step % ? FROM {table} WHERE {column} = ? AND step >= ?"
            self._changed[level] |= {(key, row[0]) for row in self._db.execute(query, (stretch, of, begin))}
        newest = self._db.execute(f"SELECT max(step) FROM {table} WHERE {column} = ?", (of,)).fetchone()[0]
        self._newest[key] = -1 if newest is None else newest

    def changed(self, key: int, steps: Iterable[int]) -> None:
        """Note that rows were put."""
        for step in steps:
            self._changed[0].add((key, pyramid.start_of(step, 0)))
            if step > self._newest.get(key, -1):
                self._newest[key] = step

    def sum_up(self) -> None:
        """Put the summaries of every stretch that is over and has changed."""
        for level, stretch in enumerate(STRETCHES):
            over = {place for place in self._changed[level] if place[1] + stretch <= self._newest[place[0]]}
            self._changed[level] -= over
            for key, start in over:
                self._put(level, key, start)
                if level + 1 < len(STRETCHES):
                    self._changed[level + 1].add((key, pyramid.start_of(start, level + 1)))

    def _put(self, level: int, key: int, start: int) -> None:
        rows, found = self._summed(level, key, start)
        if found is None or rows < LEAST_ROWS:
            self._db.execute("DELETE FROM stretch WHERE key = ? AND level = ? AND start = ?", (key, level, start))
        else:
            self._db.execute(
                "INSERT OR REPLACE INTO stretch VALUES (?, ?, ?, ?, ?)", (key, level, start, rows, found.tobytes())
            )

    def _summed(self, level: int, key: int, start: int) -> tuple[int, Summaries | None]:
        """Return how many rows a stretch has, and its summaries ``[W]``, None without rows."""
        stop = start + STRETCHES[level]
        if level == 0:
            return self._summed_rows(key, level, start)
        starts, rows, stored = summaries(self._db, key, level - 1, start, stop)
        known = dict(zip(starts.tolist(), zip(rows.tolist(), stored, strict=True), strict=True))
        parts: dict[int, tuple[int, Summaries]] = {}
        for begin in range(start, stop, STRETCHES[level - 1]):
            count, found = known[begin] if begin in known else self._summed_rows(key, level - 1, begin)
            if found is not None:
                parts[begin] = (count, found)
        if not parts:
            return 0, None
        together = pyramid.merged(start, list(parts), [found for _, found in parts.values()])
        return sum(count for count, _ in parts.values()), together

    def _summed_rows(self, key: int, level: int, start: int) -> tuple[int, Summaries | None]:
        """Sum up a stretch from its rows."""
        steps, values = rows_of(self._db, key, start, start + STRETCHES[level])
        return len(steps), pyramid.summary(start, steps, values) if len(steps) else None


def outlines(
    db: sqlite3.Connection, key: int, offset: int, width: int, start: int, stop: int, level: int | None = None
) -> Iterator[Rows | Stretches]:
    """Yield what is known of ``width`` numbers of a key's rows, from the ``offset``-th on, in a range of steps.

    ``level`` is that of the longest stretches; without it as fine a one as does not take too much reading.
    """
    chosen = _level(db, key, start, stop) if level is None else level
    yield from _descend(db, key, chosen, offset, width, start, stop)


def _descend(
    db: sqlite3.Connection, key: int, level: int, offset: int, width: int, start: int, stop: int
) -> Iterator[Rows | Stretches]:
    if level < 0:
        steps, values = rows_of(db, key, start, stop, offset, width)
        if len(steps):
            yield Rows(steps, values)
        return
    starts, rows, found = summaries(db, key, level, start, stop, offset, width)
    if len(starts):
        yield Stretches(STRETCHES[level], starts, rows, found)
    for gap in pyramid.uncovered(start, stop, starts, level):
        yield from _descend(db, key, level - 1, offset, width, *gap)


def _level(db: sqlite3.Connection, key: int, start: int, stop: int) -> int:
    """Return the finest level that does not take too much reading, -1 for the rows themselves."""
    count, rows = db.execute(
        "SELECT count(*), coalesce(sum(rows), 0) FROM stretch WHERE key = ? AND level = 1 AND start BETWEEN ? AND ?",
        (key, start, stop - STRETCHES[1]),
    ).fetchone()
    width = _width(db, key)
    if rows <= pyramid.most_within(8 * width, pyramid.MOST_ROWS):
        return -1
    stretches = pyramid.most_within(SUMMARY.itemsize * width, pyramid.MOST_STRETCHES)
    dense = rows >= count * STRETCHES[1] // STRETCHES[0] * LEAST_ROWS
    if dense and rows <= stretches * STRETCHES[0]:
        return 0
    return 1 if count <= stretches else 2


def _width(db: sqlite3.Connection, key: int) -> int:
    """Return how many numbers a row of a key holds; those of them that are not asked for are read with the others."""
    if key < 0:
        return 1
    found = db.execute('SELECT length("values") / 8 FROM frame WHERE layout = ? LIMIT 1', (key,)).fetchone()
    return int(found[0]) if found else 1


def summaries(
    db: sqlite3.Connection, key: int, level: int, start: int, stop: int, offset: int = 0, width: int | None = None
) -> tuple[Steps, Steps, Summaries]:
    """Return the starts ``[B]``, counts of rows ``[B]`` and summaries ``[B, W]`` of the stretches in a range."""
    size = SUMMARY.itemsize
    rows = db.execute(
        "SELECT start, rows, substr(summaries, ?, ?) FROM stretch "
        "WHERE key = ? AND level = ? AND start BETWEEN ? AND ? ORDER BY start",
        (offset * size + 1, WHOLE if width is None else width * size, key, level, start, stop - STRETCHES[level]),
    ).fetchall()
    starts, counts = (np.fromiter((row[at] for row in rows), np.int64, len(rows)) for at in (0, 1))
    found = np.frombuffer(b"".join(row[2] for row in rows), SUMMARY)
    return starts, counts, found.reshape(len(rows), -1) if len(rows) else found.reshape(0, width or 0)


def _table(key: int) -> tuple[str, str, int]:
    """Return where the rows of a key are: the table, the column that tells whose they are, and by which id."""
    return ("reading", "name", -key) if key < 0 else ("frame", "layout", key)


def _keys(db: sqlite3.Connection) -> list[int]:
    """Return every key that has rows in a file."""
    names = db.execute("SELECT id FROM name WHERE EXISTS (SELECT 1 FROM reading WHERE reading.name = name.id)")
    return [-row[0] for row in names] + [row[0] for row in db.execute("SELECT id FROM frame_layout")]
