"""Charts over steps as pure functions of a panel and its readings."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cockpitlite import noise
from cockpitlite.dashboard import reduce
from cockpitlite.dashboard.colours import BLUE, FAULT, GOOD, GROUP_COLOURS, MUTED, PURPLE, SECOND_COLOURS, faded
from cockpitlite.dashboard.readings import Readings, Series, Window
from cockpitlite.dashboard.smoothing import smoothed
from cockpitlite.dashboard.text import number, plain
from cockpitlite.marks import KINDS, Kind, Mark, thinned
from cockpitlite.panel import Panel, Per, Scale
from cockpitlite.store import Steps, Values

Role = Literal[
    "main", "second", "raw", "behind", "second behind", "layers", "layer", "low", "high", "nonfinite", "below", "event"
]

COLUMNS = 300  # pixel columns of a chart whose width is not known yet
LAYER_LINES = 12  # more layers than this are drawn as their range
RATIO_WINDOW = 50  # points over which a ratio's parts are summed before they are divided
PLURALS: dict[Per, str] = {"layer": "layers", "class": "classes", "group": "groups"}
SPARSE = 40  # so few points are marked one by one
PIXELS = 300  # of a chart's width, about: a stretch between gaps that is narrower than one is not seen as a line
PAUSE = 5  # a line is not drawn over a pause that is so many times as long as the distances on both sides of it
MARK_WIDTH = 6  # pixels between marks that are all alike
LINE_WIDTH = 10  # pixels between upright lines of one kind, at least half of this
FEW_LINES = 12  # of one kind in a chart; more are short, so that the curve behind them is seen
UPRIGHT = (0.0, 0.5, 1.0, math.nan)  # heights of the points of an upright line, which can be pointed at
SHORT = 0.12  # height of a short one
LEGEND = 29  # pixels above a chart, which a legend of one row takes (assets/charts.js)
LEFT = 52  # pixels for the labels of values, the same in all charts, so that steps lie below each other
BEYOND = 4000  # pixels, higher than any chart
IN_LEGEND: tuple[Role, ...] = ("main", "second", "raw", "layers", "low", "high")
MARK_COLOURS: Mapping[Kind, str] = {
    "rate": BLUE,
    "settings": PURPLE,
    "frozen": PURPLE,
    "resume": MUTED,
    "pause": MUTED,
    "nonfinite": FAULT,
    "dropped": FAULT,
    "chosen": MUTED,
}
MARK_DASHES: Mapping[Kind, str] = {"frozen": "1px,3px", "pause": "1px,3px", "dropped": "1px,3px"}  # of the others: DASH
DASH = "4px,2px"
SAME = 1e-5  # relative difference, up to which a second reading is the first
SECOND_DASHES = ("4px,3px", "1.5px,2px")  # of the readings after the first, in turn


@dataclass(frozen=True)
class Curve:
    """One line or row of marks, whole: its steps ``[T]``, its values ``[T]``, and words for each point or none.

    ``pauses`` counts the gaps in a line where nothing was measured for long; each is a point of its own that is NaN.
    A curve of events has ``marks``, on a chart whose ``last`` step that is, and no points until it is reduced.
    """

    key: str
    role: Role
    name: str
    steps: Steps
    values: Values
    words: NDArray[np.str_] | None = None
    pauses: int = 0
    marks: tuple[Mark, ...] = ()
    last: int = 0

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def end(self) -> int:
        """The last step, -1 for none."""
        return int(self.steps[-1]) if len(self) else -1

    def since(self, step: int) -> Curve:
        """Return the part after ``step``."""
        return self._at(np.arange(int(np.searchsorted(self.steps, step, "right")), len(self)))

    def reduced(self, columns: int, window: Window | None = None) -> Curve:
        """Return what is drawn of it on that many pixel columns."""
        if self.role == "event":
            return self._lines(columns, window)
        if self.role in ("nonfinite", "below"):
            return self._at(reduce.firsts(self.steps, max(columns // MARK_WIDTH, 1), window))
        width = columns if self.role in ("main", "second") else max(columns // 4, 1)
        return self._at(reduce.extremes(self.steps, self.values, width, window))

    def is_long(self, columns: int) -> bool:
        """Whether not all of its points are drawn on that many pixel columns."""
        if self.role in ("nonfinite", "below"):
            return len(self) > columns // MARK_WIDTH
        return len(self) > 2 * columns

    def _lines(self, columns: int, window: Window | None) -> Curve:
        """Return upright lines that stand apart; those in a window are told from each other as far as it shows them."""
        low, high = window or (0.0, float(self.last))
        inside = [mark for mark in self.marks if low <= mark.step <= high]
        beside = [mark for mark in self.marks if not low <= mark.step <= high]
        shown = thinned(inside, LINE_WIDTH * (high - low) / columns)
        height = 1.0 if len(shown) <= FEW_LINES else SHORT
        drawn = [*shown, *thinned(beside, LINE_WIDTH * self.last / columns)]
        return replace(
            self,
            steps=np.repeat(np.array([mark.step for mark in drawn], dtype=np.int64), len(UPRIGHT)),
            values=np.tile(UPRIGHT, len(drawn)) * height,
            words=np.repeat(np.array([mark.words for mark in drawn], dtype=np.str_), len(UPRIGHT)),
        )

    def _at(self, points: NDArray[np.intp]) -> Curve:
        words = None if self.words is None else self.words[points]
        return replace(self, steps=self.steps[points], values=self.values[points], words=words)


def figure(panel: Panel, readings: Readings, *, columns: int = COLUMNS) -> go.Figure:
    """Return a panel's chart over steps."""
    return drawn(panel, [curve.reduced(columns) for curve in curves(panel, readings)])


def drawn(panel: Panel, reduced: list[Curve]) -> go.Figure:
    """Return the chart of a panel's curves, which have been reduced."""
    return go.Figure(data=traces(panel, reduced), layout=layout(panel))


def curves(panel: Panel, readings: Readings, smoothing: float = 0.0, window: Window | None = None) -> list[Curve]:
    """Return everything a panel's chart shows, from back to front, not yet reduced.

    The layers (or, of more than twelve, their range), the first reading (of a ratio, the ratio of trailing sums with
    the single steps behind it), the other readings, then marks: non-finite steps, values under a log axis, events.
    With ``smoothing`` above 0 the readings are smoothed by that factor, with the single values behind them, and the
    layers stay as they are, and settings too; ``window`` is the range of steps in view.
    """
    bare = [*_main_curves(panel, readings), *_second_curves(panel, readings)]
    lines = [
        *_layer_curves(readings, PLURALS[panel.per]),
        *(_smooth_curves(panel, readings, smoothing, window) if smoothing and not panel.steady else bare),
    ]
    marked = [curve for curve in bare if curve.role in ("main", "second")]
    marks = [_nonfinite(panel, readings), *([_below(marked)] if panel.scale == "log" else [])]
    last = max((line.end for line in (*lines, *marks)), default=-1)
    events = event_curves(readings.marks if last >= 0 else (), last)  # an empty chart says why, and nothing else
    if panel.scale == "log":
        lines = [replace(line, values=np.where(line.values > 0, line.values, np.nan)) for line in lines]
    return [*events, *lines, *filter(len, marks)]


def event_curves(marks: Sequence[Mark], last: int) -> list[Curve]:
    """Return each kind of mark as lines from the bottom of a chart to its top; ``last`` is the chart's last step.

    Kinds that did not happen are left out: a chart with a second axis takes nearly twice as long to draw.
    """
    found = {kind: tuple(mark for mark in marks if mark.kind == kind) for kind in KINDS}
    nothing = np.empty(0, np.int64), np.empty(0)
    return [
        Curve(f"event:{kind}", "event", kind, *nothing, marks=these, last=last)
        for kind, these in found.items()
        if these
    ]


def digest(drawn: Sequence[Curve]) -> int:
    """Return a number that tells whether the marks among reduced curves are those that were sent."""
    words = [(curve.key, curve.words.tolist()) for curve in drawn if curve.role == "event" and curve.words is not None]
    return zlib.crc32(repr(words).encode())


def headline(panel: Panel, readings: Readings) -> float | None:
    """Return the newest value of what the panel is about, None where there is none."""
    main = _main_curves(panel, readings)[-1]
    return float(main.values[-1]) if len(main) else None


def newest_step(panel: Panel, readings: Readings) -> int | None:
    """Return the step of the newest value of what the panel is about, None where there is none."""
    if readings.newest is not None:
        return readings.newest[0]
    end = _main_curves(panel, readings)[-1].end
    return None if end < 0 else end


def caption(
    panel: Panel, readings: Readings, columns: int = COLUMNS, window: Window | None = None, smoothing: float = 0.0
) -> str:
    """Return what a chart does not show: how many points, and how many values lie under its log axis."""
    main = _main_curves(panel, readings)[-1]
    shown = len(main.reduced(columns, window))
    series = readings.of(panel.readings[0])
    parts = [f"{shown:,} of {series.points:,} points shown"] if shown < max(len(main), series.points) else []
    if smoothing and not panel.steady and series.spans is not None:
        parts.append("smoothed over samples")
    layers = readings.layers
    if len(layers.names) > LAYER_LINES:
        parts.append(f"shaded: range of {len(layers.names):,} layers")
    if panel.scale == "log" and len(layers.steps) and (still := int(np.sum(layers.values[-1] <= 0))):
        parts.append(f"{still} of {len(layers.names):,} layers at 0 now")
    own = [readings.of(name) for name in panel.readings]
    if broken := max(len(np.unique(_nonfinite(panel, readings).steps)), *(series.broken for series in own)):
        parts.append(f"{broken:,} non-finite {'step' if broken == 1 else 'steps'}")
    if panel.scale == "log" and (under := sum(series.nonpositive for series in own)):
        parts.append(f"{under:,} at or below 0, under the log axis")
    return " · ".join(parts)


def description(panel: Panel, readings: Readings, window: Window | None = None) -> str:
    """Return the chart, or the range of steps it is zoomed to, in a sentence, for those who do not see it."""
    series = readings.of(panel.readings[0])
    if not len(series):
        return f"{panel.title}: no values yet."
    low_step, high_step = window or (-math.inf, math.inf)
    inside = (series.steps >= low_step) & (series.steps <= high_step)
    if not inside.any():
        return f"{panel.title}, steps {low_step:,.0f} to {high_step:,.0f}: no values there."
    steps, values = series.steps[inside], series.values[inside]
    ends = f"{panel.title}, steps {steps[0]:,} to {steps[-1]:,}{' of a longer run' if window else ''}"
    broken = series.broken if window is None else int(np.sum(~np.isfinite(values)))
    tail = f" {broken:,} non-finite {'value' if broken == 1 else 'values'}." if broken else ""
    newest, finite = values[-1], np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return f"{ends}: no finite value.{tail}"
    steps, values = steps[finite], values[finite]
    low, high = int(np.argmin(values)), int(np.argmax(values))
    unit = f" {panel.unit}" if panel.unit else ""
    return (
        f"{ends}: {'newest' if window is None else 'last'} {number(float(newest))}{unit}, "
        f"lowest {number(float(values[low]))} at step {steps[low]:,}, "
        f"highest {number(float(values[high]))} at step {steps[high]:,}.{tail}"
    )


def traces(panel: Panel, drawn: list[Curve]) -> list[dict[str, Any]]:
    """Return the traces of curves that have been reduced."""
    layers = [curve.key for curve in drawn if curve.role == "layer"]
    others = [name for name in panel.readings[1:] if any(curve.key == f"second:{name}" for curve in drawn)]
    smooth = any(curve.role == "behind" for curve in drawn)
    several = _has_legend(panel) and sum(curve.role in IN_LEGEND for curve in drawn) > 1
    found = []
    for curve in drawn:
        depth = layers.index(curve.key) / max(len(layers) - 1, 1) if curve.role == "layer" else 0.0
        place = others.index(_reading(curve)) if curve.role in ("second", "second behind") else 0
        trace = _style(panel, curve, depth, place) | points(curve)
        if smooth and curve.role in ("main", "second", "behind", "second behind"):
            trace["legendgroup"] = _uid(_reading(curve))  # one name hides a mean and what is behind it
        trace["showlegend"] = several and curve.role in IN_LEGEND
        found.append(trace)
    return found


def _reading(curve: Curve) -> str:
    """Return the reading that a curve of one shows."""
    return curve.key.partition(":")[2]


def points(curve: Curve) -> dict[str, list[Any]]:
    """Return a curve's coordinates, and words where it has them, as a trace holds them: None for a gap."""
    values = [float(f"{value:.7g}") if np.isfinite(value) else None for value in curve.values.tolist()]
    found: dict[str, list[Any]] = {"x": curve.steps.tolist(), "y": values}
    if curve.words is not None:
        found["hovertext"] = curve.words.tolist()
    return found


# Curves -----------------------------------------------------------------------------------------------------------


def _main_curves(panel: Panel, readings: Readings) -> list[Curve]:
    name = panel.readings[0]
    series = readings.of(name)
    if panel.ratio is None:
        words = "total" if len(readings.layers.names) > 1 else _first_words(panel)
        return [_line(f"main:{name}", "main", words, series)]
    above, below = (readings.of(part).sample for part in panel.ratio)
    steps, places, others = np.intersect1d(above.steps, below.steps, assume_unique=True, return_indices=True)
    smooth = reduce.windowed_ratio(above.values[places], below.values[others], RATIO_WINDOW)
    return [
        _line(f"raw:{name}", "raw", "single steps", series),
        _line(f"main:{name}", "main", f"over {RATIO_WINDOW} points", Series(steps, smooth)),
    ]


def _second_curves(panel: Panel, readings: Readings) -> list[Curve]:
    names = _others(panel, readings)
    return [_line(f"second:{name}", "second", _second_words(panel, name), readings.of(name)) for name in names]


def _others(panel: Panel, readings: Readings) -> list[str]:
    """Return the readings besides the first, but for what has been the same throughout: it would only cover it."""
    first = readings.of(panel.readings[0])
    return [name for name in panel.readings[1:] if not _are_same(first, readings.of(name))]


def _are_same(one: Series, other: Series) -> bool:
    if not len(one) or not np.array_equal(one.steps, other.steps):
        return False
    return np.allclose(one.values, other.values, rtol=SAME, atol=0.0, equal_nan=True)


def _smooth_curves(panel: Panel, readings: Readings, factor: float, window: Window | None) -> list[Curve]:
    """Return each reading smoothed, in front of its single values; a ratio is one of smoothed parts."""
    name, others = panel.readings[0], _others(panel, readings)
    words = {other: _second_words(panel, other) for other in others}
    found = [_line(f"behind:{name}", "behind", "single values", readings.of(name))]
    found += [_line(f"behind:{other}", "second behind", words[other], readings.of(other)) for other in others]
    found.append(_line(f"main:{name}", "main", "smoothed", _smooth_main(panel, readings, factor, window)))
    for other in others:
        line = _smooth(panel, readings.of(other), factor, window)
        found.append(_line(f"second:{other}", "second", words[other], line))
    return found


def _smooth(panel: Panel, series: Series, factor: float, window: Window | None) -> Series:
    """Return a series smoothed, with gaps where a log axis cannot show its values: the mean fades there to nothing."""
    found = smoothed(series, factor, window)
    if panel.scale != "log":
        return found
    return replace(found, values=np.where(series.sample.values > 0, found.values, np.nan))


def _smooth_main(panel: Panel, readings: Readings, factor: float, window: Window | None) -> Series:
    if panel.ratio is None:
        return _smooth(panel, readings.of(panel.readings[0]), factor, window)
    above, below = (smoothed(readings.of(part), factor, window) for part in panel.ratio)
    steps, places, others = np.intersect1d(above.steps, below.steps, assume_unique=True, return_indices=True)
    spans = None if above.spans is None else above.spans[places]
    return Series(steps, reduce.windowed_ratio(above.values[places], below.values[others], 1), spans)


def _first_words(panel: Panel) -> str:
    name = panel.readings[0]
    return noise.brief(name) if panel.kind == "tests" else _words(name)


def _second_words(panel: Panel, name: str) -> str:
    if panel.kind == "tests":
        return noise.brief(name)
    return _words(name.removeprefix(f"{panel.readings[0]}_"))


def _line(key: str, role: Role, name: str, series: Series) -> Curve:
    """Return a line that stops where nothing was measured for long and goes on afterwards."""
    distances = np.diff(series.steps)
    around = np.maximum(distances[:-2], distances[2:])
    if series.spans is not None:  # between extremes of stretches distances tell nothing
        around = np.maximum(around, 2 * series.spans[1:-2])
    pauses = np.flatnonzero(distances[1:-1] > PAUSE * around) + 2  # places of the points after them
    steps = np.insert(series.steps, pauses, series.steps[pauses - 1] + 1)
    return Curve(key, role, name, steps, np.insert(series.values, pauses, np.nan), pauses=len(pauses))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _layer_curves(readings: Readings, noun: str) -> list[Curve]:
    layers = readings.layers
    if len(layers.names) < 2:
        return []
    if len(layers.names) <= LAYER_LINES:
        lines = [
            Curve(f"layer:{name}", "layer", name, layers.steps, layers.values[:, index])
            for index, name in enumerate(layers.names)
        ]
        return [Curve("layers", "layers", f"{len(lines)} {noun}", layers.steps[:1], np.array([np.nan])), *lines]
    known = np.isfinite(layers.values)
    rows = known.any(axis=1)
    steps, values, known = layers.steps[rows], layers.values[rows], known[rows]
    names = np.array([plain(name) for name in layers.names])
    low = np.argmin(np.where(known, values, np.inf), axis=1)
    high = np.argmax(np.where(known, values, -np.inf), axis=1)
    line = np.arange(len(steps))
    return [
        Curve("low", "low", "least layer", steps, values[line, low], names[low]),
        Curve("high", "high", "greatest layer", steps, values[line, high], names[high]),
    ]


def _nonfinite(panel: Panel, readings: Readings) -> Curve:
    """Mark every step at which one of the panel's readings is NaN or infinite."""
    steps, words = [], []
    for name in panel.readings:
        series = readings.of(name)
        broken = ~np.isfinite(series.values)
        steps.append(series.steps[broken])
        words += [f"{plain(name)}: {number(value)}" for value in series.values[broken].tolist()]
    return _marks("nonfinite", "non-finite", np.concatenate(steps), words, 0.95)


def _below(lines: list[Curve]) -> Curve:
    """Mark every step at which a line has a value that a log axis cannot show."""
    steps, words = [], []
    for line in lines:
        under = line.values <= 0
        steps.append(line.steps[under])
        words += [f"{plain(line.name)}: {number(value)}, under the log axis" for value in line.values[under].tolist()]
    return _marks("below", "at or below 0", np.concatenate(steps), words, 0.03)


def _marks(role: Literal["nonfinite", "below"], name: str, steps: Steps, words: list[str], height: float) -> Curve:
    order = np.argsort(steps, kind="stable")
    texts = np.array(words, dtype=np.str_)[order]
    return Curve(role, role, name, steps[order], np.full(len(steps), height), texts)


# Looks ------------------------------------------------------------------------------------------------------------


def _style(panel: Panel, curve: Curve, depth: float, place: int) -> dict[str, Any]:
    """Return how a curve is drawn.

    ``depth`` in [0, 1] tells a layer near the input from one near the output, ``place`` one second reading from
    another.
    """
    colour, other = GROUP_COLOURS[panel.group], SECOND_COLOURS[place % len(SECOND_COLOURS)]
    styles: dict[Role, dict[str, Any]] = {
        "main": _mode(curve) | {"line": {"color": colour, "width": 1.6}},
        "second": _mode(curve) | {"line": {"color": other, "width": 1.5, "dash": SECOND_DASHES[place % 2]}},
        "raw": _mode(curve) | {"line": {"color": faded(colour, 0.4), "width": 1}},
        "behind": _mode(curve) | {"line": {"color": faded(colour, 0.4), "width": 1}},
        "second behind": _mode(curve) | {"line": {"color": faded(other, 0.35), "width": 1}},
        "layers": {"mode": "lines", "line": {"color": faded(colour, 0.5), "width": 1}},
        "layer": _mode(curve) | {"line": {"color": faded(colour, 0.25 + 0.45 * depth), "width": 1}},
        "low": {"mode": "lines", "line": {"color": faded(colour, 0.45), "width": 1}},
        "high": {
            "mode": "lines",
            "line": {"color": faded(colour, 0.45), "width": 1},
            "fill": "tonexty",
            "fillcolor": faded(colour, 0.14),
        },
        "nonfinite": _mark_style("x", FAULT, 6),
        "below": _mark_style("triangle-down", MUTED, 6),
        "event": {"mode": "lines"},
    }
    common = {"type": "scatter", "name": plain(curve.name), "uid": _uid(curve.key), "connectgaps": False}
    if panel.layered:
        name = plain(curve.name).replace("%{", "%\u200b{")  # a name is no template
        common["hovertemplate"] = f"%{{x}}<br><b>%{{y:.4g}}</b> {name}<extra></extra>"
    if curve.role in ("nonfinite", "below", "event"):
        common |= {"yaxis": "y2", "hoverinfo": "text", "hovertemplate": "%{hovertext}<extra></extra>"}
    for mark in curve.marks[:1]:
        common["line"] = {"color": MARK_COLOURS[mark.kind], "dash": MARK_DASHES.get(mark.kind, DASH), "width": 1.3}
    if curve.role in ("layer", "layers"):
        common["legendgroup"] = "layers"
    return common | styles[curve.role]


def _uid(key: str) -> str:
    """Return what a chart knows a curve by from one update to the next: letters and digits, whatever its name."""
    return hashlib.blake2s(key.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def _mode(curve: Curve) -> dict[str, Any]:
    """Mark the points where a line alone would not show them: few points, or short stretches between gaps."""
    if len(curve) <= SPARSE:
        return {"mode": "lines+markers", "marker": {"size": 4}}
    known = np.concatenate([[False], np.isfinite(curve.values), [False]])
    begins, ends = np.flatnonzero(known[1:] & ~known[:-1]), np.flatnonzero(known[:-1] & ~known[1:])
    spans = curve.steps[ends - 1] - curve.steps[begins]
    short = len(spans) and spans.min() * PIXELS < curve.steps[-1] - curve.steps[0]
    return {"mode": "lines+markers" if short else "lines", "marker": {"size": 2.6}}


def _mark_style(symbol: str, colour: str, size: int) -> dict[str, Any]:
    return {"mode": "markers", "cliponaxis": False, "marker": {"symbol": symbol, "size": size, "color": colour}}


def layout(panel: Panel, revision: str = "") -> dict[str, Any]:
    """Return the layout of a panel's chart over steps; zoom stays as it is while ``revision`` is the same."""
    return {
        "template": go.layout.Template(),
        "uirevision": revision,
        "autosize": True,
        "margin": {"l": LEFT, "r": 14, "t": LEGEND if _has_legend(panel) else 8, "b": 28, "autoexpand": False},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 11, "color": MUTED},
        "hovermode": "closest" if panel.layered else "x unified",
        "hoverdistance": -1 if panel.layered else 30,
        "hoverlabel": {"bgcolor": "#ffffff"},
        "dragmode": "zoom",
        "legend": {
            "orientation": "h",
            "xref": "container",
            "yref": "container",
            "x": 1,
            "xanchor": "right",
            "y": 1,
            "yanchor": "top",
            "font": {"size": 10},
            "tracegroupgap": 0,
        },
        "xaxis": _axis()
        | {
            "tickprefix": "step ",
            "showtickprefix": "first",
            "exponentformat": "SI",
            "showexponent": "all",  # else it is shown where the prefix is
            "nticks": 5,
            "ticklabelstandoff": 7,
        },
        "yaxis": _axis() | y_axis(panel) | {"tickformat": "~g", "hoverformat": ".4g"},
        "yaxis2": {"overlaying": "y", "range": [0, 1], "fixedrange": True, "visible": False},
        "shapes": shapes(panel),
    }


def shapes(panel: Panel) -> list[dict[str, Any]]:
    """Return what is drawn of a panel's healthy range and reference lines."""
    return [*_healthy_shapes(panel), *_mark_shapes(panel)]


def scaled(panel: Panel, scale: Scale | None) -> Panel:
    """Return a panel on another scale, its own for None; what has no place on a log axis is left out."""
    if scale is None or scale == panel.scale:
        return panel
    if scale == "linear":
        return replace(panel, scale=scale)
    low, high = panel.healthy or (None, None)
    healthy = None if high is not None and high <= 0 else (low if low is not None and low > 0 else None, high)
    marks = tuple((value, label) for value, label in panel.marks if value > 0)
    return replace(panel, scale=scale, healthy=None if healthy == (None, None) else healthy, marks=marks)


def y_axis(panel: Panel) -> dict[str, Any]:
    """Return what of the vertical axis is another on another scale."""
    return {"type": panel.scale, "nticks": _ticks(panel)}


def _has_legend(panel: Panel) -> bool:
    return panel.layered or len(panel.readings) > 1 or panel.ratio is not None


def _ticks(panel: Panel) -> int:
    """Return how many labels there may be: fewer on a log axis, which adds its own between powers of ten."""
    return 3 if panel.scale == "log" else 5


def _axis() -> dict[str, Any]:
    return {
        "type": "linear",
        "showgrid": True,
        "gridcolor": faded(MUTED, 0.2),
        "zeroline": False,
        "tickfont": {"size": 10},
        "ticklabeloverflow": "allow",  # to find out which labels do not fit takes a quarter of the time of drawing
    }


def _healthy_shapes(panel: Panel) -> Iterator[dict[str, Any]]:
    """Shade the healthy range; an open one from its bound on, so far that no screen sees its end, with a line there.

    It is so many pixels high, and not up to some value: the axis need not reach for infinity. A path, as the pixels of
    a rectangle are taken for values on a log axis.
    """
    low, high = panel.healthy or (None, None)
    fill = {"xref": "paper", "fillcolor": faded(GOOD, 0.13), "line": {"width": 0}, "layer": "below"}
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": GOOD, "width": 1, "dash": "dot"}}
    if low is not None and high is not None:
        yield {**fill, "type": "rect", "x0": 0, "x1": 1, "y0": low, "y1": high}
        return
    for bound, side, words, anchor in ((low, 1, "healthy above", "bottom"), (high, -1, "healthy below", "top")):
        if bound is not None:
            name = dict(panel.marks).get(bound)
            label = _shape_label(words) | {"yanchor": anchor} if name is None else _shape_label(name)
            yield {**fill, "type": "path", "path": f"M0,0H1V{side * BEYOND}H0Z", "ysizemode": "pixel", "yanchor": bound}
            yield {**line, "y0": bound, "y1": bound, "label": label}


def _mark_shapes(panel: Panel) -> Iterator[dict[str, Any]]:
    for value, label in panel.marks:
        if value in (panel.healthy or ()):  # it names the bound
            continue
        yield {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": value,
            "y1": value,
            "line": {"color": faded(MUTED, 0.8), "width": 1, "dash": "4px,4px"},
            "label": _shape_label("" if panel.kind in ("parabola", "tests") else label),  # the gauge has the words
        }


def _shape_label(text: str) -> dict[str, Any]:
    return {"text": plain(text), "textposition": "end", "yanchor": "bottom", "padding": 1, "font": {"size": 9}}
