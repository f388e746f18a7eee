"""Several runs side by side: their curves in the same charts, what differs in their settings, and how a sweep went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch, dcc, html
from dash.development.base_component import Component

from cockpitlite import noise
from cockpitlite.dashboard import figures
from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.colours import BLUE, GREEN, MUTED, ORANGE, PURPLE, VERMILLION
from cockpitlite.dashboard.readings import Series
from cockpitlite.dashboard.reduce import extremes
from cockpitlite.dashboard.text import number, plain, shortened
from cockpitlite.panel import Panel
from cockpitlite.store import Run

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, MUTED)
DASHES = ("solid", "6px,3px", "2px,2px", "8px,3px,2px,3px")  # lines of one colour are told apart by these
USUAL = 2  # instruments that are shown until others are chosen
NAMED = 24  # runs whose names a chart has room for; of more each is named where it is pointed at
LEAST_SWEEP = 3  # runs that make a sweep
NEWEST = 0.1  # share of a run that tells how it ended
GRAPH_CONFIG: Any = {"displayModeBar": False, "responsive": True, "doubleClick": "reset"}


def instruments(runs: Mapping[str, Run]) -> list[dict[str, str]]:
    """Return the choices of what to compare: every curve that one of the runs has, the loss and step length first."""
    panels = {panel.readings[0]: panel for run in runs.values() for panel in shared(run)}
    order = sorted(panels, key=lambda name: (name != "loss", panels[name].kind != "parabola"))
    return [{"label": shortened(panels[name].title), "value": name} for name in order]


def shared(run: Run) -> list[Panel]:
    """Return the panels whose first reading is a curve; of one that shows several tests, one panel for each."""
    from cockpitlite.dashboard.runs import panels

    return [part for panel in panels(run) for part in _parts(panel)]


def _parts(panel: Panel) -> list[Panel]:
    if panel.kind == "tests":
        names = panel.readings
        return [replace(panel, title=f"{panel.title}: {noise.brief(name)}", readings=(name,)) for name in names]
    return [panel] if panel.kind in ("curve", "parabola") else []


@dataclass(frozen=True)
class Chart:
    """A chart of several runs, with the name that it goes by while it is on the screen."""

    name: str
    title: str
    figure: go.Figure

    @property
    def words(self) -> str:
        """The chart in a sentence: the last value of each line, of many lines how many there are."""
        lines = self.figure.data
        if len(lines) > NAMED:
            return f"{self.title} of {len(lines)} runs."
        ends = [
            unescape(line.name)
            + (f" {number(float(line.y[-1]))}" if line.y is not None and len(line.y) else " nothing")
            for line in lines
        ]
        return f"{self.title}: " + ", ".join(ends) + "."

    def change(self) -> Patch:
        """Return the points for the chart of the same runs that is on the screen.

        Whatever else it holds is left as it is there: a new figure would undo zoom and hidden lines.
        """
        patch = Patch()
        for place, line in enumerate(self.figure.data):
            for name in ("x", "y"):
                patch["data"][place][name] = np.asarray(line[name]).tolist()
            patch["data"][place]["hovertemplate"] = line.hovertemplate
        return patch


def comparison(runs: Mapping[str, Run], chosen: Sequence[str]) -> list[Component]:
    """Return the charts of the chosen readings, how the sweep went, and the differences in settings."""
    cards = [_card(chart) for chart in charts(runs, chosen)]
    return [html.Div(cards, className="overlays"), _differences(runs)]


def charts(runs: Mapping[str, Run], chosen: Sequence[str]) -> list[Chart]:
    """Return the charts of the chosen readings, and how the sweep went."""
    panels = {panel.readings[0]: panel for run in runs.values() for panel in shared(run)}
    found = [Chart(name, panels[name].title, _overlay(panels[name], runs)) for name in chosen if name in panels]
    return found + _sweep(runs)


def _overlay(panel: Panel, runs: Mapping[str, Run]) -> go.Figure:
    """Draw one reading of every run, each in a colour, and from the seventh on with a dash of its own."""
    lines = []
    for place, (label, run) in enumerate(runs.items()):
        series = _series(run, panel.readings[0])
        kept = extremes(series.steps, series.values, figures.COLUMNS)
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(label),
                "x": series.steps[kept],
                "y": series.values[kept],
                "line": {"color": colour(place), "width": 1.6, "dash": dash(place)},
                "hovertemplate": f"%{{x}}<br><b>%{{y:.4g}}</b> {_hover(label)}<extra></extra>",
            }
        )
    look = figures.layout(panel, revision=panel.readings[0])
    look |= {
        "showlegend": len(runs) <= NAMED,
        "hovermode": "closest",
        "margin": {"l": 46, "r": 10, "t": 8, "b": 28},
        "legend": {"orientation": "h", "y": -0.16, "yanchor": "top", "font": {"size": 11}},
    }
    return go.Figure({"data": lines, "layout": look}, skip_invalid=False)


def _hover(label: str) -> str:
    """Return a name for a template of what hovering shows, in which it is no part of the template."""
    return plain(label).replace("%{", "%\u200b{")


def colour(place: int) -> str:
    """Return the colour of the run at a place."""
    return COLOURS[place % len(COLOURS)]


def dash(place: int) -> str:
    """Return the dashes of the run at a place."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def _series(run: Run, name: str) -> Series:
    try:
        return Series.of(run.outline(name))
    except KeyError:
        return Series(np.empty(0, np.int64), np.empty(0))


# A sweep ----------------------------------------------------------------------------------------------------------


def _sweep(runs: Mapping[str, Run]) -> list[Chart]:
    """Return how runs ended against their learning rate and their step length, where they are runs of a sweep."""
    rates = {label: _rate(run.meta) for label, run in runs.items()}
    if len(runs) < LEAST_SWEEP or len(set(rates.values())) < 2:
        return []
    result, words = _results(runs)
    alphas = {label: _newest_median(_series(run, "alpha")) for label, run in runs.items()}
    return [
        Chart("by rate", f"{words} against the learning rate", _scatter(rates, result, "learning rate", words, "log")),
        Chart("by α", f"{words} against α", _scatter(alphas, result, "median α of the newest tenth", words, "linear")),
    ]


def _results(runs: Mapping[str, Run]) -> tuple[dict[str, float], str]:
    """Return how well each run went: its best held-out loss where all have one, else its last training loss."""
    for name in ("valid_loss", "val_loss"):
        held = {label: _series(run, name).values for label, run in runs.items()}
        if all(np.isfinite(values).any() for values in held.values()):
            return {label: float(np.nanmin(values)) for label, values in held.items()}, f"Best {name}"
    return {label: _newest_median(_series(run, "loss")) for label, run in runs.items()}, "Last loss"


def _newest_median(series: Series) -> float:
    """Return the median of the newest tenth; NaN where there is none, or where that is not finite."""
    values = series.even
    kept = values[-max(math.ceil(NEWEST * len(values)), 1) :]
    return float(np.median(kept)) if len(kept) else math.nan


def _rate(meta: Mapping[str, Any]) -> float:
    try:
        return float(meta["optimizer"]["groups"][0]["lr"])
    except (LookupError, TypeError, ValueError):
        return math.nan


def _scatter(across: Mapping[str, float], up: Mapping[str, float], axis: str, words: str, scale: str) -> go.Figure:
    points = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(label),
            "x": [across[label]],
            "y": [up[label]],
            "marker": {"color": colour(place), "size": 10, "symbol": place // len(COLOURS) % 8},
            "hovertemplate": f"{_hover(label)}<br>{number(across[label])}, {number(up[label])}<extra></extra>",
        }
        for place, label in enumerate(across)
    ]
    look = figures.layout(Panel(words, "performance").named("result"), revision=axis)
    look |= {"showlegend": False, "hovermode": "closest", "margin": {"l": 46, "r": 10, "t": 8, "b": 40}}
    look["xaxis"] = {
        "type": scale,
        "title": {"text": axis, "font": {"size": 11}},
        "gridcolor": look["xaxis"]["gridcolor"],
        "zeroline": False,
        "tickformat": "~g",
        "nticks": 4,
    }
    return go.Figure({"data": points, "layout": look}, skip_invalid=False)


# What differs -----------------------------------------------------------------------------------------------------


def _differences(runs: Mapping[str, Run]) -> Component:
    """Return the settings that are not the same in all the runs, side by side."""
    from cockpitlite.compare import differing, settings  # here, so that the page stands before the rules are loaded

    found = differing([settings(run.meta) for run in runs.values()])
    if not found:
        words = "Select two runs or more to see what differs." if len(runs) < 2 else "Their settings are the same."
        return html.P(words, className="nothing")
    head = html.Thead(html.Tr([html.Th("setting", scope="col"), *[html.Th(name, scope="col") for name in runs]]))
    body = html.Tbody([html.Tr([html.Th(name, scope="row"), *map(html.Td, cells)]) for name, cells in found])
    table = html.Table([html.Caption("Settings that differ"), head, body])
    return html.Div(table, className="differences", tabIndex=0)


def _card(chart: Chart) -> Component:
    """Return a chart with its title; what is drawn and said of it is renewed under its name."""
    graph = dcc.Graph(
        id={"type": "overlay", "index": chart.name}, figure=chart.figure, config=GRAPH_CONFIG, responsive=True
    )
    plot = html.Div(graph, className="plot overlay-plot", **attributes(aria_hidden="true"))
    said = html.P(chart.words, className="unseen", id={"type": "overlay-words", "index": chart.name})
    return html.Article([html.H3(chart.title), plot, said], className="overlay")
