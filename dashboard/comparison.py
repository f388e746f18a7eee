"""Runs laid over each other: which ones, by what, and what a page lacks of their charts."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dash import html
from dash.development.base_component import Component

from cockpitlite.dashboard import layout, overlays, sweep
from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.compared import Change, Member, Part
from cockpitlite.dashboard.runs import UNREADABLE, Runs, signature
from cockpitlite.dashboard.text import shortened
from cockpitlite.dashboard.updates import View

KEPT = 200  # runs whose readings are kept in memory, or as many as are compared at once
FIRST, LAST = (
    ("optimizer.",),
    ("command", "script", "host", "git_", "versions.", "panel"),
)  # of the settings that differ
USUAL = 2  # instruments that are shown until others are chosen


@dataclass(frozen=True)
class Chosen:
    """The runs that a page compares, by their keys, and the readings by which it does; none for the usual ones."""

    keys: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Chosen:
        """Read what the page holds; raises ValueError, LookupError or TypeError for what is no such choice."""
        if not data:
            return cls()
        keys, readings = tuple(dict.fromkeys(data["runs"])), tuple(dict.fromkeys(data["readings"]))
        if not all(isinstance(each, str) for each in (*keys, *readings)):
            raise ValueError("a page compares runs by their keys and readings by their names")
        return cls(keys, readings)


class Shelf:
    """The runs that pages compare, each read again only where its file has changed; used by several requests."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._lock = threading.Lock()
        self._members: OrderedDict[str, Member] = OrderedDict()

    def members(self, keys: Iterable[str]) -> list[Member]:
        """Return the runs of these keys; those that cannot be read are left out."""
        paths = self._runs.paths()
        with self._lock:
            found = [member for key in keys if key in paths and (member := self._member(key, paths[key]))]
            while len(self._members) > max(KEPT, len(found)):
                self._members.popitem(last=False)
        return found

    def _member(self, key: str, path: Path) -> Member | None:
        known, stand = self._members.get(key), zlib.crc32(repr(signature(path)).encode())
        if known is None or known.stand != stand:
            try:
                known = Member.of(path, key, stand, known)
            except UNREADABLE:  # its row says so
                self._members.pop(key, None)
                return None
            self._members[key] = known
        self._members.move_to_end(key)
        return known


def instruments(members: Sequence[Member]) -> list[dict[str, str]]:
    """Return the choices of what to compare: every curve that one of the runs has, the loss and step length first."""
    panels = overlays.panels(members)
    order = sorted(panels, key=lambda name: (name != "loss", panels[name].kind != "parabola"))
    return [{"label": overlays.offered(panels[name]), "value": name} for name in order]


def usual(offered: Sequence[Mapping[str, str]], readings: Sequence[str]) -> list[str]:
    """Return the readings that are chosen and offered, or the first that are offered where there are none."""
    names = [choice["value"] for choice in offered]
    return [name for name in readings if name in names] or names[:USUAL]


def parts(members: Sequence[Member], readings: Sequence[str]) -> list[Part]:
    """Return the charts of the chosen readings, and how the sweep went."""
    panels = overlays.panels(members)
    wanted = usual(instruments(members), readings)
    drawn: list[Part] = [overlays.Overlay(panels[name]) for name in wanted]
    return [*drawn, *sweep.parts(members)]


def answered(
    shelf: Shelf, chosen: Chosen, board: str | None, asked: Mapping[int, tuple[View, Mapping[str, Any] | None]]
) -> dict[str, Any]:
    """Return what a page lacks of its comparison: another board, or what is new in the charts that it asks for."""
    members = shelf.members(chosen.keys)
    try:
        found = parts(members, chosen.readings)
        steps = _steps(members)
    except UNREADABLE:  # one was lost or damaged while it was read: the next tick leaves it out
        return {}
    identity = _identity(members, found)
    if identity != board:
        return {"identity": identity, "board": _board(identity, members, found), "steps": steps}
    charts = {}
    for place, (view, shown) in asked.items():
        if 0 <= place < len(found) and (change := _change(found[place], members, view, shown)):
            charts[place] = change
    return {"identity": identity, "charts": charts, "steps": steps}


def _steps(members: Sequence[Member]) -> tuple[int, int] | None:
    """Return the first and the last step of all runs together, None while there is none."""
    known = [member.steps for member in members if member.steps is not None]
    return (min(first for first, _ in known), max(last for _, last in known)) if known else None


def _change(part: Part, members: Sequence[Member], view: View, shown: Mapping[str, Any] | None) -> Change:
    try:
        return part.news(members, view, shown)
    except UNREADABLE:
        return {}


def _identity(members: Sequence[Member], found: Sequence[Part]) -> str:
    words = repr([[member.opened.identity for member in members], [part.panel.name for part in found]])
    return hashlib.blake2s(words.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _board(identity: str, members: Sequence[Member], found: Sequence[Part]) -> Component:
    if not members:
        content: list[Component] = [html.P("No run is selected.", className="nothing")]
    else:
        cards = [layout.card(place, part.panel, "compared", part.kind) for place, part in enumerate(found)]
        content = [html.Div(cards, className="overlays"), _differences(members)]
    return html.Div(content, **attributes(data_identity=identity))


def _differences(members: Sequence[Member]) -> Component:
    """Return the settings that are not the same in all the runs, side by side, first those that steer the training."""
    from cockpitlite.compare import differing, settings  # here, so that the page stands before the rules are loaded

    found = differing([settings(member.opened.run.meta) for member in members])
    if not found:
        words = "Select two runs or more to see what differs." if len(members) < 2 else "Their settings are the same."
        return html.P(words, className="nothing")
    names = [html.Th(member.label, scope="col") for member in members]
    head = html.Thead(html.Tr([html.Th("setting", scope="col"), *names]))
    found.sort(key=lambda row: _weight(row[0]))
    body = html.Tbody([html.Tr([html.Th(name, scope="row"), *map(_cell, cells)]) for name, cells in found])
    table = html.Table([html.Caption("Settings that differ"), head, body])
    return html.Div(table, className="differences", tabIndex=0)


def _weight(setting: str) -> tuple[bool, bool, bool]:
    """Return what sorts settings: the learning rate, the rest of the optimizer, others, how the script was begun."""
    optimizer = setting.startswith(FIRST)
    return setting.startswith(LAST), not optimizer, not setting.endswith(".lr")


def _cell(value: str) -> Component:
    """Return a value, a long one cut, with the whole of it for who points at it."""
    short = shortened(value)
    return html.Td(short) if short == value else html.Td(short, title=value)
