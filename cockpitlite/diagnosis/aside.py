"""A process of its own that judges run files one after the other, when nothing else wants the processor."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from cockpitlite.diagnosis.engine import diagnose
from cockpitlite.diagnosis.kept import ENTRY, kept
from cockpitlite.store import describe_further, load

LOWEST = 19  # priority


def main() -> None:
    """Answer each path on the standard input with a line of JSON: what stands in that run, null where none can tell.

    A finished run keeps it in its file. It ends with its input.
    """
    if sys.platform != "win32":
        os.nice(LOWEST)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # who asked is gone
        for line in sys.stdin:
            print(json.dumps(judged(Path(json.loads(line)))), flush=True)  # noqa: T201


def judged(path: Path) -> list[dict[str, Any]] | None:
    """Judge a run and have its file keep what stands; None where it cannot be read or a rule fails."""
    try:
        found = kept(diagnose(load(path)))
    except Exception:  # whatever is wrong with one run, the others are judged
        return None
    describe_further(path, **{ENTRY: found})
    return found
