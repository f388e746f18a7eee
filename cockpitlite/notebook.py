"""The live page in the cell of a notebook, or in a browser: ``show``."""

from __future__ import annotations

import atexit
import html
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cockpitlite.beside import Beside, start
from cockpitlite.store import Run

RUNS = "runs"  # the folder that watch() writes to unless told otherwise
HUB = "JUPYTERHUB_SERVICE_PREFIX"  # the path of a notebook server on a JupyterHub
COLAB = ("https://colab.research.google.com", "https://*.googleusercontent.com", "https://*.colab.dev")

Key = tuple[str, int, str]


def show(
    path_or_run: str | os.PathLike[str] | Run | None = None,
    *,
    height: int = 800,
    port: int = 8050,
    prefix: str | None = None,
    wait: bool = False,
) -> Page:
    """Show the live page of a run file or a folder of run files: in a notebook below the cell, elsewhere in a browser.

    Without an argument it is the folder ``runs``, which need not be there yet; ``wait`` says the same of any other.
    The page is served by a process of its own, which ends with this one, and which another ``show`` of the same finds
    running. Where ``port`` is taken, the next free one is used.
    Where the browser runs on another machine than the notebook, it must be led here: ``prefix`` is the path below the
    notebook's address that jupyter-server-proxy shows the page under, in which ``{port}`` stands for the port, such as
    ``/proxy/{port}/``. On a JupyterHub it is known.

    Raises TypeError and ValueError for arguments that make no sense, FileNotFoundError where there is no such file,
    ValueError for a folder without runs, RunFileError for a file that is not a run file, OSError where no port is free,
    and ImportError where the page's requirements are not installed.
    """
    path = _path(path_or_run)
    _check("height", height, 1, None)
    _check("port", port, 0, 65_535)
    if prefix is None:
        prefix = f"{os.environ[HUB].rstrip('/')}/proxy/{{port}}/" if os.environ.get(HUB) else "/"
    cell = _cell()
    key = (str(path.resolve()), port, prefix)
    server = _servers.get(key)
    if server is None or not server.alive:
        if server is not None:
            server.end()
        server = _servers[key] = start(
            path.absolute(),
            port=port,
            prefix=prefix,
            wait=wait or path_or_run is None,
            open_browser=cell is None,
            framed_by=COLAB if _in_colab() else (),
        )
    page = Page(path, server, server.url if prefix.strip("/") == "" else server.path, height)
    page.appear(cell)
    return page


class Page:
    """A page that is shown: the value of a cell shows it again."""

    def __init__(self, path: Path, server: Beside, url: str, height: int) -> None:
        self.path, self.url, self.height = path, url, height
        self._server = server
        self._shown_in: int | None = None  # the cell that it stands below already

    def close(self) -> None:
        """End the server, with all pages of it; the next ``show`` starts another."""
        self._server.end()

    def appear(self, cell: int | None) -> None:
        """Show it below a cell, or say where it is."""
        if cell is None:
            print(self)  # noqa: T201
        elif _in_colab():
            from google.colab import output

            output.serve_kernel_port_as_iframe(self._server.port, path=self._server.path, height=str(self.height))
            self._shown_in = cell
        else:
            from IPython.display import display

            display(self)
            self._shown_in = cell

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._server.alive else "no more (closed)"
        return f"Cockpitlite shows {self.path} {where}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, str]:
        """Return the page for a notebook; below the cell that shows it already, and once closed, only where it is."""
        words = {"text/plain": repr(self)}
        if _in_colab() or not self._server.alive or (self._shown_in is not None and self._shown_in == _cell()):
            return words
        address, name = html.escape(self.url), html.escape(self.path.name)
        return words | {
            "text/html": f'<iframe src="{address}" title="Cockpitlite: {name}" width="100%" height="{self.height}" '
            'style="border: 0" allow="clipboard-write; fullscreen"></iframe>'
        }


_servers: dict[Key, Beside] = {}


@atexit.register
def _end_all() -> None:
    for server in _servers.values():
        server.end()


def _path(path_or_run: str | os.PathLike[str] | Run | None) -> Path:
    if isinstance(path_or_run, Run):
        return path_or_run.path
    if path_or_run is None or isinstance(path_or_run, str | os.PathLike):
        return Path(RUNS if path_or_run is None else path_or_run)
    raise TypeError(
        f"show() takes the path of a run file or of a folder of them, or a Run; got {type(path_or_run).__name__} "
        "(what watch() returned shows itself by optimizer.cockpit.show())"
    )


def _check(name: str, number: int, least: int, most: int | None) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is a whole number; got {number!r}")
    if number < least or (most is not None and number > most):
        raise ValueError(
            f"{name} is a number {f'from {least} to {most}' if most else f'of {least} or more'}; got {number}"
        )


def _cell() -> int | None:
    """Return the number of the notebook's cell that is executed, or None outside of a notebook."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell: Any = get_ipython()
    return shell.execution_count if getattr(shell, "kernel", None) is not None else None


def _in_colab() -> bool:
    return "google.colab" in sys.modules and _cell() is not None
