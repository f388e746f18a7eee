"""What changes on a board that is on a screen, from one tick to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import Patch

from cockpitlite.dashboard import layout, updates
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.runs import OpenRun, panels
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.panel import Panel

PARTS = ("chart", "gauge", "value", "words", "cards", "cursor")
WIDEST = 2000  # pixel columns a page may ask for


@dataclass(frozen=True)
class Changes:
    """New contents by kind of part and its index (of ``cards``: its group); what is not named stays as it is."""

    parts: Mapping[str, dict[int | str, Any]] = field(default_factory=lambda: {kind: {} for kind in PARTS})

    def put(self, kind: str, index: int | str, content: Any) -> None:
        """Name the new content of one part."""
        self.parts[kind][index] = content


def news(opened: OpenRun, cursor: Sequence[Shown], views: Mapping[int, View]) -> Changes:
    """Return what a page lacks that was sent ``cursor`` and has the panels of ``views`` on its screen."""
    changes = Changes()
    drawn, unavailable = panels(opened.run), opened.run.unavailable()
    sent = list(cursor)
    visible = [place for place in views if place < min(len(sent), len(drawn))]
    windows = [views[place].window for place in visible]
    for place, readings in zip(visible, opened.reader.read([drawn[place] for place in visible], windows), strict=True):
        sent[place] = _follow_panel(changes, place, drawn[place], readings, sent[place], views[place], unavailable)
    sent += _add_panels(changes, opened, drawn, len(sent), unavailable)
    if sent != list(cursor):
        changes.put("cursor", 0, [shown.to_dict() for shown in sent])
    return changes


def views(request: Mapping[str, Any]) -> dict[int, View]:
    """Read which panels are on a screen, how wide, and zoomed to what; raises ValueError for anything else."""
    found = {}
    for place, (columns, window) in request.items():
        steps = None if window is None else (float(window[0]), float(window[1]))
        found[int(place)] = View(min(max(int(columns), 50), WIDEST), steps)
    return found


def _follow_panel(
    changes: Changes,
    place: int,
    panel: Panel,
    readings: Readings,
    before: Shown,
    view: View,
    unavailable: Mapping[str, str],
) -> Shown:
    patch, after = updates.update(panel, readings, before, view)
    if patch is not None:
        changes.put("chart", place, patch)
        changes.put("value", place, layout.value(panel, readings))
        if panel.kind == "parabola":
            changes.put("gauge", place, updates.update_gauge(panel, readings))
    if patch is not None or any(name in unavailable for name in panel.readings):
        changes.put("words", place, layout.words(panel, readings, unavailable, after.view))
    return after


def _add_panels(
    changes: Changes, opened: OpenRun, drawn: Sequence[Panel], start: int, unavailable: Mapping[str, str]
) -> list[Shown]:
    """Put panels that came while the page was open at the end of their groups."""
    added = drawn[start:]
    readings = opened.reader.read(added)
    cards: dict[str, Patch] = {}
    for place, (panel, read) in enumerate(zip(added, readings, strict=True), start):
        cards.setdefault(panel.group, Patch()).append(layout.card(opened.identity, place, panel, read, unavailable))
    for group, patch in cards.items():
        changes.put("cards", group, patch)
    return [updates.shown(panel, read) for panel, read in zip(added, readings, strict=True)]
