"""The page's parts: the frame around every run, a run's board of panels, and the verdict on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from cockpitlite.dashboard import figures, gauges, heatmaps, tools, updates
from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.runs import Entry, OpenRun
from cockpitlite.dashboard.text import number, shortened
from cockpitlite.dashboard.verdict import Verdict, not_judged
from cockpitlite.diagnosis.advice import Advice
from cockpitlite.panel import GROUPS, Group, Panel

COLUMNS: tuple[Group, ...] = ("step size", "gradients", "curvature")
VITAL = "loss"
PAGES = {"overview": "Overview", "layers": "Layers", "diagnosis": "Diagnosis", "runs": "Runs"}


# The frame --------------------------------------------------------------------------------------------------------


def page(entries: Sequence[Entry], layers: Sequence[Component]) -> Component:
    """Return the whole page; the board, verdict and findings are filled in by the callbacks.

    ``layers`` is what stands on the page of that name. The sections name the pages they belong to; the browser shows
    those of one page (``assets/address.js``).
    """
    return html.Div(
        id="page",
        children=[
            dcc.Interval(id="slow-tick", interval=3000),
            dcc.Store(id="address"),
            dcc.Store(id="view"),
            dcc.Store(id="look"),
            dcc.Store(id="judged"),
            dcc.Store(id="newest"),
            html.Div(id="title", hidden=True),
            html.A("Skip to the panel", href="#main", className="skip"),
            _bar(entries),
            html.Main(
                id="main",
                children=[
                    _silence(),
                    html.Div(id="notice", role="alert"),
                    html.Div(id="astray", role="alert"),
                    _diagnosis(),
                    _section("runs", html.Div(id="runs-page")),
                    html.Div([tools.bar(), html.Div(id="legend")], **attributes(data_pages="overview layers runs")),
                    _section("overview", html.Div(id="board")),
                    _section("layers", *layers),
                    html.Div(id="comparison", **attributes(data_pages="runs")),
                ],
            ),
            tools.shortcuts(),
            html.Footer(
                "Drag across a chart to zoom, double-click it to see all. Click a name above a chart to hide its line. "
                "Press ? for keys.",
                **attributes(data_pages="overview"),
            ),
        ],
    )


def _bar(entries: Sequence[Entry]) -> Component:
    return html.Header(
        className="bar",
        children=[
            html.Div(
                [html.Span(className="mark", **attributes(aria_hidden="true")), html.H1("Cockpitlite")],
                className="brand",
            ),
            html.Nav(
                [html.A(name, href=f"?page={page}", **attributes(data_page=page)) for page, name in PAGES.items()],
                **attributes(aria_label="Pages"),
            ),
            html.Div(
                className="choose",
                children=[
                    html.Label("Run", htmlFor="picker"),
                    dcc.Dropdown(
                        id="picker",
                        options=options(entries),
                        value=entries[0].key if entries else None,
                        clearable=False,
                        maxHeight=420,
                        placeholder="no run yet",
                    ),
                    html.Button(
                        "Follow the newest",
                        id="follow",
                        className="toggle",
                        title="Go on to a newer run as soon as one is being written",
                        **attributes(aria_pressed="true", type="button"),
                    ),
                ],
            ),
            html.Div([html.Div(id="state"), html.Div(id="step")], className="status"),
            html.Button("Theme", id="theme", className="toggle", type="button"),
        ],
    )


def _silence() -> Component:
    """Return what is said while the server does not answer, or answers only those who have its token."""
    gone = (
        "The server of this page does not answer: it was ended, or its machine cannot be reached. The page shows what "
        "it had received, and goes on when the server is back."
    )
    refused = (
        "The server of this page was started anew and asks for its new token: open the address that it printed. "
        "The page shows what it had received."
    )
    words = [html.Span(gone, className="gone"), html.Span(refused, className="refused")]
    return html.Div(words, id="silence", role="alert")


def _section(page: str, *children: Component) -> Component:
    return html.Section(list(children), id=page, **attributes(data_pages=page, aria_label=PAGES[page]))


def _diagnosis() -> Component:
    """Return the verdict and the findings: a short list above the board, the whole one on a page of its own.

    Between them is room for the loss, which nobody wants to look for.
    """
    return html.Section(
        id="diagnosis",
        className="diagnosis",
        **attributes(data_pages="overview diagnosis", aria_label=PAGES["diagnosis"]),
        children=[
            html.Div(
                className="verdict-card",
                children=[
                    html.Div(verdict(not_judged("Reading the run …")), id="verdict", role="status"),
                    html.Div(id="facts", className="facts"),
                ],
            ),
            html.Div(id="vital", **attributes(data_pages="overview")),
            html.Div(
                className="findings-card",
                children=[
                    html.Div(
                        [
                            html.H2("Findings"),
                            html.A("All", href="?page=diagnosis", **attributes(data_page="diagnosis")),
                        ],
                        className="findings-head",
                    ),
                    html.Div(id="findings"),
                ],
            ),
        ],
    )


def options(entries: Sequence[Entry], chosen: str | None = None) -> list[dict[str, str]]:
    """Return the picker's choices; a live run says so, and so does a chosen one that is no longer there."""
    found = [{"label": entry.label + (" · live" if entry.live else ""), "value": entry.key} for entry in entries]
    if chosen is not None and all(entry.key != chosen for entry in entries):
        found.append({"label": f"{chosen} · gone", "value": chosen})
    return found


def waiting(root: str) -> Component:
    """Return what stands in the board's place before the first run begins."""
    return html.Section(
        className="waiting",
        children=[
            html.Div(className="radar", **attributes(aria_hidden="true")),
            html.H2("Waiting for the first run"),
            html.P(["Its panel appears here as soon as a training writes to ", html.Code(root), "."]),
        ],
    )


def standing(meta: Mapping[str, Any], live: bool, last: int | None, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return how a run stands: whether it goes on, its last step, and what its steps can be labelled with."""
    return {
        "state": _state(meta, live),
        "step": "no step yet" if last is None else f"step {last:,}",
        "rulers": "time epoch" if "epoch" in names else "time",
    }


def unreadable() -> Component:
    """Return the badge of a run that cannot be read now."""
    return _badge("Unreadable", "ended", "The file of this run is lost or damaged.")


def _state(meta: Mapping[str, Any], live: bool) -> Component:
    status = meta.get("status")
    word, kind = ("Live", "live") if live else ("Finished", "finished") if status == "finished" else ("Ended", "ended")
    heartbeat = meta.get("heartbeat")
    hint = {
        "live": "A process is writing this run.",
        "finished": "The training came to its end.",
        "ended": "The training was stopped by an exception or killed, or has been silent.",
    }[kind]
    if kind == "ended" and isinstance(heartbeat, int | float):
        hint += f" Its last sign of life was at {time.strftime('%H:%M:%S', time.localtime(heartbeat))}."
    return _badge(word, kind, hint)


def _badge(word: str, kind: str, hint: str) -> Component:
    return html.Span(
        [html.Span(className="dot", **attributes(aria_hidden="true")), word], className=f"badge {kind}", title=hint
    )


def facts(meta: Mapping[str, Any]) -> list[Component]:
    """Return what is trained and how, in a line; what the file does not tell is left out."""
    model, optimizer = _mapping(meta.get("model")), _mapping(meta.get("optimizer"))
    groups = optimizer.get("groups")
    rates = [_mapping(group).get("lr") for group in groups] if isinstance(groups, list) else []
    words = [
        shortened(model["class"]) if "class" in model else "",
        f"{model['parameters']:,} parameters" if isinstance(model.get("parameters"), int) else "",
        shortened(optimizer["class"]) if "class" in optimizer else "",
        f"lr {number(float(rates[0]))} at the start" if rates and isinstance(rates[0], int | float) else "",
        shortened(meta["device"]) if "device" in meta else "",
        _started(meta.get("started")),
    ]
    return [html.Span(word) for word in words if word]


def _started(when: Any) -> str:
    known = isinstance(when, int | float)
    return f"started {time.strftime('%d %b %H:%M', time.localtime(when))}" if known else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# The board --------------------------------------------------------------------------------------------------------


def board(opened: OpenRun, panels: Sequence[Panel]) -> Component:
    """Return a run's panels, not drawn yet: the three columns, and the performance row below them.

    What is :func:`vital` is not among them.
    """
    cards: dict[Group, list[Component]] = {group: [] for group in GROUPS}
    for place, panel in sorted(enumerate(panels), key=lambda item: not gauges.has_one(item[1])):  # gauges first
        if panel.name != VITAL:
            cards[panel.group].append(card(place, panel))
    return html.Div(
        className="panels",
        **attributes(data_identity=opened.identity),
        children=[
            html.Div(
                [_group(group, cards[group]) for group in COLUMNS],
                className="columns",
                style=_slot_styles([len(cards[group]) for group in COLUMNS]),
            ),
            _group("performance", cards["performance"]),
        ],
    )


def vital(opened: OpenRun, panels: Sequence[Panel]) -> list[Component]:
    """Return the panel that stands beside the verdict, not drawn yet: the loss, where the run has one."""
    cards = [card(place, panel) for place, panel in enumerate(panels) if panel.name == VITAL]
    return [html.Div(each, **attributes(data_identity=opened.identity)) for each in cards]


def more(panels: Sequence[Panel], start: int) -> dict[Group, list[Component]]:
    """Return the cards of the panels from a place on, for the end of their groups."""
    cards: dict[Group, list[Component]] = {}
    for place, panel in enumerate(panels[start:], start):
        cards.setdefault(panel.group, []).append(card(place, panel))
    return cards


def slots(counts: Sequence[int], total: int) -> list[int]:
    """Share ``total`` columns of cards among groups of so many cards, so that the tallest group is as low as can be."""
    widths = [1] * len(counts)
    for _ in range(total - len(counts)):
        rows = [-(-count // width) for count, width in zip(counts, widths, strict=True)]
        tallest = max(range(len(counts)), key=lambda group: rows[group])
        widths[tallest] += 1
    return widths


def _slot_styles(counts: Sequence[int]) -> dict[str, str]:
    """Return the widths of the groups for screens of so many columns; the style sheet picks by the screen."""
    styles = {}
    for total in (3, 4, 5, 6):
        widths = slots(counts, total)
        styles[f"--columns-{total}"] = " ".join(f"minmax(0, {width}fr)" for width in widths)
        styles |= {f"--cards-{total}-{place}": str(width) for place, width in enumerate(widths)}
    return styles


def _group(group: Group, cards: list[Component]) -> Component:
    name = group.replace(" ", "-")
    return html.Section(
        className=f"group {name}",
        **attributes(aria_labelledby=f"group-{name}"),
        children=[
            html.H2(group, id=f"group-{name}"),
            html.Div(cards, className="cards", **attributes(data_group=group)),
            html.P("No instrument of this group is on the panel.", className="none"),
        ],
    )


def card(place: int, panel: Panel, anchor: str = "panel", kind: str = "") -> Component:
    """Return one panel, not drawn yet: its name, and room for its newest value, its charts and what is said of them.

    ``charts.js`` fills the room with what the server sends of it. ``anchor`` and the place are its name in the address,
    ``kind`` is what the style sheet knows it by, its panel's kind unless given.
    """
    head = [
        html.H3(panel.title, id=f"{anchor}-{place}-title"),
        *([_help(panel)] if panel.help else []),
        html.Div(className="value"),
        *tools.of_card(panel),
    ]
    return html.Article(
        id=f"{anchor}-{place}",
        className=f"card {kind or panel.kind}{' gauged' if gauges.has_one(panel) else ''}",
        **attributes(
            data_panel=str(place),
            data_name=panel.name,
            data_scale=panel.scale,
            aria_labelledby=f"{anchor}-{place}-title",
        ),
        children=[
            html.Div(head, className="head"),
            _marked(),
            html.Div([_room(kind) for kind in ("gauge", "chart") if _has(panel, kind)], className="charts"),
            html.Div(className="words"),
        ],
    )


def _has(panel: Panel, kind: str) -> bool:
    return kind == "chart" or gauges.has_one(panel)


def _room(kind: str) -> Component:
    """Return the room of a chart; it is hidden from screen readers, which get its description instead."""
    return html.Div(html.Div(className="drawing"), className=f"plot {kind}-plot", **attributes(aria_hidden="true"))


def value(panel: Panel, readings: Readings) -> list[Component | str]:
    """Return the newest value with its unit; for a gauge the median of the newest tenth.

    A gauge names no zone in its headline: what a step length means for the run is the diagnosis' to say.
    """
    age = _age(figures.newest_step(panel, readings))
    if gauges.has_one(panel):
        median = gauges.headline(panel, readings)
        return [html.Span("–" if median != median else f"{median:z.2f}".replace("-", "−")), *age]
    if panel.kind in heatmaps.KINDS:
        dated = [] if panel.kind == "joint" else age  # its headline is its step
        return [html.Span(heatmaps.headline(panel, readings)), *dated]
    newest = figures.headline(panel, readings)
    if newest is None:
        return []
    if panel.ratio is not None and panel.scale == "log" and newest <= 0:
        return [html.Span("unclear", title=f"{number(newest)}: the noise hides what it is compared with"), *age]
    unit = [html.Span(panel.unit, className="unit")] if panel.unit else []
    return [html.Span(number(newest)), *unit, *age]


def _age(step: int | None) -> list[Component]:
    """Return room for the step of a newest value, which ``steps.js`` writes where that is long ago."""
    return [] if step is None else [html.Span(className="age", **attributes(data_step=str(step)))]


def words(
    panel: Panel,
    readings: Readings,
    unavailable: Mapping[str, str],
    view: updates.View | None = None,
    advice: Advice | None = None,
) -> list[Component]:
    """Return what stands below a chart: why it is empty, what it leaves out, and the chart in a sentence."""
    view = view or updates.View()
    heats = panel.kind in heatmaps.KINDS
    empty = readings.newest is None if heats else not any(len(readings.of(name)) for name in panel.readings)
    reasons = [f"{name}: {unavailable[name]}" for name in panel.readings if name in unavailable]
    extent = "Not available." if empty else "Not on every step."
    found = [html.P(f"{extent} {reason}", className="note") for reason in dict.fromkeys(reasons)]
    if empty and not found:
        found = [html.P("No value yet.", className="note")]
    if heats:
        captions, sentence = [heatmaps.caption(panel, readings)], heatmaps.description(panel, readings)
    else:
        captions = [figures.caption(panel, readings, view.columns, view.window, view.smoothing)]
        sentence = figures.description(panel, readings, view.window)
    if gauges.has_one(panel):
        captions.insert(0, gauges.caption(panel, readings, advice))
        sentence = " ".join(filter(None, (gauges.description(panel, readings), sentence)))
    if text := " · ".join(filter(None, captions)):
        found.append(html.P(text, className="caption"))
    said = html.P(sentence, className="unseen")
    return [html.Div([*found, said], className="empty" if empty else "")]


def _marked() -> Component:
    """Return what says which evidence a chart shows, and leads back from there; ``evidence.js`` fills and shows it."""
    back = html.Button("Back to the finding", className="back", type="button")
    return html.Div([html.Span(className="which"), back], className="marked")


def _help(panel: Panel) -> Component:
    mark = html.Summary("?", **attributes(aria_label=f"What {panel.title} means"))
    return html.Details([mark, html.P(panel.help)], className="help")


# The verdict ------------------------------------------------------------------------------------------------------


def verdict(said: Verdict) -> Component:
    """Return the status light with its sentence."""
    remedy = [html.P(said.remedy, className="remedy")] if said.remedy else []
    return html.Div(
        className=f"verdict {said.light}",
        children=[
            html.Div(said.icon, className="light", **attributes(aria_hidden="true")),
            html.Div([html.P(said.word, className="word"), html.P(said.sentence, className="sentence"), *remedy]),
        ],
    )
