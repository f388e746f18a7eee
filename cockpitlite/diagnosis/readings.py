"""What a rule may look at: the readings of a run up to one step, each read from the file once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from cockpitlite.store import Event, Run, Steps, Values

T = TypeVar("T")
Kind = Literal["total", "layers"]

LATE = 600  # steps by which a value may reach the file after values of later steps

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
    layers: list[str]
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
        self.known: dict[tuple[str, str], _Series] = memory.setdefault("series", {})
        self.beginnings: dict[tuple[str, str, int], _Series] = memory.setdefault("beginnings", {})
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

    def read(self, kind: Kind, name: str, since: int) -> _Series:
        """Return a reading, or its values per layer, from a step on; KeyError where there is none."""
        known = self.known.get((kind, name))
        if known is None or known.since > since:
            known = self._series(kind, name, since)
        elif known.upto < self.last:
            known = self._grown(kind, name, known)
        self.known[kind, name] = known
        return known

    def begin(self, kind: Kind, name: str, count: int) -> _Series:
        """Return the first values of a reading; KeyError where there are none."""
        known = self.beginnings.get((kind, name, count))
        if known is None or (len(known.steps) < count and known.upto < self.last):
            known = self._series(kind, name, None, count)
            self.beginnings[kind, name, count] = known
        return known

    def _grown(self, kind: Kind, name: str, known: _Series) -> _Series:
        """Return a reading with what has come since: values may come some steps late."""
        begin = max(known.since, known.upto - LATE)
        new = self._series(kind, name, begin)
        if new.layers != known.layers and len(new.steps):
            return self._series(kind, name, known.since)
        kept = int(np.searchsorted(known.steps, begin))
        steps = np.concatenate([known.steps[:kept], new.steps])
        values = np.concatenate([known.values[:kept], new.values.reshape(len(new.steps), *known.values.shape[1:])])
        return _Series(known.since, self.last, steps, known.layers, values)

    def _series(self, kind: Kind, name: str, since: int | None, most: int | None = None) -> _Series:
        if kind == "layers":
            steps, layers, values = self.run.layers(name, since, most)
        else:
            (steps, values), layers = self.run.series(name, since, most), []
        return _Series(since or 0, self.last, steps, layers, values)


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
        found = self._file.read("total", name, since)
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
                found = self._file.read("layers", name, since)
            except KeyError:
                _demand(f"{name} by layer", 0, least)
                return np.empty(0, np.int64), [], np.empty((0, 0))
            end = int(np.searchsorted(found.steps, self.now + 1))
            if end >= count:
                break
        _demand(f"{name} by layer", end, least)
        part = slice(max(0, end - count), end)
        return found.steps[part], found.layers, found.values[part]

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

    def _looking_back(self, count: int) -> list[int]:
        """Return steps to look back to, further and further, the last being the first step."""
        starts = [self.now - count * factor for factor in (4, 64, 1024)]
        return [*(start for start in starts if start > 0), 0]


def _demand(name: str, count: int, least: int) -> None:
    """Raise Unjudged where there are too few values."""
    if count < least:
        raise Unjudged(f"{name} is known for {count} {'step' if count == 1 else 'steps'}; {least} are needed")
