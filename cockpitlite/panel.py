"""How a reading is drawn, as plain data that travels inside the run file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Group = Literal["step size", "gradients", "curvature", "performance"]
Scale = Literal["linear", "log"]
Kind = Literal["curve", "parabola", "tests", "histogram", "joint"]
Per = Literal["layer", "class", "group"]

GROUPS: tuple[Group, ...] = ("step size", "gradients", "curvature", "performance")


@dataclass(frozen=True)
class Panel:
    """One chart: its words, its axis, and which readings it shows.

    ``readings`` are the names of the series drawn, the first being the one the panel is about. Instruments whose panels
    bear the same ``name`` share one, which shows the readings of all; without one it is the instrument's. ``layered``
    names the first reading as one that also has a value per layer, or per what ``per`` says. ``healthy`` is the shaded
    range, either end open as ``None``. ``marks`` are horizontal reference lines with their labels. ``ratio`` names a
    numerator and a denominator: where given, a smoothed curve is the ratio of the smoothed parts, never the smoothed
    ratio.
    ``kind`` is ``"parabola"`` for a normalized step length, whose distribution is also drawn on the unit parabola;
    ``"tests"`` for relative errors, of which each reading's distribution is also drawn on one logarithmic scale;
    ``"histogram"`` for counts, drawn over the steps as a heat map; ``"joint"`` for counts of two quantities, whose
    newest are drawn as one heat map, and which ``axes`` names in the order of the counts' axes. Of these two kinds only
    the first reading is drawn.
    ``steady`` says that it is a setting or a count, which no smoothing may bend.
    """

    title: str
    group: Group
    name: str = ""
    unit: str = ""
    scale: Scale = "linear"
    kind: Kind = "curve"
    readings: tuple[str, ...] = ()
    layered: bool = False
    per: Per = "layer"
    healthy: tuple[float | None, float | None] | None = None
    marks: tuple[tuple[float, str], ...] = ()
    ratio: tuple[str, str] | None = None
    axes: tuple[str, str] | None = None
    steady: bool = False
    help: str = ""

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"a panel's group is one of {', '.join(GROUPS)}; got {self.group!r}")

    def named(self, name: str) -> Self:
        """Return this panel under an instrument's name, where it has none, which is its reading where it has none."""
        return dataclasses.replace(self, name=self.name or name, readings=self.readings or (name,))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the run file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote; fields of a newer version are passed over."""
        known = {field.name for field in dataclasses.fields(cls)}
        kept = {key: _frozen(value) for key, value in data.items() if key in known}
        return cls(**kept)


def title_of(name: str) -> str:
    """Return a reading's name as a title; capital letters of its own are kept, as in ``mAP``."""
    words = name.replace("_", " ")
    return words.capitalize() if words.islower() else words


def joined(panels: Iterable[Panel]) -> list[Panel]:
    """Return one panel for all of the same name: the first of them, with the readings of every one."""
    found: dict[str, Panel] = {}
    for panel in panels:
        first = found.setdefault(panel.name, panel)
        readings = tuple(dict.fromkeys((*first.readings, *panel.readings)))
        found[panel.name] = dataclasses.replace(first, readings=readings)
    return list(found.values())


def _frozen(value: Any) -> Any:
    """Turn JSON's lists back into tuples."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
