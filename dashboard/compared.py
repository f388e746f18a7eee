"""One of several runs that are compared, and what each of their charts must tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cockpitlite import noise
from cockpitlite.dashboard import rulers
from cockpitlite.dashboard.colours import BLUE, GREEN, MUTED, ORANGE, PURPLE, VERMILLION
from cockpitlite.dashboard.readings import RunReader, Series
from cockpitlite.dashboard.rulers import Ruler
from cockpitlite.dashboard.runs import Entry, OpenRun, identity_of, panels
from cockpitlite.dashboard.text import plain
from cockpitlite.dashboard.updates import View
from cockpitlite.panel import Panel, Scale
from cockpitlite.store import Values, load

Change = dict[str, Any]  # of a card, as in ``live.py``
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, MUTED)
DASHES = ("solid", "6px,3px", "2px,2px", "8px,3px,2px,3px")  # lines of one colour are told apart by these
NEWEST = 0.1  # share of a run that tells how it ended
FAR = 30.0  # how many times the least end of a run the greatest is, where a linear axis shows no other
NAMED = 24  # runs whose names a chart has room for; of more each is named where it is pointed at


@dataclass
class Member:
    """A run that is compared, as its file was at one time: ``stand`` is another number when it has grown."""

    key: str
    stand: int
    opened: OpenRun
    panels: Mapping[str, Panel]  # its curves by the reading that each shows; of several tests one for each
    _series: dict[str, Series] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, key: str, stand: int, before: Member | None = None) -> Member:
        """Open a run, whose readings go on from ``before`` where it is the same; raises what ``load`` raises."""
        run = load(path)
        identity = identity_of(run.path, run.meta)
        same = before is not None and before.opened.identity == identity
        opened = before.opened if before is not None and same else OpenRun(run, RunReader(run), identity)
        drawn = [part for panel in panels(run) for part in _curves(panel)]
        return cls(key, stand, opened, {part.readings[0]: part for part in drawn})

    @property
    def label(self) -> str:
        """What the table of runs calls it."""
        return Entry(self.key, False).label

    @cached_property
    def rate(self) -> float:
        """The learning rate it was begun with, NaN where it does not tell."""
        try:
            return float(self.opened.run.meta["optimizer"]["groups"][0]["lr"])
        except (LookupError, TypeError, ValueError):
            return math.nan

    @cached_property
    def steps(self) -> tuple[int, int] | None:
        """Its first and its last step, None while it has none."""
        return self.opened.run.steps

    @cached_property
    def clock(self) -> Ruler | None:
        """The seconds since its start."""
        return rulers.clock(self.opened.run)

    @cached_property
    def epochs(self) -> Ruler | None:
        """Its epochs."""
        return rulers.epochs(self.opened.run)

    def series(self, name: str) -> Series:
        """Return a reading, empty where this run has none; it is read once."""
        if name not in self._series:
            self._series[name] = self.opened.reader.read([Panel("", "performance").named(name)])[0].of(name)
        return self._series[name]


class Part(Protocol):
    """A chart of several runs."""

    @property
    def kind(self) -> str:
        """What the style sheet and the page know its card by."""

    @property
    def panel(self) -> Panel:
        """What its card is called, and how it is drawn; its name is no other card's."""

    def news(self, members: Sequence[Member], view: View, shown: Mapping[str, Any] | None) -> Change:
        """Return what a page lacks that was sent ``shown``, empty for nothing.

        The first of it tells the ``scale`` that the chart has until the person chooses one, however the runs go on.
        """

    def rows(self, members: Sequence[Member], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Yield every value of it from one step to another, below a row of headings."""


def _curves(panel: Panel) -> list[Panel]:
    if panel.kind == "tests":
        names = panel.readings
        return [replace(panel, title=f"{panel.title}: {noise.brief(name)}", readings=(name,)) for name in names]
    return [panel] if panel.kind in ("curve", "parabola") else []


def newest_median(values: Values) -> float:
    """Return the median of the newest tenth; NaN where there is none, or where that is not finite."""
    kept = values[-max(math.ceil(NEWEST * len(values)), 1) :]
    return float(np.median(kept)) if len(kept) else math.nan


def first_scale(ends: Iterable[float]) -> Scale:
    """Return the scale on which the ends of runs are told apart, where one of them has gone far away."""
    known = [end for end in ends if math.isfinite(end)]
    return "log" if known and min(known) > 0 and max(known) > FAR * min(known) else "linear"


def colour(place: int) -> str:
    """Return the colour of the run at a place."""
    return COLOURS[place % len(COLOURS)]


def dash(place: int) -> str:
    """Return the dashes of the run at a place."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def hover(label: str) -> str:
    """Return a name for a template of what hovering shows, in which it is no part of the template."""
    return plain(label).replace("%{", "%\u200b{")
