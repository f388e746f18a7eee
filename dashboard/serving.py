"""The small server of the page: what it listens on, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from werkzeug.serving import ThreadedWSGIServer

from cockpitlite.dashboard import access, ahead, mount
from cockpitlite.dashboard.app import create_app

PORTS_TRIED = 100
PATIENCE = 5.0  # seconds that requests have to be answered in when the server ends
LAST_WAIT = 1.0  # and to notice that nobody listens any more
LOOK = 0.2  # seconds between two looks at whether it is to end


def serve(
    path: str | Path,
    host: str = "127.0.0.1",
    port: int = 8050,
    open_browser: bool = True,
    *,
    wait: bool = False,
    prefix: str = "/",
    guarded: bool = False,
) -> None:
    """Serve the page of a run file or a folder of run files until Ctrl-C, after printing one line with its address.

    Where ``port`` is taken, the next free one is used. On any ``host`` but this machine's own, and where it is to be
    ``guarded``, the page demands a token, which is part of the printed address. Behind a proxy that shows it under a
    path of its own, ``prefix`` is that path, in which ``{port}`` stands for the port; whether the proxy passes the path
    on or takes it off is all the same. Raises what :func:`create_app` raises, and OSError where ``host`` is no address
    of this machine or no port is free.
    """
    token = access.new_token() if guarded or not access.is_loopback(host) else None
    with (
        contextlib.suppress(KeyboardInterrupt),
        opened(path, host, port, wait=wait, prefix=prefix, token=token) as server,
        _ending_at_ctrl_c(server.end),
    ):
        sys.stdout.write(f"Cockpitlite shows {path} at {server.url} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if open_browser:
            show(server.url)
        server.serve_forever(LOOK)


@contextlib.contextmanager
def opened(
    path: str | Path,
    host: str,
    port: int,
    *,
    wait: bool = False,
    prefix: str = "/",
    token: str | None = None,
    hidden: bool = False,
    framed_by: Sequence[str] = (),
) -> Iterator[Server]:
    """Listen for the page, which is answered for while ``serve_forever`` runs; raises what :func:`serve` raises.

    ``hidden``, it has a path that nobody guesses. ``framed_by`` is as in :func:`create_app`.
    """
    secret = access.new_token() if hidden else None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with _listen(host, port) as listener:
        port = listener.getsockname()[1]
        prefix = mount.path(prefix.replace("{port}", str(port)))
        app = create_app(path, wait=wait, host=host, token=token, prefix=prefix, secret=secret, framed_by=framed_by)
        page = app.config.requests_pathname_prefix
        server = Server(app.server, host, listener, path=page, url=address(host, port, token, page))
    with server:
        yield server


class Server(ThreadedWSGIServer):
    """A server that leaves no thread of a request behind: one that runs while the interpreter ends can abort it."""

    def __init__(self, app: Callable[..., Any], host: str, listener: socket.socket, *, path: str, url: str) -> None:
        self.path, self.url = path, url
        self._is_to_end = False
        self._requests: dict[threading.Thread, socket.socket] = {}
        super().__init__(host, 0, app, fd=listener.fileno())

    def end(self) -> None:
        """Have ``serve_forever`` return soon; any thread may call it, and a handler of a signal."""
        self._is_to_end = True

    def service_actions(self) -> None:
        """Look whether it is to end."""
        if self._is_to_end:
            raise KeyboardInterrupt  # which ``serve_forever`` takes for its end

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread of its own."""
        self._requests = {thread: connection for thread, connection in self._requests.items() if thread.is_alive()}
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        thread.start()
        self._requests[thread] = request

    def server_close(self) -> None:
        """Listen no more, and wait for the answers under way: for those that nobody asked for yet not at all."""
        super().server_close()
        self._finish(socket.SHUT_RD, PATIENCE)
        ahead.finish(PATIENCE)
        self._finish(socket.SHUT_RDWR, LAST_WAIT)

    def _finish(self, direction: int, patience: float) -> None:
        """Close one direction of each connection, or both, and wait for its thread to notice."""
        end = time.monotonic() + patience
        for connection in self._requests.values():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                connection.shutdown(direction)
        for thread in self._requests:
            thread.join(max(0.0, end - time.monotonic()))


def address(host: str, port: int, token: str | None, prefix: str = "/") -> str:
    """Return the address to open: by the machine's name where the server listens on all of its addresses."""
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{prefix}" + (f"?token={token}" if token else "")


def show(url: str) -> None:
    """Open the page where there is a screen; a browser inside the terminal would be in the way."""
    graphical = sys.platform in ("win32", "darwin") or any(
        name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if graphical:
        with contextlib.suppress(webbrowser.Error):  # the address was printed
            webbrowser.open(url)


@contextlib.contextmanager
def _ending_at_ctrl_c(end: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C call ``end``: as an exception it is lost where it meets a destructor or the garbage collector.

    It stays as it is in other threads than the main one, which cannot say, and where somebody else takes care of it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: end())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _listen(host: str, port: int) -> socket.socket:
    """Listen on ``port`` or, where it is taken, on the next one that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                where = f"[{host}]:{candidate}" if ":" in host else f"{host}:{candidate}"
                raise OSError(
                    f"the page cannot be served at {where} ({_cause(error)}); give another host or port"
                ) from error
    raise OSError(f"port {port} of {host} and those after it are taken; give another port")


def _cause(error: OSError) -> str:
    """Return what went wrong in a few words, without the address, which the library adds in brackets."""
    return (error.strerror or str(error)).partition(" (while")[0]
