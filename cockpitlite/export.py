"""A run file as CSV or JSON, so that any other program can read what was measured."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any, TextIO

from cockpitlite.store import Run, Steps, Values

_Entries = dict[str, dict[str, Any]]

CSV_COLUMNS = ("step", "reading", "layer", "value")


def write_csv(run: Run, out: TextIO) -> None:
    """Write one line per value: ``step,reading,layer,value``.

    ``layer`` is empty for the value of the whole step (the total of a reading with layers). Numbers have all their
    digits, so reading them back gives the same float64; ``nan``, ``inf`` and ``-inf`` are written as these words.
    Histograms are in the JSON alone.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for name in run.names():
        steps, values = run.series(name)
        writer.writerows(
            (step, name, "", repr(value)) for step, value in zip(steps.tolist(), values.tolist(), strict=True)
        )
        writer.writerows(_layer_rows(run, name))


def write_json(run: Run, out: TextIO) -> None:
    """Write one JSON object with the keys ``meta events panels series layers histograms``.

    - ``series``: name -> ``{"steps": [T], "values": [T]}``
    - ``layers``: name -> ``{"steps": [T], "layers": [L], "values": [T][L]}``
    - ``histograms``: name -> list of ``{"step", "layer", "edges", "counts"}``; ``layer`` is null for the histogram over
      all layers, ``edges`` holds one list per axis, and ``counts`` is ``[A]``, or ``[A][B]`` of a joint histogram.
      They are in the order of their steps, the one over all layers first.

    JSON has no such numbers, so NaN is ``null`` and an infinity is the text ``"Infinity"`` or ``"-Infinity"``,
    everywhere in the file; ``float("Infinity")`` and ``Number("Infinity")`` read the texts back.
    """
    data = {
        "meta": run.meta,
        "events": [dataclasses.asdict(event) for event in run.events()],
        "panels": [panel.to_dict() for panel in run.panels()],
        "series": _all_series(run),
        "layers": _all_layers(run),
        "histograms": _all_histograms(run),
    }
    for part in json.JSONEncoder(allow_nan=False).iterencode(plain(data)):
        out.write(part)
    out.write("\n")


def plain(value: Any) -> Any:
    """Return data in which NaN is None and an infinity is ``"Infinity"`` or ``"-Infinity"``, as JSON demands."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _word(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _word(value: float) -> str | None:
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _all_series(run: Run) -> _Entries:
    found = ((name, *run.series(name)) for name in run.names())
    return {name: {"steps": steps.tolist(), "values": values.tolist()} for name, steps, values in found if len(steps)}


def _all_layers(run: Run) -> _Entries:
    entries: _Entries = {}
    for name in run.names():
        found = _layers(run, name)
        if found is not None:
            steps, layers, values = found
            entries[name] = {"steps": steps.tolist(), "layers": layers, "values": values.tolist()}
    return entries


def _all_histograms(run: Run) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for name in run.names():
        try:
            _, layers = run.histograms(name)
        except KeyError:
            continue
        entries = [entry for layer in (None, *layers) for entry in _histograms(run, name, layer)]
        found[name] = sorted(entries, key=lambda entry: int(entry["step"]))
    return found


def _layers(run: Run, name: str) -> tuple[Steps, list[str], Values] | None:
    try:
        return run.layers(name)
    except KeyError:
        return None


def _layer_rows(run: Run, name: str) -> Iterator[tuple[int, str, str, str]]:
    found = _layers(run, name)
    if found is None:
        return
    steps, layers, values = found
    for step, row in zip(steps.tolist(), values, strict=True):
        yield from ((step, name, layer, repr(value)) for layer, value in zip(layers, row.tolist(), strict=True))


def _histograms(run: Run, name: str, layer: str | None) -> Iterator[dict[str, Any]]:
    for step, histogram in run.each_histogram(name, layer):
        edges = [axis.tolist() for axis in histogram.edges]
        yield {"step": step, "layer": layer, "edges": edges, "counts": histogram.counts.tolist()}
