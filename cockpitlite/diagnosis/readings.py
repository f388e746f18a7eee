"""What a rule may look at: the readings of a run up to one step, each read from the file once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from cockpitlite.store import Event, Run, Steps, Values

T = TypeVar("T")

# Which instrument a reading comes from, where it is not its namesake: the run file gives reasons by instrument.
_INSTRUMENTS = {
    "slope_same_start": "alpha_same",
    "slope_same_end": "alpha_same",
    "slope_next_start": "alpha_next",
    "slope_next_end": "alpha_next",
}


class Unjudged(Exception):
    """A rule cannot judge; the message says why, as a user may read it."""


@dataclass
class _File:
    """A run file and what has been read of it."""

    run: Run
    series: dict[str, tuple[int, Steps, Values]] = field(default_factory=dict)
    layers: dict[str, tuple[int, Steps, list[str], Values]] = field(default_factory=dict)
    shared: dict[Any, Any] = field(default_factory=dict)

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

    def read(self, name: str, since: int) -> tuple[Steps, Values]:
        known = self.series.get(name)
        if known is None or known[0] > since:
            known = (since, *self.run.series(name, since=since))
            self.series[name] = known
        return known[1], known[2]

    def read_layers(self, name: str, since: int) -> tuple[Steps, list[str], Values]:
        known = self.layers.get(name)
        if known is None or known[0] > since:
            known = (since, *self.run.layers(name, since=since))
            self.layers[name] = known
        return known[1], known[2], known[3]


class Readings:
    """A run as it stood after step ``now``; -1 is a run before its first step."""

    def __init__(self, run: Run) -> None:
        last = run.last_step
        self.now = -1 if last is None else last
        self._file = _File(run)
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

    def events(self, kind: str) -> list[Event]:
        """Return the events of one kind so far, in the order of their steps."""
        return [event for event in self._file.events if event.kind == kind and event.step <= self.now]

    def has(self, name: str) -> bool:
        """Whether the run has a reading of this name."""
        return name in self._file.names

    def require(self, name: str) -> None:
        """Raise Unjudged with the reason where the run has no reading of this name."""
        if not self.has(name):
            instrument = _INSTRUMENTS.get(name, name)
            reason = self._file.unavailable.get(instrument) or self._file.unavailable.get(name)
            raise Unjudged(f"{instrument} was not recorded" + (f": {reason}" if reason else ""))

    def series(self, name: str, since: int = 0) -> tuple[Steps, Values]:
        """Return the steps and values of a reading from ``since`` to now; raises Unjudged where there is none."""
        self.require(name)
        steps, values = self._file.read(name, since)
        part = slice(*np.searchsorted(steps, [since, self.now + 1]))
        return steps[part], values[part]

    def recent(self, name: str, count: int) -> tuple[Steps, Values]:
        """Return the last ``count`` values up to now, fewer where there are fewer, without reading all of them."""
        self.require(name)
        for since in self._looking_back(count):
            steps, values = self.series(name, since)
            if len(steps) >= count:
                break
        return steps[-count:], values[-count:]

    def recent_layers(self, name: str, count: int) -> tuple[Steps, list[str], Values]:
        """Return the last ``count`` rows ``[T, L]`` of a reading per layer; no rows where it has none."""
        for since in self._looking_back(count):
            try:
                steps, layers, values = self._file.read_layers(name, since)
            except KeyError:
                return np.empty(0, np.int64), [], np.empty((0, 0))
            end = int(np.searchsorted(steps, self.now + 1))
            if end >= count:
                break
        part = slice(max(0, end - count), end)
        return steps[part], layers, values[part]

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
