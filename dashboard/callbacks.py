"""All of the page's callbacks: what happens around the board, which is drawn by other means (``ticks.py``)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, no_update
from dash.development.base_component import Component

from cockpitlite.dashboard import layers, layout, overlays, table
from cockpitlite.dashboard.findings import findings
from cockpitlite.dashboard.listing import Listing
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.dashboard.unopened import Unopened
from cockpitlite.dashboard.verdict import DiagnosisError, Judge, Verdict, not_judged, verdict
from cockpitlite.store import Run


def register(app: Dash, runs: Runs, judge: Judge) -> None:
    """Put every callback on the app."""
    _register_browser(app)
    _register_layers(app, runs)
    _register_picker(app, runs)
    _register_diagnosis(app, runs, judge)
    _register_runs(app, runs, Listing(runs, judge, Unopened()))


def _register_browser(app: Dash) -> None:
    """What the browser does by itself; the functions are in ``assets/page.js`` and ``assets/address.js``."""
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
    def diagnose(_: Any, key: str | None, before: Sequence[str] | None) -> tuple[Any, ...]:
        """Say what is wrong with the run; nothing changes on the page while that is the same, or cannot be known."""
        try:
            said, listed, layers_blamed = _judged(app, runs, judge, key)
        except UNREADABLE:  # the tick says why
            if before is not None and before[0] == key:
                return (no_update,) * 5
            said, listed, layers_blamed = not_judged("A run that cannot be read cannot be judged."), [], {}
        now = [key, repr((said, listed))]
        if now == before:
            return (no_update,) * 5
        title = " ".join(filter(None, (said.icon, said.sentence, f"– {key}" if key else "")))
        return layout.verdict(said), listed, title, now, layers_blamed


def _register_runs(app: Dash, runs: Runs, listing: Listing) -> None:
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

    @app.callback(
        Output(every("instruments"), "options"),
        Output(every("instruments"), "value"),
        Output(every("comparison"), "children"),
        Output(every("compared"), "data"),
        Input(every("table"), "selectedRows"),
        Input(every("instruments"), "value"),
        State(every("compared"), "data"),
        prevent_initial_call=True,
    )
    def compare(selected: Sequence[Any], chosen: Sequence[Any], compared: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        """Lay the selected runs over each other on the chosen instruments.

        A table whose rows have changed says that its selection has; where it has not, the charts stay as they are.
        """
        keys = [row["key"] for row in selected[0] or []] if selected else []
        if not selected or not chosen or (compared[0] is not None and [keys, chosen[0]] == compared[0][:2]):
            return ([no_update] * len(chosen),) * 4
        stand, found = listing.stand(keys), opened(selected[0] or [])
        if not found:
            return [no_update], [no_update], [table.nothing()], [[keys, chosen[0], stand]]
        offered = overlays.instruments(found)
        wanted = chosen[0] or [choice["value"] for choice in offered[: overlays.USUAL]]
        choice = wanted if wanted != chosen[0] else no_update
        return [offered], [choice], [overlays.comparison(found, wanted)], [[keys, wanted, stand]]

    @app.callback(
        Output({"type": "overlay", "index": ALL}, "figure"),
        Output({"type": "overlay-words", "index": ALL}, "children"),
        Output(every("compared"), "data", allow_duplicate=True),
        Input("look", "data"),
        State("view", "data"),
        State(every("table"), "selectedRows"),
        State(every("instruments"), "value"),
        State(every("compared"), "data"),
        State({"type": "overlay", "index": ALL}, "id"),
        prevent_initial_call=True,
    )
    def grow(
        _: Any,
        view: Mapping[str, Any],
        selected: Sequence[Any],
        chosen: Sequence[Any],
        compared: Sequence[Any],
        shown: Sequence[Mapping[str, str]],
    ) -> tuple[Any, Any, Any]:
        """Send what the compared runs have become, where one has grown; zoom and hidden lines stay."""
        nothing = [no_update] * len(shown), [no_update] * len(shown), [no_update] * len(compared)
        if not shown or view["page"] != "runs" or not compared[0]:
            return nothing
        keys = [row["key"] for row in selected[0] or []]
        now = [keys, chosen[0], listing.stand(keys)]
        if now[:2] != compared[0][:2] or now == compared[0]:  # another selection is on its way, or nothing is new
            return nothing
        found = opened(selected[0])
        if len(found) < len(keys):  # one cannot be read now: the lines would be those of others
            return nothing
        charts = {chart.name: chart for chart in overlays.charts(found, chosen[0] or [])}
        drawn = [charts.get(part["index"]) for part in shown]
        changes = [no_update if chart is None else chart.change() for chart in drawn]
        return changes, [no_update if chart is None else chart.words for chart in drawn], [now]

    def opened(rows: Sequence[Mapping[str, str]]) -> dict[str, Run]:
        found = {}
        for row in rows:
            with contextlib.suppress(*UNREADABLE):  # its row says so
                found[row["run"]] = runs.open(row["key"]).run
        return found


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
        return verdict(standing, opened.run.last_step), listed, layers.blamed(standing)
    except DiagnosisError as error:
        app.logger.error("the diagnosis of %s failed", key, exc_info=error)
        return not_judged(f"The diagnosis failed ({error})."), [], {}
