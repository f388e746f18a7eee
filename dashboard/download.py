"""The values that a chart shows as CSV, every one of them, sent while they are read."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Flask, Response, request, stream_with_context

from cockpitlite.dashboard import layers
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.panel import Panel
from cockpitlite.store import Run

ROWS = 10_000  # read at once
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
END = 2**62

Row = tuple[Any, ...]


def offer(server: Flask, runs: Runs, prefix: str) -> None:
    """Answer ``csv?run=KEY&panel=NAME``, with ``&from=STEP&to=STEP`` for a range of steps, both ends included.

    With ``&layer=NAME`` it answers with what that layer's chart shows.
    """

    @server.route(f"{prefix}csv")
    def download() -> Response:
        try:
            opened = runs.open(request.args["run"])
            run, asked = opened.run, request.args.get("layer")
            drawn = [(panel, None) for panel in panels(run)] if asked is None else layers.parts(opened, asked)
            panel, layer = next(part for part in drawn if part[0].name == request.args["panel"])
            start, stop = int(request.args.get("from", 0)), int(request.args.get("to", END))
        except (*UNREADABLE, StopIteration):
            return Response("There is no such chart.\n", status=404, mimetype="text/plain")
        return Response(stream_with_context(lines(run, panel, start, stop, layer)), mimetype="text/csv")


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
    while chunk := list(itertools.islice(rows, ROWS)):
        yield _written(chunk)


def _values(run: Run, panel: Panel, start: int, stop: int, layer: str | None) -> Iterator[Row]:
    yield "step", "reading", "layer", "value"
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


def _layers(run: Run, name: str, start: int, stop: int) -> Iterator[Row]:
    while start <= stop:
        steps, layers, values = run.layers(name, since=start, most=ROWS)
        words = [_text(layer) for layer in layers]
        for step, row in zip(steps.tolist(), values, strict=True):
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


def _written(rows: Iterable[Row]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _text(name: str) -> str:
    """Return a name from a run file as a cell that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(FORMULAS) else name
