"""The writing end of a run file."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cockpitlite.panel import Panel
from cockpitlite.store.connection import close_with_log, connect_to_write, create_empty, reading, unwritable
from cockpitlite.store.contents import MOST_BINS, Column, Histogram, RunFileError, Values
from cockpitlite.store.outlining import Summarist
from cockpitlite.store.schema import ALL_LAYERS, axis_id, last_step, layer_id, put_histogram
from cockpitlite.store.wholeness import check_whole

KNOWN_AXES = 256  # edges whose ids a writer remembers; an instrument may choose new ones at every step


class RunWriter:
    """The writing end of a run file; used by one thread."""

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        """Create the file, or open it to append where ``resume`` is true and it exists.

        Raises FileExistsError where it exists and ``resume`` is false, OSError where it cannot be written, and
        RunFileError where it is to be resumed but is not a run file.
        """
        self.path = Path(path)
        created = create_empty(self.path)
        if not created and not resume:
            raise FileExistsError(
                f"the run file {self.path} exists and is never overwritten; "
                "pass resume=True to append to it, or another path as run="
            )
        try:
            check_whole(self.path)
            if self.path.stat().st_size:  # an empty file is what a process killed at once leaves behind
                with reading(self.path):
                    pass
            self._db = connect_to_write(self.path)
        except (OSError, sqlite3.Error) as error:
            if created:
                self.path.unlink(missing_ok=True)
            raise unwritable(self.path, error) from error
        self._identity = self.path.stat().st_ino
        self._size = self.path.stat().st_size  # a run file never shrinks
        self._names: dict[str, int] = {name: key for key, name in self._db.execute("SELECT id, name FROM name")}
        self._layouts: dict[tuple[str, ...], int] = {}
        self._axes: dict[bytes, int] = {}
        self._layers: dict[str, int] = {}
        self._frames: dict[tuple[Column, ...], int] = {}
        self._summarist = Summarist(self._db)

    @property
    def last_step(self) -> int | None:
        """The last step any reading was written under, or None."""
        return last_step(self._db)

    def begin(self) -> bool:
        """Make this process the one that writes, until :meth:`commit`; False where another one is."""
        if not self._db.in_transaction:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    return False
                raise
        return True

    def frame(self, step: int, columns: Sequence[Column], values: Values) -> None:
        """Put what is known of a step at once: the numbers (float64 ``[Σ width]``) of readings, in their order.

        This is much less work, and takes fewer bytes, than :meth:`reading` and :meth:`layers` for each.
        """
        if len(values) != sum(column.width for column in columns):
            raise ValueError(f"the frame of step {step} has {len(values)} numbers for {columns}")
        if not columns:
            return
        blob = np.asarray(values, dtype="<f8").tobytes()
        layout = self._frame_layout(tuple(columns))
        self._db.execute("INSERT OR REPLACE INTO frame VALUES (?, ?, ?)", (layout, int(step), blob))
        self._summarist.changed(layout, [int(step)])

    def reading(self, name: str, step: int, value: float) -> None:
        """Put one value of one reading; a second value for the same step replaces the first."""
        self.readings(name, [(step, value)])

    def readings(self, name: str, points: Iterable[tuple[int, float]]) -> None:
        """Put many values of one reading."""
        key = self._name(name)
        rows = [(key, int(step), None if math.isnan(value) else float(value)) for step, value in points]
        self._db.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?)", rows)
        self._summarist.changed(-key, [row[1] for row in rows])

    def layers(self, name: str, step: int, layers: Sequence[str], values: Values) -> None:
        """Put one value per layer (float64 ``[L]``) of a reading; its total goes to :meth:`reading`."""
        if len(layers) != len(values):
            raise ValueError(f"the reading {name!r} has {len(values)} values for {len(layers)} layers")
        blob = np.asarray(values, dtype="<f8").tobytes()
        row = (self._name(name), int(step), self._layout(tuple(layers)), blob)
        self._db.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?)", row)

    def histogram(self, name: str, step: int, histogram: Histogram, layer: str | None = None) -> None:
        """Put the counts of one step; ``layer=None`` is the histogram over all layers.

        Raises ValueError where counts and edges do not fit together, or there are more bins than a file may hold.
        """
        counts = np.asarray(histogram.counts)
        bins = tuple(len(axis) - 1 for axis in histogram.edges)
        if counts.shape != bins or len(bins) not in (1, 2) or counts.size > MOST_BINS:
            raise ValueError(f"the histogram {name!r} has counts of shape {counts.shape} for {bins} bins")
        axes = [self._axis(axis) for axis in histogram.edges]
        key = self._layer(layer) if layer else ALL_LAYERS
        put_histogram(self._db, self._name(name), key, int(step), axes, counts)

    def event(self, step: int, kind: str, data: Mapping[str, Any], when: float | None = None) -> None:
        """Put an event; ``data`` must be plain data, and ``when`` is Unix time (now unless given)."""
        row = (int(step), time.time() if when is None else when, kind, _dump(data))
        self._db.execute("INSERT INTO event (step, time, kind, data) VALUES (?, ?, ?, ?)", row)

    def panel(self, panel: Panel) -> None:
        """Put or replace how a reading is drawn."""
        self._db.execute(
            "INSERT INTO panel VALUES (?, (SELECT count(*) FROM panel), ?) "
            "ON CONFLICT (name) DO UPDATE SET data = excluded.data",
            (panel.name, _dump(panel.to_dict())),
        )

    def meta(self, **entries: Any) -> None:
        """Put or replace entries of the run's description, as plain data."""
        rows = [(key, _dump(value)) for key, value in entries.items()]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def clock(self, step: int, seconds: float) -> None:
        """Note that ``step`` ended ``seconds`` after the start of the run; other steps are interpolated."""
        self._db.execute("INSERT OR REPLACE INTO clock VALUES (?, ?)", (int(step), float(seconds)))

    def commit(self) -> None:
        """Make everything put so far durable and visible to readers, with a sign of life.

        Raises FileNotFoundError where the file was deleted or replaced, and RunFileError where it was cut off, neither
        of which SQLite notices.
        """
        if not self.path.exists() or self.path.stat().st_ino != self._identity:
            raise FileNotFoundError(
                f"{self.path} was deleted or replaced while it was written; watch with another path as run="
            )
        if self.path.stat().st_size < self._size:
            raise RunFileError(
                f"{self.path} was cut off by another program while it was written; watch with another path as run="
            )
        self._summarist.sum_up()
        self.meta(heartbeat=time.time())
        self._db.commit()
        self._size = self.path.stat().st_size

    def rollback(self) -> None:
        """Forget everything put since the last commit."""
        self._db.rollback()
        self._names = {name: key for key, name in self._db.execute("SELECT id, name FROM name")}
        for known in (self._layouts, self._axes, self._layers, self._frames):
            known.clear()

    def close(self) -> None:
        """Commit and leave one plain file behind, without side files."""
        try:
            self.commit()
            with contextlib.suppress(sqlite3.OperationalError):  # a reader is still there: the side files stay
                self._db.execute("PRAGMA journal_mode = DELETE")
        except RunFileError:
            close_with_log(self._db, self.path)
            raise
        finally:
            self._db.close()

    def _name(self, name: str) -> int:
        if name not in self._names:
            cursor = self._db.execute("INSERT INTO name (name) VALUES (?)", (name,))
            self._names[name] = int(cursor.lastrowid or 0)
        return self._names[name]

    def _layout(self, layers: tuple[str, ...]) -> int:
        if layers not in self._layouts:
            text = json.dumps(layers)
            self._db.execute("INSERT OR IGNORE INTO layout (layers) VALUES (?)", (text,))
            row = self._db.execute("SELECT id FROM layout WHERE layers = ?", (text,)).fetchone()
            self._layouts[layers] = int(row[0])
        return self._layouts[layers]

    def _frame_layout(self, columns: tuple[Column, ...]) -> int:
        if columns not in self._frames:
            layouts = [None if column.layers is None else self._layout(column.layers) for column in columns]
            rows = [(self._name(c.name), key, c.width) for c, key in zip(columns, layouts, strict=True)]
            text = json.dumps(rows)
            self._db.execute("INSERT OR IGNORE INTO frame_layout (columns) VALUES (?)", (text,))
            row = self._db.execute("SELECT id FROM frame_layout WHERE columns = ?", (text,)).fetchone()
            self._frames[columns] = int(row[0])
        return self._frames[columns]

    def _axis(self, edges: Values) -> int:
        key = np.asarray(edges, dtype="<f8").tobytes()
        if key not in self._axes:
            if len(self._axes) >= KNOWN_AXES:
                self._axes.clear()
            self._axes[key] = axis_id(self._db, key)
        return self._axes[key]

    def _layer(self, name: str) -> int:
        if name not in self._layers:
            self._layers[name] = layer_id(self._db, name)
        return self._layers[name]


def _dump(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does; anything unknown becomes its text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
