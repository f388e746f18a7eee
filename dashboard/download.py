"""The values that a chart shows as CSV, every one of them, sent while they are read."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import Flask, Response, request, stream_with_context
from werkzeug.datastructures import MultiDict

from cockpitlite.dashboard import layers
from cockpitlite.dashboard.comparison import Shelf, parts
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.panel import Panel
from cockpitlite.store import Run

ROWS = 10_000  # read at once
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
END = 2**62
HEAD = ("step", "reading", "layer", "value")

Row = tuple[Any, ...]


def offer(server: Flask, runs: Runs, shelf: Shelf, prefix: str) -> None:
    """Answer ``csv?run=KEY&panel=NAME``, with ``&from=STEP&to=STEP`` for a range of steps, both ends included.

    With ``&layer=NAME`` it answers with what that layer's chart shows; with ``map=NAME`` in place of the panel with
    that reading of every layer, or of those that ``&find=WORDS`` leaves; with several runs and ``panel=NAME`` of a
    chart of these, with ``&by=READING`` for each one that they are compared by, with what it shows.
    """

    @server.route(f"{prefix}csv")
    def download() -> Response:
        try:
            found = _compared(shelf, request.args) if "by" in request.args else _asked(runs, request.args)
        except (*UNREADABLE, StopIteration):
            return Response("There is no such chart.\n", status=404, mimetype="text/plain")
        return Response(stream_with_context(found), mimetype="text/csv")


def _asked(runs: Runs, asked: Mapping[str, str]) -> Iterator[str]:
    """Return the lines of what a page asks for; raises what UNREADABLE names, or StopIteration where it is none."""
    start, stop = int(asked.get("from", 0)), int(asked.get("to", END))
    opened = runs.open(asked["run"])
    if "map" in asked:
        panel = next(each for each in layers.quantities(opened) if each.name == asked["map"])
        return map_lines(opened.run, panel.name, start, stop, asked.get("find", ""))
    layer = asked.get("layer")
    drawn = [(panel, None) for panel in panels(opened.run)] if layer is None else layers.parts(opened, layer)
    panel, own = next(part for part in drawn if part[0].name == asked["panel"])
    return lines(opened.run, panel, start, stop, own)


def _compared(shelf: Shelf, asked: MultiDict[str, str]) -> Iterator[str]:
    """Return the lines of a chart of several runs; raises the same."""
    start, stop = int(asked.get("from", 0)), int(asked.get("to", END))
    members = shelf.members(asked.getlist("run"))
    drawn = parts(members, list(filter(None, asked.getlist("by"))))
    part = next(part for part in drawn if part.panel.name == asked["panel"])
    return _in_pieces(map(_harmless, part.rows(members, start, stop)))


def lines(run: Run, panel: Panel, start: int = 0, stop: int = END, layer: str | None = None) -> Iterator[str]:
    """Yield the lines of what a panel shows from one step to another, some thousands at once.

    A curve's are ``step,reading,layer,value``, as ``cockpitlite export`` writes them; a histogram's
    ``step,low,high,count`` for each bin that is not empty, with ``second_low,second_high`` where two quantities are
    joined. With ``layer`` they are of this one alone. A name that a spreadsheet would take for a formula is preceded by
    ``'``.
    """
    rows = (
        _counts(run, panel, start, stop, layer)
        if panel.kind in ("histogram", "joint")
        else _values(run, panel, start, stop, layer)
    )
    return _in_pieces(rows)


def map_lines(run: Run, name: str, start: int = 0, stop: int = END, find: str = "") -> Iterator[str]:
    """Yield the lines of a reading of every layer, as :func:`lines` does; of those layers that a search leaves."""
    return _in_pieces(itertools.chain([HEAD], _layers(run, name, start, stop, find)))


def _in_pieces(rows: Iterator[Row]) -> Iterator[str]:
    while chunk := list(itertools.islice(rows, ROWS)):
        yield _written(chunk)


def _values(run: Run, panel: Panel, start: int, stop: int, layer: str | None) -> Iterator[Row]:
    yield HEAD
    known = set(run.names())
    for name in (name for name in panel.readings if name in known):
        yield from _series(run, name, start, stop, layer)
    if panel.layered and panel.readings[0] in known:
        yield from _layers(run, panel.readings[0], start, stop)


def _series(run: Run, name: str, start: int, stop: int, layer: str | None) -> Iterator[Row]:
    while start <= stop:
        steps, values = run.series(name, since=start, most=ROWS, layer=layer)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            if step > stop:
                return
            yield step, _text(name), _text(layer or ""), repr(value)
        if len(steps) < ROWS:
            return
        start = int(steps[-1]) + 1


def _layers(run: Run, name: str, start: int, stop: int, find: str = "") -> Iterator[Row]:
    while start <= stop:
        steps, layers, values = run.layers(name, since=start, most=ROWS)
        kept = [place for place, layer in enumerate(layers) if _is_found(find, layer)]
        words = [_text(layers[place]) for place in kept]
        for step, row in zip(steps.tolist(), values[:, kept], strict=True):
            if step > stop:
                return
            yield from ((step, _text(name), word, repr(value)) for word, value in zip(words, row.tolist(), strict=True))
        if len(steps) < ROWS:
            return
        start = int(steps[-1]) + 1


def _counts(run: Run, panel: Panel, start: int, stop: int, layer: str | None) -> Iterator[Row]:
    joint, name = panel.kind == "joint", panel.readings[0]
    yield ("step", "low", "high", *(("second_low", "second_high") if joint else ()), "count")
    if name not in run.names():
        return
    newest = run.newest_histogram(name, layer) if joint else None  # the one that is shown
    found = ([newest] if newest else []) if joint else run.each_histogram(name, layer, since=start)
    for step, histogram in found:
        if step > stop:
            return
        for place in zip(*histogram.counts.nonzero(), strict=True):
            ends = (
                float(edges[at + side]) for edges, at in zip(histogram.edges, place, strict=True) for side in (0, 1)
            )
            yield (step, *map(repr, ends), int(histogram.counts[place]))


def _is_found(find: str, name: str) -> bool:
    """Whether a search leaves a name, as ``layers.js`` searches: its parts between ``*`` follow each other there."""
    words, place = name.lower(), 0
    for part in find.strip().lower().split("*"):
        place = words.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def _written(rows: Iterable[Row]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _harmless(row: Row) -> Row:
    return tuple(_text(cell) if isinstance(cell, str) else cell for cell in row)


def _text(name: str) -> str:
    """Return a name from a run file as a cell that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(FORMULAS) else name
