"""What one panel draws at one moment, and how a run file is read for it without reading anything twice."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpitlite.dashboard import layer_map
from cockpitlite.dashboard.layer_map import LayerMap
from cockpitlite.heat import Columns, grown, is_sound
from cockpitlite.marks import Mark, marks
from cockpitlite.panel import Panel
from cockpitlite.store import Event, Histogram, Outline, Run, Steps, Values

Window = tuple[float, float]
Key = tuple[str, str | None]  # a reading, and one of its layers or None for its total

KEPT = 200  # series that are kept in memory
RATE = "learning_rate"  # the reading whose jumps are marked on every chart
APPENDED = 20_000  # points after which a series is outlined anew


@dataclass(frozen=True)
class Hidden:
    """How many values lie between the points of a series, how many of them are not finite, or at or below 0."""

    points: int = 0
    broken: int = 0
    nonpositive: int = 0


@dataclass(frozen=True)
class Series:
    """The steps ``[T]`` and values ``[T]`` of a reading; for one with layers, its total.

    A long one has its extremes and its last points only: ``spans`` ``[T]`` tells how many steps a point stands for,
    ``sample`` holds points taken regardless of their size, and ``hidden`` tells what is not here.
    """

    steps: Steps
    values: Values
    spans: Steps | None = None
    sampled: Series | None = None
    hidden: Hidden = Hidden()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def sample(self) -> Series:
        """Points taken regardless of their size, as dense as they are known."""
        return self if self.sampled is None else self.sampled

    @property
    def even(self) -> Values:
        """Values from every part of the run in proportion, for a distribution."""
        if self.sampled is None or self.spans is None:
            return self.values
        _, first = np.unique(self.sampled.steps // self.spans.max(), return_index=True)
        return self.sampled.values[first]

    @property
    def points(self) -> int:
        """How many values it stands for."""
        return len(self) + self.hidden.points

    @property
    def broken(self) -> int:
        """How many of these are not finite."""
        return int(np.sum(~np.isfinite(self.values))) + self.hidden.broken

    @property
    def nonpositive(self) -> int:
        """How many of these are at or below 0."""
        return int(np.sum(self.values <= 0)) + self.hidden.nonpositive

    @classmethod
    def of(cls, outline: Outline) -> Series:
        """Return an outline as a series."""
        bare = cls(outline.steps, outline.values)
        if len(bare) == outline.points:
            return bare
        hidden = Hidden(
            outline.points - len(bare), outline.broken - bare.broken, outline.nonpositive - bare.nonpositive
        )
        return replace(
            bare, spans=outline.spans, sampled=cls(outline.sample_steps, outline.sample_values), hidden=hidden
        )

    def grown(self, steps: Steps, values: Values) -> Series:
        """Return the series with new points in place of its last one, which is the first of them."""

        def longer(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([old[:-1], new])

        return Series(
            longer(self.steps, steps),
            longer(self.values, values),
            None if self.spans is None else longer(self.spans, np.ones(len(steps), np.int64)),
            None if self.sampled is None else self.sampled.grown(steps, values),
            self.hidden,
        )

    def closer(self, window: tuple[int, int], outline: Outline) -> Series:
        """Return the series with the outline of a window in place of the points there; what it counts stays."""
        assert self.spans is not None and self.sampled is not None
        main, sample = _splicing(self.steps, window), _splicing(self.sampled.steps, window)
        found = Series(
            main(self.steps, outline.steps),
            main(self.values, outline.values),
            main(self.spans, outline.spans),
            Series(
                sample(self.sampled.steps, outline.sample_steps), sample(self.sampled.values, outline.sample_values)
            ),
        )
        hidden = Hidden(self.points - len(found), self.broken - found.broken, self.nonpositive - found.nonpositive)
        return replace(found, hidden=hidden)


def _splicing(steps: Steps, window: tuple[int, int]) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """Return what puts new points in place of the old ones whose steps lie in a window."""
    before, after = np.searchsorted(steps, window)
    return lambda old, new: np.concatenate([old[:before], new, old[after:]])


@dataclass(frozen=True)
class Layers:
    """The steps ``[T]``, layer names ``[L]`` and values ``[T, L]`` of a reading."""

    steps: Steps
    names: tuple[str, ...]
    values: Values


NO_SERIES = Series(np.empty(0, np.int64), np.empty(0))
NO_LAYERS = Layers(np.empty(0, np.int64), (), np.empty((0, 0)))
NO_COLUMNS = Columns()


@dataclass(frozen=True)
class Readings:
    """Everything a panel's chart is made from: its series by name, its layers, and the marks of the run.

    For histograms also their columns over the steps, and the newest one with its step.
    """

    series: Mapping[str, Series] = field(default_factory=dict)
    layers: Layers = NO_LAYERS
    marks: tuple[Mark, ...] = ()
    columns: Columns = NO_COLUMNS
    newest: tuple[int, Histogram] | None = None

    def of(self, name: str) -> Series:
        """Return a series, empty where the run has no such reading yet."""
        return self.series.get(name, NO_SERIES)


def names_of(panel: Panel) -> tuple[str, ...]:
    """Return the readings a panel needs, each once, the one it is about first."""
    return tuple(dict.fromkeys((*panel.readings, *(panel.ratio or ()))))


class RunReader:
    """A run file's readings as far as they were read; each call reads only what was written since the last.

    Used by several requests at once. Raises what :class:`~cockpitlite.store.Run` raises when the file is gone or
    damaged; what was read before stays.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._series: dict[Key, Series] = {}
        self._layers: dict[str, Layers] = {}
        self._columns: dict[Key, Columns] = {}
        self._closer: dict[Key, tuple[tuple[int, int], Outline]] = {}
        self._maps: dict[str, LayerMap] = {}
        self._closer_maps: dict[str, tuple[tuple[int, int], LayerMap]] = {}
        self._appended: Counter[Key] = Counter()
        self._resumes = 0
        self._marks: tuple[Mark, ...] = ()
        self._marked: tuple[int, ...] = ()

    def read(
        self, panels: Sequence[Panel], windows: Sequence[Window | None] = (), layers: Sequence[str | None] = ()
    ) -> list[Readings]:
        """Return what each of the panels draws now; one that is zoomed to a window of steps has it in detail.

        A panel with one of ``layers`` has that layer's readings in place of the totals.
        """
        with self._lock:
            events = tuple(self.run.events())
            self._forget_at_resume(events)
            known = set(self.run.names())
            self._mark(events, known)
            asked = itertools.zip_longest(panels, windows, layers)
            return [self._readings(panel, window, layer, known) for panel, window, layer in asked]

    def layer_map(self, name: str, window: Window | None = None) -> LayerMap:
        """Return a reading of every layer as a matrix of bounded size, over all steps or over a window of them."""
        with self._lock:
            self._forget_at_resume(tuple(self.run.events("resume")))
            end = (self.run.last_step or 0) + 1
            if window is None:
                self._maps[name] = layer_map.read(self.run, name, (0, end), self._maps.get(name))
                return self._maps[name]
            steps = _whole_steps(window)
            steps = min(steps[0], end - 1), min(steps[1], end)
            if self._closer_maps.get(name, (None,))[0] != steps or steps[1] == end:
                self._closer_maps[name] = steps, layer_map.read(self.run, name, steps)
            return self._closer_maps[name][1]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What was to be marked of the run when it was last read."""
        return self._marks

    @property
    def rate(self) -> float:
        """The learning rate when the run was last read, NaN where it is unknown."""
        rate = self._series.get((RATE, None), NO_SERIES)
        return float(rate.values[-1]) if len(rate) else math.nan

    def _mark(self, events: tuple[Event, ...], known: set[str]) -> None:
        """Find what is to be marked, where there is anything new."""
        rate = self._grown_series((RATE, None)) if RATE in known else NO_SERIES
        stand = (len(events), len(rate), int(rate.steps[-1]) if len(rate) else -1)
        if stand != self._marked:
            self._marks, self._marked = marks(events, (rate.steps, rate.values)), stand

    def _readings(self, panel: Panel, window: Window | None, layer: str | None, known: set[str]) -> Readings:
        series = {name: self._zoomed((name, layer), window) for name in names_of(panel) if name in known}
        name = panel.readings[0]
        if panel.kind in ("histogram", "joint") and name in known:
            columns = self._grown_columns((name, layer)) if panel.kind == "histogram" else NO_COLUMNS
            newest = self.run.newest_histogram(name, layer)
            fits = newest is not None and is_sound(newest[1], axes=2 if panel.kind == "joint" else 1)
            return Readings(series, NO_LAYERS, self._marks, columns, newest if fits else None)
        layered = panel.layered and name in known
        return Readings(series, self._grown_layers(name) if layered else NO_LAYERS, self._marks)

    def _forget_at_resume(self, events: tuple[Event, ...]) -> None:
        """Read all again after a resume, which may have replaced steps that were read."""
        resumes = sum(event.kind == "resume" for event in events)
        if resumes != self._resumes:
            for read in (self._series, self._layers, self._columns, self._closer, self._appended):
                read.clear()
            self._maps.clear()
            self._closer_maps.clear()
            self._resumes = resumes

    def _grown_series(self, key: Key) -> Series:
        name, layer = key
        old = self._series.pop(key, NO_SERIES)
        while len(self._series) >= KEPT:
            self._forget(next(iter(self._series)))  # the one that was longest not asked for
        if not len(old) or self._appended[key] > APPENDED:
            self._series[key], self._appended[key] = Series.of(self.run.outline(name, layer=layer)), 0
            return self._series[key]
        last = int(old.steps[-1])  # read once more: a second value for a step replaces the first
        steps, values = self.run.series(name, since=last, layer=layer)
        self._series[key] = old.grown(steps, values)
        self._appended[key] += len(steps)
        return self._series[key]

    def _forget(self, key: Key) -> None:
        for read in (self._series, self._columns, self._closer, self._appended):
            read.pop(key, None)

    def _zoomed(self, key: Key, window: Window | None) -> Series:
        """Return a series with a window of it in detail where it is an outline."""
        series = self._grown_series(key)
        if series.spans is None or window is None:
            return series
        steps = _whole_steps(window)
        if self._closer.get(key, (None,))[0] != steps or steps[1] > int(series.steps[-1]):
            self._closer[key] = steps, self.run.outline(key[0], steps, layer=key[1])
        return series.closer(*self._closer[key])

    def _grown_layers(self, name: str) -> Layers:
        old = self._layers.get(name, NO_LAYERS)
        if not len(old.steps) or len(old.steps) > APPENDED:
            steps, names, values = self.run.outlined_layers(name)
            old = self._layers[name] = Layers(steps, tuple(names), values)
            return old
        steps, names, values = self.run.layers(name, since=int(old.steps[-1]) + 1)
        new = Layers(steps, tuple(names), values)
        if len(new.steps):
            self._layers[name] = _joined(old, new)
        return self._layers.get(name, old)

    def _grown_columns(self, key: Key) -> Columns:
        old = self._columns.get(key, NO_COLUMNS)
        self._columns[key] = grown(old, self.run.each_histogram(*key, since=old.last + 1))
        return self._columns[key]


def _whole_steps(window: Window) -> tuple[int, int]:
    """Return the range of steps that a window shows, its end left out."""
    return max(0, math.floor(window[0])), max(1, math.ceil(window[1]) + 1)


def _joined(old: Layers, new: Layers) -> Layers:
    """Put newer steps behind older ones; a layer that one part does not know is NaN there."""
    names = tuple(dict.fromkeys((*old.names, *new.names)))
    parts = [_spread(part, names) for part in (old, new)]
    return Layers(np.concatenate([old.steps, new.steps]), names, np.concatenate(parts))


def _spread(layers: Layers, names: tuple[str, ...]) -> Values:
    column = {name: index for index, name in enumerate(names)}
    values = np.full((len(layers.steps), len(names)), np.nan)
    values[:, [column[name] for name in layers.names]] = layers.values
    return values
