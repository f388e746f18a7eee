"""A server of the live page in a process of its own, which ends with the process that started it, however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from cockpitlite.store import RunFileError

# As a new process of multiprocessing does, it finds its modules where this one does.
PROGRAM = """
import json, sys
asked = json.loads(sys.argv[1])
sys.path[:] = asked.pop("sys_path")
from cockpitlite.beside import main
main(asked)
"""
LOOK = 0.5  # seconds between two looks at whether the other process is still there
TELLS = (FileNotFoundError, RunFileError, ImportError, OSError, ValueError)  # from the narrow to the wide


class Beside:
    """A running server, seen from the process that started it."""

    def __init__(self, process: subprocess.Popen[str], url: str, port: int, path: str) -> None:
        self._process = process
        self.url, self.port, self.path = url, port, path

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, and leave nothing of it."""
        _put_away(self._process)


def start(
    path: Path,
    *,
    port: int,
    prefix: str = "/",
    wait: bool = False,
    open_browser: bool = False,
    framed_by: Sequence[str] = (),
) -> Beside:
    """Start a server of the page of ``path`` and return when it listens; the arguments are those of ``serve``.

    Only who knows its address is answered. Raises what ``serve`` raises, ImportError where something that the page is
    made with is not installed, and RuntimeError where the process ends without a word.
    """
    asked = {
        "path": str(path),
        "port": port,
        "prefix": prefix,
        "wait": wait,
        "open_browser": open_browser,
        "framed_by": list(framed_by),
        "sys_path": [folder for folder in sys.path if isinstance(folder, str)],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # what interrupts this process, and those around it, is not meant for the page
        text=True,
    )
    try:
        return Beside(process, **_answer(process))
    except BaseException:  # also where waiting was interrupted
        _put_away(process)
        raise


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what the new process tells of itself; what went wrong there is raised here."""
    with _pipe(process.stdout) as pipe:
        line = pipe.readline()
    if not line:
        raise RuntimeError(f"the process of the live page ended with status {process.wait()} before it could show it")
    told = json.loads(line)
    if "error" not in told:
        return told
    raise TELLS[told["error"]](told["message"])


def _put_away(process: subprocess.Popen[str]) -> None:
    process.kill()  # it only reads
    process.wait()
    _pipe(process.stdin).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


# In the other process


def main(asked: dict[str, Any]) -> None:
    """Serve what was asked for until the process that asked is gone."""
    open_browser = asked.pop("open_browser")
    with contextlib.ExitStack() as stack:
        try:
            from cockpitlite.dashboard import serving

            server = stack.enter_context(serving.opened(host="127.0.0.1", hidden=True, **asked))
        except TELLS as error:
            kind = next(place for place, kind in enumerate(TELLS) if isinstance(error, kind))
            missing = f"the live page needs what is not installed here ({error}); `pip install cockpitlite` brings it"
            _tell(error=kind, message=missing if isinstance(error, ImportError) else str(error))
            return
        _tell(url=server.url, port=server.port, path=server.path)
        threading.Thread(target=_end_with_parent, args=(server.end,), daemon=True).start()
        if open_browser:
            serving.show(server.url)
        server.serve_forever(serving.LOOK)


def _tell(**words: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        print(json.dumps(words), flush=True)  # noqa: T201


def _end_with_parent(end: Callable[[], None]) -> None:
    """Call ``end`` when the process that started this one is gone, or has closed its end of the standard input.

    Processes that it forked may hold that end for longer; where there are such, it also ceases to be the parent.
    """
    parent = os.getppid()
    if sys.platform == "win32":
        os.read(0, 1)
    else:
        while os.getppid() == parent and not select.select([0], [], [], LOOK)[0]:
            pass
    end()
