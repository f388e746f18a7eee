"""How the runs of a sweep ended, against their learning rate and against their step length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from dash import Patch, html

from cockpitlite.dashboard import figures, labels
from cockpitlite.dashboard.colours import SECOND_COLOURS
from cockpitlite.dashboard.compared import COLOURS, NAMED, Change, Member, colour, first_scale, hover, newest_median
from cockpitlite.dashboard.results import HELD_OUT_LOSSES
from cockpitlite.dashboard.text import number, plain
from cockpitlite.dashboard.updates import View
from cockpitlite.panel import Panel, Scale

LEAST = 3  # runs that make a sweep
LABELLED = 12  # points that have room for their names
MARGIN = {"l": 46, "r": 16, "t": 18, "b": 40}
HEIGHT = 290  # of a chart, as in the style sheet
EDGE = 0.08  # of a chart, between its edge and its outermost points


class Point(NamedTuple):
    """A run with its place across a chart, and how well it went."""

    member: Member
    across: float
    result: float

    def told(self, words: str) -> str:
        """Return it in words."""
        return f"{self.member.label} with {number(self.result)} at {words} {number(self.across)}"


@dataclass(frozen=True)
class Scatter:
    """A chart with a point for each run; what goes ``across`` is one of its numbers."""

    across: Literal["learning rate", "α"]
    result: str | None  # the held-out loss whose best value counts, None for the last training loss
    kind: ClassVar[str] = "scatter"

    @property
    def result_words(self) -> str:
        """What a run ended with."""
        return "Last loss" if self.result is None else f"Best {self.result.replace('_', ' ')}"

    @property
    def panel(self) -> Panel:
        """The panel of its card."""
        against = "the learning rate" if self.across == "learning rate" else "α"
        return Panel(f"{self.result_words} against {against}", "performance").named(f"compared by {self.across}")

    @property
    def scale(self) -> Scale:
        """The scale of the axis across."""
        return "log" if self.across == "learning rate" else "linear"

    def points(self, members: Sequence[Member]) -> list[Point]:
        """Return the point of each run."""
        return [Point(member, _across(member, self.across), _result(member, self.result)) for member in members]

    def news(self, members: Sequence[Member], view: View, shown: Mapping[str, Any] | None) -> Change:
        """Return the points where one of the runs has grown, or the chart is to look otherwise."""
        look, stands = [view.scale, view.columns], [member.stand for member in members]
        if shown is not None and (shown["look"], shown["stands"]) == (look, stands):
            return {}
        points = self.points(members)
        first = first_scale(point.result for point in points) if shown is None else shown["first"]
        panel = figures.scaled(self.panel, view.scale or first)
        traces = _traces(points, (self.scale, panel.scale), view.columns)
        chart: dict[str, Any] | Patch
        if shown is None:
            chart = {"data": traces, "layout": self._layout(panel)}
        else:
            chart = Patch()
            chart["data"] = traces
            for name, value in figures.y_axis(panel).items():
                chart["layout"]["yaxis"][name] = value
        now = {"look": look, "stands": stands, "first": first}
        return {"chart": chart, "words": self._words(points), "shown": now, "scale": first}

    def rows(self, members: Sequence[Member], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Yield every run with its numbers, below a row of headings; they are those of whole runs."""
        yield "run", self.across, self.result_words
        yield from ((point.member.label, repr(point.across), repr(point.result)) for point in self.points(members))

    def _words(self, points: Sequence[Point]) -> list[Any]:
        """Return which run is the best, and where each run stands, of many runs how many there are."""
        top = best(points)
        found = "" if top is None else f"Best: {points[top].told(self.across)}"
        hint = "point at one for its name" if len(points) > LABELLED else ""
        caption = " · ".join(filter(None, (found, hint)))
        every = "; ".join(point.told(self.across) for point in points[:NAMED])
        more = f", the first {NAMED} of {len(points)} runs" if len(points) > NAMED else ""
        return [
            *([html.P(caption, className="caption")] if caption else []),
            html.P(f"{self.panel.title}{more}: {every}.", className="unseen"),
        ]

    def _layout(self, panel: Panel) -> dict[str, Any]:
        look = figures.layout(panel, revision=panel.name)
        words = "learning rate" if self.across == "learning rate" else "median α of the newest tenth"
        look |= {"showlegend": False, "hovermode": "closest", "margin": MARGIN}
        look["xaxis"] = {
            "type": self.scale,
            "title": {"text": words, "font": {"size": 11}},
            "gridcolor": look["xaxis"]["gridcolor"],
            "zeroline": False,
            "tickformat": "~g",
            "nticks": 4,
        }
        return look


def parts(members: Sequence[Member]) -> list[Scatter]:
    """Return how runs ended against their learning rate and their step length, where they are runs of a sweep."""
    if len(members) < LEAST or len({repr(member.rate) for member in members}) < 2:
        return []
    held = (name for name in HELD_OUT_LOSSES if all(math.isfinite(_result(member, name)) for member in members))
    result = next(held, None)
    return [Scatter("learning rate", result), Scatter("α", result)]


def best(points: Sequence[Point]) -> int | None:
    """Return the place of the run with the least result, None where none is finite."""
    known = [place for place, point in enumerate(points) if math.isfinite(point.result)]
    return min(known, key=lambda place: points[place].result, default=None)


def _traces(points: Sequence[Point], scales: tuple[Scale, Scale], columns: int) -> list[dict[str, Any]]:
    """Return a point for each run, with its name where there is room for it; the best one has a ring as well."""
    top = best(points)
    names = ["" if len(points) > LABELLED else plain(point.member.label) for point in points]
    if top is not None:
        names[top] = f"best: {plain(points[top].member.label)}"
    size = columns - MARGIN["l"] - MARGIN["r"], HEIGHT - MARGIN["t"] - MARGIN["b"]
    across = _spread([point.across for point in points], scales[0], size[0])
    up = [size[1] - height for height in _spread([point.result for point in points], scales[1], size[1])]
    sides = labels.sides(list(zip(across, up, strict=True)), names, size, top)
    found = [_trace(point, place, names[place], sides[place]) for place, point in enumerate(points)]
    if top is not None:
        found[top]["mode"] = "markers"  # its name stands beside the ring
    return [*found, _ring(found[top] if top is not None else {}, names[top] if top is not None else "")]


def _ring(point: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Draw a ring around the best point, with its name; around nothing where there is none."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "uid": "best",
        "x": point.get("x", []),
        "y": point.get("y", []),
        "text": [f"<b>{name}</b>"],
        "textposition": point.get("textposition", "top center"),
        "cliponaxis": False,
        "hoverinfo": "skip",
        "marker": {"symbol": "circle-open", "size": 19, "color": SECOND_COLOURS[0], "line": {"width": 2.5}},
    }


def _trace(point: Point, place: int, name: str, side: str) -> dict[str, Any]:
    numbers = f"{number(point.across)}, {number(point.result)}"
    return {
        "type": "scatter",
        "mode": "markers+text" if side else "markers",
        "name": plain(point.member.label),
        "uid": f"run{place}",
        "x": [point.across if math.isfinite(point.across) else None],
        "y": [point.result if math.isfinite(point.result) else None],
        "text": [name],
        "textposition": side or "top center",
        "cliponaxis": False,
        "marker": {"color": colour(place), "size": 10, "symbol": place // len(COLOURS) % 8},
        "hovertemplate": f"{hover(point.member.label)}<br>{numbers}<extra></extra>",
    }


def _spread(values: Sequence[float], scale: Scale, room: float) -> list[float]:
    """Return where values lie on an axis that shows all of them, in pixels about; NaN for those it cannot show."""
    found = np.array(values, dtype=np.float64)
    found[~np.isfinite(found) | ((found <= 0) & (scale == "log"))] = np.nan
    found = np.log(found) if scale == "log" else found
    if np.isnan(found).all():
        return found.tolist()
    low, high = np.nanmin(found), np.nanmax(found)
    shares = (found - low) / (high - low) if high > low else found * 0 + 0.5
    places: list[float] = (room * (EDGE + (1 - 2 * EDGE) * shares)).tolist()
    return places


def _across(member: Member, across: str) -> float:
    return member.rate if across == "learning rate" else newest_median(member.series("alpha").even)


def _result(member: Member, held: str | None) -> float:
    """Return how well a run went: its best held-out loss, or its last training loss."""
    if held is None:
        return newest_median(member.series("loss").even)
    values = member.series(held).values
    return float(np.nanmin(values)) if np.isfinite(values).any() else math.nan
