"""A reading of several runs in one chart, each a line of its own, drawn as the charts of single runs are."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from dash import Patch, html

from cockpitlite.dashboard import figures, rulers
from cockpitlite.dashboard.colours import faded
from cockpitlite.dashboard.compared import NAMED, Change, Member, colour, dash, first_scale, hover, newest_median
from cockpitlite.dashboard.figures import Curve
from cockpitlite.dashboard.readings import Readings, Window, names_of
from cockpitlite.dashboard.rulers import Ruler
from cockpitlite.dashboard.text import number, plain, shortened
from cockpitlite.dashboard.updates import View
from cockpitlite.panel import Panel, Scale

ROLES = ("behind", "raw", "main")  # what of the chart of a single run is drawn, from back to front
ROWS = 10_000  # read at once
WORDS = {"time": "the time", "epoch": "the epoch"}
HOVERS = {"step": "%{x}", "time": "%{x:,.4~r} s", "epoch": "epoch %{x:.4g}"}


def panels(members: Sequence[Member]) -> dict[str, Panel]:
    """Return the curves that one of the runs has, by the reading that each shows."""
    return {name: panel for member in members for name, panel in member.panels.items()}


def offered(panel: Panel) -> str:
    """Return the words of a choice between readings."""
    return shortened(panel.title)


@dataclass(frozen=True)
class Overlay:
    """The chart of one reading of several runs."""

    of: Panel
    kind: ClassVar[str] = "overlay"

    @property
    def reading(self) -> str:
        """The reading it shows."""
        return self.of.readings[0]

    @property
    def panel(self) -> Panel:
        """The panel of its card, with a name and hidden lines of its own."""
        marks = self.of.marks
        if self.of.kind == "parabola":  # its gauge has the words
            marks = tuple((value, "") for value, _ in marks)
        name, readings = f"compared {self.reading}", (self.reading,)
        return replace(self.of, name=name, readings=readings, kind="curve", layered=False, marks=marks)

    def news(self, members: Sequence[Member], view: View, shown: Mapping[str, Any] | None) -> Change:
        """Return what a page lacks: the lines of runs that have grown, or all where the chart is to look otherwise."""
        turned = shown is not None and shown["look"][2] != view.axis
        view = replace(view, window=None) if turned else view  # it is one of the axis there was
        first: Scale = self._first_scale(members) if shown is None else shown["first"]
        now = {
            "look": [view.scale, view.smoothing, view.axis],
            "window": list(view.window) if view.window else None,
            "stands": [member.stand for member in members],
            "first": first,
        }
        if shown == now:
            return {}
        panel = figures.scaled(self.panel, view.scale or first)
        axes = {"xaxis": self._axis(members, view), "yaxis": figures.y_axis(panel)}
        anew = shown is None or (shown["look"], shown["window"]) != (now["look"], now["window"])
        stands = [None] * len(members) if shown is None or anew else shown["stands"]
        places = [place for place, member in enumerate(members) if stands[place] != member.stand]
        drawn = {place: self._traces(panel, place, members[place], view) for place in places}
        traces = list(itertools.chain.from_iterable(drawn.values()))
        chart: dict[str, Any] | Patch
        if shown is None:
            chart = {"data": traces, "layout": _layout(panel, len(members), axes)}
        else:
            chart = _whole(traces) if anew else _replaced(drawn)
            _turn(chart, axes | ({"xaxis": axes["xaxis"] | {"autorange": True}} if turned else {}))
            if anew:
                chart["layout"]["shapes"] = figures.shapes(panel)
        return {"chart": chart, "words": self._words(members, view), "shown": now, "scale": first}

    def rows(self, members: Sequence[Member], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Yield every value of every run from one step to another, below a row of headings."""
        yield "run", "step", "reading", "value"
        for member in members:
            run, since = member.opened.run, start
            while self.reading in run.names() and since <= stop:
                steps, values = run.series(self.reading, since=since, most=ROWS)
                inside = steps <= stop
                for step, value in zip(steps[inside].tolist(), values[inside].tolist(), strict=True):
                    yield member.label, step, self.reading, repr(value)
                if len(steps) < ROWS or not inside.all():
                    break
                since = int(steps[-1]) + 1

    def _first_scale(self, members: Sequence[Member]) -> Scale:
        """Return the panel's scale; a logarithmic one where a run has gone far away and all values have a place."""
        drawn = [member.series(self.reading) for member in members]
        if self.of.kind == "parabola" or self.of.scale == "log" or any(series.nonpositive for series in drawn):
            return self.of.scale
        return first_scale(newest_median(values[np.isfinite(values)]) for values in (series.even for series in drawn))

    def _traces(self, panel: Panel, place: int, member: Member, view: View) -> list[dict[str, Any]]:
        """Return the line of a run, and behind a smoothed one its single values."""
        curves = self._curves(panel, member, view)
        ruler, uid = _ruler(member, view.axis), _uid(member.key)
        found = []
        for curve in curves:
            points = figures.points(curve)
            if view.axis != "step":
                points = {"x": [], "y": []} if ruler is None else points | {"x": ruler.along(curve.steps).tolist()}
            trace = {
                "type": "scatter",
                "name": plain(member.label),
                "legendgroup": uid,  # one name hides a mean and what is behind it
                "connectgaps": False,
            }
            found.append(trace | points | _look(curve, place, member.label, uid, view))
        return found

    def _curves(self, panel: Panel, member: Member, view: View) -> list[Curve]:
        """Return the curves of a run as its own chart draws them, on as many columns as have room."""
        ruler, window = _ruler(member, view.axis), view.window
        if view.axis != "step" and window is not None:
            window = None if ruler is None else (ruler.step(window[0]), ruler.step(window[1]))
        readings = (
            Readings({name: member.series(name) for name in names_of(panel)})
            if window is None
            else replace(member.opened.reader.read([panel], [window])[0], marks=())
        )
        curves = figures.curves(panel, readings, view.smoothing, window)
        return [curve.reduced(figures.COLUMNS, window) for curve in curves if curve.role in ROLES]

    def _axis(self, members: Sequence[Member], view: View) -> dict[str, Any]:
        """Return the labels of the axis of steps, time or epochs."""
        known = [ruler for member in members if view.axis != "step" and (ruler := _ruler(member, view.axis))]
        ends = [ruler.along(ruler.steps[[0, -1]]) for ruler in known]
        low, high = (min(end[0] for end in ends), max(end[1] for end in ends)) if ends else (0.0, 0.0)
        places = np.array([low, high])
        span: Window = view.window or (float(low), float(high))
        ruler = Ruler(places, places) if high > low else None
        return rulers.ticks(ruler, view.axis, span, 0)

    def _words(self, members: Sequence[Member], view: View) -> list[Any]:
        """Return what the chart leaves out, and the last value of each run, of many runs how many there are."""
        newest = {member.label: member.series(self.reading).values[-1:] for member in members}
        without = sum(not len(values) for values in newest.values())
        timeless = sum(_ruler(member, view.axis) is None for member in members) if view.axis != "step" else 0
        parts = [f"{_count(without)} no such reading"] if without else []
        parts += [f"{_count(timeless)} no record of {WORDS[view.axis]}"] if timeless else []
        parts += [f"{len(members)} runs: point at a line for its name"] if len(members) > NAMED else []
        ends = ", ".join(
            f"{name} {number(float(value[0])) if len(value) else 'nothing'}" for name, value in newest.items()
        )
        said = f"of {len(members)} runs" if len(members) > NAMED else f"newest: {ends}"
        return [
            *([html.P(" · ".join(parts), className="caption")] if parts else []),
            html.P(f"{self.of.title}, {said}.", className="unseen"),
        ]


def _count(runs: int) -> str:
    return f"{runs} run has" if runs == 1 else f"{runs} runs have"


def _ruler(member: Member, axis: str) -> Ruler | None:
    return member.clock if axis == "time" else member.epochs


def _look(curve: Curve, place: int, label: str, uid: str, view: View) -> dict[str, Any]:
    mode = "lines+markers" if len(curve) <= figures.SPARSE else "lines"
    if curve.role != "main":
        line = {"color": faded(colour(place), 0.35), "width": 1}
        return {"uid": f"{uid}b", "mode": "lines", "line": line, "showlegend": False, "hoverinfo": "skip"}
    line = {"color": colour(place), "width": 1.6, "dash": dash(place)}
    template = f"{HOVERS[view.axis]}<br><b>%{{y:.4g}}</b> {hover(label)}<extra></extra>"
    return {"uid": uid, "mode": mode, "marker": {"size": 4}, "line": line, "hovertemplate": template}


def _whole(traces: list[dict[str, Any]]) -> Patch:
    patch = Patch()
    patch["data"] = traces
    return patch


def _turn(patch: Patch, axes: Mapping[str, Mapping[str, Any]]) -> None:
    for name, look in axes.items():
        for key, value in look.items():
            patch["layout"][name][key] = value


def _replaced(drawn: Mapping[int, list[dict[str, Any]]]) -> Patch:
    """Put the points of some runs in place of those they had; every run has as many lines."""
    patch = Patch()
    for place, traces in drawn.items():
        for depth, trace in enumerate(traces):
            for name in ("x", "y", "mode"):
                patch["data"][place * len(traces) + depth][name] = trace[name]
    return patch


def _uid(key: str) -> str:
    """Return what a chart knows a run by, whatever its name."""
    return hashlib.blake2s(key.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def _layout(panel: Panel, runs: int, axes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    look = figures.layout(panel, revision=panel.name)
    look |= {
        "showlegend": runs <= NAMED,
        "hovermode": "closest",
        "margin": {"l": 46, "r": 10, "t": 8, "b": 28},
        "legend": {"orientation": "h", "y": -0.16, "yanchor": "top", "font": {"size": 11}},
    }
    for name, changes in axes.items():
        look[name] = look[name] | changes
    return look
