"""Whether a run is still being written: by its signs of life and, on the machine it is written on, by its process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cockpitlite.store.contents import LIVE_SECONDS

PROCESS = "process"  # the entry of a run's description that :func:`this_process` makes
_PROC = Path("/proc")


def this_process() -> dict[str, Any] | None:
    """Return what tells this process from any other that gets its number, as plain data; None where nothing does."""
    place = _place()
    try:
        return None if place is None else {"place": place, "began": _stat(os.getpid())[1]}
    except (OSError, ValueError, LookupError):
        return None


def is_live(meta: Mapping[str, Any]) -> bool:
    """Whether a process still writes the run that is described so.

    It must have given a sign of life lately, and not be known to be gone.
    """
    heartbeat = meta.get("heartbeat")
    beats = isinstance(heartbeat, int | float) and time.time() - heartbeat < LIVE_SECONDS
    return meta.get("status") == "running" and beats and is_there(meta) is not False


def is_there(meta: Mapping[str, Any]) -> bool | None:
    """Whether the process that wrote a run is there; None where that cannot be known from here.

    It can on the same machine, since its last start, and in the same container.
    """
    process, number = meta.get(PROCESS), meta.get("pid")
    if not isinstance(process, Mapping) or type(number) is not int or process.get("place") != _place():
        return None
    try:
        state, began = _stat(number)
    except (FileNotFoundError, ProcessLookupError):
        return False if (_PROC / "1/stat").exists() else None  # those of others may be hidden
    except (OSError, ValueError, LookupError):
        return None
    return state not in "ZX" and began == process.get("began")


def _place() -> str | None:
    """Return what tells this start of this machine, and the container that this process sees, from any other."""
    try:
        if str((_PROC / "self").readlink()) != str(os.getpid()):
            return None  # these are the processes of another container
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [str(path.readlink()) for kind in ("pid", "time") if (path := _PROC / "self/ns" / kind).is_symlink()]
        return " ".join((boot, *spaces))
    except OSError:
        return None


def _stat(number: int) -> tuple[str, int]:
    """Return the state of a process, and when it began in ticks since the start of the machine."""
    state, *fields = (_PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
    return state, int(fields[18])
