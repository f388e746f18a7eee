"""A run's findings as a list: what each says, and its evidence with the way to the chart that shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from dash import html
from dash.development.base_component import Component

from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.heatmaps import KINDS
from cockpitlite.dashboard.text import number, steps_phrase
from cockpitlite.dashboard.verdict import ICONS
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.panel import Panel

VALUES = 10  # of one piece of evidence that are written out
RINGS = 40  # points of one piece of evidence that are marked one by one in its chart; of more only the steps are
WORDS = {"info": "Note", "warning": "Warning", "error": "Error"}


def findings(standing: Sequence[Finding], cleared: Sequence[Finding], panels: Sequence[Panel]) -> list[Component]:
    """Return the findings as a list, most likely root cause first, and behind a click those that have cleared."""
    places = {name: index for index, panel in reversed(list(enumerate(panels))) for name in panel.readings}

    def listed(found: Sequence[Finding]) -> list[Component]:
        return [_finding(finding, places, panels) for finding in found]

    shown: list[Component] = listed(standing) or [
        html.P("None so far." if not cleared else "None now.", className="nothing")
    ]
    if cleared:
        words = f"{len(cleared):,} earlier {'finding' if len(cleared) == 1 else 'findings'}, cleared since"
        summary = html.Summary([html.Span("✓", className="icon", **attributes(aria_hidden="true")), html.Span(words)])
        body = html.Div(listed(cleared), className="past")
        shown.append(html.Details([summary, body], className="cleared", **attributes(data_key="cleared")))
    return shown


def _finding(finding: Finding, places: Mapping[str, int], panels: Sequence[Panel]) -> Component:
    summary = html.Summary(
        [
            html.Span(ICONS[finding.severity], className="icon", **attributes(aria_hidden="true")),
            html.Span(WORDS[finding.severity], className="severity"),
            html.Span(finding.title, className="title"),
            html.Span(f"{finding.confidence:.0%} sure", className="confidence"),
        ]
    )
    body: list[Component] = [html.P(finding.explanation), html.P(_time(finding), className="since")]
    if finding.suggestion:
        body.append(html.P([html.Strong("Try: "), finding.suggestion], className="suggestion"))
    key = finding.code if finding.until is None else f"{finding.code} {finding.since}"
    body += [_evidence(evidence, f"{key} {place}", places, panels) for place, evidence in enumerate(finding.evidence)]
    return html.Details(
        [summary, html.Div(body, className="body")], className=f"finding {finding.severity}", **attributes(data_key=key)
    )


def _time(finding: Finding) -> str:
    if finding.until is None:
        return f"Since step {finding.since:,}."
    return f"From step {finding.since:,}; cleared by step {finding.until:,}."


def _evidence(evidence: Evidence, key: str, places: Mapping[str, int], panels: Sequence[Panel]) -> Component:
    words: list[Component | str] = [html.Code(evidence.what), f" at {steps_phrase(evidence.steps)}"]
    place = places.get(evidence.reading)
    head: Component = html.P(words) if place is None else _link(evidence, words, key, place, panels[place])
    points = list(zip(evidence.steps, evidence.values, strict=False))
    shown = points[:VALUES]
    table = html.Table(
        [
            html.Tr([html.Th("step", scope="row"), *[html.Td(f"{step:,}") for step, _ in shown]]),
            html.Tr([html.Th("value", scope="row"), *[html.Td(number(value)) for _, value in shown]]),
        ]
    )
    left_out = len(points) - VALUES
    return html.Div(
        className="evidence",
        children=[
            head,
            *([_to_layer(evidence)] if evidence.layer is not None else []),
            *([html.Div(table, className="values", tabIndex=0)] if shown else []),
            *([html.P(f"and {left_out:,} more", className="since")] if left_out > 0 else []),
        ],
    )


def _to_layer(evidence: Evidence) -> Component:
    """Return a button that ``layers.js`` takes to the layer, with the evidence's first step marked."""
    step = str(evidence.steps[0]) if evidence.steps else ""
    return html.Button(
        ["Show layer ", html.Code(evidence.layer)],
        className="to-layer",
        type="button",
        **attributes(data_to_layer=str(evidence.layer), data_quantity=evidence.reading, data_step=step),
    )


def _link(evidence: Evidence, words: Sequence[Component | str], key: str, place: int, panel: Panel) -> Component:
    """Return a button that ``evidence.js`` takes to the chart of a panel, with what it marks there."""
    over_steps = panel.kind != "joint" and evidence.steps
    points = (
        [] if panel.kind in KINDS or len(evidence.steps) > RINGS else zip(evidence.steps, evidence.values, strict=False)
    )
    return html.Button(
        [*words, html.Span(f"Show in “{panel.title}”", className="where")],
        className="show",
        type="button",
        **attributes(
            data_evidence=key,
            data_shown_by=str(place),
            data_words=f"{evidence.what}, {steps_phrase(evidence.steps)}",
            data_steps=json.dumps([min(evidence.steps), max(evidence.steps)] if over_steps else []),
            data_points=json.dumps([point for point in points if math.isfinite(point[1])]),
        ),
    )
