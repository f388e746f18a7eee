"""What is added to the file of a run that has come to its end."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from cockpitlite.store import schema
from cockpitlite.store.contents import RunFileError
from cockpitlite.store.wholeness import check_whole, log_of

_FINISHED = json.dumps("finished")


def describe_further(path: Path, **entries: Any) -> bool:
    """Put entries, plain data, into the description of a finished run; return whether that could be done.

    A file that is not finished, that somebody holds, that may not be written or that another version wrote is left as
    it is. The file keeps its time, by which runs are sorted.
    """
    rows = [(key, json.dumps(value)) for key, value in entries.items()]
    try:
        before = path.stat()
        check_whole(path)
        if log_of(path).exists() or not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            return False
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0.0)) as db, db:
            if schema.check(db, path) != schema.VERSION:
                return False
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT value FROM meta WHERE key = 'status'").fetchone() != (_FINISHED,):
                return False
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    except (OSError, sqlite3.Error, RunFileError):
        return False
    return True
