"""What stands above the board and acts on all of its charts, what each card has of its own, and the list of keys."""

from __future__ import annotations

from dash import dcc, html
from dash.development.base_component import Component

from cockpitlite.dashboard.attributes import attributes
from cockpitlite.dashboard.smoothing import STRONGEST
from cockpitlite.panel import Panel

AXES = {"step": "Steps", "time": "Time", "epoch": "Epochs"}
AXIS_HINTS = {
    "step": "Label charts with steps",
    "time": "Mark equal times since the start: where lines are close, steps took long",
    "epoch": "Mark the epochs that were logged",
}
SMOOTHING = (
    "The exponential mean with bias correction, in front of the single values: of the values before a point, the k-th "
    "counts factor^k. Of a long run it is taken over one value of each stretch of steps; zoom in for every value."
)
SHORTCUTS = {
    "space": "pause, and go on",
    "/": "search, or choose a run",
    "g o": "Overview",
    "g l": "Layers",
    "g d": "Diagnosis",
    "g r": "Runs",
    "esc": "show all steps; close what is unfolded",
    "?": "this list",
}


def bar() -> Component:
    """Return the tools for all charts; ``view.js`` sets what is pressed."""
    return html.Div(
        id="tools",
        **attributes(role="group", aria_label="All charts"),
        children=[
            html.Div(
                [_button(word, AXIS_HINTS[axis], data_axis=axis) for axis, word in AXES.items()],
                className="choice",
                **attributes(role="group", aria_label="Label the steps with"),
            ),
            html.Div(
                className="smoothing",
                title=SMOOTHING,
                children=[
                    html.Label("Smoothing", htmlFor="smoothing"),
                    dcc.Input(id="smoothing", type="range", min=0, max=STRONGEST, step=0.01, value=0),
                    html.Span("off", id="smoothed"),
                ],
            ),
            _button("Linked", "A zoom into one chart zooms all of them", data_toggle="linked"),
            _button("Follow the end", "Go on to show the last steps, as many as now", data_toggle="follow"),
            _button("All steps", "Show all steps again (esc)", data_do="reset"),
            _button("Pause", "Stop drawing; nothing is lost (space)", data_toggle="paused"),
            html.Span(id="behind"),
            _button("?", "", data_do="shortcuts", aria_label="Keyboard shortcuts"),
            html.Div(id="rulers", hidden=True),
        ],
    )


def shortcuts() -> Component:
    """Return the list of keys, which ``keys.js`` shows."""
    rows = [html.Tr([html.Th(_keys(keys), scope="row"), html.Td(word)]) for keys, word in SHORTCUTS.items()]
    return html.Dialog(
        id="shortcuts",
        **attributes(aria_labelledby="shortcuts-title"),
        children=[
            html.H2("Keyboard shortcuts", id="shortcuts-title"),
            html.Table(html.Tbody(rows)),
            _button("Close", "", data_do="close"),
        ],
    )


def of_card(panel: Panel) -> list[Component]:
    """Return a card's own buttons: the scale of a curve, and a menu."""
    if panel.kind not in ("curve", "tests"):  # a step length is negative as often as not
        return [menu(panel.title)]
    scale = html.Button(
        "log",
        className="scale",
        title="Logarithmic axis",
        type="button",
        **attributes(
            data_do="scale", aria_pressed=str(panel.scale == "log").lower(), aria_label=f"log axis of {panel.title}"
        ),
    )
    return [scale, menu(panel.title)]


def menu(title: str) -> Component:
    """Return the menu of the chart of that title: its picture, its numbers and a link."""
    entries = [
        html.Button(words, type="button", **attributes(data_do=what))
        for what, words in (
            ("picture", "Picture (PNG)"),
            ("numbers", "Values in view (CSV)"),
            ("link", "Copy a link to this view"),
        )
    ]
    return html.Details(
        [html.Summary("⋯", **attributes(aria_label=f"More of {title}")), html.Div(entries, className="entries")],
        className="menu",
    )


def _button(words: str, hint: str, **more: str) -> Component:
    pressed = {} if "data_do" in more else {"aria_pressed": "false"}
    return html.Button(words, title=hint or None, className="tool", type="button", **attributes(**pressed, **more))


def _keys(keys: str) -> list[Component | str]:
    found: list[Component | str] = []
    for key in keys.split(" "):
        found += [html.Kbd(key), " "]
    return found[:-1]
