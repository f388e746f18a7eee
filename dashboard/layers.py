"""The page of layers: a map of layers by steps, and below it the curves and histograms of a chosen layer."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component

from cockpitlite.dashboard import heatmaps, layout, tools
from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.layer_map import LayerMap
from cockpitlite.dashboard.readings import Readings, Window
from cockpitlite.dashboard.runs import OpenRun, panels
from cockpitlite.dashboard.text import shortened
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.marks import KIND_WORDS, Mark
from cockpitlite.panel import Panel, title_of
from cockpitlite.store import Values

Part = tuple[Panel, str]  # how a reading of a layer is drawn, and the name by which the reading knows the layer
USUAL = "update_ratio"  # what is shown unless another reading is asked for
CELLS = {"greatest": "greatest", "least": "least"}
HOW = "Click a cell, or choose a layer with the arrow keys, for all that was measured of it."


@dataclass(frozen=True)
class Chosen:
    """The layer whose readings are shown, and the step that is marked in them, if any."""

    layer: str
    step: int | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Chosen | None:
        """Read what the page holds; raises ValueError for what is no step."""
        if not data or not data.get("layer"):
            return None
        step = data.get("step")
        return cls(str(data["layer"]), None if step is None else max(int(step), 0))


# The page ---------------------------------------------------------------------------------------------------------


def page() -> list[Component]:
    """Return the page, empty; ``layers.js`` draws the map, and the callbacks fill in what a layer has."""
    return [
        dcc.Store(id="map-request"),
        dcc.Store(id="map-news"),
        dcc.Store(id="blamed"),
        html.Div(
            id="map-card",
            className="map-card",
            children=[
                html.Div(
                    className="map-tools",
                    children=[
                        _labelled("Show", html.Select(id="map-quantity")),
                        _labelled(
                            "Of several steps",
                            html.Select([html.Option(word, value=key) for key, word in CELLS.items()], id="map-cells"),
                        ),
                        _labelled("Find", dcc.Input(id="map-find", type="search", placeholder="name, or conv*weight")),
                        html.Span(id="map-count", role="status"),
                        tools.menu("the map of layers"),
                    ],
                ),
                html.P(id="map-empty", className="map-empty", role="status"),
                html.Div(
                    id="map",
                    children=[
                        html.Div(
                            id="map-scroll",
                            children=[
                                html.Div(id="map-rows", role="listbox", tabIndex=0, **attributes(aria_label="Layers")),
                                html.Canvas(id="map-canvas", **attributes(aria_hidden="true")),
                            ],
                        ),
                        html.Div(id="map-axis", **attributes(aria_hidden="true")),
                        html.Div(id="map-bar"),
                        html.Div(id="map-hover", **attributes(aria_hidden="true")),
                    ],
                ),
                html.P(id="map-words", className="unseen"),
                html.P(HOW, className="map-how"),
            ],
        ),
        html.Div(id="layer-board"),
    ]


def _labelled(words: str, control: Component) -> Component:
    return html.Label([html.Span(words), control])


# The map ----------------------------------------------------------------------------------------------------------


def quantities(opened: OpenRun) -> list[Panel]:
    """Return a panel for each reading that has a value per layer of the model, in the order of the board."""
    drawn = panels(opened.run)
    other = {panel.readings[0] for panel in drawn if panel.layered and panel.per != "layer"}
    names = [name for name in opened.run.layer_names() if name not in other]
    order = {name: place for place, panel in reversed(list(enumerate(drawn))) for name in panel.readings}
    names.sort(key=lambda name: order.get(name, len(drawn)))
    return [_panel_of(name, drawn) for name in names]


def _panel_of(name: str, drawn: Sequence[Panel]) -> Panel:
    """Return how one reading is drawn by itself: as its own panel, or like the panel that it is a part of."""
    own = next((panel for panel in drawn if panel.readings[0] == name), None)
    part = next((panel for panel in drawn if name in panel.readings), None)
    words = title_of(name)
    like = own or (part and replace(part, title=words, healthy=None, marks=())) or Panel(words, "performance")
    return replace(like, name=name, readings=(name,), layered=False, ratio=None, kind="curve")


def news(opened: OpenRun, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a page lacks of the map it asks for, None for nothing.

    ``request`` names the quantity, which end of each cell's values is shown, the window of steps or none, and what
    the page has: ``stand`` and ``tail`` as they were sent. Raises ValueError for what is none of these.
    """
    offered = quantities(opened)
    if not offered:
        return {"stand": "", "empty": why_empty(opened)} if request.get("stand") != "" else None
    named = {each.name: each for each in offered}
    panel = named.get(request.get("quantity") or USUAL) or named.get(USUAL) or offered[0]
    cells, window = request.get("cells"), _window(request.get("window"))
    if cells not in CELLS:
        raise ValueError(f"a map shows no {cells!r} values")
    found = opened.reader.layer_map(panel.name, window)
    resumes = len(opened.run.events("resume"))
    about = [opened.identity, panel.name, cells, window, found.stretch, found.names, resumes, [p.name for p in offered]]
    stand, tail = _mark(about), _tail(found)
    if stand == request.get("stand") and tail["crc"] == request["tail"]["crc"]:
        return None
    common = {"stand": stand, "tail": tail, "last": opened.run.last_step or 0}
    if stand == request.get("stand"):
        return common | _columns(found, cells, int(request["tail"]["start"]))
    whole = {
        "identity": opened.identity,
        "quantity": panel.name,
        "title": panel.title,
        "unit": panel.unit,
        "scale": panel.scale,
        "help": panel.help,
        "names": found.names,
        "stretch": found.stretch,
        "window": window,
        "offered": [[each.name, each.title] for each in offered],
    }
    return common | whole | _columns(found, cells, -1)


def _columns(found: LayerMap, cells: str, since: int) -> dict[str, Any]:
    """Return the columns from a step on, as 32-bit numbers: NaN for nothing, infinity where some were not finite."""
    first = int(np.searchsorted(found.starts, since))
    values = (found.high if cells == "greatest" else found.low)[first:]
    values = np.where(found.broken[first:] > 0, np.inf, _in_range(values))
    packed = base64.b64encode(values.astype("<f4").tobytes()).decode()
    return {"starts": found.starts[first:].tolist(), "values": packed}


def _in_range(values: Values) -> Values:
    """Keep what 32 bits can hold: what is smaller or larger is drawn as the last that they can."""
    largest, least = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
    held = np.clip(values, -largest, largest)
    return np.where((held != 0) & (np.abs(held) < least), np.copysign(least, held), held)


def _tail(found: LayerMap) -> dict[str, int]:
    """Return what tells whether the end of a map is the present one: its last column, and a sum over that."""
    if not len(found.starts):
        return {"start": -1, "crc": 0}
    parts = (found.low[-1], found.high[-1], found.broken[-1], found.starts[-1:])
    return {"start": int(found.starts[-1]), "crc": zlib.crc32(b"".join(part.tobytes() for part in parts))}


def _mark(parts: Sequence[Any]) -> str:
    return hashlib.blake2s(repr(parts).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _window(asked: Any) -> Window | None:
    if asked is None:
        return None
    low, high = (float(step) for step in asked)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{asked!r} is no range of steps")
    return low, high


def why_empty(opened: OpenRun) -> str:
    """Return why a run has no reading by layer, and what to switch on."""
    reasons = opened.run.unavailable()
    missing = [name for name in ("update_ratio", "grad_norm", "update_size") if name in reasons]
    if opened.run.last_step is None:
        return "This run has no step yet. Its layers appear here with the first one that is measured."
    said = f"{missing[0]} is not available: {reasons[missing[0]]}. " if missing else ""
    return (
        f"This run has no reading by layer. {said}The panels “economy”, “business” and “full” of watch() measure the "
        "updates and the gradient norm of every layer, “full” its activations too. On a panel of your own, name "
        "update_ratio, grad_norm, dead_units or hess_trace."
    )


def blamed(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Return the layers that standing findings name, each with the severity and title of the first."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        for evidence in finding.evidence:
            if evidence.layer is not None:
                found.setdefault(evidence.layer, [finding.severity, finding.title])
    return found


# One layer --------------------------------------------------------------------------------------------------------


def parts(opened: OpenRun, layer: str) -> list[Part]:
    """Return everything that was measured of a layer.

    What was measured of a module counts as its tensors', and what was measured of a weight as its module's.
    """
    drawn, found = panels(opened.run), []
    known = opened.run.layer_names()
    for panel in quantities(opened):
        own = _own(layer, known[panel.name])
        if own is not None:
            found.append((_titled(panel, layer, own), own))
    histograms = opened.run.histogram_layers()
    for panel in drawn:
        own = _own(layer, histograms.get(panel.readings[0], ()))
        if own is not None and panel.kind in heatmaps.KINDS:
            found.append((_titled(replace(panel, readings=panel.readings[:1]), layer, own), own))
    return found


def _own(layer: str, names: Sequence[str]) -> str | None:
    return next((name for name in (layer, layer.rpartition(".")[0], f"{layer}.weight") if name and name in names), None)


def _titled(panel: Panel, layer: str, own: str) -> Panel:
    return panel if own == layer else replace(panel, title=f"{panel.title} · {shortened(own)}")


def board_of(opened: OpenRun, layer: str, found: Sequence[Part]) -> str:
    """Return what tells the board of a layer from every other, also from that of the same layer with other panels."""
    return _mark([opened.identity, layer, [(panel.name, own) for panel, own in found]])


def read(
    opened: OpenRun, found: Sequence[Part], step: int | None, windows: Sequence[Window | None] = ()
) -> list[Readings]:
    """Return what the panels of a layer draw, with a chosen step among the marks."""
    readings = opened.reader.read([panel for panel, _ in found], windows, [own for _, own in found])
    chosen = () if step is None else (Mark(step, "chosen", KIND_WORDS["chosen"]),)
    return [replace(each, marks=(*each.marks, *chosen)) for each in readings]


def board(layer: str, found: Sequence[Part], identity: str) -> Component:
    """Return the cards of a layer, not drawn yet, or a word on why there are none."""
    cards = [layout.card(place, panel, anchor="layer-panel") for place, (panel, _) in enumerate(found)]
    why = html.P("This run has no layer of that name, or nothing was measured of it.", className="nothing")
    return html.Div(
        [html.H2(["Layer ", html.Code(layer)]), html.Div(cards, className="layer-cards") if cards else why],
        **attributes(data_identity=identity),
    )
