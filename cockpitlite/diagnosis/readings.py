"""What a rule may look at: the readings of a run up to one step, each read from the file once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis.blocks import BLOCK, LATE, Blocks, LayerRows
from cockpitlite.store import Event, Run, Steps, Values

T = TypeVar("T")
Kind = Literal["total", "layers"]
Holds = Callable[[LayerRows], NDArray[np.bool_]]

# Which instrument a reading comes from, where it is not its namesake: the run file gives reasons by instrument.
_INSTRUMENTS = {
    "slope_same_start": "alpha_same",
    "slope_same_end": "alpha_same",
    "slope_next_start": "alpha_next",
    "slope_next_end": "alpha_next",
    "input_std": "input_mean",
    "input_min": "input_mean",
    "input_max": "input_mean",
    "input_spread": "input_mean",
    "target_mean": "input_mean",
    "target_std": "input_mean",
    "label_entropy": "classes",
    "labels": "classes",
    "unit_scores": "classes",
    "log_probability_rows": "probability_rows",
    "unnormalized_rows": "probability_rows",
}


class Unjudged(Exception):
    """A rule cannot judge; the message says why, as a user may read it."""


@dataclass(frozen=True)
class _Series:
    """A reading from the step ``since`` on, as the file had it when ``upto`` was its last step."""

    since: int
    upto: int
    steps: Steps
    values: Values


class _File:
    """A run file and what has been read of it; what is in the ``memory`` is read again only where it may have grown."""

    def __init__(self, run: Run, memory: dict[str, Any]) -> None:
        last = run.last_step
        self.run = run
        self.last = -1 if last is None else last
        resumes = sum(event.kind == "resume" for event in self.events)
        if memory.get("resumes") != resumes:  # a resume replaces steps that have been read
            memory.clear()
            memory["resumes"] = resumes
        self.known: dict[str, _Series] = memory.setdefault("series", {})
        self.blocks: Blocks = memory.setdefault("blocks", Blocks())
        self.beginnings: dict[tuple[Kind, str, int], tuple[int, LayerRows]] = memory.setdefault("beginnings", {})
        self.stretches: dict[Hashable, tuple[int, int]] = memory.setdefault("stretches", {})
        self.shared: dict[Hashable, Any] = memory.setdefault("shared", {})

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.run.names())

    @cached_property
    def meta(self) -> dict[str, Any]:
        return self.run.meta

    @cached_property
    def events(self) -> list[Event]:
        return sorted(self.run.events(), key=lambda event: event.step)

    @cached_property
    def unavailable(self) -> dict[str, str]:
        return self.run.unavailable()

    def read(self, name: str, since: int) -> _Series:
        """Return a reading from a step on; KeyError where there is none."""
        known = self.known.get(name)
        if known is None or known.since > since:
            known = _Series(since, self.last, *self.run.series(name, since))
        elif known.upto < self.last:
            known = self._grown(name, known)
        self.known[name] = known
        return known

    def begin(self, kind: Kind, name: str, count: int) -> LayerRows:
        """Return the first values of a reading; KeyError where there are none."""
        upto, rows = self.beginnings.get((kind, name, count), (-1, None))
        if rows is None or (len(rows.steps) < count and upto < self.last):
            if kind == "layers":
                rows = LayerRows(*self.run.layers(name, most=count))
            else:
                steps, values = self.run.series(name, most=count)
                rows = LayerRows(steps, [], values)
            self.beginnings[kind, name, count] = self.last, rows
        return rows

    def _grown(self, name: str, known: _Series) -> _Series:
        """Return a reading with what has come since: values may come some steps late."""
        begin = max(known.since, known.upto - LATE)
        new_steps, new_values = self.run.series(name, begin)
        kept = int(np.searchsorted(known.steps, begin))
        steps = np.concatenate([known.steps[:kept], new_steps])
        return _Series(known.since, self.last, steps, np.concatenate([known.values[:kept], new_values]))


class Readings:
    """A run as it stood after step ``now``; -1 is a run before its first step."""

    def __init__(self, run: Run, memory: dict[str, Any] | None = None) -> None:
        """Look at a run; what has been read of it before is in the ``memory``, where one is given."""
        self._file = _File(run, {} if memory is None else memory)
        self.now = self._file.last
        self._derived: dict[Any, Any] = {}

    def at(self, step: int) -> Readings:
        """Return the run as it stood after an earlier step."""
        earlier = Readings.__new__(Readings)
        earlier.now = min(step, self.now)
        earlier._file = self._file
        earlier._derived = {}
        return earlier

    @property
    def meta(self) -> dict[str, Any]:
        """The run's description."""
        return self._file.meta

    def events(self, kind: str, coming: bool = False) -> list[Event]:
        """Return the events of one kind so far, in the order of their steps; or also those of the step to come."""
        last = self.now + 1 if coming else self.now
        return [event for event in self._file.events if event.kind == kind and event.step <= last]

    @property
    def names(self) -> frozenset[str]:
        """The names of all readings of the run."""
        return self._file.names

    def has(self, name: str) -> bool:
        """Whether the run has a reading of this name."""
        return name in self._file.names

    def require(self, name: str) -> None:
        """Raise Unjudged with the reason where the run has no reading of this name."""
        if not self.has(name):
            instrument = _INSTRUMENTS.get(name, name)
            reason = self._file.unavailable.get(instrument) or self._file.unavailable.get(name)
            lacking = name if self.has(instrument) else instrument
            raise Unjudged(f"{lacking} was not recorded" + (f": {reason}" if reason else ""))

    def series(self, name: str, since: int = 0) -> tuple[Steps, Values]:
        """Return the steps and values of a reading from ``since`` to now; raises Unjudged where there is none."""
        self.require(name)
        found = self._file.read(name, since)
        part = slice(*np.searchsorted(found.steps, [since, self.now + 1]))
        return found.steps[part], found.values[part]

    def recent(self, name: str, count: int, least: int = 0) -> tuple[Steps, Values]:
        """Return the last ``count`` values up to now, fewer where there are fewer, without reading all of them.

        Raises Unjudged where there are fewer than ``least``.
        """
        self.require(name)
        for since in self._looking_back(count):
            steps, values = self.series(name, since)
            if len(steps) >= count:
                break
        _demand(name, len(steps), least)
        return steps[-count:], values[-count:]

    def first(self, name: str, count: int) -> tuple[Steps, Values]:
        """Return the first ``count`` values of the run, as far as they are known by now."""
        self.require(name)
        found = self._file.begin("total", name, count)
        end = int(np.searchsorted(found.steps, self.now + 1))
        return found.steps[:end], found.values[:end]

    def first_layers(self, name: str, count: int) -> tuple[Steps, list[str], Values]:
        """Return the first ``count`` rows ``[T, L]`` of a reading per layer; no rows where it has none."""
        try:
            found = self._file.begin("layers", name, count)
        except KeyError:
            return np.empty(0, np.int64), [], np.empty((0, 0))
        end = int(np.searchsorted(found.steps, self.now + 1))
        return found.steps[:end], found.layers, found.values[:end]

    def recent_layers(self, name: str, count: int, least: int = 0) -> tuple[Steps, list[str], Values]:
        """Return the last ``count`` rows ``[T, L]`` of a reading per layer; no rows where it has none.

        Raises Unjudged where there are fewer than ``least``.
        """
        for since in self._looking_back(count):
            try:
                found = self._layer_rows(name, since, self.now + 1)
            except KeyError:
                _demand(f"{name} by layer", 0, least)
                return np.empty(0, np.int64), [], np.empty((0, 0))
            if len(found.steps) >= count:
                break
        _demand(f"{name} by layer", len(found.steps), least)
        return found.steps[-count:], found.layers, found.values[-count:]

    def holding_since(self, name: str, about: Hashable, holds: Holds) -> int:
        """Return the first step from which on every row of a reading by layer holds; the last row is taken to.

        Looks back block by block. ``about`` says what is asked, so that what has held for long is not read again as
        the run grows.
        """
        known_since, known_until = self._file.stretches.get((name, about), (0, -1))
        since: int | None = None
        stop, sure = self.now + 1, True
        while stop > 0:
            start = (stop - 1) // BLOCK * BLOCK
            rows = self._layer_rows(name, start, stop)
            fits = holds(rows)
            if since is None and len(fits):
                sure, fits[-1] = bool(fits[-1]), True
            begin = int(np.flatnonzero(~fits)[-1]) + 1 if not fits.all() else 0
            since = int(rows.steps[begin]) if begin < len(fits) else since
            if begin:
                break
            if since is not None and known_since <= start <= known_until - LATE:
                since = known_since
                break
            stop = start
        if since is not None and sure:
            self._file.stretches[name, about] = since, self.now
        return self.now if since is None else since

    def derived(self, of: Callable[[Readings], T]) -> T:
        """Return ``of(self)``, computed once however many rules ask for it."""
        if of not in self._derived:
            try:
                self._derived[of] = of(self)
            except Unjudged as reason:
                self._derived[of] = reason
        found = self._derived[of]
        if isinstance(found, Unjudged):
            raise found
        return found

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, made once for this run at whatever step it is asked for."""
        if key not in self._file.shared:
            self._file.shared[key] = make()
        return self._file.shared[key]

    def _layer_rows(self, name: str, since: int, stop: int) -> LayerRows:
        return self._file.blocks.rows(self._file.run, self._file.last, name, since, stop)

    def _looking_back(self, count: int) -> list[int]:
        """Return steps to look back to, further and further, the last being the first step."""
        starts = [self.now - count * factor for factor in (4, 64, 1024)]
        return [*(start for start in starts if start > 0), 0]


def _demand(name: str, count: int, least: int) -> None:
    """Raise Unjudged where there are too few values."""
    if count < least:
        raise Unjudged(f"{name} is known for {count} {'step' if count == 1 else 'steps'}; {least} are needed")
