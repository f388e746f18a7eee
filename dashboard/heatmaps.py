"""Histograms as heat maps, as pure functions of a panel and its readings: over the steps, or two quantities joined."""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cockpitlite import heat
from cockpitlite.dashboard import figures
from cockpitlite.dashboard.colours import GROUP_COLOURS, SECOND_COLOURS, faded
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.text import number, plain
from cockpitlite.panel import Panel
from cockpitlite.store import Values

KINDS = ("histogram", "joint")
JOINT_BINS = 64  # along each axis of a joint histogram; neighbouring bins of finer ones are added
FAINTEST = 0.15  # opacity


def figure(panel: Panel, readings: Readings) -> go.Figure:
    """Return a panel's heat map."""
    found = figures.layout(panel) | {"hovermode": "closest", "showlegend": False}
    found["margin"] |= {"t": 8}
    bins: dict[str, Any] = {"type": "category", "showgrid": False, "fixedrange": True, "ticks": "outside", "ticklen": 3}
    found["xaxis"] |= {"ticks": ""}
    found["yaxis"] |= bins
    if panel.kind == "joint":
        found["xaxis"] |= bins | {"tickprefix": "", "showtickprefix": "none"}
        found["dragmode"] = False
        for axis, name in zip(("yaxis", "xaxis"), panel.axes or ("", ""), strict=True):
            found[axis]["title"] = {"text": plain(name), "font": {"size": 10}, "standoff": 4}
        found["margin"] |= {"b": 40, "l": 64} if panel.axes else {}
    for axis, labels in ticks(panel, readings).items():
        found[axis] |= labels
    return go.Figure(data=traces(panel, readings), layout=found)


def traces(panel: Panel, readings: Readings) -> list[dict[str, Any]]:
    """Return what is drawn: the heat map, and over steps the run's events."""
    if panel.kind == "joint":
        return [_joint(panel, readings)]
    shown = heat.picture(readings.columns)
    template = "step %{x:.0f}<br>%{y}: <b>%{z:.3~%}</b> of the values<extra></extra>"
    main = _heat(panel, shown.steps.tolist(), _ranges(shown.edges), shown.shares, template)
    return [main, *figures.traces(panel, _events(readings))]


def _events(readings: Readings) -> list[figures.Curve]:
    events = figures.event_curves(readings.marks, readings.columns.last)
    return [curve.reduced(figures.COLUMNS) for curve in events]


def ticks(panel: Panel, readings: Readings) -> dict[str, dict[str, Any]]:
    """Return the labels of each axis that has bins on it, by the axis' name in a figure's layout."""
    if panel.kind == "histogram":
        return {"yaxis": _labels(heat.picture(readings.columns).edges, heat.TICKS)}
    if readings.newest is None:
        return {}
    first, second = heat.reduced(readings.newest[1], JOINT_BINS).edges
    return {"yaxis": _labels(first, heat.TICKS), "xaxis": _labels(second, 5)}


def cursor(panel: Panel, readings: Readings) -> dict[str, int]:
    """Return what tells whether a heat map that was sent is the present one: its last step, its events, its bins."""
    step = -1 if readings.newest is None else max(readings.newest[0], readings.columns.last)
    return {
        "step": step,
        "events": figures.digest(_events(readings)),
        "bins": zlib.crc32(repr(ticks(panel, readings)).encode()),
    }


def headline(panel: Panel, readings: Readings) -> str:
    """Return the size that 99 % of the newest values are not above; of a joint histogram its step."""
    if readings.newest is None:
        return ""
    step, histogram = readings.newest
    if panel.kind == "joint":
        return f"step {step:,}"
    return f"{heat.TAIL:.0%} ≤ {_size(histogram.counts, histogram.edges[0], heat.TAIL)}"


def caption(panel: Panel, readings: Readings) -> str:
    """Return what a heat map does not show: what its colours mean, how many steps a column adds up, other readings."""
    if readings.newest is None:
        return ""
    parts = [f"share of the values in a bin, from {number(heat.LEAST_SHARE)} (faint) to 1"]
    if readings.columns.stretch > 1:
        parts.append(f"each column adds up {readings.columns.stretch:,} steps")
    for name in panel.readings[1:]:
        words = name.removeprefix(f"{panel.readings[0]}_").replace("_", " ")
        parts += [f"{words} {number(value)}" for value in readings.of(name).values[-1:].tolist() if value != 0]
    return " · ".join(parts)


def description(panel: Panel, readings: Readings) -> str:
    """Return the heat map in a sentence, for those who do not see it."""
    if readings.newest is None:
        return f"{panel.title}: no values yet."
    step, histogram = readings.newest
    counts, columns = histogram.counts, readings.columns
    over = f", steps {columns.places[0] * columns.stretch:,} to {columns.last:,}" if len(columns.places) else ""
    names = ["values"] if counts.ndim == 1 else list(panel.axes or ("first values", "second values"))
    sums = [counts] if counts.ndim == 1 else [counts.sum(axis=1), counts.sum(axis=0)]
    sizes = [
        f"half of the {name} at most {_size(part, edges, 0.5)} in size, "
        f"{heat.TAIL:.0%} at most {_size(part, edges, heat.TAIL)}"
        for name, part, edges in zip(names, sums, histogram.edges, strict=True)
    ]
    return f"{panel.title}{over}: {counts.sum():,} values at step {step:,}, {'; '.join(sizes)}."


def _size(counts: NDArray[np.int64], edges: Values, share: float) -> str:
    return number(float(f"{heat.bound(counts, edges, share):.3g}"))


def _joint(panel: Panel, readings: Readings) -> dict[str, Any]:
    names = [
        plain(name).replace("%{", "%\u200b{") for name in panel.axes or ("first", "second")
    ]  # no name is a template
    template = f"{names[0]} %{{y}}<br>{names[1]} %{{x}}<br><b>%{{z:.3~%}}</b> of the values<extra></extra>"
    if readings.newest is None:
        return _heat(panel, [], [], np.empty((0, 0)), template)
    shown = heat.reduced(readings.newest[1], JOINT_BINS)
    shares = shown.counts / max(int(shown.counts.sum()), 1)
    return _heat(panel, _ranges(shown.edges[1]), _ranges(shown.edges[0]), shares, template)


def _heat(panel: Panel, x: list[Any], y: list[str], shares: Values, template: str) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": [[None if math.isnan(share) else float(f"{share:.3g}") for share in row] for row in shares.tolist()],
        "zmin": 0,
        "zmax": 1,
        "colorscale": _colours(GROUP_COLOURS[panel.group]),
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": template,
    }


def _colours(colour: str) -> list[list[Any]]:
    """Return colours of shares from 0 to 1 that go by the share's logarithm; seen through, they suit any background."""
    full = math.log10(heat.FULL_SHARE / heat.LEAST_SHARE)
    stops: list[list[Any]] = [[0.0, faded(colour, 0.0)], [heat.LEAST_SHARE / 1e6, faded(colour, FAINTEST)]]
    for exponent in np.arange(0.0, full + 0.01, 0.25).tolist():
        strength = FAINTEST + (1 - FAINTEST) * exponent / full
        stops.append([heat.LEAST_SHARE * 10**exponent, faded(colour, strength)])
    return [*stops, [heat.MOST_SHARE, faded(SECOND_COLOURS[0], 1.0)], [1.0, faded(SECOND_COLOURS[0], 1.0)]]


def _ranges(edges: Values) -> list[str]:
    """Return the bins in words, with as many digits as tell all of them apart."""
    found: list[str] = []
    for digits in (3, 6, 17):
        ends = [f"{edge:.{digits}g}".replace("-", "−") for edge in edges.tolist()]
        found = [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
        if len(set(found)) == len(found):
            break
    return found


def _labels(edges: Values, most: int) -> dict[str, Any]:
    """Return ticks at edges; the middle of the first bin is at 0."""
    found = heat.ticks(edges, most)
    labels = [number(float(f"{value:.2g}")) for _, value in found]
    return {"tickmode": "array", "tickvals": [height - 0.5 for height, _ in found], "ticktext": labels}
