"""The page as a Dash app."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dash import Dash

from cockpitlite.dashboard import access, ahead, callbacks, download, layers, layout, mount, packing, ticks
from cockpitlite.dashboard.comparison import Shelf
from cockpitlite.dashboard.runs import Runs, check
from cockpitlite.dashboard.verdict import Judge

ASSETS = Path(__file__).parent / "assets"
PLOTLY = "plotly/plotly-cartesian.min.js"  # a third of the library, and at work three times as soon
INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>{%title%}</title>
        <link rel="icon" href="ICON" type="image/svg+xml">
        {%css%}
        <meta id="plotly" content="PLOTLY">
    </head>
    <body>
        {%app_entry%}
        {%config%}
        {%scripts%}
        {%renderer%}
    </body>
</html>"""


UNUSED = re.compile(r'<script src="[^"]*/(?:polyfill@|dash_table/)[^"]*"></script>')


class _Page(Dash):
    """The page without what Dash puts into every one: what browsers of before 2018 need, and tables of its own."""

    def interpolate_index(self, *args: Any, **parts: Any) -> str:
        """Return the document that is sent first."""
        filled: Any = super().interpolate_index  # it is not annotated
        return str(filled(*args, **parts | {"scripts": UNUSED.sub("", parts["scripts"])}))


def create_app(
    path: str | Path,
    *,
    wait: bool = False,
    host: str = "127.0.0.1",
    token: str | None = None,
    prefix: str = "/",
    secret: str | None = None,
    framed_by: Sequence[str] = (),
) -> Dash:
    """Return the page for one run file, or for all run files in a folder and below it.

    ``host`` is the address it will be served on, ``token`` what a visitor must bring, ``prefix`` the path that it is
    reached under (see ``serve``). A ``secret`` is a part of the path after it, without which nothing is answered.
    ``framed_by`` are origins that may show the page in a frame, besides those on the visitor's own machine.
    Raises FileNotFoundError where ``path`` does not exist, ValueError for a folder without runs or a prefix that is no
    path, RunFileError for a file that is not a run file; none of those about ``path`` with ``wait``, which shows runs
    as they come.
    """
    prefix = mount.path(prefix)
    page = f"{prefix}{secret}/" if secret else prefix
    root = Path(path)
    if not wait:
        check(root)
    runs = Runs(root)
    app = _Page(
        "cockpitlite",
        assets_folder=str(ASSETS),
        assets_ignore=r"\.min\.js$",  # what draws charts: ``assets/charts.js`` starts it
        title="Cockpitlite",
        update_title="",
        requests_pathname_prefix=page,
        routes_pathname_prefix="/",
        add_log_handler=False,
    )
    app.index_string = INDEX.replace("ICON", app.get_asset_url("favicon.svg")).replace("PLOTLY", _plotly(app))
    app.layout = lambda: layout.page(runs.entries(), layers.page())
    judge, shelf = Judge(), Shelf(runs)
    callbacks.register(app, runs, judge, shelf)
    download.offer(app.server, runs, shelf, app.config.routes_pathname_prefix)
    ticks.offer(app.server, runs, judge, shelf, app.config.routes_pathname_prefix)
    ahead.begin(app.server, runs, judge)
    packing.pack(app.server)
    packing.keep(app.server, app.config.routes_pathname_prefix + app.config.assets_url_path.strip("/") + "/")
    if secret:
        access.hide(app.server, secret, page)
    mount.under(app.server, prefix)
    policy = functools.partial(_content_policy, app, (*access.NEIGHBOURS, *framed_by))
    access.guard(app.server, token=token, host=None if secret else host, prefix=prefix, policy=policy)
    return app


def _plotly(app: Dash) -> str:
    """Return the address of what draws charts, another one when it changes.

    Of all that the page has it takes longest to start: ``assets/charts.js`` loads it while the page is built, and
    starts it while the server prepares what is to be drawn.
    """
    return f"{app.get_asset_url(PLOTLY)}?m={(ASSETS / PLOTLY).stat().st_mtime}"


def _content_policy(app: Dash, frames: Sequence[str]) -> str:
    """Let the page load nothing but what this server sends, and run no script that a run file brought in."""
    scripts = " ".join(["'self'", *app.csp_hashes()])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        f"frame-ancestors {' '.join(frames)}"
    )
