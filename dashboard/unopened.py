"""What is wrong with runs that nobody opened: they are judged one at a time, in a process that gives way to others."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from cockpitlite.diagnosis.kept import ENTRY, Kept, last_kept

# As a new process of multiprocessing does, it finds its modules where this one does.
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from cockpitlite.diagnosis.aside import main
main()
"""
REST = 3  # times as long as it took to judge a run, until the next is judged
IDLE_PRIORITY: int = getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)  # where there is such a thing


Name = tuple[str, str]  # of a run, and of how far it had come


class Unopened:
    """What is known of runs that nobody has opened; used by several requests at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Name, Path] = {}
        self._found: dict[Name, list[Kept] | None] = {}
        self._latest: dict[str, list[Kept] | None] = {}
        self._works = False

    def known(self, name: Name) -> list[Kept] | None:
        """Return what a run was found to have, None where that is not known.

        While it has come further since, what was wrong before still counts; that nothing was does not.
        """
        return self._found[name] if name in self._found else self._latest.get(name[0]) or None

    def want(self, runs: Iterable[tuple[Name, Path]]) -> None:
        """Have these runs judged next, in this order, each under its name; those that were are left out."""
        with self._lock:
            self._wanted = {name: path for name, path in runs if name not in self._found}
            if self._wanted and not self._works:
                self._works = True
                threading.Thread(target=self._work, name="unopened runs", daemon=True).start()

    def _work(self) -> None:
        command = [sys.executable, "-c", PROGRAM, json.dumps([part for part in sys.path if isinstance(part, str)])]
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                creationflags=IDLE_PRIORITY,
            ) as process:
                while (run := self._next()) is not None:
                    start = time.monotonic()
                    self._found[run[0]] = self._latest[run[0][0]] = _asked(process, run[1])
                    time.sleep(REST * (time.monotonic() - start))
        except OSError:  # no process can be started, or it was ended
            self._works = False

    def _next(self) -> tuple[Name, Path] | None:
        with self._lock:
            name = next((name for name in self._wanted if name not in self._found), None)
            self._works = name is not None
            return None if name is None else (name, self._wanted[name])


def _asked(process: subprocess.Popen[str], path: Path) -> list[Kept] | None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(str(path.resolve())) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    return last_kept({ENTRY: json.loads(answer)}) if answer else None
