"""What one panel draws at one moment, and how a run file is read for it without reading anything twice."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cockpitlite.heat import Columns, grown, is_sound
from cockpitlite.panel import Panel
from cockpitlite.store import Event, Histogram, Run, Steps, Values


@dataclass(frozen=True)
class Series:
    """The steps ``[T]`` and values ``[T]`` of a reading; for one with layers, its total."""

    steps: Steps
    values: Values

    def __len__(self) -> int:
        return len(self.steps)

    def since(self, step: int) -> Series:
        """Return the points after ``step``."""
        start = int(np.searchsorted(self.steps, step, "right"))
        return Series(self.steps[start:], self.values[start:])


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
    """Everything a panel's chart is made from: its series by name, its layers, and the run's events.

    For histograms also their columns over the steps, and the newest one with its step.
    """

    series: Mapping[str, Series] = field(default_factory=dict)
    layers: Layers = NO_LAYERS
    events: tuple[Event, ...] = ()
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
        self._series: dict[str, Series] = {}
        self._layers: dict[str, Layers] = {}
        self._columns: dict[str, Columns] = {}
        self._resumes = 0

    def read(self, panels: Sequence[Panel]) -> list[Readings]:
        """Return what each of the panels draws now."""
        with self._lock:
            events = tuple(self.run.events())
            self._forget_at_resume(events)
            known = set(self.run.names())
            return [self._readings(panel, known, events) for panel in panels]

    def _readings(self, panel: Panel, known: set[str], events: tuple[Event, ...]) -> Readings:
        series = {name: self._grown_series(name) for name in names_of(panel) if name in known}
        name = panel.readings[0]
        if panel.kind in ("histogram", "joint") and name in known:
            columns = self._grown_columns(name) if panel.kind == "histogram" else NO_COLUMNS
            newest = self.run.newest_histogram(name)
            fits = newest is not None and is_sound(newest[1], axes=2 if panel.kind == "joint" else 1)
            return Readings(series, NO_LAYERS, events, columns, newest if fits else None)
        layered = panel.layered and name in known
        return Readings(series, self._grown_layers(name) if layered else NO_LAYERS, events)

    def _forget_at_resume(self, events: tuple[Event, ...]) -> None:
        """Read all again after a resume, which may have replaced steps that were read."""
        resumes = sum(event.kind == "resume" for event in events)
        if resumes != self._resumes:
            self._series.clear()
            self._layers.clear()
            self._columns.clear()
            self._resumes = resumes

    def _grown_series(self, name: str) -> Series:
        old = self._series.get(name, NO_SERIES)
        if not len(old):
            self._series[name] = Series(*self.run.series(name))
            return self._series[name]
        last = int(old.steps[-1])  # read once more: a second value for a step replaces the first
        steps, values = self.run.series(name, since=last)
        grown = Series(np.concatenate([old.steps[:-1], steps]), np.concatenate([old.values[:-1], values]))
        self._series[name] = grown
        return grown

    def _grown_layers(self, name: str) -> Layers:
        old = self._layers.get(name, NO_LAYERS)
        since = int(old.steps[-1]) + 1 if len(old.steps) else 0
        steps, names, values = self.run.layers(name, since=since)
        new = Layers(steps, tuple(names), values)
        if len(new.steps):
            self._layers[name] = _joined(old, new)
        return self._layers.get(name, old)

    def _grown_columns(self, name: str) -> Columns:
        old = self._columns.get(name, NO_COLUMNS)
        self._columns[name] = grown(old, self.run.each_histogram(name, since=old.last + 1))
        return self._columns[name]


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
