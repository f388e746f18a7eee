"""What changes on a board that is on a screen, from one tick to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from dash import Patch

from cockpitlite.dashboard import figures, layers, layout, rulers, updates
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.runs import OpenRun, panels
from cockpitlite.dashboard.smoothing import STRONGEST
from cockpitlite.dashboard.updates import Axis, Shown, View
from cockpitlite.panel import Panel, Scale

PARTS = ("chart", "gauge", "value", "words", "cards", "cursor")
Views = Mapping[int, View]
WIDEST = 2000  # pixel columns a page may ask for


@dataclass(frozen=True)
class Changes:
    """New contents by kind of part and its index (of ``cards``: its group); what is not named stays as it is."""

    parts: Mapping[str, dict[int | str, Any]] = field(default_factory=lambda: {kind: {} for kind in PARTS})

    def put(self, kind: str, index: int | str, content: Any) -> None:
        """Name the new content of one part."""
        self.parts[kind][index] = content


def news(opened: OpenRun, cursor: Sequence[Shown], views: Views) -> Changes:
    """Return what a page lacks that was sent ``cursor`` and has the panels of ``views`` on its screen."""
    changes, sent = Changes(), list(cursor)
    drawn, unavailable = panels(opened.run), opened.run.unavailable()
    visible = [place for place in views if place < min(len(sent), len(drawn))]
    readings = opened.reader.read([drawn[place] for place in visible], [views[place].window for place in visible])
    _follow_panels(changes, opened, drawn, dict(zip(visible, readings, strict=True)), sent, views, unavailable)
    sent += _add_panels(changes, opened, drawn, len(sent), unavailable)
    if sent != list(cursor):
        changes.put("cursor", 0, [shown.to_dict() for shown in sent])
    return changes


def layer_news(
    opened: OpenRun, found: Sequence[layers.Part], step: int | None, cursor: Sequence[Shown], views: Views
) -> Changes:
    """Return what a page lacks of the board of a layer, whose panels are those of ``found``."""
    changes, sent = Changes(), list(cursor)
    visible = [place for place in views if place < min(len(sent), len(found))]
    windows = [views[place].window for place in visible]
    readings = layers.read(opened, [found[place] for place in visible], step, windows)
    drawn = [panel for panel, _ in found]
    _follow_panels(changes, opened, drawn, dict(zip(visible, readings, strict=True)), sent, views, {})
    if sent != list(cursor):
        changes.put("cursor", 0, [shown.to_dict() for shown in sent])
    return changes


def _follow_panels(
    changes: Changes,
    opened: OpenRun,
    drawn: Sequence[Panel],
    read: Mapping[int, Readings],
    sent: list[Shown],
    views: Views,
    unavailable: Mapping[str, str],
) -> None:
    """Name what is new of the panels that were read, and note in ``sent`` that it was sent."""
    ruler = _ruler(opened, views)
    for place, readings in read.items():
        before, view = sent[place], views[place]
        sent[place] = _follow_panel(changes, place, drawn[place], readings, before, view, unavailable)
        if drawn[place].kind != "joint" and _relabelled(changes, place, before, view):
            patch = changes.parts["chart"].setdefault(place, Patch())
            for name, value in rulers.ticks(ruler, view.axis, view.window, opened.run.last_step or 0).items():
                patch["layout"]["xaxis"][name] = value
            sent[place] = replace(sent[place], view=replace(sent[place].view, axis=view.axis, window=view.window))


def views(request: Mapping[str, Any]) -> dict[int, View]:
    """Read which panels are on a screen, how wide, zoomed to what and on which scale, and how all of them are drawn.

    Raises ValueError for anything else.
    """
    smoothing, axis = float(request["smoothing"]), request["axis"]
    if not 0 <= smoothing <= STRONGEST or axis not in get_args(Axis):
        raise ValueError(f"no chart is smoothed by {smoothing} or labelled with {axis!r}")
    found = {}
    for place, (columns, window, scale) in request["charts"].items():
        if scale not in (None, *get_args(Scale)):
            raise ValueError(f"no chart has the scale {scale!r}")
        steps = None if window is None else (float(window[0]), float(window[1]))
        found[int(place)] = View(min(max(int(columns), 50), WIDEST), steps, scale, smoothing, axis)
    return found


def _ruler(opened: OpenRun, views: Mapping[int, View]) -> rulers.Ruler | None:
    axes = {view.axis for view in views.values()}
    return rulers.clock(opened.run) if "time" in axes else rulers.epochs(opened.run) if "epoch" in axes else None


def _relabelled(changes: Changes, place: int, before: Shown, view: View) -> bool:
    """Whether a chart's steps get other labels: they follow the zoom, and the end of the run."""
    if view.axis != before.view.axis:
        return True
    return view.axis != "step" and (view.window != before.view.window or place in changes.parts["chart"])


def _follow_panel(
    changes: Changes,
    place: int,
    panel: Panel,
    readings: Readings,
    before: Shown,
    view: View,
    unavailable: Mapping[str, str],
) -> Shown:
    panel = figures.scaled(panel, view.scale)
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
