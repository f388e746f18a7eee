"""The dashboard's server in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SERVE = """
import sys
from cockpitlite.dashboard import serve
path, host, port, wait, prefix, guarded = sys.argv[1:]
options = {"wait": wait == "True", "prefix": prefix, "guarded": guarded == "True"}
serve(path, host=host, port=int(port), open_browser=False, **options)
"""


class PageServer:
    """A running server: the line it printed, and what was left when it had ended."""

    def __init__(
        self,
        path: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        wait: bool = False,
        prefix: str = "/",
        guarded: bool = False,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *map(str, (path, host, port, wait, prefix, guarded))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self._last: tuple[int, str, str] | None = None
        self.line = self.process.stdout.readline()

    @property
    def url(self) -> str:
        """The address it printed."""
        return next(word for word in self.line.split() if word.startswith("http://"))

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.split(":")[2].split("/")[0])

    def end(self) -> tuple[int, str, str]:
        """Press Ctrl-C; return the exit status and what was printed from then on and to the standard error."""
        if self._last is None:
            if self.line and self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
            rest, errors = self.process.communicate(timeout=30)
            self._last = (self.process.returncode, rest, errors)
        return self._last


@contextlib.contextmanager
def page_server(path: Path, **options: object) -> Iterator[PageServer]:
    """Serve a run file or folder until the block ends."""
    server = PageServer(path, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.end()
