"""The page as a Dash app, and the small server that serves it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any

import plotly
from dash import Dash
from dash.fingerprint import build_fingerprint
from werkzeug.serving import make_server

from cockpitlite.dashboard import access, callbacks, download, layers, layout, mount, packing, ticks
from cockpitlite.dashboard.runs import Runs, check
from cockpitlite.dashboard.verdict import Judge

ASSETS = Path(__file__).parent / "assets"
PORTS_TRIED = 100
INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>{%title%}</title>
        <link rel="icon" href="ICON" type="image/svg+xml">
        {%css%}
        <script async src="PLOTLY"></script>
    </head>
    <body>
        {%app_entry%}
        {%config%}
        {%scripts%}
        {%renderer%}
    </body>
</html>"""


def create_app(
    path: str | Path,
    *,
    wait: bool = False,
    host: str = "127.0.0.1",
    token: str | None = None,
    prefix: str = "/",
) -> Dash:
    """Return the page for one run file, or for all run files in a folder and below it.

    ``host`` is the address it will be served on, ``token`` what a visitor must bring, ``prefix`` the path that it is
    reached under (see :func:`serve`). Raises FileNotFoundError where ``path`` does not exist, ValueError for a folder
    without runs or a prefix that is no path, RunFileError for a file that is not a run file; none of those about
    ``path`` with ``wait``, which shows runs as they come.
    """
    prefix = mount.path(prefix)
    root = Path(path)
    if not wait:
        check(root)
    runs = Runs(root)
    app = Dash(
        "cockpitlite",
        assets_folder=str(ASSETS),
        title="Cockpitlite",
        update_title="",
        requests_pathname_prefix=prefix,
        routes_pathname_prefix="/",
        add_log_handler=False,
    )
    app.index_string = INDEX.replace("ICON", app.get_asset_url("favicon.svg")).replace("PLOTLY", _plotly(app))
    app.layout = lambda: layout.page(runs.entries(), layers.page())
    judge = Judge()
    callbacks.register(app, runs, judge)
    download.offer(app.server, runs, app.config.routes_pathname_prefix)
    ticks.offer(app.server, runs, judge, app.config.routes_pathname_prefix)
    packing.pack(app.server)
    packing.keep(app.server, app.config.routes_pathname_prefix + app.config.assets_url_path.strip("/") + "/")
    mount.under(app.server, prefix)
    access.guard(app.server, token=token, host=host, prefix=prefix, policy=lambda: _content_policy(app))
    return app


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
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        prefix = mount.path(prefix.replace("{port}", str(listener.getsockname()[1])))
        app = create_app(path, wait=wait, host=host, token=token, prefix=prefix)
        server = make_server(host, 0, app.server, threaded=True, fd=listener.fileno())
        url = address(host, server.port, token, prefix)
        sys.stdout.write(f"Cockpitlite shows {path} at {url} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if open_browser:
            _open_browser(url)
        server.serve_forever()


def address(host: str, port: int, token: str | None, prefix: str = "/") -> str:
    """Return the address to open: by the machine's name where the server listens on all of its addresses."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{prefix}" + (f"?token={token}" if token else "")


def _listen(host: str, port: int) -> socket.socket:
    """Listen on ``port`` or, where it is taken, on the next one that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"the page cannot be served on {host}:{candidate} ({error.strerror})") from error
    raise OSError(f"port {port} of {host} and those after it are taken; give another as port")


def _open_browser(url: str) -> None:
    """Open the page where there is a screen; a browser inside the terminal would be in the way."""
    graphical = sys.platform in ("win32", "darwin") or any(
        name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if graphical:
        with contextlib.suppress(webbrowser.Error):  # the address was printed
            webbrowser.open(url)


def _plotly(app: Dash) -> str:
    """Return the address of what draws charts, which is loaded while the page is built; it is another when it changes.

    The page's own components would load it only after the first of them that is a chart, and anew at each visit.
    """
    script = "package_data/plotly.min.js"
    changed = int((Path(plotly.__file__).parent / script).stat().st_mtime)
    fingerprint: Any = build_fingerprint  # it is not annotated
    name = fingerprint(script, plotly.__version__, changed)
    return f"{app.config.requests_pathname_prefix}_dash-component-suites/plotly/{name}"


def _content_policy(app: Dash) -> str:
    """Let the page load nothing but what this server sends, and run no script that a run file brought in."""
    scripts = " ".join(["'self'", *app.csp_hashes()])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'"
    )
