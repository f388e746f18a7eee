"""The tables of a run file, and how a file of an earlier version becomes one of this."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store.contents import RunFileError
from cockpitlite.store.counts import packed

APPLICATION_ID = 0x436B6C74  # "Cklt", so that a run file is told from any other SQLite database
ALL_LAYERS = 0  # in place of the id of a layer
LAYER_ID = "CASE ?2 WHEN '' THEN 0 ELSE (SELECT id FROM layer WHERE name = ?2) END"

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
            axes = [axis_id(db, np.asarray(axis, dtype="<f8").tobytes()) for axis in json.loads(edges)]
            key = layer_id(db, layer) if layer else ALL_LAYERS
            put_histogram(db, name, key, step, axes, np.frombuffer(counts, dtype="<i8"))
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


def _add_stretches(db: sqlite3.Connection) -> None:
    """Keep what long stretches of steps hold; a file of an earlier version has none, and is read row by row.

    ``key`` is the id of a layout of frames, or minus that of a name whose values have rows of their own.
    """
    db.execute(
        "CREATE TABLE stretch (key INTEGER NOT NULL, level INTEGER NOT NULL, start INTEGER NOT NULL, "
        "rows INTEGER NOT NULL, summaries BLOB NOT NULL, UNIQUE (key, level, start))"  # long rows: no WITHOUT ROWID
    )


def axis_id(db: sqlite3.Connection, edges: bytes) -> int:
    """Return the id of edges, which are put where they are new."""
    db.execute("INSERT OR IGNORE INTO axis (edges) VALUES (?)", (edges,))
    return int(db.execute("SELECT id FROM axis WHERE edges = ?", (edges,)).fetchone()[0])


def layer_id(db: sqlite3.Connection, name: str) -> int:
    """Return the id of a layer of histograms, which is put where it is new."""
    db.execute("INSERT OR IGNORE INTO layer (name) VALUES (?)", (name,))
    return int(db.execute("SELECT id FROM layer WHERE name = ?", (name,)).fetchone()[0])


def put_histogram(
    db: sqlite3.Connection, name: int, layer: int, step: int, axes: Sequence[int], counts: NDArray[np.int64]
) -> None:
    """Put the counts of one step between the edges that ``axes`` name."""
    first, second = (*axes, None)[:2]
    row = (name, layer, step, first, second, packed(counts))
    db.execute("INSERT OR REPLACE INTO histogram VALUES (?, ?, ?, ?, ?, ?)", row)


# Step n turns version n into version n + 1; a new schema is a new function at the end. A migration runs inside one
# transaction, so it must not call executescript, which commits.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _create,
    _compact_histograms,
    _add_frames,
    _add_stretches,
)
VERSION = len(MIGRATIONS)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction: a process killed meanwhile leaves the file as it was."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for migration in MIGRATIONS[version:]:
        migration(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.commit()


def check(db: sqlite3.Connection, path: Path) -> int:
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


def first_step(db: sqlite3.Connection) -> int | None:
    """Return the first step of any reading; each is looked up in its table's order."""
    return _step(db, _EXTREME.format("min"))


def last_step(db: sqlite3.Connection) -> int | None:
    """Return the last step of any reading; each is looked up in its table's order."""
    return _step(db, _EXTREME.format("max"))


_EXTREME = (
    "SELECT {0}(found) FROM (SELECT (SELECT {0}(step) FROM reading WHERE name = name.id) AS found FROM name "
    "UNION ALL SELECT (SELECT {0}(step) FROM frame WHERE layout = frame_layout.id) FROM frame_layout)"
)


def _step(db: sqlite3.Connection, query: str) -> int | None:
    row = db.execute(query).fetchone()
    return None if row[0] is None else int(row[0])
