"""All of the page's callbacks: what happens around the board, which is drawn by other means (``ticks.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, no_update
from dash.development.base_component import Component

from cockpitlite.dashboard import comparison, layers, layout, table
from cockpitlite.dashboard.comparison import Shelf
from cockpitlite.dashboard.findings import findings
from cockpitlite.dashboard.listing import Listing
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.dashboard.unopened import Unopened
from cockpitlite.dashboard.verdict import DiagnosisError, Judge, Verdict, lost, not_judged, verdict


def register(app: Dash, runs: Runs, judge: Judge, shelf: Shelf) -> None:
    """Put every callback on the app."""
    _register_browser(app)
    _register_layers(app, runs)
    _register_picker(app, runs)
    _register_diagnosis(app, runs, judge)
    _register_runs(app, Listing(runs, judge, Unopened()), shelf)


def _register_browser(app: Dash) -> None:
    """What the browser does by itself; the functions are in ``page.js``, ``address.js`` and ``evidence.js``."""
    browser: Any = app  # its method is not annotated

    def function(name: str) -> ClientsideFunction:
        return ClientsideFunction("cockpit", name)

    browser.clientside_callback(function("awake"), Output("look", "data"), Input("slow-tick", "n_intervals"))
    browser.clientside_callback(function("theme"), Output("theme", "children"), Input("theme", "n_clicks"))
    browser.clientside_callback(function("title"), Output("title", "className"), Input("title", "data-title"))
    browser.clientside_callback(
        function("follows"),
        Output("follow", "aria-pressed"),
        Input("follow", "n_clicks"),
        Input("picker", "value"),
        State("follow", "aria-pressed"),
        State("picker", "options"),
        prevent_initial_call=True,
    )
    browser.clientside_callback(
        function("go"),
        Output("picker", "value"),
        Output("view", "data"),
        Output("astray", "children"),
        Input("newest", "data"),
        Input("address", "data"),
        State("picker", "value"),
        State("picker", "options"),
        State("follow", "aria-pressed"),
    )
    browser.clientside_callback(function("note"), Output("page", "data-run"), Input("picker", "value"))
    browser.clientside_callback(function("judged"), Output("findings", "data-run"), Input("judged", "data"))


def _register_layers(app: Dash, runs: Runs) -> None:
    browser: Any = app  # its method is not annotated
    browser.clientside_callback(
        ClientsideFunction("cockpit", "askForMap"),
        Output("map-request", "data"),
        Input("view", "data"),
    )
    browser.clientside_callback(
        ClientsideFunction("cockpit", "drawMap"), Output("map-words", "children"), Input("map-news", "data")
    )
    browser.clientside_callback(
        ClientsideFunction("cockpit", "markRows"), Output("map-rows", "title"), Input("blamed", "data")
    )

    @app.callback(
        Output("map-news", "data"),
        Input("map-request", "data"),
        State("picker", "value"),
        State("view", "data"),
        running=[(Output("map", "className"), "asked", "")],
        prevent_initial_call=True,
    )
    def follow_map(request: Mapping[str, Any], key: str | None, view: Mapping[str, Any]) -> Any:
        """Send what is new of the map of layers, while that is what is looked at."""
        if key is None or view["page"] != "layers":
            return no_update
        try:
            return layers.news(runs.open(key), request) or no_update
        except UNREADABLE:  # the tick says why
            return no_update


def _register_picker(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output("picker", "options"),
        Output("newest", "data"),
        Input("look", "data"),
        State("picker", "options"),
        State("picker", "value"),
        running=[(Output("slow-tick", "disabled"), True, False)],
        prevent_initial_call=True,
    )
    def look_for_runs(look: Any, shown: Any, key: str | None) -> tuple[Any, Any]:
        """Offer runs that came and take away those that went; say which one a page that follows would go on to.

        Whether it goes there is for the browser to decide, when it hears of it: the person may have picked another
        run while this was being looked up, and that choice stands.
        """
        entries = runs.entries()
        offered = layout.options(entries, key)
        newest = entries[0] if entries else None
        moves = newest is not None and newest.key != key and (key is None or newest.live)
        news = {"key": newest.key, "instead": key, "look": look} if newest and moves else no_update
        return no_update if offered == shown else offered, news


def _register_diagnosis(app: Dash, runs: Runs, judge: Judge) -> None:
    @app.callback(
        Output("verdict", "children"),
        Output("findings", "children"),
        Output("title", "data-title"),
        Output("judged", "data"),
        Output("blamed", "data"),
        Input("look", "data"),
        Input("picker", "value"),
        State("judged", "data"),
    )
    def diagnose(_: Any, key: str | None, before: Sequence[Any] | None) -> tuple[Any, ...]:
        """Say what is wrong with the run; nothing changes on the page while that is the same.

        Where the run cannot be read any more, its findings stay, but no verdict.
        """
        listed: Any
        layers_blamed: Any
        try:
            said, listed, layers_blamed = _judged(app, runs, judge, key)
            now = [key, repr((said, listed)), bool(listed)]
        except UNREADABLE:  # the tick says why
            known = before is not None and before[0] == key and before[2]
            said = lost() if known else not_judged("A run that cannot be read cannot be judged.")
            listed, layers_blamed = (no_update, no_update) if known else ([], {})
            now = [key, repr(said), known]
        if now == before:
            return (no_update,) * 5
        title = " ".join(filter(None, (said.icon, said.sentence, f"– {key}" if key else "")))
        return layout.verdict(said), listed, title, now, layers_blamed


def _register_runs(app: Dash, listing: Listing, shelf: Shelf) -> None:
    def every(kind: str) -> dict[str, Any]:
        return {"type": kind, "index": ALL}

    @app.callback(
        Output("runs-page", "children"),
        Input("view", "data"),
        State("runs-page", "children"),
        prevent_initial_call=True,
    )
    def open_table(view: Mapping[str, Any], told: Sequence[Any]) -> Any:
        """Put the table on its page at the first visit."""
        return no_update if told or view["page"] != "runs" else table.page(listing.news(None))

    @app.callback(
        Output(every("table"), "rowTransaction"),
        Output(every("table"), "rowData"),
        Output(every("told"), "data"),
        Input("look", "data"),
        Input("view", "data"),
        State(every("told"), "data"),
        prevent_initial_call=True,
    )
    def renew_table(_: Any, view: Mapping[str, Any], told: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Send the rows that have changed; sorting, filters and selection stay."""
        if not told or view["page"] != "runs":
            return ([no_update] * len(told),) * 3
        fields = told[0]["fields"]
        news = listing.news(told[0]["stand"])
        if news.stand == told[0]["stand"]:
            return [no_update], [no_update], [no_update]
        now = {"stand": news.stand, "fields": fields}
        if news.whole:
            return [no_update], [table.rows(news.added, fields)], [now]
        change = {
            "add": table.rows(news.added, fields),
            "update": table.rows(news.changed, fields),
            "remove": [{"key": key} for key in news.gone],
            "async": False,
        }
        return [change], [no_update], [now]

    browser: Any = app  # its method is not annotated
    browser.clientside_callback(
        ClientsideFunction("cockpit", "keep"), Output(every("kept"), "data"), Input(every("table"), "columnDefs")
    )
    browser.clientside_callback(
        ClientsideFunction("cockpit", "compare"),  # it sets ``compared`` itself: an output would close a circle
        Output(every("selected"), "data"),
        Input(every("table"), "selectedRows"),
        Input(every("instruments"), "value"),
    )

    @app.callback(
        Output(every("instruments"), "options"),
        Output(every("instruments"), "value"),
        Input(every("compared"), "data"),
        State(every("instruments"), "value"),
        prevent_initial_call=True,
    )
    def offer(compared: Sequence[Any], readings: Sequence[Any]) -> tuple[Any, Any]:
        """Offer what the selected runs can be compared by, and choose the usual ones where nothing is chosen."""
        if not compared or not compared[0]:
            return ([no_update] * len(compared),) * 2
        chosen = comparison.Chosen.of(compared[0])
        offered = comparison.instruments(shelf.members(chosen.keys))
        wanted = comparison.usual(offered, chosen.readings)
        return [offered], [no_update if wanted == readings[0] else wanted]


def _judged(
    app: Dash, runs: Runs, judge: Judge, key: str | None
) -> tuple[Verdict, list[Component], Mapping[str, Sequence[str]]]:
    """Return the verdict, the findings as they are listed, and the layers that they name.

    Raises what UNREADABLE names.
    """
    if key is None:
        return not_judged("No run to judge yet."), [], {}
    try:
        opened = runs.open(key)
        standing, cleared = judge.findings(opened), judge.cleared(opened)
        listed = findings(standing, cleared, panels(opened.run))
        said = verdict(standing, opened.run.last_step, judge.unjudged(opened))
        return said, listed, layers.blamed(standing)
    except DiagnosisError as error:
        app.logger.error("the diagnosis of %s failed", key, exc_info=error)
        return not_judged(f"The diagnosis failed ({error})."), [], {}
