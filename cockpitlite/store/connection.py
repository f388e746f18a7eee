"""Connections to a run file: one that writes, and any number that read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cockpitlite.store import schema
from cockpitlite.store.contents import RunFileError
from cockpitlite.store.wholeness import check_whole, log_of


def unwritable(path: Path, error: Exception) -> OSError:
    """Return the error that says why a run file cannot be written, and what to give instead."""
    return OSError(f"the run file {path} cannot be written ({error}); give a path in a folder you may write to as run=")


def explained(error: Exception) -> str:
    """Return why a run file could not be written any further, and what helps."""
    code = (
        error.sqlite_errorcode & 0xFF if isinstance(error, sqlite3.Error) and hasattr(error, "sqlite_errorcode") else 0
    )
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full: free some space, and watch with resume=True to go on in this file"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"another program has damaged it ({error}): watch with another path as run="
    if isinstance(error, FileNotFoundError | RunFileError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def create_empty(path: Path) -> bool:
    """Create an empty file and its folder; return False where the path is taken."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise unwritable(path, error) from error
    return True


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open a run file to write, with the present schema."""
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        schema.migrate(db)  # before the write-ahead log, so that the first thing in the file is the whole schema
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def close_with_log(db: sqlite3.Connection, path: Path) -> None:
    """Close a file that was cut off and leave what holds of it as it is: its log, which SQLite would move into it."""
    log = log_of(path)
    kept = log.with_name(log.name + "-kept")
    try:
        size = path.stat().st_size
        os.link(log, kept)
    except OSError:  # a file system without links
        db.close()
        return
    db.close()
    os.truncate(path, size)
    kept.replace(log)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a run file read-only; an older schema is brought up to date in memory."""
    check_whole(path)
    try:
        db = _connect_read_only(path)
    except sqlite3.OperationalError as error:
        raise FileNotFoundError(f"the run file {path} cannot be opened ({error})") from error
    try:
        if schema.check(db, path) < schema.VERSION:
            memory = sqlite3.connect(":memory:")
            db.backup(memory)
            db.close()
            db = memory
            schema.migrate(db)
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
