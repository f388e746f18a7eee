"""The step-length gauge: a distribution at the bottom of the unit parabola, with the newest tenth as a ball in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cockpitlite.dashboard.colours import BLUE, FAULT, GOOD, GROUP_COLOURS, MUTED, SECOND_COLOURS, faded
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.text import number, plain
from cockpitlite.diagnosis.advice import READING, Advice
from cockpitlite.panel import Panel
from cockpitlite.store import Values

REACH = 1.75  # the gauge shows -REACH to REACH; values beyond stand in its outermost bins
BINS = 35
EDGES = np.linspace(-REACH, REACH, BINS + 1)
TOP = 3.6  # height of the picture, in units of the parabola
EDGE = 1.6  # marks on the parabola go no further out than this
FLOOR = -0.35  # where the picture ends below, so that the ball rests above the labels
BAR = 1.2  # height of the fullest bin, in the same units
# Where a panel names no healthy range, what the parabola itself says: less than a tenth of the way to the minimum is
# too small, higher than where the step began too large. What lies between need not be good: it has no name then.
BOUNDS = (-0.9, 1.0)
ENOUGH = 2  # values in the newest tenth, from which on their median is judged by a colour
ZONE_COLOURS = {"too small": BLUE, "good": GOOD, "too large": FAULT}


@dataclass(frozen=True)
class Dial:
    """What the gauge shows: shares per bin ``[35]`` of all values and of the newest tenth, and its median."""

    everything: Values
    newest: Values
    median: float
    count: int
    newest_count: int
    beyond: int


def dial(panel: Panel, readings: Readings) -> Dial:
    """Count the finite values of a panel's first reading; the median of none is NaN."""
    values = readings.of(panel.readings[0]).even
    finite = values[np.isfinite(values)]
    newest = finite[len(finite) - math.ceil(len(finite) / 10) :]
    return Dial(
        everything=_shares(finite),
        newest=_shares(newest),
        median=float(np.median(newest)) if len(newest) else math.nan,
        count=len(finite),
        newest_count=len(newest),
        beyond=int(np.sum(np.abs(finite) > REACH)),
    )


def zone(panel: Panel, value: float) -> str:
    """Return the zone of the gauge in which a step length lies; an empty text where that has no name."""
    low, high = _bounds(panel)
    if value < low:
        return "too small"
    if value > high:
        return "too large"
    return "" if panel.healthy is None or math.isnan(value) else "good"


def figure(panel: Panel, readings: Readings, advice: Advice | None = None) -> go.Figure:
    """Return the gauge of a panel of kind ``"parabola"``."""
    return go.Figure(data=traces(panel, dial(panel, readings), advice), layout=_layout(panel))


def advised(panel: Panel, advice: Advice | None) -> Advice | None:
    """Return the advice where a panel is the one that learning rates are judged by."""
    return advice if panel.readings[0] == READING else None


def traces(panel: Panel, shown: Dial, advice: Advice | None = None) -> list[dict[str, Any]]:
    """Return what is drawn: the parabola, both distributions, where to go on advice, and the ball."""
    colour = GROUP_COLOURS[panel.group]
    line = np.linspace(-REACH, REACH, 71)
    place = _held(shown.median)
    known = not math.isnan(shown.median)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": line.round(4).tolist(),
            "y": (line**2).round(4).tolist(),
            "line": {"color": faded(MUTED, 0.9), "width": 2},
            "hoverinfo": "skip",
        },
        _bars(shown.everything, faded(MUTED, 0.5), "all", shown.count),
        _bars(shown.newest, faded(colour, 0.75), "newest tenth", shown.newest_count),
        *_goal(shown.median, advice),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place] if known else [],
            "y": [place**2] if known else [],
            "cliponaxis": False,
            "marker": {"size": 17, "color": _ball(panel, shown)},
            "hovertemplate": f"median of the newest tenth: {number(shown.median)}<extra></extra>",
        },
    ]


def _ball(panel: Panel, shown: Dial) -> str:
    """Return the colour of the zone in which the median lies, where it is one of several values; else grey."""
    return MUTED if shown.newest_count < ENOUGH else ZONE_COLOURS.get(zone(panel, shown.median), MUTED)


def _goal(median: float, advice: Advice | None) -> list[dict[str, Any]]:
    """Lay on the parabola where the best rate lies in eight of ten runs, and a ring where the steps would end."""
    place = advice.place(median) if advice is not None else math.nan
    if advice is None or math.isnan(place):
        return []
    hover = {"hovertemplate": f"steps would end about here, at {number(place)}: {plain(advice.label)}<extra></extra>"}
    found: list[dict[str, Any]] = []
    if advice.span is not None:
        ends = [_held(advice.place(median, factor)) for factor in advice.span]
        line = np.linspace(ends[0], ends[1], 25)
        band = {"width": 9, "color": faded(SECOND_COLOURS[0], 0.45)}
        found.append(_on_parabola(line) | {"mode": "lines", "line": band, "hoverinfo": "skip"})
    at = _held(place)
    ring = {"size": 13, "symbol": "circle-open", "color": SECOND_COLOURS[0], "line": {"width": 3}}
    side = "middle right" if at < 0 else "middle left"
    words = {"text": [f"  {plain(advice.label)}  "], "textposition": side, "textfont": {"size": 13}}
    found.append(_on_parabola(np.array([at])) | {"mode": "markers+text", "marker": ring, **words, **hover})
    return found


def _on_parabola(places: Values) -> dict[str, Any]:
    return {"type": "scatter", "cliponaxis": False, "x": places.round(4).tolist(), "y": (places**2).round(4).tolist()}


def _held(place: float) -> float:
    return float(np.clip(place, -EDGE, EDGE))


def caption(panel: Panel, readings: Readings, advice: Advice | None = None) -> str:
    """Return what the gauge shows, in words, advice first."""
    shown = dial(panel, readings)
    if not shown.count:
        return "" if advice is None else advice.words
    words = []
    if advice is not None:
        where = "" if math.isnan(advice.place(shown.median)) else " The ring shows where steps would then end."
        band = " The band shows where, at those rates." if where and advice.span is not None else ""
        words.append(advice.words + where + band)
    words += counted(shown.count, shown.newest_count, readings.of(panel.readings[0]).points)
    if shown.beyond:
        words.append(f"{shown.beyond:,} beyond ±{REACH} drawn at the edge")
    return " · ".join(words)


def counted(count: int, newest: int, points: int, of_what: str = "") -> list[str]:
    """Return how many values a gauge shows, how many of them are the newest, and from when on it judges these."""
    of = f" of {points:,}" if points > 2 * count else ""  # a sample; a few may be left out for not being finite
    values = f"{count:,}{of} {'value' if count == 1 else 'values'}{of_what}"
    if newest >= ENOUGH:
        return [f"{values}, the newest {newest:,} in colour"]
    later = f"a ball is coloured by where it lies from {10 * (ENOUGH - 1) + 1} values on"
    return [values if count == 1 else f"{values}, the newest in colour", later]


def _shares(values: Values) -> Values:
    counts = np.histogram(np.clip(values, -REACH, REACH), EDGES)[0].astype(np.float64)
    return counts / counts.max() if counts.any() else counts


def _bars(shares: Values, colour: str, name: str, count: int) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": ((EDGES[:-1] + EDGES[1:]) / 2).round(4).tolist(),
        "y": (BAR * shares).round(4).tolist(),
        "customdata": shares.round(4).tolist(),
        "width": float(EDGES[1] - EDGES[0]),
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": f"%{{x:.2f}}: %{{customdata:.0%}} of the fullest bin<extra>{name}, {count:,} values</extra>",
    }


def _bounds(panel: Panel) -> tuple[float, float]:
    low, high = panel.healthy or BOUNDS
    return -math.inf if low is None else low, math.inf if high is None else high


def _layout(panel: Panel) -> dict[str, Any]:
    ticks = panel.marks or ((-1.0, ""), (0.0, ""), (1.0, ""))
    labels = {value: f"{number(value)}<br>{plain(label)}" for value, label in ticks}
    return frame((-REACH, REACH), labels, (FLOOR, TOP), _zone_shapes(panel))


def frame(
    across: tuple[float, float], labels: dict[float, str], up: tuple[float, float], shapes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the layout that every gauge has: a scale below, with ``labels`` by their places, that nobody zooms."""
    return {
        "template": go.layout.Template(),
        "autosize": True,
        "margin": {"l": 10, "r": 10, "t": 4, "b": 32},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 11, "color": MUTED},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
        "barmode": "overlay",
        "xaxis": {
            "type": "linear",
            "range": list(across),
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
            "tickangle": 0,
            "tickvals": list(labels),
            "ticktext": list(labels.values()),
        },
        "yaxis": {"range": list(up), "fixedrange": True, "visible": False},
        "shapes": shapes,
    }


def _zone_shapes(panel: Panel) -> list[dict[str, Any]]:
    """Shade and name the zones."""
    low, high = (float(np.clip(bound, -REACH, REACH)) for bound in _bounds(panel))
    spans = {"too small": (-REACH, low), "good": (low, high), "too large": (high, REACH)}
    if panel.healthy is None:
        del spans["good"]
    return [
        {
            "type": "rect",
            "x0": start,
            "x1": end,
            "y0": FLOOR,
            "y1": TOP,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": faded(ZONE_COLOURS[name], 0.13),
            "label": {"text": name, "textposition": "top center", "font": {"size": 11}},
        }
        for name, (start, end) in spans.items()
        if end > start
    ]
