"""What the upright lines on a run's charts mean, as a line above them that unfolds to a list."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.figures import MARK_COLOURS, MARK_DASHES
from cockpitlite.dashboard.text import shortened
from cockpitlite.diagnosis.words import plural
from cockpitlite.marks import KIND_WORDS, KINDS, RULE, Kind, Mark

LISTED = 8  # marks of each kind that are written out: the first ones, and as many of the last
CLOSE = (
    "Where lines of one kind would touch, the first is drawn and says how many more it stands for; where there are "
    "many they are short. Zoom in to see each."
)


def legend(marks: Sequence[Mark]) -> list[Component]:
    """Return which kinds of marks there are and how many, and unfolded which ones; nothing where there are none."""
    kinds = {kind: [mark for mark in marks if mark.kind == kind] for kind in KINDS}
    kinds = {kind: found for kind, found in kinds.items() if found}
    if not kinds:
        return []
    names = [_name(kind, len(found)) for kind, found in kinds.items()]
    summary = html.Summary([html.Span("Upright lines", className="what"), *names])
    lists = [part for kind, found in kinds.items() for part in _listed(kind, found)]
    rule = [html.P(RULE)] if "rate" in kinds else []
    return [html.Details([summary, html.Div([*lists, *rule, html.P(CLOSE)], className="body")], className="legend")]


def _name(kind: Kind, count: int) -> Component:
    return html.Span([_line(kind), KIND_WORDS[kind], html.Span(f" ×{count:,}" if count > 1 else "")], className="kind")


def _line(kind: Kind) -> Component:
    look = "line dotted" if kind in MARK_DASHES else "line"
    return html.Span(className=look, style={"color": MARK_COLOURS[kind]}, **attributes(aria_hidden="true"))


def _listed(kind: Kind, found: Sequence[Mark]) -> list[Component]:
    left_out = len(found) - 2 * LISTED
    shown = [_item(mark) for mark in (found if left_out <= 0 else found[:LISTED])]
    if left_out > 0:
        shown.append(html.Li(f"{left_out:,} more {plural('line', left_out)}", className="more"))
        shown += [_item(mark) for mark in found[-LISTED:]]
    return [html.H3([_line(kind), KIND_WORDS[kind]]), html.Ul(shown)]


def _item(mark: Mark) -> Component:
    return html.Li(f"step {mark.step:,}: {shortened(mark.words)}")
