"""One printable page of a run: STEP SIZE, GRADIENTS and CURVATURE over a PERFORMANCE row, drawn from its panels."""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Literal, cast

import matplotlib
import numpy as np
from matplotlib import font_manager, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerBase, HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from cockpitlite import heat, noise
from cockpitlite.compare import Glance, glance, newest, number, plain_text
from cockpitlite.diagnosis.advice import READING, Advice, advice
from cockpitlite.diagnosis.light import WORDS, Light, affirms, headline
from cockpitlite.diagnosis.words import percent
from cockpitlite.marks import KIND_WORDS, KINDS, Mark, marks, thinned
from cockpitlite.marks import Kind as MarkKind
from cockpitlite.panel import GROUPS, Group, Kind, Panel
from cockpitlite.reduction import in_bursts, nonfinite_steps, reduce_min_max, smooth
from cockpitlite.store import Histogram, Run, Steps, Values, load

SUFFIXES: Final = (".png", ".pdf", ".svg")

# The colours of Okabe and Ito, told apart by every kind of colour vision.
BLACK, GREY = "#1A1A1A", "#6E6E6E"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
GROUP_COLOURS: Final[Mapping[Group, str]] = {
    "step size": BLUE,
    "gradients": GREEN,
    "curvature": PURPLE,
    "performance": "#444444",
}
FURTHER_COLOURS: Final = (ORANGE, BLACK, SKY, VERMILION)
HEALTHY = "#DDF1EA"
ZONES: Final = {"too small": "#E3F1FA", "good": HEALTHY, "too large": "#FAE6DA"}
SIGNS: Final[dict[Light, tuple[str, str]]] = {
    "error": ("✖", VERMILION),
    "warning": ("▲", ORANGE),
    "info": ("●", BLUE),
    "good": ("✔", GREEN),
    "quiet": ("○", GREY),
    "unknown": ("…", GREY),
}

# Sizes in inches; the page is as wide as its columns and as high as its rows.
COLUMN, ROW, GAP, MARGIN, HEADER, HEADING, FOOTER = 2.8, 1.2, 0.14, 0.3, 1.04, 0.28, 0.26
DPI = 200  # of a PNG; letters are a little wider or narrower at each resolution, so text is measured at this one ...
SLACK = 1.03  # ... and has some room left, as letters are spaced otherwise in a whole sentence
WIDE = 12.5  # a page at least this wide inside has its legend in one row
TALLEST = 5  # rows after which a group gets a second column, unless another needs more with two
SPARE = 2  # free rows below a group from which on the findings are printed there in full

CURVE_COLUMNS = 400  # stretches of steps that a curve is reduced to
LAYER_POINTS = 4000  # points for all layers of a panel, with at least five stretches for each layer
FEW = 24  # below this many values a curve is drawn point by point and not smoothed
LINES = 40  # upright lines of one kind in a chart, at most twice as many as the marks that would touch
FEW_LINES = 12  # more are short, so that the curve is seen
MARK_LOOKS: Final[Mapping[MarkKind, tuple[str, Literal["--", ":"]]]] = {
    "rate": (BLUE, "--"),
    "settings": (PURPLE, "--"),
    "frozen": (PURPLE, ":"),
    "resume": (GREY, "--"),
    "pause": (GREY, ":"),
    "nonfinite": (VERMILION, "--"),
    "dropped": (VERMILION, ":"),
}
LOUD = 1000.0  # a linear axis whose largest value is this many times the median becomes logarithmic in its outer part
CALM = 1e-3  # a curve whose median bend is less than this share of its range is not smoothed ...
FEW_JUMPS = 0.02  # ... where at most this share of its steps jumps
HUGE = (
    1e300  # larger values are drawn here, and smaller ones than its inverse there: an axis has to end before floats do
)
HEATS = ("histogram", "joint")  # kinds of panels that are drawn as heat maps
GAUGES = ("parabola", "tests")  # kinds of panels that have a gauge beside their curve
JOINT_BINS = 64  # along each axis of a joint histogram; neighbouring bins of finer ones are added
BOWL = 1.6  # the gauge shows step lengths from -BOWL to BOWL and counts those beyond

# These settings of matplotlib are global; they are set while a page is drawn and put back after it.
STYLE: Final[Mapping[str, Any]] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: a page looks the same everywhere
    "text.usetex": False,
    "axes.unicode_minus": True,
    "axes.linewidth": 0.5,
    "pdf.fonttype": 42,  # embedded as TrueType: text that can be searched, and that publishers accept
    "svg.fonttype": "path",
    "path.simplify": False,  # the reduction has chosen the points, and every extreme shall survive
}
_LOCK = threading.RLock()

_NO_LAYERS: tuple[Steps, list[str], Values] = (np.empty(0, np.int64), [], np.empty((0, 0)))


def plot(run: Run | str | Path, path: str | Path | None = None) -> Figure:
    """Draw one page of a run, and save it as PNG, PDF or SVG where ``path`` is given.

    The page shows what the run's panels say, whichever instruments wrote them. It takes no part in pyplot's state and
    may be drawn in any thread. Raises ValueError for another suffix, OSError where ``path`` cannot be written, and
    what :func:`cockpitlite.load` raises.
    """
    target = None if path is None else _checked(Path(path))
    opened = run if isinstance(run, Run) else load(run)
    with _style():
        figure = _page(opened)
        if target is not None:
            _save(figure, target)
    return figure


def _checked(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        suffix = f"the suffix {path.suffix}" if path.suffix else "no suffix"
        raise ValueError(f"a plot is saved as {', '.join(SUFFIXES)}, but {path} has {suffix}")
    return path


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with _LOCK:
        settings = cast("dict[str, Any]", matplotlib.rcParams)
        before = {name: settings[name] for name in STYLE}
        settings.update(STYLE)
        try:
            yield
        finally:
            settings.update(before)


def _save(figure: Figure, path: Path) -> None:
    """Write the whole file at once, so that a drawing that fails leaves no half of one."""
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:].lower(), dpi=DPI)
    path.write_bytes(image.getvalue())


@dataclass(frozen=True)
class _Readings:
    """What a page reads of a run; a reading that the run does not have is empty."""

    run: Run
    _read: dict[str, tuple[Steps, Values]] = field(default_factory=dict)

    @cached_property
    def look(self) -> Glance:
        return glance(self.run)

    @cached_property
    def advice(self) -> Advice | None:
        """The learning rate that the diagnosis suggests."""
        rate = self.look.learning_rate
        return advice(self.look.findings, math.nan if rate is None else rate)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.run.names())

    @cached_property
    def reasons(self) -> dict[str, str]:
        return self.run.unavailable()

    @cached_property
    def last_step(self) -> int:
        return self.run.last_step or 0

    @cached_property
    def marks(self) -> dict[MarkKind, list[Mark]]:
        """What is marked on every chart, by kind."""
        found = marks(self.run.events(), self.series("learning_rate"))
        kinds = {kind: [mark for mark in found if mark.kind == kind] for kind in KINDS}
        return {kind: these for kind, these in kinds.items() if these}

    def series(self, name: str) -> tuple[Steps, Values]:
        """Return a reading with what no axis can hold moved to its edge; infinities stay."""
        if name not in self.names:
            return np.empty(0, np.int64), np.empty(0)
        if name not in self._read:
            steps, values = self.run.series(name)
            self._read[name] = steps, np.where(np.isfinite(values), _held(values), values)
        return self._read[name]

    def layers(self, panel: Panel) -> tuple[Steps, list[str], Values]:
        """Return the values per layer of the panel's first reading; nothing where there is but one layer, the total."""
        if not panel.layered or panel.readings[0] not in self.names:
            return _NO_LAYERS
        try:
            steps, names, values = self.run.layers(panel.readings[0])
        except KeyError:
            return _NO_LAYERS
        values = np.where(np.isfinite(values), _held(values), np.nan)
        return (steps, names, values) if len(names) > 1 else _NO_LAYERS

    def columns(self, panel: Panel) -> heat.Columns:
        """Return the histograms of a panel's first reading over the steps."""
        name = panel.readings[0]
        return heat.grown(heat.Columns(), self.run.each_histogram(name) if name in self.names else ())

    def joint(self, panel: Panel) -> tuple[int, Histogram] | None:
        """Return the newest joint histogram of a panel with its step, None where there is none to draw."""
        name = panel.readings[0]
        newest = self.run.newest_histogram(name) if name in self.names else None
        return newest if newest is not None and heat.is_sound(newest[1], axes=2) else None

    def smoothed(self, panel: Panel, name: str, axis: _Axis) -> tuple[Steps, Values]:
        """Return the running mean of a reading, or the ratio of those of its parts where its panel names them.

        The mean is taken of what the eye sees: on a logarithmic axis, of logarithms.
        """
        if panel.ratio is None or name != panel.readings[0]:
            steps, values = self.series(name)
            at, mean = smooth(steps, axis.bent(values))
            return at, axis.straight(mean)
        (steps, above), (others, below) = (self.series(part) for part in panel.ratio)
        both, here, there = np.intersect1d(steps, others, assume_unique=True, return_indices=True)
        at, mean = smooth(both, above[here], below[there])
        return (at[mean > 0], mean[mean > 0]) if axis.log else (at, mean)


@dataclass(frozen=True)
class _Axis:
    """How a vertical axis bends values: not at all, to logarithms, or to logarithms beyond a linear ``middle``."""

    log: bool = False
    middle: float | None = None

    def bent(self, values: Values) -> Values:
        """Return heights on the axis; NaN where a logarithmic axis has none."""
        if self.log:
            return np.log(np.where(values > 0, values, np.nan))
        return values if self.middle is None else np.arcsinh(values / self.middle)

    def straight(self, heights: Values) -> Values:
        """Undo :meth:`bent`."""
        if self.log:
            return np.exp(heights)
        return heights if self.middle is None else np.sinh(heights) * self.middle


# The page


@dataclass(frozen=True)
class _Place:
    """A chart of a panel in the grid of a block: a gauge, or the curve beside or below it."""

    panel: Panel
    gauge: bool
    row: int
    column: int


@dataclass(frozen=True)
class _Block:
    """A part of the page under one heading, in inches from the page's lower left corner."""

    title: str
    colour: str
    left: float
    top: float
    width: float
    columns: int

    def heading(self, figure: Figure) -> None:
        """Draw the coloured band with the title."""
        axes = _inches(figure, self.left, self.top - 0.22, self.width, 0.22)
        axes.add_patch(Rectangle((0, 0), 1, 1, color=_tint(self.colour, 0.25), linewidth=0))
        axes.add_patch(Rectangle((0, 0), 0.06 / self.width, 1, color=self.colour, linewidth=0))
        axes.text(0.14 / self.width, 0.46, self.title, va="center", size=9, weight="bold", color=BLACK)

    def axes(self, figure: Figure, row: int, column: int) -> Axes:
        """Return new axes in a cell, with room for a title above and tick labels to the left and below."""
        width = self.width / self.columns
        left = self.left + column * width + 0.38
        bottom = self.top - HEADING - (row + 1) * ROW + 0.2
        axes = _inches(figure, left, bottom, width - 0.5, ROW - 0.44)
        axes.set_axis_on()
        axes.tick_params(labelsize=5.5, length=2, width=0.5, pad=1.5, colors=GREY, labelcolor=BLACK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        return axes

    def words(self, figure: Figure, text: str) -> None:
        """Print a sentence in the place of the first row."""
        axes = _inches(figure, self.left, self.top - HEADING - ROW, self.width, ROW)
        _text(axes, 0.5, 0.5, text, ha="center", va="center", size=6.5, color=GREY, style="italic")


def _page(run: Run) -> Figure:
    readings = _Readings(run)
    panels = run.panels()
    groups = {group: [panel for panel in panels if panel.group == group] for group in GROUPS}
    upper: list[Group] = [group for group in GROUPS if group != "performance"]
    tallest = max(TALLEST, *(_height(_arrange(groups[group], 2)) for group in upper))
    columns = {group: 1 if _height(_arrange(groups[group], 1)) <= tallest else 2 for group in upper}
    most = max(len(groups["performance"]), 1)
    columns["performance"] = math.ceil(most / math.ceil(most / (sum(columns.values()) + 1)))
    places = {group: _arrange(groups[group], columns[group]) for group in GROUPS}
    rows = max(1, *(_height(places[group]) for group in upper))
    last_rows = max(1, _height(places["performance"]))

    inner = sum(columns[group] for group in upper) * COLUMN + (len(upper) - 1) * GAP
    height = 2 * MARGIN + HEADER + 2 * HEADING + (rows + last_rows) * ROW + GAP
    height += FOOTER * ((1 if inner > WIDE else 2) + bool(readings.marks))
    figure = Figure(figsize=(inner + 2 * MARGIN, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    look = readings.look
    _header(figure, look)
    left, top = MARGIN, height - MARGIN - HEADER
    blocks: dict[Group, _Block] = {}
    for group in upper:
        blocks[group] = _block(group, left, top, columns[group] * COLUMN, columns[group])
        left += columns[group] * COLUMN + GAP
    top -= HEADING + rows * ROW + GAP
    blocks["performance"] = _block("performance", MARGIN, top, inner, columns["performance"])
    for group, block in blocks.items():
        _fill(figure, block, places[group], readings)
    emptiest = min(upper, key=lambda group: (_height(places[group]), -columns[group]))
    _findings(figure, look, blocks[emptiest], max(_height(places[emptiest]), 1), rows)
    _footer(figure, readings, heats=any(panel.kind in HEATS for panel in panels))
    return figure


def _block(group: Group, left: float, top: float, width: float, columns: int) -> _Block:
    return _Block(group.upper(), GROUP_COLOURS[group], left, top, width, columns)


def _arrange(panels: Sequence[Panel], columns: int) -> list[_Place]:
    """Place the panels row by row, those with a gauge first: they take two cells, side by side where there is room."""
    places: list[_Place] = []
    for panel in sorted(panels, key=lambda panel: panel.kind not in GAUGES):
        for gauge in (True, False) if panel.kind in GAUGES else (False,):
            row, column = divmod(len(places), columns)
            places.append(_Place(panel, gauge, row, column))
    return places


def _height(places: Sequence[_Place]) -> int:
    return places[-1].row + 1 if places else 0


def _fill(figure: Figure, block: _Block, places: Sequence[_Place], readings: _Readings) -> None:
    block.heading(figure)
    if not places:
        block.words(figure, "no instrument of this group in this run")
    last_rows = {place.column: place.row for place in places}
    for place in places:
        draw = _GAUGED_AS[place.panel.kind] if place.gauge else _DRAWN_AS[place.panel.kind]
        axes = block.axes(figure, place.row, place.column)
        draw(axes, place.panel, readings)
        if place.row == last_rows[place.column] and place.panel.kind != "joint" and not place.gauge and axes.has_data():
            axes.set_xlabel("step", size=5.5, labelpad=0.5, color=GREY)


def _header(figure: Figure, look: Glance) -> None:
    """Print whose run this is and what is to be said of it."""
    width, height = figure.get_size_inches()
    inner = width - 2 * MARGIN
    axes = _inches(figure, MARGIN, height - MARGIN - HEADER, inner, HEADER)
    state = f"{look.steps:,} steps, {look.state}" + (f", started {look.when}" if look.when else "")
    described = "   ·   ".join(words for words in (look.model, look.optimizer, look.device) if words)
    name = _shortened(look.name, inner - _width(state, 8) - 0.3, 14, bold=True)
    _text(axes, 0, 1, name, va="top", size=14, weight="bold")
    _text(axes, 1, 0.97, state, va="top", ha="right", size=8, color=GREY)
    _text(axes, 0, 0.68, _shortened(described, inner, 8), va="top", size=8)
    _verdict(axes, look, inner)


def _verdict(axes: Axes, look: Glance, width: float) -> None:
    """Print the verdict by sign, word and colour, and what to do about it."""
    sign, colour = SIGNS[look.light]
    axes.add_patch(Rectangle((0, 0.14), 1, 0.3, facecolor=_tint(colour, 0.16), edgecolor=colour, linewidth=0.8))
    word = f"{sign} {WORDS[look.light].upper()}"
    _text(axes, 0.1 / width, 0.29, word, va="center", size=8.5, weight="bold")
    left = 0.1 + _width(word, 8.5, bold=True) + 0.2
    told = bool(look.findings) and look.light != "unknown"
    suggestion = plain_text(headline(look.findings).suggestion) if told else ""
    sentence = f"{look.verdict} {suggestion}".strip()
    _text(axes, left / width, 0.29, _shortened(sentence, width - left - 0.1, 8.5), va="center", size=8.5)


def _findings(figure: Figure, look: Glance, block: _Block, taken: int, rows: int) -> None:
    """Print the findings in full where a group leaves room for them."""
    if rows - taken < SPARE or not look.findings:
        return
    top = block.top - HEADING - taken * ROW - GAP
    block = replace(block, title="DIAGNOSIS", colour=GROUP_COLOURS["performance"], top=top)
    block.heading(figure)
    room = (rows - taken) * ROW - GAP - HEADING
    axes = _inches(figure, block.left, top - HEADING - room, block.width, room)
    line = 0.125
    y = room
    for finding in look.findings:
        sign, colour = SIGNS["good" if affirms(finding) else finding.severity]
        title = f"{finding.title} ({percent(finding.confidence)} sure)"
        paragraphs = [(title, True), (finding.explanation, False), (finding.suggestion, False)]
        lines = [
            (part, "bold" if bold else "normal")
            for text, bold in paragraphs
            for part in _wrapped(text, block.width - 0.25, 6.5, bold=bold)
        ]
        if y < len(lines) * line:
            _text(axes, 0.2 / block.width, y / room, "more by: cockpitlite diagnose", va="top", size=6.5, color=GREY)
            return
        _text(axes, 0.02, y / room, sign, va="top", size=7, color=colour)
        for text, weight in lines:
            _text(axes, 0.2 / block.width, y / room, text, va="top", size=6.5, weight=weight)
            y -= line
        y -= line / 2


def _footer(figure: Figure, readings: _Readings, *, heats: bool) -> None:
    """Explain the signs that all charts share, and the colours of heat maps."""
    signs: dict[str, Artist | tuple[Artist, ...]] = {
        "value": Line2D([], [], color=BLUE, alpha=0.4, linewidth=0.6),
        "smoothed": Line2D([], [], color=BLUE, linewidth=1.2),
        "layers, first (light) to last (dark)": _Bundle(),
        "healthy range": Patch(color=HEALTHY, linewidth=0),
        "NaN or infinite": Line2D([], [], color=VERMILION, marker="x", markersize=4, linestyle="none"),
        "zero or negative on a log axis": Line2D([], [], color=BLACK, marker="v", markersize=3, linestyle="none"),
        "newest tenth of the steps": Patch(color=ORANGE, linewidth=0),
    }
    if readings.advice is not None:
        ring = Line2D([], [], color=PURPLE, marker="o", markersize=5, markerfacecolor="none", linestyle="none")
        words = "learning rate to try"
        signs[words if readings.advice.span is None else f"{words} (band: best in eight of ten such runs)"] = ring
    if heats:
        colours = _heat_colours("gradients")(np.linspace(0, 1, 5))
        signs["share of the values in a bin, 1e−6 to 1"] = tuple(Patch(color=colour, linewidth=0) for colour in colours)
    inner = figure.get_size_inches()[0] - 2 * MARGIN
    lines: dict[str, Artist | tuple[Artist, ...]] = {}
    for kind, found in readings.marks.items():
        colour, style = MARK_LOOKS[kind]
        words = f"{KIND_WORDS[kind]} ×{len(found):,}" if len(found) > 1 else KIND_WORDS[kind]
        lines[words] = Line2D([], [], color=colour, linewidth=0.9, linestyle=style)
    bottom = MARGIN - 0.06
    if lines:
        _legend(_inches(figure, MARGIN, bottom, inner, FOOTER), lines, len(lines))
        bottom += 0.75 * FOOTER
    columns = len(signs) if inner > WIDE else math.ceil(len(signs) / 2)
    _legend(_inches(figure, MARGIN, bottom, inner, FOOTER), signs, columns)


def _legend(axes: Axes, signs: Mapping[str, Artist | tuple[Artist, ...]], columns: int) -> None:
    """Print signs with what they mean, in so many columns."""
    axes.legend(
        list(signs.values()),
        list(signs),
        loc="lower center",
        ncols=columns,
        fontsize=6.5,
        frameon=False,
        handlelength=1.8,
        columnspacing=1.4,
        borderaxespad=0,
        handler_map={_Bundle: _BundleHandler(), tuple: HandlerTuple(ndivide=None, pad=0)},
    )


class _Bundle(Patch):
    """The legend's sign for a bundle of layers."""


class _BundleHandler(HandlerBase):
    """Draws three lines, the lightest on top."""

    def create_artists(self, legend: Any, orig_handle: Artist, *box_and_transform: Any) -> list[Artist]:
        """Return the lines in the legend's coordinates."""
        x, y, width, height, _, transform = box_and_transform
        shades = _shades(3)
        return [
            Line2D([-x, width - x], [height * (1 - place / 2) - y] * 2, color=shade, linewidth=0.9, transform=transform)
            for place, shade in enumerate(shades)
        ]


# A curve


def _curve(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Draw the readings of a panel over the steps."""
    steps, layers, per_layer = readings.layers(panel)
    drawn = [name for name in panel.readings if len(readings.series(name)[0])]
    if not drawn and not layers:
        _title(axes, panel, "")
        _words(axes, _absence(panel, readings))
        return
    colours = dict(zip(drawn, (GROUP_COLOURS[panel.group], *FURTHER_COLOURS * len(drawn)), strict=False))
    values = [readings.series(name)[1] for name in drawn]
    axis = _limits(axes, panel, _finite(np.concatenate([*values, per_layer.ravel()])))
    _steps_across(axes, readings)
    _surroundings(axes, panel, readings)
    _layer_lines(axes, steps, per_layer, log=axis.log)
    for name, colour in colours.items():
        _line(axes, readings.series(name), readings.smoothed(panel, name, axis), colour, axis)
    if len(drawn) > 1:
        tests = panel.kind == "tests"
        _title(axes, panel, "", {noise.brief(name) if tests else name: colour for name, colour in colours.items()})
    else:
        _title(axes, panel, _last_words(values[0] if values else np.empty(0), len(layers)))
    if not any(len(_finite(part)) for part in (*values, per_layer)):
        _words(axes, "every value is NaN or infinite")
    _footnote(axes, panel, readings)


def _steps_across(axes: Axes, readings: _Readings) -> None:
    """Let a horizontal axis span all steps of the run."""
    margin = max(readings.last_step, 1) * 0.015
    axes.set_xlim(-margin, max(readings.last_step, 1) + margin)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))


def _line(axes: Axes, reading: tuple[Steps, Values], smoothed: tuple[Steps, Values], colour: str, axis: _Axis) -> None:
    """Draw one reading: every extreme faint, the running mean on top, and as signs what the axis cannot show."""
    steps, values = reading
    hidden = np.isfinite(values) & (values <= 0) if axis.log else np.zeros(len(values), dtype=bool)
    x, y = reduce_min_max(steps, np.where(hidden, np.nan, values), CURVE_COLUMNS)
    bursts = in_bursts(steps)  # a line would lead the eye through steps that nobody measured
    if len(x) < FEW:
        axes.plot(x, y, "o" if bursts else "o-", markersize=1.8, color=colour, linewidth=0.8, zorder=4)
    elif _calm(axis.bent(values)):
        axes.plot(x, y, color=colour, linewidth=1.2, zorder=4)
    else:
        dots: dict[str, Any] = {"marker": ".", "markersize": 2.5, "linestyle": "none"}
        style = dots if bursts else {"linewidth": 0.5}
        axes.plot(x, y, color=colour, alpha=0.4, zorder=3, **style)
        axes.plot(*smoothed, color=colour, linewidth=1.2, zorder=4)
    _signs(axes, steps[hidden], "v", BLACK, 0.04)
    _signs(axes, nonfinite_steps(steps, values), "x", VERMILION, 0.96)


def _calm(heights: Values) -> bool:
    """Whether values have no noise to be smoothed away, as a schedule has none: hardly a bend, and few jumps."""
    finite = _finite(heights)
    span = np.ptp(finite)
    jumps = np.mean(np.abs(np.diff(finite)) > 0.1 * span) if span else 0.0
    return bool(np.median(np.abs(np.diff(finite, 2))) <= CALM * span and jumps < FEW_JUMPS)


def _signs(axes: Axes, steps: Steps, marker: str, colour: str, height: float) -> None:
    """Put a sign at each step, at a height of the axes, where there is no value to draw."""
    at, _ = reduce_min_max(steps, np.zeros(len(steps)), CURVE_COLUMNS // 4)
    axes.plot(
        at,
        np.full(len(at), height),
        marker,
        color=colour,
        markersize=3,
        markeredgewidth=0.7,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        zorder=5,
    )


def _layer_lines(axes: Axes, steps: Steps, values: Values, *, log: bool) -> None:
    """Draw a thin line for each layer, the first light and the last dark."""
    count = values.shape[1]
    columns = max(LAYER_POINTS // (4 * max(count, 1)), 5)
    lines = [reduce_min_max(steps, np.where(layer > 0, layer, np.nan) if log else layer, columns) for layer in values.T]
    axes.add_collection(
        LineCollection(
            [np.column_stack(line) for line in lines],
            colors=_shades(count),
            linewidths=0.6 if count <= 16 else 0.35,
            zorder=2,
        ),
        autolim=False,
    )


def _surroundings(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Shade the healthy range, draw the marks, and show where the course turned."""
    low, high = axes.get_ylim()
    if panel.healthy is not None:
        below, above = panel.healthy
        bottom, top = max(low if below is None else below, low), min(high if above is None else above, high)
        if bottom < top:
            axes.axhspan(bottom, top, color=HEALTHY, linewidth=0, zorder=0)
    for value, label in panel.marks:
        if low <= value <= high:
            axes.axhline(value, color=GREY, linewidth=0.6, linestyle="--", zorder=1)
            at = axes.get_yaxis_transform()
            box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 0.2}
            style: dict[str, Any] = {"ha": "right", "va": "bottom", "size": 5, "color": GREY, "zorder": 6, "bbox": box}
            _text(axes, 0.995, value, label, transform=at, **style)
    _upright_lines(axes, readings)


def _upright_lines(axes: Axes, readings: _Readings) -> None:
    """Show where the learning rate jumped, the settings changed, or the run was resumed or paused."""
    for kind, found in readings.marks.items():
        colour, style = MARK_LOOKS[kind]
        drawn = thinned(found, readings.last_step / LINES)
        height = 1.0 if len(drawn) <= FEW_LINES else 0.12
        for mark in drawn:
            axes.axvline(mark.step, 0, height, color=colour, linewidth=0.6, linestyle=style, zorder=2.5)


def _limits(axes: Axes, panel: Panel, values: Values) -> _Axis:
    """Choose the vertical axis so that every value is inside; marks are taken in where they are near."""
    log = panel.scale == "log" and bool((values > 0).any())
    values = values[values > 0] if log else values
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    constant = [low] if low == high else None
    marks = [value for value, _ in panel.marks]
    if log:
        low, high = _stretched(math.log10(low), math.log10(high), [math.log10(mark) for mark in marks if mark > 0], 0.3)
        axes.set_yscale("log")
        low, high = max(low, -307.0), min(high, 307.0)
        axes.set_ylim(10**low, 10**high)
        _ticks(axes, constant or _log_ticks(low, high))
        return _Axis(log=True)
    if panel.kind == "parabola":
        low, high, constant = min(low, -1.0), max(high, 1.0), None
    low, high = _stretched(low, high, marks, abs(low) * 0.05 or 0.5)
    middle = _middle(panel, values)
    if middle is not None:
        decades = math.log10(max(-low, high) / middle)
        axes.set_yscale("symlog", linthresh=middle, linscale=max(0.67 * decades, 0.5))
    axes.set_ylim(low, high)
    _ticks(axes, constant or (_even_ticks(low, high) if middle is None else _outer_ticks(low, high, middle)))
    return _Axis(middle=middle)


def _middle(panel: Panel, values: Values) -> float | None:
    """Return up to where an axis is linear, logarithmic beyond; None where it can be linear all over."""
    sizes = np.abs(values[values != 0])
    if not len(sizes):
        return None
    if panel.kind == "parabola":
        return 1.5 if sizes.max() > 5 else None
    middle = float(np.median(sizes))
    return middle if sizes.max() > LOUD * middle else None


def _stretched(low: float, high: float, marks: Sequence[float], least: float) -> tuple[float, float]:
    """Widen a range by its near marks and by a margin, which is at least ``least`` where the range is a point."""
    span = high - low
    near = [mark for mark in marks if low - span <= mark <= high + span]
    low, high = min(low, *near, low), max(high, *near, high)
    margin = 0.06 * (high - low) if high > low else least
    return low - margin, high + margin


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set_yticks(values, [_tick_label(value) for value in values])


def _even_ticks(low: float, high: float) -> list[float]:
    ticks = ticker.MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return two to five round values between two powers of ten, however near these are."""
    if high - low < 1:
        return [tick for tick in _even_ticks(10**low, 10**high) if tick > 0]
    exponents = range(math.ceil(low), math.floor(high) + 1)
    if high - low < 2.5:
        return [
            10.0**at * part
            for at in range(math.floor(low), math.ceil(high))
            for part in (1, 3)
            if low <= at + math.log10(part) <= high
        ]
    return [10.0**at for at in exponents[:: math.ceil(len(exponents) / 4)]]


def _outer_ticks(low: float, high: float, middle: float) -> list[float]:
    """Return zero and the last power of ten on each side that has values beyond the linear middle."""
    ends = [(sign, math.floor(math.log10(end))) for sign, end in ((-1, -low), (1, high)) if end > middle]
    return sorted([0.0, *(sign * 10.0**exponent for sign, exponent in ends)])


def _tick_label(value: float) -> str:
    """Return a short number; very large and very small ones as a power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{float(f'{value:.3g}'):g}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    factor = mantissa.removesuffix(".0")
    sign = {"1": "", "-1": "-"}.get(factor, rf"{factor}{{\times}}")
    return rf"${sign}10^{{{int(exponent)}}}$"


# Histograms as heat maps


def _heat_map(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Draw the histograms of a panel over the steps."""
    columns = readings.columns(panel)
    shown = heat.picture(columns)
    if not len(shown):
        _title(axes, panel, "")
        _words(axes, _absence(panel, readings))
        return
    _mesh(axes, panel, shown.steps, np.arange(len(shown.edges)), shown.shares)
    _steps_across(axes, readings)
    _upright_lines(axes, readings)
    _label_bins(axes.set_yticks, shown.edges)
    newest = columns.counts[-1]
    size = number(float(f"{heat.bound(newest, columns.edges, heat.TAIL):.2g}"))
    _title(axes, panel, f"last {percent(heat.TAIL)} ≤ {size}".replace("-", "−"))
    _footnote(axes, panel, readings)


def _joint(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Draw the newest joint histogram of a panel, its first quantity upwards."""
    newest = readings.joint(panel)
    if newest is None:
        _title(axes, panel, "")
        _words(axes, _absence(panel, readings))
        return
    step, shown = newest[0], heat.reduced(newest[1], JOINT_BINS)
    upwards, across = shown.edges
    shares = shown.counts / max(int(shown.counts.sum()), 1)
    _mesh(axes, panel, np.arange(len(across)), np.arange(len(upwards)), shares)
    _label_bins(axes.set_yticks, upwards)
    _label_bins(axes.set_xticks, across)
    if panel.axes is not None:
        box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 0.2}
        at: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "zorder": 6, "bbox": box}
        _text(axes, 0.995, 0.02, f"up: {panel.axes[0]}, right: {panel.axes[1]}", size=5, color=GREY, **at)
    _title(axes, panel, f"step {step:,}")
    _footnote(axes, panel, readings)


def _mesh(axes: Axes, panel: Panel, x: NDArray[Any], y: NDArray[Any], shares: Values) -> None:
    """Draw shares ``[y, x]`` between the edges of bins; what is empty stays white. In a PDF it is an image."""
    norm = LogNorm(heat.LEAST_SHARE, 1.0, clip=True)
    hidden = np.ma.masked_where(~(shares > 0), shares)
    axes.pcolormesh(x, y, hidden, cmap=_heat_colours(panel.group), norm=norm, rasterized=True, zorder=2)
    axes.set_ylim(y[0], y[-1])
    axes.tick_params(axis="y", labelsize=4.8)  # numbers of many signs must not reach into the chart to the left


def _label_bins(set_ticks: Callable[..., Any], edges: Values) -> None:
    found = heat.ticks(edges, 5)
    set_ticks([place for place, _ in found], [_tick_label(float(f"{value:.2g}")) for _, value in found])


def _heat_colours(group: Group) -> LinearSegmentedColormap:
    """Return the colours of shares by their logarithm, from next to nothing to all."""
    colour = GROUP_COLOURS[group]
    decades = -math.log10(heat.LEAST_SHARE)
    full, most = (1 + math.log10(share) / decades for share in (heat.FULL_SHARE, heat.MOST_SHARE))
    stops = [(0.0, _tint(colour, 0.2)), (full, colour), (most, ORANGE), (1.0, ORANGE)]
    return LinearSegmentedColormap.from_list(f"shares {group}", stops)


_DRAWN_AS: Final[Mapping[Kind, Callable[[Axes, Panel, _Readings], None]]] = {
    "curve": _curve,
    "parabola": _curve,
    "tests": _curve,
    "histogram": _heat_map,
    "joint": _joint,
}


# The gauge of a normalized step length


def _gauge(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Draw the distribution of all step lengths under the unit parabola, the newest tenth on top."""
    axes.set_xlim(-BOWL, BOWL)
    axes.set_ylim(-1.3, 2.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _zones(axes, panel)
    alpha = np.linspace(-BOWL, BOWL, 129)
    axes.plot(alpha, alpha**2, color=BLACK, linewidth=1.0, zorder=3)
    marks = [(value, label) for value, label in panel.marks if -BOWL < value < BOWL]
    axes.set_xticks([value for value, _ in marks] or [-1, 0, 1])
    labels = [_printable(f"{value:g} {label}".replace("-", "−")) for value, label in marks]
    axes.set_xticklabels(labels or ["−1", "0", "1"], parse_math=False)
    values = _finite(readings.series(panel.readings[0])[1])
    if len(values):
        _distribution(axes, values)
        _balls(axes, values)
        if readings.advice is not None and panel.readings[0] == READING:
            _goal(axes, float(np.median(newest(values))), readings.advice)
    _title(axes, panel, "")


def _goal(axes: Axes, length: float, said: Advice) -> None:
    """Lay a ring where steps would end at the suggested rate, in a band where they would at the best ones."""
    place = said.place(length)
    if math.isnan(place):
        return
    if said.span is not None:
        low, high = (float(np.clip(said.place(length, factor), -BOWL, BOWL)) for factor in said.span)
        band = np.linspace(low, high, 33)
        axes.plot(band, band**2, color=PURPLE, alpha=0.45, linewidth=4, solid_capstyle="butt", zorder=3.5)
    at = float(np.clip(place, -BOWL, BOWL))
    ring: dict[str, Any] = {"markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.4, "clip_on": False}
    axes.plot([at], [at**2], "o", color=PURPLE, zorder=8, **ring)
    side = "left" if at < 0 else "right"
    style: dict[str, Any] = {"ha": side, "va": "center", "size": 5.5, "color": BLACK, "weight": "bold", "zorder": 8}
    _text(axes, at + (0.1 if at < 0 else -0.1), at**2 + 0.05, said.label, **style)


def _zones(axes: Axes, panel: Panel) -> None:
    """Shade and name what the panel calls healthy, or only name the ends where it does not say."""
    low, high = panel.healthy or (None, None)
    left, right = (-BOWL if low is None else max(low, -BOWL)), (BOWL if high is None else min(high, BOWL))
    if panel.healthy is None:
        zones = {"too small": (-BOWL, -BOWL / 2), "too large": (BOWL / 2, BOWL)}
    else:
        zones = {"too small": (-BOWL, left), "good": (left, right), "too large": (right, BOWL)}
        for zone, (start, end) in zones.items():
            axes.axvspan(start, end, color=ZONES[zone], linewidth=0, zorder=0)
    for zone, (start, end) in zones.items():
        if end > start:
            axes.text((start + end) / 2, 2.65, zone, ha="center", va="bottom", size=5.5, weight="bold", color=BLACK)


def _distribution(axes: Axes, values: Values) -> None:
    """Draw the shares of the values as bars below the bowl; those beyond its rim are counted in words."""
    edges = np.linspace(-BOWL, BOWL, 41)
    for part, colour, opacity, order in ((values, "#A8A8A8", 1.0, 2), (newest(values), ORANGE, 0.75, 4)):
        counts, _ = np.histogram(np.clip(part, -BOWL, BOWL), edges)
        heights = -1.3 + 1.2 * counts / counts.max()
        axes.stairs(heights, edges, baseline=-1.3, fill=True, linewidth=0, color=colour, alpha=opacity, zorder=order)
    below, above = int((values < -BOWL).sum()), int((values > BOWL).sum())
    if below:
        axes.text(-BOWL * 0.98, 0.0, f"◂ {below:,} beyond", ha="left", size=5, color=BLACK)
    if above:
        axes.text(BOWL * 0.98, 0.0, f"{above:,} beyond ▸", ha="right", size=5, color=BLACK)


def _balls(axes: Axes, values: Values) -> None:
    """Lay the quartiles of all and of the newest values on the parabola, a ball on each median, and say the medians."""
    bundles = (("median", values, "#A8A8A8", 3.5, 4), ("newest", newest(values), ORANGE, 2.2, 5))
    for name, part, colour, width, order in bundles:
        first, middle, third = np.clip(np.quantile(part, [0.25, 0.5, 0.75]), -BOWL, BOWL)
        stretch = np.linspace(first, third, 33)
        axes.plot(stretch, stretch**2, color=colour, linewidth=width, solid_capstyle="round", zorder=order)
        ball: dict[str, Any] = {"color": colour, "markeredgecolor": BLACK, "markeredgewidth": 0.6, "markersize": 5}
        axes.plot([middle], [middle**2], "o", zorder=order + 2, clip_on=False, **ball)
        words = f"{name} {float(np.median(part)):+.2f}".replace("-", "−")
        axes.text(0, 1.95 - 0.5 * (name == "newest"), words, ha="center", va="center", size=5.5, color=BLACK)


# The gauge of the gradient tests


def _tests(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Draw a row for each test on one logarithmic scale: all values, the newest tenth, its median and what it says."""
    rows = noise.rows(panel, lambda name: readings.series(name)[1])
    low, high, bound = noise.EDGES[0], noise.EDGES[-1], noise.place(noise.bound(panel))
    axes.set_xlim(low, high)
    axes.set_ylim(0, len(rows))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvspan(low, bound, color=ZONES["good"], linewidth=0, zorder=0)
    axes.axvspan(bound, high, color=ZONES["too large"], linewidth=0, zorder=0)
    axes.axvline(bound, color=GREEN, linewidth=1.2, zorder=3)
    for name, start, end in (("the batch tells the direction", low, bound), ("noise", bound, high)):
        at: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text((start + end) / 2, 1.01, name, size=5.5, weight="bold", color=BLACK, **at)
    axes.set_xticks([noise.place(value) for value, _ in noise.TICKS])
    axes.set_xticklabels(
        [f"{value:.1g} ({words})" if words else f"{value:.1g}" for value, words in noise.TICKS], parse_math=False
    )
    for place, row in enumerate(rows):
        _test(axes, row, float(len(rows) - 1 - place))
    _title(axes, panel, "")


def _test(axes: Axes, row: noise.Row, foot: float) -> None:
    axes.axhline(foot, color=GREY, linewidth=0.4, zorder=1)
    for shares, colour, opacity, order in ((row.everything, "#A8A8A8", 1.0, 2), (row.newest, ORANGE, 0.75, 4)):
        tops = foot + 0.55 * shares
        axes.stairs(tops, noise.EDGES, baseline=foot, fill=True, linewidth=0, color=colour, alpha=opacity, zorder=order)
    if not math.isnan(row.median):
        ball: dict[str, Any] = {"color": ORANGE, "markeredgecolor": BLACK, "markeredgewidth": 0.6, "markersize": 5}
        axes.plot([noise.place(row.median)], [foot], "o", zorder=6, clip_on=False, **ball)
    words = f"{noise.label(row.name)} {noise.words(row)}"
    _text(axes, noise.EDGES[0] + 0.03, foot + 0.78, words, va="center", size=5.5, color=BLACK, zorder=7)


_GAUGED_AS: Final[Mapping[Kind, Callable[[Axes, Panel, _Readings], None]]] = {"parabola": _gauge, "tests": _tests}


# Words


def _title(axes: Axes, panel: Panel, note: str, names: Mapping[str, str] | None = None) -> None:
    """Print above the axes the panel's title and unit on the left; on the right a note, or the names with colours."""
    width = _inner_width(axes)
    above = 1.13 if panel.kind in GAUGES else 1.05  # level with the gauge, whose zones are named in between
    at: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom", "size": 5.5}
    right = width
    signs = dict(reversed(list((names or {}).items())))
    room = 0.7 * width - 0.2 * len(signs)
    fits = sum(_width(name, 5) for name in signs) <= room
    for name, colour in signs.items():
        words = name if fits else _shortened(name, room / len(signs), 5)
        right -= _width(words, 5) + 0.02
        _text(axes, right / width, above, words, color=BLACK, **(at | {"size": 5}))
        right -= 0.09
        axes.text(right / width, above, "■", color=colour, **(at | {"size": 5}))
        right -= 0.07
    if note:
        right -= _width(note, 5.5) + 0.08
        _text(axes, 1, above, note, ha="right", color=GREY, **at)
    title = plain_text(panel.title) + (f" [{plain_text(panel.unit)}]" if panel.unit else "")
    _text(axes, 0, above, _shortened(title, right, 7), color=BLACK, **(at | {"size": 7}))


def _last_words(values: Values, layers: int) -> str:
    words = [f"{layers} layers"] if layers else []
    if len(values):
        words.append("last NaN" if math.isnan(values[-1]) else f"last {number(float(values[-1]))}".replace("-", "−"))
    return ", ".join(words)


def _absence(panel: Panel, readings: _Readings) -> str:
    """Say why a panel has nothing to draw."""
    for name in (*panel.readings, panel.name):
        if name in readings.reasons:
            return f"unavailable: {readings.reasons[name]}"
    if any(name in readings.names for name in panel.readings):
        return "no histogram to draw" if panel.kind in HEATS else "recorded as histograms, which a curve does not show"
    return "no value in this run"


def _footnote(axes: Axes, panel: Panel, readings: _Readings) -> None:
    """Print why a reading that has some values lacks others."""
    reasons = [readings.reasons[name] for name in panel.readings if name in readings.reasons]
    if reasons:
        words = _shortened(f"in part unavailable: {reasons[0]}", _inner_width(axes) - 0.1, 5)
        at: dict[str, Any] = {"transform": axes.transAxes, "zorder": 7}
        _text(axes, 0.02, 0.8, words, size=5, style="italic", color=GREY, **at)


def _words(axes: Axes, text: str) -> None:
    """Print a sentence in the place of a chart."""
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.patch.set_facecolor("#F4F4F4")
    lines = _wrapped(text, _inner_width(axes) - 0.2, 6)
    shown = lines if len(lines) <= 5 else [*lines[:4], f"{lines[4]} …"]
    middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "\n".join(shown), parse_math=False, size=6, style="italic", color=GREY, **middle)


def _inner_width(axes: Axes) -> float:
    """Return the width of axes in inches."""
    figure = axes.get_figure(root=True)
    return float(axes.get_position().width * (figure.get_size_inches()[0] if figure else 1))


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Print words as they are: no sign in them is taken for mathematics."""
    return axes.text(x, y, _printable(text), parse_math=False, **style)


def _printable(text: str) -> str:
    """Return one line in which every sign the page's font lacks is replaced by a sign for that."""
    return "".join(sign if ord(sign) in _charmap() else "\ufffd" for sign in plain_text(text))


def _shortened(text: str, inches: float, size: float, *, bold: bool = False) -> str:
    """Return as much of a text as fits into a width at a size in points."""
    text = plain_text(text)
    while len(text) > 1 and (width := _width(text, size, bold=bold)) > inches:
        text = text[: min(len(text) - 2, int(len(text) * max(inches, 0) / width))].rstrip() + "…"
    return text


def _wrapped(text: str, inches: float, size: float, *, bold: bool = False) -> list[str]:
    """Return a text broken into lines that fit into a width at a size in points."""
    lines = [""]
    for word in _printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if _width(longer, size, bold=bold) <= inches or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_shortened(line, inches, size, bold=bold) for line in lines if line]


def _width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in inches at a size in points."""
    font = font_manager.get_font(_font_file(bold=bold))
    font.set_size(size, DPI)
    font.set_text(_printable(text), 0.0)
    return SLACK * float(font.get_width_height()[0]) / 64 / DPI


@cache
def _font_file(*, bold: bool) -> str:
    return font_manager.findfont("DejaVu Sans:bold" if bold else "DejaVu Sans")


@cache
def _charmap() -> frozenset[int]:
    return frozenset(font_manager.get_font(_font_file(bold=False)).get_charmap())


# Colours and places


def _inches(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return new axes, blank until switched on, whose data run from 0 to 1."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


def _tint(colour: str, strength: float) -> str:
    """Return a colour mixed with white, opaque, so that it prints alike everywhere."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _shades(count: int) -> list[str]:
    """Return greys from light to dark."""
    return [str(round(float(grey), 3)) for grey in np.linspace(0.82, 0.25, count)]


def _held(values: Values) -> Values:
    """Move what no axis can hold to where one ends."""
    held = np.clip(values, -HUGE, HUGE)
    return np.where(np.abs(held) < 1 / HUGE, np.sign(held) / HUGE, held)


def _finite(values: Values) -> Values:
    return values[np.isfinite(values)]
