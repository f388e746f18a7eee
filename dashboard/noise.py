"""The gauge of the gradient tests: a row for each on one logarithmic scale, and the bound that it should stay below."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from cockpitlite import noise
from cockpitlite.dashboard.colours import FAULT, GOOD, GROUP_COLOURS, MUTED, faded
from cockpitlite.dashboard.gauge import ENOUGH, counted, frame
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.text import number, plain
from cockpitlite.noise import Row
from cockpitlite.panel import Panel

BAR = 0.55  # height of the fullest bin; a row is 1 high
WORDS = 0.78  # height of a row's words
ROOM = 0.42  # above the rows, for the names of the zones
ENDS = (float(noise.EDGES[0]), float(noise.EDGES[-1]))


def rows(panel: Panel, readings: Readings) -> list[Row]:
    """Return what the gauge shows of each test."""
    return noise.rows(panel, lambda name: readings.of(name).even)


def figure(panel: Panel, readings: Readings) -> go.Figure:
    """Return the gauge of a panel of kind ``"tests"``."""
    return go.Figure(data=traces(panel, readings), layout=_layout(panel))


def traces(panel: Panel, readings: Readings) -> list[dict[str, Any]]:
    """Return what is drawn: both distributions of every row, a ball on each newest median, and what it says."""
    found = rows(panel, readings)
    bases = [float(len(found) - 1 - place) for place in range(len(found))]  # the first row is the uppermost
    known = [(row, base) for row, base in zip(found, bases, strict=True) if not math.isnan(row.median)]
    colour = GROUP_COLOURS[panel.group]
    return [
        _bars(found, bases, "everything", faded(MUTED, 0.5)),
        _bars(found, bases, "newest", faded(colour, 0.75)),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [round(noise.place(row.median), 4) for row, _ in known],
            "y": [base for _, base in known],
            "cliponaxis": False,
            "marker": {
                "size": 13,
                "color": [_colour(panel, row, [other for other, _ in known]) for row, _ in known],
            },
            "hovertext": [
                f"{plain(noise.label(row.name))}, median of the newest tenth: {number(row.median)}" for row, _ in known
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "text",
            "x": [ENDS[0]] * len(found),
            "y": [base + WORDS for base in bases],
            "text": [f" <b>{plain(noise.label(row.name))}</b>  {noise.words(row)}" for row in found],
            "textposition": "middle right",
            "textfont": {"size": 12},
            "hoverinfo": "skip",
        },
    ]


def _colour(panel: Panel, row: Row, found: list[Row]) -> str:
    limit = noise.bound(panel)
    if row.newest_count < ENOUGH:
        return MUTED
    if row.median >= limit:
        return FAULT
    lost = any(other.name == noise.WHOLE and other.median >= limit for other in found)
    return MUTED if lost else GOOD


def headline(panel: Panel, readings: Readings) -> float:
    """Return the newest median of the first test, NaN where there is none."""
    return rows(panel, readings)[0].median


def caption(panel: Panel, readings: Readings) -> str:
    """Return how many values the gauge shows, in words."""
    found = rows(panel, readings)
    most = max(found, key=lambda row: row.count)
    if not most.count:
        return ""
    text = counted(most.count, most.newest_count, readings.of(most.name).points, " of each test")
    if beyond := sum(row.beyond for row in found):
        text.append(f"{beyond:,} beyond {noise.LOW:g} to {noise.HIGH:.2g} drawn at the edge")
    return " · ".join(text)


def description(panel: Panel, readings: Readings) -> str:
    """Return the gauge in a sentence, for those who do not see it."""
    limit = noise.bound(panel)
    said = [
        f"{noise.label(row.name)} {noise.words(row)}"
        + ("" if math.isnan(row.median) else f", {'below' if row.median < limit else 'not below'} {number(limit)}")
        for row in rows(panel, readings)
    ]
    return f"Median of the newest tenth: {'; '.join(said)}."


def _bars(found: list[Row], bases: list[float], part: str, colour: str) -> dict[str, Any]:
    middles = (noise.EDGES[:-1] + noise.EDGES[1:]) / 2
    everything = part == "everything"
    bars = [
        (float(at), base, float(share), row)
        for row, base in zip(found, bases, strict=True)
        for at, share in zip(middles, row.everything if everything else row.newest, strict=True)
        if share
    ]
    return {
        "type": "bar",
        "x": [round(at, 4) for at, *_ in bars],
        "y": [round(BAR * share, 4) for _, _, share, _ in bars],
        "base": [base for _, base, _, _ in bars],
        "width": float(noise.EDGES[1] - noise.EDGES[0]),
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertext": [
            f"{plain(noise.label(row.name))}, {'all' if everything else 'newest tenth'}: "
            f"about {noise.short(10**at)}, {share:.0%} of the fullest bin"
            for at, _, share, row in bars
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _layout(panel: Panel) -> dict[str, Any]:
    labels = {noise.place(value): f"{value:.1g}<br>{_share(words)}" for value, words in noise.TICKS}
    return frame(ENDS, labels, (-0.12, len(panel.readings) + ROOM), _shapes(panel))


def _share(words: str) -> str:
    """Return what a label says of the noise: only the first such label names it, as there is no room between them."""
    first = next(words for _, words in noise.TICKS if words)
    return f"{words} noise" if words == first else words


def _shapes(panel: Panel) -> list[dict[str, Any]]:
    """Shade and name both sides of the bound, draw it, and a line for each row to stand on."""
    top, limit = len(panel.readings) + ROOM, noise.place(noise.bound(panel))
    zones = [("the batch tells the direction", ENDS[0], limit, GOOD), ("noise", limit, ENDS[1], FAULT)]
    shaded = [
        {
            "type": "rect",
            "x0": start,
            "x1": end,
            "y0": -0.12,
            "y1": top,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": faded(colour, 0.13),
            "label": {"text": name, "textposition": "top center", "font": {"size": 11}},
        }
        for name, start, end, colour in zones
        if end > start
    ]
    line = {"type": "line", "x0": limit, "x1": limit, "y0": -0.12, "y1": top, "line": {"color": GOOD, "width": 2}}
    thin = {"color": faded(MUTED, 0.5), "width": 1}
    feet = [
        {"type": "line", "layer": "below", "x0": ENDS[0], "x1": ENDS[1], "y0": base, "y1": base, "line": thin}
        for base in range(len(panel.readings))
    ]
    return [*shaded, line, *feet]
