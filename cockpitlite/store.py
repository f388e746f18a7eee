"""The run file: one SQLite database per run, written by one process and read by any number, and all of its SQL.

NaN is stored as NULL (SQLite has no NaN); infinities are kept. Nothing in the file is ever executed or unpickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cockpitlite.panel import Panel

SUFFIX = ".cockpit"
APPLICATION_ID = 0x436B6C74  # "Cklt", so that a run file is told from any other SQLite database
LIVE_SECONDS = 10.0  # a run whose writer has been silent for longer counts as ended
KNOWN_AXES = 256  # edges whose ids a writer remembers; an instrument may choose new ones at every step
ROWS = 1000  # histograms that are read at once
MOST_BINS = 2**22  # of one histogram: 32 MiB of counts, which is all that reading one of a stranger's can cost
_ALL_LAYERS = 0  # in place of the id of a layer
_LAYER_ID = "CASE ?2 WHEN '' THEN 0 ELSE (SELECT id FROM layer WHERE name = ?2) END"

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


class RunFileError(ValueError):
    """A file is not a run file, or was written by a newer version; the message names cause and fix."""


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: ``kind`` says what, ``data`` holds its particulars, ``time`` is Unix time."""

    step: int
    time: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Histogram:
    """Exact counts between edges; two tuples of edges and a matrix of counts where two quantities are joined."""

    counts: NDArray[np.int64]
    edges: tuple[Values, ...]


class Column(NamedTuple):
    """A reading in a frame: one number, or its total and then one for each of its ``layers``."""

    name: str
    layers: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many numbers it takes."""
        return 1 + len(self.layers or ())


_SCHEMA = """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE reading (name INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, PRIMARY KEY (name, step))
        WITHOUT ROWID;
    CREATE TABLE layout (id INTEGER PRIMARY KEY, layers TEXT NOT NULL UNIQUE);
    CREATE TABLE layers (name INTEGER NOT NULL, step INTEGER NOT NULL, layout INTEGER NOT NULL,
        "values" BLOB NOT NULL, PRIMARY KEY (name, step)) WITHOUT ROWID;
    CREATE TABLE histogram (name INTEGER NOT NULL, step INTEGER NOT NULL, layer TEXT NOT NULL,
        edges TEXT NOT NULL, counts BLOB NOT NULL, PRIMARY KEY (name, step, layer)) WITHOUT ROWID;
    CREATE TABLE clock (step INTEGER PRIMARY KEY, seconds REAL NOT NULL);
    CREATE TABLE event (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL,
        data TEXT NOT NULL);
    CREATE TABLE panel (name TEXT PRIMARY KEY, position INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID
"""


def _create(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)


def _compact_histograms(db: sqlite3.Connection) -> None:
    """Keep edges once, however many histograms share them, and counts compressed.

    A row of the earlier table spelled its edges out, and was so long that it filled a page of its own.
    """
    db.execute("ALTER TABLE histogram RENAME TO spelled_histogram")
    db.execute("CREATE TABLE axis (id INTEGER PRIMARY KEY, edges BLOB NOT NULL UNIQUE)")
    db.execute("CREATE TABLE layer (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    db.execute(
        "CREATE TABLE histogram (name INTEGER NOT NULL, layer INTEGER NOT NULL, step INTEGER NOT NULL, "
        "first INTEGER NOT NULL, second INTEGER, counts BLOB NOT NULL, UNIQUE (name, layer, step))"
    )
    try:
        for name, step, layer, edges, counts in db.execute("SELECT * FROM spelled_histogram"):
            axes = [_axis(db, np.asarray(axis, dtype="<f8").tobytes()) for axis in json.loads(edges)]
            key = _layer(db, layer) if layer else _ALL_LAYERS
            _put_histogram(db, name, key, step, axes, np.frombuffer(counts, dtype="<i8"))
    except (ValueError, TypeError) as error:
        raise RunFileError(f"an older run file has a damaged histogram: {error}") from error
    db.execute("DROP TABLE spelled_histogram")


def _add_frames(db: sqlite3.Connection) -> None:
    """Keep the readings of a step in one row: less work, and two thirds of the bytes, than a row for each.

    A layout lists what the numbers of a row are: the id of a name, that of its layers or null, and how many they are.
    """
    db.execute("CREATE TABLE frame_layout (id INTEGER PRIMARY KEY, columns TEXT NOT NULL UNIQUE)")
    db.execute(
        "CREATE TABLE frame (layout INTEGER NOT NULL, step INTEGER NOT NULL, "
        '"values" BLOB NOT NULL, PRIMARY KEY (layout, step)) WITHOUT ROWID'
    )


def _axis(db: sqlite3.Connection, edges: bytes) -> int:
    """Return the id of edges, which are put where they are new."""
    db.execute("INSERT OR IGNORE INTO axis (edges) VALUES (?)", (edges,))
    return int(db.execute("SELECT id FROM axis WHERE edges = ?", (edges,)).fetchone()[0])


def _layer(db: sqlite3.Connection, name: str) -> int:
    """Return the id of a layer of histograms, which is put where it is new."""
    db.execute("INSERT OR IGNORE INTO layer (name) VALUES (?)", (name,))
    return int(db.execute("SELECT id FROM layer WHERE name = ?", (name,)).fetchone()[0])


def _put_histogram(
    db: sqlite3.Connection, name: int, layer: int, step: int, axes: Sequence[int], counts: NDArray[np.int64]
) -> None:
    first, second = (*axes, None)[:2]
    row = (name, layer, step, first, second, _packed(counts))
    db.execute("INSERT OR REPLACE INTO histogram VALUES (?, ?, ?, ?, ?, ?)", row)


def _packed(counts: NDArray[np.int64]) -> bytes:
    """Return counts compressed: all their lowest bytes first, then the next, up to the highest, which are mostly 0."""
    planes = np.ascontiguousarray(counts, dtype="<i8").reshape(-1, 1).view(np.uint8).T
    return zlib.compress(planes.tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Undo :func:`_packed`; ValueError where there are not as many counts, and never more memory than for these."""
    size = 8 * math.prod(shape)
    if size > 8 * MOST_BINS:
        raise ValueError(f"it has more than {MOST_BINS:,} bins")
    planes = zlib.decompressobj().decompress(packed, size + 1)
    if len(planes) != size:
        raise ValueError("it has too many or too few counts")
    counts = np.frombuffer(planes, dtype=np.uint8).reshape(8, -1).T
    return np.ascontiguousarray(counts).view("<i8").astype(np.int64).reshape(shape)


# Step n turns version n into version n + 1; a new schema is a new function at the end. A migration runs inside one
# transaction, so it must not call executescript, which commits.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create, _compact_histograms, _add_frames)
VERSION = len(MIGRATIONS)


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction: a process killed meanwhile leaves the file as it was."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for migration in MIGRATIONS[version:]:
        migration(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.commit()


def _check(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of a run file; raise where it is not one."""
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:  # it is one, but damaged
            raise
        raise RunFileError(f"{path} is not a cockpitlite run file ({error}); give a file that watch() wrote") from error
    if application != APPLICATION_ID and path.stat().st_size == 0:
        raise RunFileError(f"{path} is empty: the run has written nothing yet, or ended before it did; delete it")
    if application != APPLICATION_ID:
        raise RunFileError(f"{path} is not a cockpitlite run file; give a file that watch() wrote")
    if version > VERSION:
        raise RunFileError(
            f"{path} was written by a newer cockpitlite (schema {version}, this one knows {VERSION}); "
            "upgrade cockpitlite to read it"
        )
    return version


class RunWriter:
    """The writing end of a run file; used by one thread."""

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        """Create the file, or open it to append where ``resume`` is true and it exists.

        Raises FileExistsError where it exists and ``resume`` is false, OSError where it cannot be written, and
        RunFileError where it is to be resumed but is not a run file.
        """
        self.path = Path(path)
        created = _create_empty(self.path)
        if not created and not resume:
            raise FileExistsError(
                f"the run file {self.path} exists and is never overwritten; "
                "pass resume=True to append to it, or another path as run="
            )
        try:
            if self.path.stat().st_size:  # an empty file is what a process killed at once leaves behind
                with _reading(self.path):
                    pass
            self._db = _connect_to_write(self.path)
        except (OSError, sqlite3.Error) as error:
            if created:
                self.path.unlink(missing_ok=True)
            raise _unwritable(self.path, error) from error
        self._identity = self.path.stat().st_ino
        self._names: dict[str, int] = {name: key for key, name in self._db.execute("SELECT id, name FROM name")}
        self._layouts: dict[tuple[str, ...], int] = {}
        self._axes: dict[bytes, int] = {}
        self._layers: dict[str, int] = {}
        self._frames: dict[tuple[Column, ...], int] = {}

    @property
    def last_step(self) -> int | None:
        """The last step any reading was written under, or None."""
        return _last_step(self._db)

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
        row = (self._frame_layout(tuple(columns)), int(step), blob)
        self._db.execute("INSERT OR REPLACE INTO frame VALUES (?, ?, ?)", row)

    def reading(self, name: str, step: int, value: float) -> None:
        """Put one value of one reading; a second value for the same step replaces the first."""
        self.readings(name, [(step, value)])

    def readings(self, name: str, points: Iterable[tuple[int, float]]) -> None:
        """Put many values of one reading."""
        key = self._name(name)
        rows = [(key, int(step), None if math.isnan(value) else float(value)) for step, value in points]
        self._db.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?)", rows)

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
        key = self._layer(layer) if layer else _ALL_LAYERS
        _put_histogram(self._db, self._name(name), key, int(step), axes, counts)

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

        Raises FileNotFoundError where the file was deleted or replaced, which SQLite does not notice.
        """
        if not self.path.exists() or self.path.stat().st_ino != self._identity:
            raise FileNotFoundError(f"{self.path} was deleted or replaced while it was written")
        self.meta(heartbeat=time.time())
        self._db.commit()

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
            self._axes[key] = _axis(self._db, key)
        return self._axes[key]

    def _layer(self, name: str) -> int:
        if name not in self._layers:
            self._layers[name] = _layer(self._db, name)
        return self._layers[name]


@dataclass(frozen=True)
class Run:
    """The reading end of a run file, live or finished; every call sees what has been committed by then."""

    path: Path

    @cached_property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(SUFFIX)

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What those who read a growing run through this object keep from one time to the next."""
        return {}

    @contextlib.contextmanager
    def held(self) -> Iterator[Run]:
        """Give the same run with its file kept open, for many small reads in one thread."""
        with self._open() as db:
            yield _HeldRun(self.path, db)

    @property
    def meta(self) -> dict[str, Any]:
        """What is known of the run: model, optimizer, versions, command, status and so on."""
        with self._open() as db:
            return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta ORDER BY key")}

    @property
    def live(self) -> bool:
        """Whether a process still writes this run."""
        meta = self.meta
        return meta.get("status") == "running" and time.time() - float(meta.get("heartbeat", 0.0)) < LIVE_SECONDS

    @property
    def last_step(self) -> int | None:
        """The last step any reading was written under, or None for a run without readings."""
        with self._open() as db:
            return _last_step(db)

    def names(self) -> list[str]:
        """The names of all readings that have at least one value, in alphabetical order."""
        with self._open() as db:
            rows = db.execute(
                "SELECT id, name, EXISTS (SELECT 1 FROM reading WHERE reading.name = name.id) "
                "OR EXISTS (SELECT 1 FROM layers WHERE layers.name = name.id) "
                "OR EXISTS (SELECT 1 FROM histogram WHERE histogram.name = name.id) FROM name"
            ).fetchall()
            framed = {slot.name for slot in self._slots(db)}
        return sorted(name for key, name, alone in rows if alone or key in framed)

    def series(self, name: str, since: int | None = None, most: int | None = None) -> tuple[Steps, Values]:
        """Return the steps (int64 ``[T]``, ascending) and values (float64 ``[T]``, NaN kept) of a reading.

        ``since`` leaves out the steps before it, ``most`` all but the first so many. A reading with layers gives its
        total. Raises KeyError for a name this run has no reading of.
        """
        start = -1 if since is None else since
        with self._open() as db:
            key = self._key(db, name)
            framed = [(at, numbers[:, 0]) for _, at, numbers in self._framed(db, key, start, most, totals=True)]
            rows = db.execute(
                "SELECT step, value FROM reading WHERE name = ? AND step >= ? ORDER BY step LIMIT ?",
                (key, start, _limit(most)),
            ).fetchall()
        steps = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        values = np.fromiter((math.nan if row[1] is None else row[1] for row in rows), np.float64, len(rows))
        if not framed:
            return steps, values
        steps = np.concatenate([steps, *(part[0] for part in framed)])
        values = np.concatenate([values, *(part[1] for part in framed)])
        steps, first = np.unique(steps, return_index=True)
        return steps[:most], values[first][:most]

    def layers(self, name: str, since: int | None = None, most: int | None = None) -> tuple[Steps, list[str], Values]:
        """Return the steps ``[T]``, the layer names ``[L]`` and the values ``[T, L]`` of a reading.

        ``since`` leaves out the steps before it, ``most`` all but the first so many. A layer that a step has no value
        for is NaN there. Raises KeyError for a name without values per layer.
        """
        start = -1 if since is None else since
        with self._open() as db:
            key = self._key(db, name)
            rows = db.execute(
                'SELECT step, layout, "values" FROM layers WHERE name = ? AND step >= ? ORDER BY step LIMIT ?',
                (key, start, _limit(most)),
            ).fetchall()
            parts = [
                (layout, np.array([step], dtype=np.int64), np.frombuffer(blob, dtype="<f8")[None])
                for step, layout, blob in rows
            ]
            framed = self._framed(db, key, start, most)
            parts += [(layout, steps, values[:, 1:]) for layout, steps, values in framed if layout is not None]
            layouts = {key: json.loads(text) for key, text in db.execute("SELECT id, layers FROM layout")}
        if not parts and since is None:
            raise KeyError(f"the reading {name!r} has no values per layer in {self.path}")
        used = dict.fromkeys(layout for layout, _, _ in sorted(parts, key=lambda part: int(part[1][0])))
        names = list(dict.fromkeys(layer for layout in used for layer in layouts[layout]))
        column = {layer: index for index, layer in enumerate(names)}
        columns = {layout: np.array([column[layer] for layer in layouts[layout]], dtype=np.intp) for layout in used}
        steps = np.unique(np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)]))
        values = np.full((len(steps), len(names)), np.nan)
        for layout, at, part in parts:
            values[np.ix_(np.searchsorted(steps, at), columns[layout])] = part
        return steps[:most], names, values[:most]

    def _framed(
        self, db: sqlite3.Connection, key: int, start: int, most: int | None = None, *, totals: bool = False
    ) -> list[tuple[int | None, Steps, Values]]:
        """Return a reading's numbers in each layout of frames: ``[T, width]``, or only the totals ``[T, 1]``.

        With them come the id of its layers (None for a reading without) and the steps from ``start`` on, at least one
        and at ``most`` the first so many of each layout.
        """
        found: list[tuple[int | None, Steps, Values]] = []
        try:
            for slot in (slot for slot in self._slots(db) if slot.name == key):
                width = 1 if totals else slot.width
                rows = db.execute(
                    'SELECT step, substr("values", ?, ?) FROM frame WHERE layout = ? AND step >= ? '
                    "ORDER BY step LIMIT ?",
                    (8 * slot.offset + 1, 8 * width, slot.frame, start, _limit(most)),
                ).fetchall()
                if rows:
                    steps = np.fromiter((row[0] for row in rows), np.int64, len(rows))
                    numbers = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f8")
                    found.append((slot.layers, steps, numbers.reshape(len(rows), width)))
        except (ValueError, TypeError) as error:
            raise RunFileError(f"the run file {self.path} has a damaged frame: {error}") from error
        return found

    def histogram(
        self, name: str, step: int, layer: str | None = None
    ) -> tuple[NDArray[np.int64], Values | tuple[Values, Values]]:
        """Return ``(counts [A], edges [A + 1])`` of one step, ``(counts [A, B], (edges_a, edges_b))`` if joint.

        Raises KeyError where this step has no such histogram.
        """
        for found, histogram in self._histograms(name, layer, step, 1):
            if found == step:
                edges = histogram.edges
                return histogram.counts, edges[0] if len(edges) == 1 else (edges[0], edges[1])
        where = "" if layer is None else f" of layer {layer!r}"
        raise KeyError(f"no histogram {name!r}{where} at step {step} in {self.path}")

    def histograms(self, name: str) -> tuple[Steps, list[str]]:
        """Return the steps (int64 ``[T]``, ascending) at which a reading has histograms, and the layers that have some.

        The histogram over all layers is no layer. Raises KeyError for a name without histograms.
        """
        with self._open() as db:
            key = self._key(db, name)
            steps = db.execute("SELECT DISTINCT step FROM histogram WHERE name = ? ORDER BY step", (key,)).fetchall()
            layers = db.execute(
                "SELECT layer.name FROM layer WHERE EXISTS "
                "(SELECT 1 FROM histogram WHERE histogram.name = ? AND histogram.layer = layer.id) ORDER BY layer.id",
                (key,),
            ).fetchall()
        if not steps:
            raise KeyError(f"the reading {name!r} has no histograms in {self.path}")
        return np.array([row[0] for row in steps], dtype=np.int64), [row[0] for row in layers]

    def each_histogram(
        self, name: str, layer: str | None = None, since: int | None = None
    ) -> Iterator[tuple[int, Histogram]]:
        """Yield every step with its histogram, in order; ``since`` leaves out the steps before it.

        Raises KeyError for a name this run has no reading of.
        """
        start = -1 if since is None else since
        while found := self._histograms(name, layer, start, ROWS):
            yield from found
            start = found[-1][0] + 1

    def newest_histogram(self, name: str, layer: str | None = None) -> tuple[int, Histogram] | None:
        """Return the last step with a histogram and that; None where there is none yet.

        Raises KeyError for a name this run has no reading of.
        """
        with self._open() as db:
            query = f"SELECT max(step) FROM histogram WHERE name = ?1 AND layer = {_LAYER_ID}"
            step = db.execute(query, (self._key(db, name), layer or "")).fetchone()[0]
        return None if step is None else self._histograms(name, layer, step, 1)[0]

    def _histograms(self, name: str, layer: str | None, start: int, most: int) -> list[tuple[int, Histogram]]:
        """Return the first histograms from a step on; those with the same edges hold the same array."""
        with self._open() as db:
            rows = db.execute(
                f"SELECT step, first, second, counts FROM histogram WHERE name = ?1 AND layer = {_LAYER_ID} "
                "AND step >= ?3 ORDER BY step LIMIT ?4",
                (self._key(db, name), layer or "", start, most),
            ).fetchall()
            ids = {key for row in rows for key in row[1:3] if key is not None}
            try:
                axes = {key: _edges(db, key) for key in ids}
                return [(step, _read_histogram(axes, keys, counts)) for step, *keys, counts in rows]
            except (ValueError, TypeError, zlib.error) as error:
                raise RunFileError(f"the run file {self.path} has a damaged histogram: {error}") from error

    def events(self, kind: str | None = None) -> list[Event]:
        """Return what happened, in order; ``kind`` keeps one kind only."""
        with self._open() as db:
            rows = db.execute(
                "SELECT step, time, kind, data FROM event WHERE ?1 IS NULL OR kind = ?1 ORDER BY id", (kind,)
            ).fetchall()
        return [Event(step, when, kind_, json.loads(data)) for step, when, kind_, data in rows]

    def panels(self) -> list[Panel]:
        """Return how the readings are drawn, in the order the instruments were given."""
        with self._open() as db:
            rows = db.execute("SELECT data FROM panel ORDER BY position, name").fetchall()
        return [Panel.from_dict(json.loads(row[0])) for row in rows]

    def unavailable(self) -> dict[str, str]:
        """Return the readings that are missing in whole or in part, with the reason a user may read."""
        found: dict[str, str] = {}
        for event in self.events("unavailable"):
            found[event.data["reading"]] = event.data["reason"]
        return found

    def clock(self) -> tuple[Steps, Values]:
        """Return some steps and the seconds after the start at which they ended; interpolate between them."""
        with self._open() as db:
            rows = db.execute("SELECT step, seconds FROM clock ORDER BY step").fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64), np.array([row[1] for row in rows], dtype=np.float64)

    def _slots(self, db: sqlite3.Connection) -> list[_Slot]:
        """Return what every layout of frames holds."""
        found: list[_Slot] = []
        try:
            for frame, columns in db.execute("SELECT id, columns FROM frame_layout ORDER BY id").fetchall():
                offset = 0
                for name, layers, width in json.loads(columns):
                    found.append(_Slot(frame, offset, width, name, layers))
                    offset += width
        except (ValueError, TypeError) as error:
            raise RunFileError(f"the run file {self.path} has a damaged frame: {error}") from error
        return found

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return _reading(self.path)

    def _key(self, db: sqlite3.Connection, name: str) -> int:
        row = db.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = ", ".join(row[0] for row in db.execute("SELECT name FROM name ORDER BY name")) or "nothing yet"
            raise KeyError(f"no reading {name!r} in {self.path}; it has: {known}")
        return int(row[0])


@dataclass(frozen=True)
class _HeldRun(Run):
    """A run whose file is kept open; its layouts of frames are read once."""

    db: sqlite3.Connection

    @cached_property
    def slots(self) -> list[_Slot]:
        """What every layout of frames holds."""
        return super()._slots(self.db)

    def _slots(self, db: sqlite3.Connection) -> list[_Slot]:
        return self.slots

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return contextlib.nullcontext(self.db)


class _Slot(NamedTuple):
    """Where the numbers of a reading stand in the rows of a layout of frames."""

    frame: int
    offset: int
    width: int
    name: int
    layers: int | None


def _limit(most: int | None) -> int:
    """Return how many rows SQLite is to give; -1 are all."""
    return -1 if most is None else most


def _last_step(db: sqlite3.Connection) -> int | None:
    """Return the last step of any reading; each is looked up in its table's order."""
    row = db.execute(
        "SELECT max(last) FROM (SELECT (SELECT max(step) FROM reading WHERE name = name.id) AS last FROM name "
        "UNION ALL SELECT (SELECT max(step) FROM frame WHERE layout = frame_layout.id) FROM frame_layout)"
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _edges(db: sqlite3.Connection, key: int) -> Values:
    row = db.execute("SELECT edges FROM axis WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise ValueError("it has no edges")
    return np.frombuffer(row[0], dtype="<f8").astype(np.float64)


def _read_histogram(axes: Mapping[int, Values], keys: Sequence[int | None], packed: bytes) -> Histogram:
    edges = tuple(axes[key] for key in keys if key is not None)
    return Histogram(_unpacked(packed, tuple(len(axis) - 1 for axis in edges)), edges)


def load(path: str | Path) -> Run:
    """Open a run file for reading; needs no torch.

    Raises FileNotFoundError where there is none and RunFileError where the file is not a run file or is too new.
    """
    run = Run(Path(path))
    if not run.path.is_file():
        folder = "is a folder" if run.path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"the run file {run.path} {folder}; give the path of a {SUFFIX} file that watch() wrote"
        )
    with _reading(run.path):
        return run


def find_runs(folder: str | Path) -> list[Path]:
    """Return the run files in a folder and the folders below it, the most recently changed first."""
    files = [path for path in Path(folder).rglob(f"*{SUFFIX}") if path.is_file()]
    return sorted(files, key=lambda path: (-_changed(path), str(path)))


def _changed(path: Path) -> float:
    """Return when a run last grew; while it is live, that shows in the write-ahead log."""
    times = [0.0]
    for candidate in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(OSError):  # it may vanish between listing and looking
            times.append(candidate.stat().st_mtime)
    return max(times)


def _unwritable(path: Path, error: Exception) -> OSError:
    return OSError(f"the run file {path} cannot be written ({error}); give a path in a folder you may write to as run=")


def _create_empty(path: Path) -> bool:
    """Create an empty file and its folder; return False where the path is taken."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _connect_to_write(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        _migrate(db)  # before the write-ahead log, so that the first thing in the file is the whole schema
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a run file read-only; an older schema is brought up to date in memory."""
    try:
        db = _connect_read_only(path)
    except sqlite3.OperationalError as error:
        raise FileNotFoundError(f"the run file {path} cannot be opened ({error})") from error
    try:
        if _check(db, path) < VERSION:
            memory = sqlite3.connect(":memory:")
            db.backup(memory)
            db.close()
            db = memory
            _migrate(db)
        yield db
    except sqlite3.DatabaseError as error:
        raise RunFileError(
            f"the run file {path} cannot be read ({error}); if it was copied from a live run, copy it again "
            "together with its -wal file"
        ) from error
    finally:
        db.close()


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5.0)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        # A run on a read-only medium has no room for the side files that a reader of a live run needs.
        db = sqlite3.connect(f"{uri}?immutable=1", uri=True)
    except sqlite3.DatabaseError:
        pass  # not a database: the check of the caller says so
    return db


def _dump(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does; anything unknown becomes its text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
