"""The page's colours, from Okabe and Ito's palette for all kinds of colour vision, legible on light and on dark."""

from __future__ import annotations

from cockpitlite.panel import Group

BLUE, GREEN, PURPLE, VERMILLION, ORANGE = "#1a80bf", "#009e73", "#b8659a", "#d55e00", "#c98500"

GROUP_COLOURS: dict[Group, str] = {
    "step size": BLUE,
    "gradients": GREEN,
    "curvature": PURPLE,
    "performance": "#7a8594",
}
SECOND_COLOURS = (ORANGE, PURPLE, BLUE)
FAULT = VERMILLION
GOOD = GREEN
MUTED = "#808894"


def faded(colour: str, opacity: float) -> str:
    """Return a colour ``#rrggbb`` with an opacity in [0, 1]."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:.3g})"
