"""The reading end of a run file."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cockpitlite.panel import Panel
from cockpitlite.store.connection import reading
from cockpitlite.store.contents import SUFFIX, Event, Histogram, RunFileError, Steps, Values
from cockpitlite.store.counts import unpacked
from cockpitlite.store.liveness import is_live
from cockpitlite.store.outlining import outlines
from cockpitlite.store.pyramid import Outline, Rows, joined, level_within
from cockpitlite.store.rows import LAST, limit, rows_of
from cockpitlite.store.schema import LAYER_ID, first_step, last_step
from cockpitlite.store.stretches_by_layer import LayerStretches
from cockpitlite.store.wholeness import log_of

ROWS = 1000  # histograms that are read at once


@dataclass(frozen=True)
class Run:
    """The reading end of a run file, live or finished; every call sees what has been committed by then."""

    path: Path

    @cached_property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(SUFFIX)

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What those who read a growing run through this object keep from one time to the next."""
        return {}

    @contextlib.contextmanager
    def held(self) -> Iterator[Run]:
        """Give the same run with its file kept open, for many small reads in one thread."""
        with self._open() as db:
            yield _HeldRun(self.path, db)

    @property
    def meta(self) -> dict[str, Any]:
        """What is known of the run: model, optimizer, versions, command, status and so on."""
        with self._open() as db:
            return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta ORDER BY key")}

    @property
    def live(self) -> bool:
        """Whether a process still writes this run."""
        return is_live(self.meta)

    @property
    def last_step(self) -> int | None:
        """The last step any reading was written under, or None for a run without readings."""
        with self._open() as db:
            return last_step(db)

    @property
    def steps(self) -> tuple[int, int] | None:
        """The first and the last step any reading was written under, or None for a run without readings."""
        with self._open() as db:
            first, last = first_step(db), last_step(db)
        return None if first is None or last is None else (first, last)

    def names(self) -> list[str]:
        """The names of all readings that have at least one value, in alphabetical order."""
        with self._open() as db:
            rows = db.execute(
                "SELECT id, name, EXISTS (SELECT 1 FROM reading WHERE reading.name = name.id) "
                "OR EXISTS (SELECT 1 FROM layers WHERE layers.name = name.id) "
                "OR EXISTS (SELECT 1 FROM histogram WHERE histogram.name = name.id) FROM name"
            ).fetchall()
            framed = {slot.name for slot in self._slots(db)}
        return sorted(name for key, name, alone in rows if alone or key in framed)

    def series(
        self, name: str, since: int | None = None, most: int | None = None, layer: str | None = None
    ) -> tuple[Steps, Values]:
        """Return the steps (int64 ``[T]``, ascending) and values (float64 ``[T]``, NaN kept) of a reading.

        ``since`` leaves out the steps before it, ``most`` all but the first so many. A reading with layers gives its
        total, or the values of one ``layer``. Raises KeyError for a name this run has no reading of.
        """
        start = -1 if since is None else since
        with self._open() as db:
            key = self._key(db, name)
            with self._undamaged():
                found = [
                    rows_of(db, frame, start, offset=offset, width=1, most=most)
                    for frame, offset in self._places(db, key, layer)
                ]
            if layer is None:
                found.insert(0, rows_of(db, -key, start, most=most))
            else:
                found += [(rows.steps, rows.values) for rows in self._alone_of(db, key, layer, start, most=most)]
        if len(found) == 1:
            return found[0][0], found[0][1][:, 0]
        steps = np.concatenate([np.empty(0, np.int64), *(part[0] for part in found)])
        values = np.concatenate([np.empty(0), *(part[1][:, 0] for part in found)])
        steps, first = np.unique(steps, return_index=True)
        return steps[:most], values[first][:most]

    def newest(self) -> dict[str, tuple[int, float]]:
        """Return the last step and value of every reading that has one, of a reading with layers the total."""
        found: dict[int, tuple[int, float]] = {}
        with self._open() as db, self._undamaged():
            last = "(SELECT {} FROM reading WHERE reading.name = name.id ORDER BY step DESC LIMIT 1)"
            rows = db.execute(f"SELECT id, name, {last.format('step')}, {last.format('value')} FROM name").fetchall()
            names = {key: name for key, name, _, _ in rows}
            for key, _, step, value in rows:
                if step is not None:
                    found[key] = step, math.nan if value is None else value
            query = 'SELECT step, "values" FROM frame WHERE layout = ? ORDER BY step DESC LIMIT 1'
            slots = self._slots(db)
            ends = {frame: db.execute(query, (frame,)).fetchone() for frame in {slot.frame for slot in slots}}
            for slot in slots:
                if (row := ends[slot.frame]) is not None and row[0] >= found.get(slot.name, (-1,))[0]:
                    found[slot.name] = row[0], float(np.frombuffer(row[1], "<f8")[slot.offset])
        return {names[key]: last for key, last in found.items() if key in names}

    def layers(
        self, name: str, since: int | None = None, most: int | None = None, stop: int = LAST
    ) -> tuple[Steps, list[str], Values]:
        """Return the steps ``[T]``, the layer names ``[L]`` and the values ``[T, L]`` of a reading.

        ``since`` leaves out the steps before it, ``stop`` itself and those after it, ``most`` all but the first so
        many. A layer that a step has no value for is NaN there. Raises KeyError for a name without values per layer.
        """
        start = -1 if since is None else since
        with self._open() as db:
            key = self._key(db, name)
            parts = self._alone(db, key, start, most, stop)
            framed = self._framed(db, key, start, most, stop)
            parts += [(layout, steps, values[:, 1:]) for layout, steps, values in framed if layout is not None]
            layouts = _layouts(db)
        if not parts and since is None:
            raise KeyError(f"the reading {name!r} has no values per layer in {self.path}")
        steps, names, values = _laid_out(parts, layouts)
        return steps[:most], names, values[:most]

    def outline(self, name: str, window: tuple[int, int] | None = None, layer: str | None = None) -> Outline:
        """Return a series by the points that matter, all of a short one; never reads a long run whole.

        ``window`` is a range of steps, its end left out. A reading with layers gives its total, or one ``layer``.
        Raises KeyError for a name this run has no reading of.
        """
        with self._open() as db:
            key = self._key(db, name)
            start, stop = window or (0, (last_step(db) or 0) + 1)
            places = self._places(db, key, layer) + ([(-key, 0)] if layer is None else [])
            with self._undamaged():
                found = [
                    part.outline for place, offset in places for part in outlines(db, place, offset, 1, start, stop)
                ]
            if layer is not None:
                found += [rows.outline for rows in self._alone_of(db, key, layer, start, stop)]
        return joined(found or [Rows(np.empty(0, np.int64), np.empty((0, 1))).outline])

    def outlined_layers(self, name: str, window: tuple[int, int] | None = None) -> tuple[Steps, list[str], Values]:
        """Return what :meth:`layers` does, of a long run by the extremes of each layer in each stretch of steps.

        A stretch gives two rows, the least values at its first step and the greatest in its middle.
        """
        with self._open() as db:
            key = self._key(db, name)
            start, stop = window or (0, (last_step(db) or 0) + 1)
            parts = self._alone(db, key, start, stop=stop)
            for slot in self._slots(db):
                if slot.name == key and (layers := slot.layers) is not None:
                    with self._undamaged():
                        found = outlines(db, slot.frame, slot.offset + 1, slot.width - 1, start, stop)
                        rows = [part if isinstance(part, Rows) else part.extremes for part in found]
                    parts += [(layers, part.steps, part.values) for part in rows]
            return _laid_out(parts, _layouts(db))

    def layer_stretches(self, name: str, stretch: int, start: int = 0, stop: int | None = None) -> list[LayerStretches]:
        """Return what each layer of a reading held in stretches of at most ``stretch`` steps, in no order.

        ``start`` is a multiple of ``stretch``, ``stop`` the step to end before. Never reads a long run whole where
        ``stretch`` is long. Raises KeyError for a name this run has no reading of.
        """
        level = level_within(stretch)
        with self._open() as db:
            key = self._key(db, name)
            end = (last_step(db) or 0) + 1 if stop is None else stop
            layouts = _layouts(db)
            found = [
                LayerStretches.of(layouts[layout], Rows(steps, values))
                for layout, steps, values in self._alone(db, key, start, stop=end)
            ]
            for slot in self._slots(db):
                if slot.name == key and (layers := slot.layers) is not None:
                    with self._undamaged():
                        parts = outlines(db, slot.frame, slot.offset + 1, slot.width - 1, start, end, level)
                        found += [LayerStretches.of(layouts[layers], part) for part in parts]
        return found

    def layer_names(self) -> dict[str, list[str]]:
        """Return the layers of every reading that has values per layer, in the order they were written in."""
        found: dict[str, dict[str, None]] = {}
        with self._open() as db:
            names = dict(db.execute("SELECT id, name FROM name"))
            layouts = _layouts(db)
            used = [(slot.name, slot.layers) for slot in self._slots(db) if slot.layers is not None]
            for ending in ("ASC", "DESC"):
                layout = f"(SELECT layout FROM layers WHERE name = name.id ORDER BY step {ending} LIMIT 1)"
                used += db.execute(f"SELECT id, {layout} FROM name WHERE {layout} IS NOT NULL").fetchall()
        for key, layers in used:
            found.setdefault(names[key], {}).update(dict.fromkeys(layouts[layers]))
        return {name: list(layers) for name, layers in sorted(found.items())}

    def histogram_layers(self) -> dict[str, list[str]]:
        """Return the layers of every reading that has histograms per layer."""
        found: dict[str, list[str]] = {}
        some = "EXISTS (SELECT 1 FROM histogram WHERE name = name.id AND layer = layer.id)"
        with self._open() as db:
            query = f"SELECT name.name, layer.name FROM name, layer WHERE {some} ORDER BY name.name, layer.id"
            for name, layer in db.execute(query):
                found.setdefault(name, []).append(layer)
        return found

    @contextlib.contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Say which file it is where numbers of it cannot be read."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise RunFileError(f"the run file {self.path} has a damaged frame: {error}") from error

    def _alone(
        self, db: sqlite3.Connection, key: int, start: int, most: int | None = None, stop: int = LAST
    ) -> list[_Part]:
        """Return the values per layer that have rows of their own, those of like layers that follow together."""
        query = 'SELECT layout, step, "values" FROM layers WHERE name = ? AND step >= ? AND step < ? ORDER BY step'
        rows = db.execute(f"{query} LIMIT ?", (key, start, stop, limit(most)))
        found = []
        for layout, group in itertools.groupby(rows, key=lambda row: row[0]):
            _, steps, blobs = zip(*group, strict=True)
            values = np.frombuffer(b"".join(blobs), dtype="<f8").reshape(len(steps), -1)
            found.append((layout, np.array(steps, dtype=np.int64), values))
        return found

    def _alone_of(
        self, db: sqlite3.Connection, key: int, layer: str, start: int, stop: int = LAST, most: int | None = None
    ) -> list[Rows]:
        """Return the values of one layer that have rows of their own."""
        layouts = _layouts(db)
        return [
            Rows(steps, values[:, [layouts[layout].index(layer)]])
            for layout, steps, values in self._alone(db, key, start, most, stop)
            if layer in layouts[layout]
        ]

    def _places(self, db: sqlite3.Connection, key: int, layer: str | None) -> list[tuple[int, int]]:
        """Return where a reading's total, or one of its layers, stands: layouts of frames, and the place in each."""
        slots = [slot for slot in self._slots(db) if slot.name == key]
        if layer is None:
            return [(slot.frame, slot.offset) for slot in slots]
        layouts = _layouts(db)
        return [
            (slot.frame, slot.offset + 1 + layouts[slot.layers].index(layer))
            for slot in slots
            if slot.layers is not None and layer in layouts[slot.layers]
        ]

    def _framed(
        self, db: sqlite3.Connection, key: int, start: int, most: int | None = None, stop: int = LAST
    ) -> list[tuple[int | None, Steps, Values]]:
        """Return a reading's numbers in each layout of frames, ``[T, width]``.

        With them come the id of its layers (None for a reading without) and the steps from ``start`` to before
        ``stop``, at least one and at ``most`` the first so many of each layout.
        """
        found: list[tuple[int | None, Steps, Values]] = []
        with self._undamaged():
            for slot in (slot for slot in self._slots(db) if slot.name == key):
                steps, numbers = rows_of(db, slot.frame, start, stop, slot.offset, slot.width, most)
                if len(steps):
                    found.append((slot.layers, steps, numbers))
        return found

    def histogram(
        self, name: str, step: int, layer: str | None = None
    ) -> tuple[NDArray[np.int64], Values | tuple[Values, Values]]:
        """Return ``(counts [A], edges [A + 1])`` of one step, ``(counts [A, B], (edges_a, edges_b))`` if joint.

        Raises KeyError where this step has no such histogram.
        """
        for found, histogram in self._histograms(name, layer, step, 1):
            if found == step:
                edges = histogram.edges
                return histogram.counts, edges[0] if len(edges) == 1 else (edges[0], edges[1])
        where = "" if layer is None else f" of layer {layer!r}"
        raise KeyError(f"no histogram {name!r}{where} at step {step} in {self.path}")

    def histograms(self, name: str) -> tuple[Steps, list[str]]:
        """Return the steps (int64 ``[T]``, ascending) at which a reading has histograms, and the layers that have some.

        The histogram over all layers is no layer. Raises KeyError for a name without histograms.
        """
        with self._open() as db:
            key = self._key(db, name)
            steps = db.execute("SELECT DISTINCT step FROM histogram WHERE name = ? ORDER BY step", (key,)).fetchall()
            layers = db.execute(
                "SELECT layer.name FROM layer WHERE EXISTS "
                "(SELECT 1 FROM histogram WHERE histogram.name = ? AND histogram.layer = layer.id) ORDER BY layer.id",
                (key,),
            ).fetchall()
        if not steps:
            raise KeyError(f"the reading {name!r} has no histograms in {self.path}")
        return np.array([row[0] for row in steps], dtype=np.int64), [row[0] for row in layers]

    def each_histogram(
        self, name: str, layer: str | None = None, since: int | None = None
    ) -> Iterator[tuple[int, Histogram]]:
        """Yield every step with its histogram, in order; ``since`` leaves out the steps before it.

        Raises KeyError for a name this run has no reading of.
        """
        start = -1 if since is None else since
        while found := self._histograms(name, layer, start, ROWS):
            yield from found
            start = found[-1][0] + 1

    def newest_histogram(self, name: str, layer: str | None = None) -> tuple[int, Histogram] | None:
        """Return the last step with a histogram and that; None where there is none yet.

        Raises KeyError for a name this run has no reading of.
        """
        with self._open() as db:
            query = f"SELECT max(step) FROM histogram WHERE name = ?1 AND layer = {LAYER_ID}"
            step = db.execute(query, (self._key(db, name), layer or "")).fetchone()[0]
        return None if step is None else self._histograms(name, layer, step, 1)[0]

    def _histograms(self, name: str, layer: str | None, start: int, most: int) -> list[tuple[int, Histogram]]:
        """Return the first histograms from a step on; those with the same edges hold the same array."""
        with self._open() as db:
            rows = db.execute(
                f"SELECT step, first, second, counts FROM histogram WHERE name = ?1 AND layer = {LAYER_ID} "
                "AND step >= ?3 ORDER BY step LIMIT ?4",
                (self._key(db, name), layer or "", start, most),
            ).fetchall()
            ids = {key for row in rows for key in row[1:3] if key is not None}
            try:
                axes = {key: _edges(db, key) for key in ids}
                return [(step, _read_histogram(axes, keys, counts)) for step, *keys, counts in rows]
            except (ValueError, TypeError, zlib.error) as error:
                raise RunFileError(f"the run file {self.path} has a damaged histogram: {error}") from error

    def events(self, kind: str | None = None) -> list[Event]:
        """Return what happened, in order; ``kind`` keeps one kind only."""
        with self._open() as db:
            rows = db.execute(
                "SELECT step, time, kind, data FROM event WHERE ?1 IS NULL OR kind = ?1 ORDER BY id", (kind,)
            ).fetchall()
        return [Event(step, when, kind_, json.loads(data)) for step, when, kind_, data in rows]

    def panels(self) -> list[Panel]:
        """Return how the readings are drawn, in the order the instruments were given."""
        with self._open() as db:
            rows = db.execute("SELECT data FROM panel ORDER BY position, name").fetchall()
        return [Panel.from_dict(json.loads(row[0])) for row in rows]

    def unavailable(self) -> dict[str, str]:
        """Return the readings that are missing in whole or in part, with the reason a user may read."""
        found: dict[str, str] = {}
        for event in self.events("unavailable"):
            found[event.data["reading"]] = event.data["reason"]
        return found

    def clock(self) -> tuple[Steps, Values]:
        """Return some steps and the seconds after the start at which they ended; interpolate between them."""
        with self._open() as db:
            rows = db.execute("SELECT step, seconds FROM clock ORDER BY step").fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64), np.array([row[1] for row in rows], dtype=np.float64)

    def _slots(self, db: sqlite3.Connection) -> list[_Slot]:
        """Return what every layout of frames holds."""
        found: list[_Slot] = []
        try:
            for frame, columns in db.execute("SELECT id, columns FROM frame_layout ORDER BY id").fetchall():
                offset = 0
                for name, layers, width in json.loads(columns):
                    found.append(_Slot(frame, offset, width, name, layers))
                    offset += width
        except (ValueError, TypeError) as error:
            raise RunFileError(f"the run file {self.path} has a damaged frame: {error}") from error
        return found

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return reading(self.path)

    def _key(self, db: sqlite3.Connection, name: str) -> int:
        row = db.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = ", ".join(row[0] for row in db.execute("SELECT name FROM name ORDER BY name")) or "nothing yet"
            raise KeyError(f"no reading {name!r} in {self.path}; it has: {known}")
        return int(row[0])


@dataclass(frozen=True)
class _HeldRun(Run):
    """A run whose file is kept open; its layouts of frames are read once."""

    db: sqlite3.Connection

    @cached_property
    def slots(self) -> list[_Slot]:
        """What every layout of frames holds."""
        return super()._slots(self.db)

    def _slots(self, db: sqlite3.Connection) -> list[_Slot]:
        return self.slots

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return contextlib.nullcontext(self.db)


class _Slot(NamedTuple):
    """Where the numbers of a reading stand in the rows of a layout of frames."""

    frame: int
    offset: int
    width: int
    name: int
    layers: int | None


_Part = tuple[int, Steps, Values]  # the id of its layers, its steps [T], its values [T, L]


def _layouts(db: sqlite3.Connection) -> dict[int, list[str]]:
    return {key: json.loads(text) for key, text in db.execute("SELECT id, layers FROM layout")}


def _laid_out(parts: Sequence[_Part], layouts: Mapping[int, Sequence[str]]) -> tuple[Steps, list[str], Values]:
    """Put values of several lists of layers into one table; NaN where a step has no value for a layer."""
    used = dict.fromkeys(layout for layout, _, _ in sorted(parts, key=lambda part: int(part[1][0])))
    names = list(dict.fromkeys(layer for layout in used for layer in layouts[layout]))
    column = {layer: index for index, layer in enumerate(names)}
    columns = {layout: np.array([column[layer] for layer in layouts[layout]], dtype=np.intp) for layout in used}
    steps = np.unique(np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)]))
    values = np.full((len(steps), len(names)), np.nan)
    for layout, at, part in parts:
        values[np.ix_(np.searchsorted(steps, at), columns[layout])] = part
    return steps, names, values


def _edges(db: sqlite3.Connection, key: int) -> Values:
    row = db.execute("SELECT edges FROM axis WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise ValueError("it has no edges")
    return np.frombuffer(row[0], dtype="<f8").astype(np.float64)


def _read_histogram(axes: Mapping[int, Values], keys: Sequence[int | None], packed: bytes) -> Histogram:
    edges = tuple(axes[key] for key in keys if key is not None)
    return Histogram(unpacked(packed, tuple(len(axis) - 1 for axis in edges)), edges)


def load(path: str | Path) -> Run:
    """Open a run file for reading; needs no torch.

    Raises FileNotFoundError where there is none and RunFileError where the file is not a run file or is too new.
    """
    run = Run(Path(path))
    if not run.path.is_file():
        folder = "is a folder" if run.path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"the run file {run.path} {folder}; give the path of a {SUFFIX} file that watch() wrote"
        )
    with reading(run.path):
        return run


def find_runs(folder: str | Path) -> list[Path]:
    """Return the run files in a folder and the folders below it, the most recently changed first."""
    files = [path for path in Path(folder).rglob(f"*{SUFFIX}") if path.is_file()]
    return sorted(files, key=lambda path: (-_changed(path), str(path)))


def _changed(path: Path) -> float:
    """Return when a run last grew; while it is live, that shows in the write-ahead log."""
    times = [0.0]
    for candidate in (path, log_of(path)):
        with contextlib.suppress(OSError):  # it may vanish between listing and looking
            times.append(candidate.stat().st_mtime)
    return max(times)
