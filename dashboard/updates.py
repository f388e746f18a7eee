"""What to send to a chart that is on a screen: the points it lacks, so that zoom and legend stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import plotly.graph_objects as go
from dash import Patch

from cockpitlite.dashboard import figures, gauges, heatmaps
from cockpitlite.dashboard.figures import Curve
from cockpitlite.dashboard.readings import Readings, Window
from cockpitlite.diagnosis.advice import Advice
from cockpitlite.panel import Panel, Scale

Axis = Literal["step", "time", "epoch"]

WIDER = 1.5  # a chart that has become wider by this factor gets more points
MOVING = ("x", "y", "z", "hovertext", "mode", "marker")  # what of a trace changes as its run goes on


@dataclass(frozen=True)
class View:
    """How a chart stands on a screen: its width in pixels, and the range of steps it is zoomed to.

    ``scale`` is that of its vertical axis where it is not the panel's, ``smoothing`` the factor of its exponential
    mean, ``axis`` what its steps are labelled with.
    """

    columns: int = figures.COLUMNS
    window: Window | None = None
    scale: Scale | None = None
    smoothing: float = 0.0
    axis: Axis = "step"

    @property
    def looks(self) -> tuple[Scale | None, float]:
        """What of it changes which curves there are, and where."""
        return self.scale, self.smoothing


@dataclass(frozen=True)
class Shown:
    """What a chart has been sent: each curve's last step by key, its pauses, the points added since it was reduced.

    ``marks`` tells which marks of the run it shows, ``advice`` what its gauge advises. Of a heat map ``ends`` is its
    cursor (see :func:`~cockpitlite.dashboard.heatmaps.cursor`).
    """

    ends: Mapping[str, int] = field(default_factory=dict)
    pauses: int = 0
    added: int = 0
    view: View = View()
    marks: int = 0
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the page to keep."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        view = View(**data["view"])
        window = view.window and (float(view.window[0]), float(view.window[1]))
        view = replace(view, window=window)
        return cls(data["ends"], int(data["pauses"]), int(data["added"]), view, int(data["marks"]), str(data["advice"]))


def whole(panel: Panel, readings: Readings, view: View) -> tuple[go.Figure, Shown]:
    """Return a chart that is not drawn yet, and what it shows then. ``panel`` is on the view's scale."""
    if panel.kind in heatmaps.KINDS:
        return heatmaps.figure(panel, readings), shown(panel, readings, view)
    curves = _curves(panel, readings, view)
    return figures.drawn(panel, _reduced(curves, view)), _sent(curves, 0, view)


def shown(panel: Panel, readings: Readings, view: View | None = None) -> Shown:
    """Return what a chart shows once it has been sent whole."""
    if panel.kind in heatmaps.KINDS:
        return Shown(heatmaps.cursor(panel, readings), view=view or View())
    return _sent(_curves(panel, readings, view or View()), 0, view or View())


def _curves(panel: Panel, readings: Readings, view: View) -> list[Curve]:
    return figures.curves(panel, readings, view.smoothing, view.window)


def _sent(curves: list[Curve], added: int, view: View) -> Shown:
    pauses = sum(curve.pauses for curve in curves)
    return Shown({curve.key: curve.end for curve in curves}, pauses, added, view, figures.digest(_marks(curves, view)))


def _marks(curves: list[Curve], view: View) -> list[Curve]:
    return _reduced([curve for curve in curves if curve.role == "event"], view)


def update(panel: Panel, readings: Readings, before: Shown, view: View) -> tuple[Patch | None, Shown]:
    """Return the change of a chart and what it shows then; None where nothing is new.

    New points are appended as they are. The curves are sent whole, reduced anew, when as many points were appended as
    the chart has columns, when curves appear, when a line breaks, when a reduced chart is zoomed or made wider, and
    when it is to look otherwise. A heat map, whose size is bounded, is sent whole. ``panel`` is on the view's scale.
    """
    if panel.kind in heatmaps.KINDS:
        return _heat_map(panel, readings, before)
    curves = _curves(panel, readings, view)
    fresh = [curve.since(before.ends.get(curve.key, -1)) for curve in curves]
    added = before.added + max((len(curve) for curve in fresh if curve.role == "main"), default=0)
    if view.looks != before.view.looks:
        patch = _whole(figures.traces(panel, _reduced(curves, view)))
        patch["layout"]["shapes"] = figures.shapes(panel)
        for name, value in figures.y_axis(panel).items():
            patch["layout"]["yaxis"][name] = value
        return patch, _sent(curves, 0, view)
    if [curve.key for curve in curves] != list(before.ends):  # curves came: the chart gets them all
        return _whole(figures.traces(panel, _reduced(curves, view))), _sent(curves, 0, view)
    if _must_reduce(curves, fresh, before, added, view):
        return _coordinates(figures.traces(panel, _reduced(curves, view))), _sent(curves, 0, view)
    marks = _marks(curves, view)
    unchanged = figures.digest(marks) == before.marks
    if unchanged and not any(len(curve) for curve in fresh):
        return None, before
    after = _sent(curves, added, before.view)
    patch = _appended(fresh)
    if not unchanged:
        _replace(patch, figures.traces(panel, marks))  # they are the first of the curves
    return patch, replace(after, marks=figures.digest(marks))


def _heat_map(panel: Panel, readings: Readings, before: Shown) -> tuple[Patch | None, Shown]:
    """Replace what a heat map shows, and the labels of its bins where these are others."""
    after = replace(before, ends=heatmaps.cursor(panel, readings))
    if after == before:
        return None, before
    anew = after.ends["events"] != before.ends.get("events")
    traces = heatmaps.traces(panel, readings)
    patch = _whole(traces) if anew else _coordinates(traces)
    if after.ends["bins"] != before.ends.get("bins"):
        for axis, labels in heatmaps.ticks(panel, readings).items():
            for name, value in labels.items():
                patch["layout"][axis][name] = value
    return patch, after


def update_gauge(panel: Panel, readings: Readings, advice: Advice | None = None) -> Patch:
    """Return the change of a gauge: its distributions, its balls, and where to go on advice."""
    return _whole(gauges.traces(panel, readings, advice))


def _reduced(curves: list[Curve], view: View) -> list[Curve]:
    return [curve.reduced(view.columns, view.window) for curve in curves]


def _must_reduce(curves: list[Curve], fresh: list[Curve], before: Shown, added: int, view: View) -> bool:
    main = [(curve, new) for curve, new in zip(curves, fresh, strict=True) if curve.role == "main"]
    if any(len(curve) - len(new) <= figures.SPARSE < len(curve) for curve, new in main):
        return True  # from single points to a line
    if added > view.columns or sum(curve.pauses for curve in curves) != before.pauses:
        return True
    if any(not np.isfinite(new.values).all() for _, new in main):
        return True
    long = any(curve.is_long(before.view.columns) for curve in curves)
    wider = view.columns > WIDER * before.view.columns
    moved = view.window != before.view.window
    return (long and (wider or moved)) or (moved and bool(view.smoothing))


def _whole(traces: list[dict[str, Any]]) -> Patch:
    patch = Patch()
    patch["data"] = traces
    return patch


def _coordinates(traces: list[dict[str, Any]]) -> Patch:
    """Replace the points of each trace; a line that was hidden in the legend stays hidden."""
    patch = Patch()
    _replace(patch, traces)
    return patch


def _replace(patch: Patch, traces: list[dict[str, Any]]) -> None:
    for place, trace in enumerate(traces):
        for name in MOVING:
            if name in trace:
                patch["data"][place][name] = trace[name]


def _appended(fresh: list[Curve]) -> Patch:
    patch = Patch()
    for place, curve in enumerate(fresh):
        if len(curve):
            for axis, coordinates in figures.points(curve).items():
                patch["data"][place][axis].extend(coordinates)
    return patch
