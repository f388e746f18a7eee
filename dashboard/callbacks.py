"""All of the page's callbacks: what happens when a clock ticks, and when a person picks a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, no_update
from dash.development.base_component import Component

from cockpitlite.dashboard import layers, layout, live, overlays, table
from cockpitlite.dashboard.findings import findings
from cockpitlite.dashboard.listing import Listing
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.dashboard.updates import Shown
from cockpitlite.dashboard.verdict import DiagnosisError, Judge, Verdict, not_judged, verdict

PROPERTIES = {"chart": "figure", "gauge": "figure", "cursor": "data"}  # the other parts change their children
FRAME = ("notice", "state", "step", "rulers", "reopen", "redraw")
STORES = ("reopen", "redraw")  # of these, which are no text


def register(app: Dash, runs: Runs) -> None:
    """Put every callback on the app."""
    _register_browser(app)
    _register_board(app, runs)
    _register_tick(app, runs)
    _register_layers(app, runs)
    _register_picker(app, runs)
    judge = Judge()
    _register_diagnosis(app, runs, judge)
    _register_runs(app, runs, Listing(runs, judge))


def _register_browser(app: Dash) -> None:
    """What the browser does by itself; the functions are in ``assets/page.js`` and ``assets/address.js``."""
    browser: Any = app  # its method is not annotated

    def function(name: str) -> ClientsideFunction:
        return ClientsideFunction("cockpit", name)

    browser.clientside_callback(
        function("measure"), Output("request", "data"), Input("tick", "n_intervals"), Input("view", "data")
    )
    browser.clientside_callback(function("awake"), Output("look", "data"), Input("slow-tick", "n_intervals"))
    browser.clientside_callback(function("theme"), Output("theme", "children"), Input("theme", "n_clicks"))
    browser.clientside_callback(function("answered"), Output("silence", "className"), Input("step", "children"))
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


def _register_board(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output("board", "children"),
        Output("facts", "children"),
        Output("page", "className"),
        Input("picker", "value"),
        Input("reopen", "data"),
        State("view", "data"),
    )
    def open_board(key: str | None, _: Any, view: Mapping[str, Any]) -> tuple[Any, Any, str]:
        """Draw a run from scratch: after it was picked, or when another one took its file's place.

        While another page is shown there is no board; the first tick after a return to it has it drawn.
        """
        if key is None:
            return layout.waiting(str(runs.root)), [], "before-the-first-run"
        try:
            opened = runs.open(key)
            if view["page"] != "overview":
                return [], layout.facts(opened.run.meta), ""
            drawn = panels(opened.run)
            board = layout.board(opened, drawn, opened.reader.read(drawn), opened.run.unavailable())
            return board, layout.facts(opened.run.meta), ""
        except UNREADABLE:
            return [], [], ""  # the next tick says why, and draws the run once it can be read


def _register_tick(app: Dash, runs: Runs) -> None:
    parts = {kind: Output(_every(kind), PROPERTIES.get(kind, "children")) for kind in live.PARTS}
    frame = {name: Output(name, "data" if name in STORES else "children") for name in FRAME}

    @app.callback(
        output={"parts": parts, "frame": frame},
        inputs={"request": Input("request", "data")},
        state={
            "key": State("picker", "value"),
            "view": State("view", "data"),
            "chosen": State("chosen", "data"),
            "cursors": State(_every("cursor"), "data"),
        },
        running=[(Output("tick", "disabled"), True, False)],  # at most one tick under way: the page never starves
        prevent_initial_call=True,
    )
    def follow(
        request: Mapping[str, Any], key: str | None, view: Mapping[str, Any], chosen: Any, cursors: Sequence[Any]
    ) -> dict[str, Any]:
        """Send what is new of the charts on the screen, and how the run stands."""
        asked = ctx.outputs_grouping["parts"]
        boards = [output["id"]["board"] for output in asked["cursor"]]
        shown = dict(zip(boards, cursors, strict=True))
        layer = layers.Chosen.of(chosen)
        board, changes, frame = _tick(runs, request, key, view["page"], layer, shown)
        answers = {
            kind: [
                changes.parts[kind].get(output["id"]["index"], no_update)
                if output["id"]["board"] == board
                else no_update
                for output in outputs
            ]
            for kind, outputs in asked.items()
        }
        return {"parts": answers, "frame": {name: frame.get(name, no_update) for name in FRAME}}


def _every(kind: str) -> dict[str, Any]:
    return {"type": kind, "index": ALL, "board": ALL}


def _tick(
    runs: Runs,
    request: Mapping[str, Any],
    key: str | None,
    page: str,
    chosen: layers.Chosen | None,
    cursors: Mapping[str, Any],
) -> tuple[str, live.Changes, dict[str, Any]]:
    """Return which board is shown, what changes on it, and in the frame around it."""
    nothing = live.Changes()
    if key is None:
        return "", nothing, {"notice": None, "state": None, "step": None}
    try:
        opened = runs.open(key)
        run = opened.run
        frame = layout.standing(run.meta, run.live, run.last_step, run.names()) | {"notice": None}
        views = live.views(request)
        if page == "layers" and chosen is not None:
            found = layers.parts(opened, chosen.layer)
            board = layers.board_of(opened, chosen.layer, found)
            if board not in cursors:
                return board, nothing, frame | ({"redraw": time.time()} if found else {})
            return board, live.layer_news(opened, found, chosen.step, _shown(cursors[board]), views), frame
        if page != "overview":
            return "", nothing, frame
        if opened.identity not in cursors:
            return "", nothing, frame | {"reopen": time.time()}
        return opened.identity, live.news(opened, _shown(cursors[opened.identity]), views), frame
    except UNREADABLE as error:
        return "", nothing, {"notice": layout.notice(error), "state": None}


def _shown(cursor: Sequence[Mapping[str, Any]]) -> list[Shown]:
    return [Shown.from_dict(shown) for shown in cursor]


def _register_layers(app: Dash, runs: Runs) -> None:
    browser: Any = app  # its method is not annotated
    browser.clientside_callback(
        ClientsideFunction("cockpit", "askForMap"),
        Output("map-request", "data"),
        Input("tick", "n_intervals"),
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

    @app.callback(
        Output("layer-board", "children"),
        Input("chosen", "data"),
        Input("redraw", "data"),
        State("picker", "value"),
        State(_every("cursor"), "id"),
        prevent_initial_call=True,
    )
    def open_layer(chosen: Any, _: Any, key: str | None, drawn: Sequence[Mapping[str, Any]]) -> Any:
        """Draw what a layer has; where it is drawn and only another step is marked, that is for the next tick."""
        layer = layers.Chosen.of(chosen)
        if key is None or layer is None:
            return []
        try:
            opened = runs.open(key)
            board = layers.board_of(opened, layer.layer, layers.parts(opened, layer.layer))
            there = any(each["board"] == board for each in drawn)
            return no_update if there else layers.board(opened, layer)
        except UNREADABLE:
            return no_update  # the next tick says why


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
    def diagnose(_: Any, key: str | None, before: str | None) -> tuple[Any, ...]:
        """Say what is wrong with the run; nothing changes on the page while that is the same."""
        said, listed, layers_blamed = _judged(app, runs, judge, key)
        now = repr((key, said, listed))
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
        Input(every("table"), "selectedRows"),
        Input(every("instruments"), "value"),
        prevent_initial_call=True,
    )
    def compare(selected: Sequence[Any], chosen: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Lay the selected runs over each other on the chosen instruments."""
        if not selected or not chosen:
            return ([no_update] * len(chosen),) * 3
        found = {}
        for row in selected[0] or []:
            with contextlib.suppress(*UNREADABLE):  # its row says so
                found[row["run"]] = runs.open(row["key"]).run
        if not found:
            return [no_update], [no_update], [table.nothing()]
        offered = overlays.instruments(found)
        wanted = chosen[0] or [choice["value"] for choice in offered[: overlays.USUAL]]
        return [offered], [wanted if wanted != chosen[0] else no_update], [overlays.comparison(found, wanted)]


def _judged(
    app: Dash, runs: Runs, judge: Judge, key: str | None
) -> tuple[Verdict, list[Component], Mapping[str, Sequence[str]]]:
    """Return the verdict, the findings as they are listed, and the layers that they name."""
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
    except UNREADABLE:  # the tick says why
        return not_judged("A run that cannot be read cannot be judged."), [], {}
