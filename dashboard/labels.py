"""Where the names of points stand in a chart, so that none runs into another, into a point or out of the chart."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels from the upper left corner

LETTER, LINE = 7.0, 15.0  # pixels of a letter, at most, and of a line
POINT, APART = 6.0, 8.0  # half a point, and between its middle and its name; of the first, which has a ring, twice so
CLEARLY = 1.6  # times as far from any other point as from its own is a name
BEYOND = 12.0  # a name may reach so far over the edge of the chart
SIDES = (
    "middle right",
    "middle left",
    "top center",
    "bottom center",
    "top right",
    "top left",
    "bottom right",
    "bottom left",
)


def sides(
    places: Sequence[tuple[float, float]], names: Sequence[str], size: tuple[float, float], first: int | None = None
) -> list[str]:
    """Return on which side of each point its name stands, an empty text where there is no room or no name.

    ``places`` are in pixels in a chart of that ``size``; NaN for a point that is not drawn. The name of the ``first``
    point is placed before all others, and has a place in any case.
    """
    found = [""] * len(places)
    drawn = [place for place in places if not any(map(math.isnan, place))]
    taken = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in places]
    whole = (-BEYOND, -BEYOND, size[0] + BEYOND, size[1] + BEYOND)
    order = sorted(range(len(places)), key=lambda place: place != first)
    for place in (place for place in order if names[place] and not any(map(math.isnan, places[place]))):
        boxes = {
            side: _box(places[place], names[place], side, 2 * APART if place == first else APART) for side in SIDES
        }
        others = [box for at, box in enumerate(taken) if at != place]
        free = (
            side
            for side, box in boxes.items()
            if _inside(box, whole)
            and not any(_meet(box, each) for each in others)
            and _is_next_to(places[place], box, drawn)
        )
        found[place] = next(free, SIDES[2] if place == first else "")
        if found[place]:
            taken.append(boxes[found[place]])
    return found


def _box(place: tuple[float, float], name: str, side: str, apart: float) -> Box:
    height, across = side.split()
    width = LETTER * len(name)
    left = place[0] + {"left": -apart - width, "center": -width / 2, "right": apart}[across]
    top = place[1] + {"top": -apart - LINE, "middle": -LINE / 2, "bottom": apart}[height]
    return left, top, left + width, top + LINE


def _is_next_to(place: tuple[float, float], box: Box, drawn: Sequence[tuple[float, float]]) -> bool:
    """Whether a name belongs to its point at a glance: no other point is about as near to it."""
    near = CLEARLY * _distance(place, box)
    return all(other == place or _distance(other, box) > near for other in drawn)


def _distance(place: tuple[float, float], box: Box) -> float:
    across = max(box[0] - place[0], 0.0, place[0] - box[2])
    return math.hypot(across, max(box[1] - place[1], 0.0, place[1] - box[3]))


def _inside(box: Box, whole: Box) -> bool:
    return box[0] >= whole[0] and box[1] >= whole[1] and box[2] <= whole[2] and box[3] <= whole[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
