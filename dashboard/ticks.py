"""The answer to each tick of a page's clock: how the run stands, and what the charts on the screen lack."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, request
from plotly.io.json import to_json_plotly

from cockpitlite.dashboard import comparison, layers, layout, live, trouble
from cockpitlite.dashboard.comparison import Shelf
from cockpitlite.dashboard.legend import legend
from cockpitlite.dashboard.runs import UNREADABLE, OpenRun, Runs, panels
from cockpitlite.dashboard.verdict import Judge

MALFORMED = (ValueError, LookupError, TypeError, AttributeError)


def offer(server: Flask, runs: Runs, judge: Judge, shelf: Shelf, prefix: str) -> None:
    """Answer ``tick``, which ``clock.js`` asks by itself: a callback of the page would look at all its parts."""

    @server.route(f"{prefix}tick", methods=["POST"])
    def tick() -> Response:
        asked: Any = request.get_json(silent=True)
        try:
            answer = answered(runs, judge, asked)
            if asked["page"] == "runs":
                chosen = comparison.Chosen.of(asked["compared"])
                answer |= comparison.answered(shelf, chosen, asked["board"], live.views(asked))
        except MALFORMED:
            return Response("No page asks for that.\n", status=400, mimetype="text/plain")
        return Response(to_json_plotly(answer), mimetype="application/json")


def answered(runs: Runs, judge: Judge, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page lacks: of the frame around the board, of the board's cards, and of their charts by place.

    Raises ValueError, LookupError, TypeError or AttributeError for what no page asks for.
    """
    key, page, layer = asked["run"], asked["page"], layers.Chosen.of(asked["layer"])
    charts, board, count = {} if page == "runs" else live.asked(asked), asked["board"], int(asked["cards"])
    if key is None:
        nothing: dict[str, Any] = {"notice": None, "state": None, "step": None, "facts": []}
        return {"frame": nothing} | ({} if page == "runs" else {"board": layout.waiting(str(runs.root)), "vital": []})
    try:
        opened = runs.open(key)
        run = opened.run
        meta, alive = run.meta, run.live
        answer: dict[str, Any] = {"frame": layout.standing(meta, alive, run.last_step, run.names())}
        answer["frame"] |= {"notice": None if alive else trouble.silent(run.path, meta), "facts": layout.facts(meta)}
        if page in ("overview", "layers"):
            answer["steps"] = run.steps
        if page == "layers" and layer is None:
            return answer | {"board": []}
        if page == "layers" and layer is not None:
            parts = layers.parts(opened, layer.layer)
            identity = layers.board_of(opened, layer.layer, parts)
            if identity != board:
                return answer | {"identity": identity, "board": layers.board(layer.layer, parts, identity)}
            answer |= {"identity": identity, "charts": live.layer_news(opened, parts, layer.step, charts)}
            return answer | _legend(opened, asked)
        if page != "overview":
            return answer
        drawn = panels(run)
        if opened.identity != board:
            whole = {"board": layout.board(opened, drawn), "vital": layout.vital(opened, drawn)}
            return answer | {"identity": opened.identity} | whole
        changes = live.news(opened, charts, judge.known(board))
        answer |= {"identity": board, "charts": changes, "more": layout.more(drawn, count)}
        return answer | _legend(opened, asked)
    except UNREADABLE as error:
        return _unreadable(error, page, board, runs.is_of_another(key, board))


def _unreadable(error: BaseException, page: str, board: str | None, of_another: bool) -> dict[str, Any]:
    """Return what is said of a run that cannot be read; what stands there of another one is taken away."""
    has_charts = page not in ("layers", "runs")  # those have boards of their own
    shown = has_charts and board is not None and not of_another
    answer: dict[str, Any] = {"frame": {"notice": trouble.unreadable(error, shown), "state": layout.unreadable()}}
    if has_charts and not shown:
        answer["frame"] |= {"step": None, "facts": []}
        answer |= {"board": [], "vital": []} if of_another else {}
    return answer


def _legend(opened: OpenRun, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the marks of a run mean, where that is not what the page says already."""
    marks = opened.reader.marks
    now = f"{opened.identity} {zlib.crc32(repr(marks).encode())}"
    return {} if asked["marks"] == now else {"marks": now, "legend": legend(marks)}
