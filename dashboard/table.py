"""The page of all runs: a table that sorts, filters and selects them, and what the selected ones have in common."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import dash_ag_grid as dag
from dash import dcc, html
from dash.development.base_component import Component

from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.listing import RANKS, News, Row

MOST_SETTINGS = 40  # columns of settings; a table with more is no table
MOST_RESULTS = 24  # readings, likewise
WIDEST = 240  # pixels of a column of results
NUMBER = {"function": "number(params.value)"}  # see assets/runs.js


def part(kind: str) -> dict[str, str]:
    """Return the id of a part of this page, which stands there from its first visit on."""
    return {"type": kind, "index": "runs"}


def page(news: News) -> list[Component]:
    """Return the page with its table; ``news`` holds all rows."""
    columns = _columns(news.added, news.titles)
    grid = dag.AgGrid(
        id=part("table"),
        columnDefs=columns,
        rowData=rows(news.added, _fields(columns)),
        getRowId="params.data.key",
        defaultColDef={"filter": "agTextColumnFilter", "floatingFilter": True, "cellDataType": False, "minWidth": 90},
        dashGridOptions={
            "rowSelection": {"mode": "multiRow", "selectAll": "filtered", "enableClickSelection": False},
            "selectionColumnDef": {"pinned": "left"},
            "suppressFieldDotNotation": True,
            "animateRows": False,
            "rowHeight": 34,
            "headerHeight": 34,
            "floatingFiltersHeight": 36,
        },
        className="runs-table",
        style={"height": f"min(56vh, {120 + 34 * max(4, len(news.added) + 2)}px)"},  # it scrolls where runs come
    )
    return [
        dcc.Store(id=part("told"), data={"stand": news.stand, "fields": _fields(columns)}),
        html.Div(
            [
                html.H2("Runs"),
                html.P("Click a run to open it. Select some to lay them over each other.", className="since"),
            ],
            className="runs-head",
        ),
        grid,
        html.Div(
            [
                html.H2("Selected runs"),
                html.Span(id="compared-note", className="since", role="status"),
                html.Div(
                    dcc.Dropdown(id=part("instruments"), multi=True, placeholder="instruments"),
                    className="instruments",
                    **attributes(role="group", aria_label="Instruments to compare the selected runs by"),
                ),
            ],
            className="compare-head",
        ),
        dcc.Store(id=part("kept")),
        dcc.Store(id=part("selected")),
        dcc.Store(id=part("compared")),
    ]


def rows(found: Iterable[Row], fields: Sequence[str]) -> list[Row]:
    """Return rows with what the table's columns show."""
    return [{name: row[name] for name in fields if name in row} for row in found]


def _columns(found: Sequence[Row], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for row in found for name in row)
    settings = [name for name in names if name.startswith("set ") and len({row.get(name) for row in found}) > 1]
    return [
        {"field": "run", "headerName": "Run", "pinned": "left", "width": 180, "tooltipField": "run"},
        {"field": "state", "headerName": "State", "width": 118, "cellClassRules": _live()},
        {
            "field": "finding",
            "headerName": "Worst finding",
            "width": 300,
            "tooltipField": "finding",
            "comparator": {"function": "bySeverity"},
            "sortingOrder": ["desc", "asc", None],  # the gravest first
            "cellClassRules": {f"{light}-cell": f"params.data.rank === {RANKS[light]}" for light in RANKS},
        },
        {"field": "started", "headerName": "Started", "width": 150, "sort": "desc"},
        _numeric("duration", "Duration", 115)
        | {"valueFormatter": {"function": "duration(params.value)"}, "headerTooltip": "Filtered by seconds"},
        _numeric("steps", "Steps", 100) | {"valueFormatter": {"function": "count(params.value)"}},
        _numeric("rate", "Learning rate", 150),
        *_results(names, titles),
        {"field": "model", "headerName": "Model", "width": 140},
        {"field": "optimizer", "headerName": "Optimizer", "width": 120},
        {"field": "device", "headerName": "Device", "width": 100},
        *[{"field": name, "headerName": _setting(name), "width": 140} for name in settings[:MOST_SETTINGS]],
    ]


def _results(names: Container[str], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the columns of what the runs ended with, and of the best of it where that is known."""
    found = [
        (f"{which} {name}", f"{which.title()} {_small(title)}")
        for name, title in list(titles.items())[:MOST_RESULTS]
        for which in ("last", "best")
    ]
    return [
        _numeric(field, title, min(62 + 7 * len(title), WIDEST)) | {"headerTooltip": title}
        for field, title in found
        if field in names
    ]


def _small(title: str) -> str:
    """Return a title within a sentence: an acronym stays as it is."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def _numeric(field: str, title: str, width: int) -> dict[str, Any]:
    return {
        "field": field,
        "headerName": title,
        "width": width,
        "filter": "agNumberColumnFilter",
        "type": "rightAligned",
        "valueFormatter": NUMBER,
    }


def _live() -> dict[str, str]:
    return {"live-cell": "params.value === '● Live'"}


def _setting(name: str) -> str:
    return name.removeprefix("set ").removeprefix("optimizer.groups.0.").replace("_", " ")


def _fields(columns: Sequence[dict[str, Any]]) -> list[str]:
    return ["key", "rank", *[column["field"] for column in columns]]
