"""What a board on a screen lacks, from one tick to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from dash import Patch

from cockpitlite.dashboard import figures, gauges, layers, layout, rulers, updates
from cockpitlite.dashboard.readings import Readings
from cockpitlite.dashboard.runs import OpenRun, panels
from cockpitlite.dashboard.smoothing import STRONGEST
from cockpitlite.dashboard.updates import Axis, Shown, View
from cockpitlite.diagnosis.advice import Advice, advice
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.panel import Panel, Scale

Change = dict[str, Any]  # of a card: new contents of its chart, gauge, value and words, and what it shows then
WIDEST = 2000  # pixel columns a page may ask for


@dataclass(frozen=True)
class Asked:
    """A chart that a page asks for: how it stands there, and what it was sent; None for one that is not drawn yet."""

    view: View
    shown: Shown | None = None


def news(opened: OpenRun, asked: Mapping[int, Asked], findings: Sequence[Finding] | None = None) -> dict[int, Change]:
    """Return what the asked panels of a run's board lack, by their places; those that lack nothing are left out.

    ``findings`` are those of the run as far as it has been judged.
    """
    drawn = panels(opened.run)
    places = [place for place in asked if 0 <= place < len(drawn)]
    windows = [asked[place].view.window for place in places]
    readings = opened.reader.read([drawn[place] for place in places], windows)
    found = zip(places, [drawn[place] for place in places], readings, strict=True)
    advised = advice(findings, opened.reader.rate)
    return _changes(opened, found, asked, opened.run.unavailable(), advised)


def layer_news(
    opened: OpenRun, parts: Sequence[layers.Part], step: int | None, asked: Mapping[int, Asked]
) -> dict[int, Change]:
    """Return the same of the board of a layer, whose panels are those of ``parts``, with a step marked in them."""
    places = [place for place in asked if 0 <= place < len(parts)]
    windows = [asked[place].view.window for place in places]
    readings = layers.read(opened, [parts[place] for place in places], step, windows)
    found = zip(places, [parts[place][0] for place in places], readings, strict=True)
    return _changes(opened, found, asked, {})


def asked(request: Mapping[str, Any]) -> dict[int, Asked]:
    """Read which charts of a board a page asks for, and what they show; raises what :func:`views` raises."""
    found = views(request).items()
    return {place: Asked(view, None if shown is None else Shown.from_dict(shown)) for place, (view, shown) in found}


def views(request: Mapping[str, Any]) -> dict[int, tuple[View, Mapping[str, Any] | None]]:
    """Read how the charts stand that a page asks for: how wide, zoomed to what and on which scale; and what they show.

    Raises ValueError, LookupError or TypeError for anything else.
    """
    smoothing, axis = float(request["smoothing"]), request["axis"]
    if not 0 <= smoothing <= STRONGEST or axis not in get_args(Axis):
        raise ValueError(f"no chart is smoothed by {smoothing} or labelled with {axis!r}")
    found: dict[int, tuple[View, Mapping[str, Any] | None]] = {}
    for place, (columns, window, scale, shown) in request["charts"].items():
        if scale not in (None, *get_args(Scale)):
            raise ValueError(f"no chart has the scale {scale!r}")
        steps = None if window is None else (float(window[0]), float(window[1]))
        found[int(place)] = View(min(max(int(columns), 50), WIDEST), steps, scale, smoothing, axis), shown
    return found


def _changes(
    opened: OpenRun,
    found: Iterable[tuple[int, Panel, Readings]],
    asked: Mapping[int, Asked],
    unavailable: Mapping[str, str],
    advised: Advice | None = None,
) -> dict[int, Change]:
    ruler, last = _ruler(opened, asked), opened.run.last_step or 0
    changes = {}
    for place, panel, readings in found:
        view, before = asked[place].view, asked[place].shown
        panel = figures.scaled(panel, view.scale)
        change = (
            _begun(panel, readings, view, unavailable, advised)
            if before is None
            else _followed(panel, readings, before, view, unavailable, advised)
        )
        after: Shown | None = change.get("shown", before)
        if after is not None and panel.kind != "joint" and _relabelled(change, before, view):
            chart = change.setdefault("chart", Patch())
            for name, value in rulers.ticks(ruler, view.axis, view.window, last).items():
                chart["layout"]["xaxis"][name] = value
            change["shown"] = replace(after, view=replace(after.view, axis=view.axis, window=view.window))
        if "shown" in change:
            change["shown"] = change["shown"].to_dict()
        if change:
            changes[place] = change
    return changes


def _ruler(opened: OpenRun, asked: Mapping[int, Asked]) -> rulers.Ruler | None:
    axes = {each.view.axis for each in asked.values()}
    return rulers.clock(opened.run) if "time" in axes else rulers.epochs(opened.run) if "epoch" in axes else None


def _relabelled(change: Change, before: Shown | None, view: View) -> bool:
    """Whether a chart's steps get other labels: they follow the zoom, and the end of the run."""
    if before is None:
        return view.axis != "step"
    if view.axis != before.view.axis:
        return True
    return view.axis != "step" and (view.window != before.view.window or "chart" in change)


def _begun(
    panel: Panel, readings: Readings, view: View, unavailable: Mapping[str, str], advised: Advice | None
) -> Change:
    chart, shown = updates.whole(panel, readings, view)
    change = {
        "chart": chart,
        "value": layout.value(panel, readings),
        "words": layout.words(panel, readings, unavailable, view, advised),
        "shown": replace(shown, advice=gauges.told(panel, advised)),
    }
    if gauges.has_one(panel):
        change["gauge"] = gauges.figure(panel, readings, advised)
    return change


def _followed(
    panel: Panel,
    readings: Readings,
    before: Shown,
    view: View,
    unavailable: Mapping[str, str],
    advised: Advice | None,
) -> Change:
    change: Change = {}
    patch, after = updates.update(panel, readings, before, view)
    after = replace(after, advice=gauges.told(panel, advised))
    anew = patch is not None or after.advice != before.advice
    moved = view.window != before.view.window
    if moved:  # what is said of it is of what is seen
        after = replace(after, view=replace(after.view, window=view.window))
    if after != before:
        change["shown"] = after
    if patch is not None:
        change["chart"] = patch
        change["value"] = layout.value(panel, readings)
    if anew and gauges.has_one(panel):
        change["gauge"] = updates.update_gauge(panel, readings, advised)
    if anew or moved or any(name in unavailable for name in panel.readings):
        change["words"] = layout.words(panel, readings, unavailable, after.view, advised)
    return change
