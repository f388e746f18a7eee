"""What is said of a run that cannot be read, or whose training has fallen silent before its end."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cockpitlite.store import RunFileError, is_there

FULL = 2**20  # free bytes below which a disk is called full
SLACK = 5.0  # seconds by which the clocks of a machine may differ


def unreadable(error: BaseException, shown: bool) -> str:
    """Return what is said of a run file that is lost or damaged; the run may be ``shown`` as it was read before."""
    reason = str(error) if isinstance(error, OSError | RunFileError) else f"{type(error).__name__}: {error}"
    page = "The page shows what it had read, and keeps trying" if shown else "The page keeps trying"
    return f"This run cannot be read now: {reason}. {page}."


def silent(path: Path, meta: Mapping[str, Any]) -> str | None:
    """Return what is said of a run that is not live: None unless its training should still be writing it."""
    last = meta.get("heartbeat")
    if meta.get("status") != "running" or not isinstance(last, int | float):
        return None
    since = f"Nothing has been written to this run since {_when(last)}"
    runs = _runs(meta)
    if runs is False:
        return f"{since}: its training (process {meta['pid']}) is gone. It was killed, or it crashed."
    if _is_full(path):
        return f"{since}: the disk is full. Free some space, and watch with resume=True to go on in this file."
    if runs:
        return f"{since}, though its training (process {meta['pid']}) is there: it hangs, or it cannot write the file."
    return f"{since}: its training was killed, hangs, or cannot write the file."


def _when(last: float) -> str:
    today = time.strftime("%x") == time.strftime("%x", time.localtime(last))
    return time.strftime("%H:%M:%S" if today else "%d %b %Y, %H:%M", time.localtime(last))


def _runs(meta: Mapping[str, Any]) -> bool | None:
    """Whether the process that wrote a run is there; None where that cannot be known from here.

    Of a file that does not tell its process from a later one of the same number, by the times.
    """
    if meta.get("process") is not None:
        return is_there(meta)
    process, started = meta.get("pid"), meta.get("started")
    if meta.get("host") != socket.gethostname() or type(process) is not int or not isinstance(started, int | float):
        return None
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(fields[18]) / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        return False if Path("/proc/self").exists() else None
    except (OSError, ValueError, LookupError):
        return None
    return state != "Z" and began < started + SLACK  # a later one has got the number of one that is gone


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < FULL
    except OSError:
        return False
