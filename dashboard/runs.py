"""The run files a page may open: one file, or all files of one folder, and never any other."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from cockpitlite.dashboard.readings import RunReader
from cockpitlite.panel import Kind, Panel, Per, Scale
from cockpitlite.store import SUFFIX, Run, RunFileError, find_runs, is_live, load, log_of

# What reading a run file raises that is lost, damaged, or made up by somebody.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
READERS = 4  # runs whose readings are kept in memory

Signature = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Entry:
    """A run as the picker offers it: its path below the folder, and whether a process still writes it."""

    key: str
    live: bool

    @property
    def label(self) -> str:
        """The key without the suffix of run files."""
        return self.key.removesuffix(SUFFIX)


@dataclass(frozen=True)
class OpenRun:
    """A run that was opened, with its readings, and which file it is: another one under the same name is another."""

    run: Run
    reader: RunReader
    identity: str


class Runs:
    """The run files below ``root``, or ``root`` itself where it is one; readings that were read are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenRun] = OrderedDict()
        self._metas: dict[str, tuple[Signature, Mapping[str, Any] | None]] = {}

    def entries(self) -> list[Entry]:
        """Return the runs: first those that are live, last those that cannot be read, of each the last started first.

        Where runs were started at once, or do not say when, the last changed is first. A file is read again only where
        it has changed.
        """
        before = self._metas
        found = {key: _described(path, before.get(key)) for key, path in self.paths().items()}
        self._metas = found  # in one piece, as several requests look at once
        metas = {key: meta for key, (_, meta) in found.items()}
        live = {key for key, meta in metas.items() if meta is not None and is_live(meta)}

        def rank(key: str) -> tuple[bool, bool, float]:
            meta = metas[key]
            return key not in live, meta is None, -started(meta or {})

        return [Entry(key, key in live) for key in sorted(metas, key=rank)]

    def open(self, key: str) -> OpenRun:
        """Return a run by its key.

        Raises FileNotFoundError where ``key`` is no run below the root (whatever path it may spell), RunFileError
        where the file is not a run file.
        """
        path = self.paths().get(key)
        if path is None:
            where = "" if key == self.root.name else f" in {self.root}"
            raise FileNotFoundError(f"there is no run {key!r}{where} (it may have been deleted or moved); pick another")
        run = load(path)
        identity = identity_of(path, run.meta)
        with self._lock:
            known = self._open.get(key)
            if known is None or known.identity != identity:
                known = OpenRun(run, RunReader(run), identity)
            self._open[key] = known
            self._open.move_to_end(key)
            while len(self._open) > READERS:
                self._open.popitem(last=False)
        return known

    def is_of_another(self, key: str, identity: str | None) -> bool:
        """Whether a run that was opened lately had this identity, and it is not the one of that key."""
        with self._lock:
            return any(name != key and known.identity == identity for name, known in self._open.items())

    def paths(self) -> dict[str, Path]:
        """Return the runs that really lie below the root: links that lead out of it are left out."""
        if self.root.is_file():
            return {self.root.name: self.root}
        if not self.root.is_dir():
            return {}
        home = self.root.resolve()
        found = find_runs(self.root)
        return {path.relative_to(self.root).as_posix(): path for path in found if path.resolve().is_relative_to(home)}


def started(meta: Mapping[str, Any]) -> float:
    """Return when a run was started in Unix time, 0 where it does not say."""
    when = meta.get("started")
    if not isinstance(when, int | float) or isinstance(when, bool) or not math.isfinite(when):
        return 0.0
    return float(when)


def signature(path: Path) -> Signature:
    """Return what tells whether a run file, or the log that a live one is written to, has changed."""
    found: list[tuple[int, int] | None] = []
    for file in (path, log_of(path)):
        try:
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def check(root: Path) -> None:
    """Raise one clear sentence unless ``root`` is a run file or a folder that holds one.

    FileNotFoundError for a path that does not exist, ValueError for a folder without runs, RunFileError for a file
    that is not a run file.
    """
    if root.is_file():
        load(root)
    elif not root.exists():
        raise FileNotFoundError(f"{root} does not exist; give a run file ({SUFFIX}) or a folder of run files")
    elif not Runs(root).entries():
        raise ValueError(f"the folder {root} holds no run file ({SUFFIX}); watch() writes one to runs/ unless told")


def panels(run: Run) -> list[Panel]:
    """Return how a run is drawn; a panel without readings shows the one of its own name.

    Raises RunFileError for a panel that no cockpitlite writes: the file may come from a stranger.
    """
    found = [panel.named(panel.name) for panel in run.panels()]
    for panel in found:
        if not _is_sound(panel):
            raise RunFileError(f"{run.path} has a panel that cannot be drawn ({str(panel.name)[:60]!r})")
    return found


def _is_sound(panel: Panel) -> bool:
    """Whether every field is of its kind; JSON from a file can hold anything."""
    texts = [
        panel.name,
        panel.title,
        panel.unit,
        panel.help,
        *panel.readings,
        *(panel.ratio or ()),
        *(panel.axes or ()),
    ]
    numbers = [bound for bound in panel.healthy or (None, None) if bound is not None]
    for value, label in panel.marks:
        numbers.append(value)
        texts.append(label)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(value, int | float) for value in numbers)
        and (panel.healthy is None or len(panel.healthy) == 2)
        and all(pair is None or len(pair) == 2 for pair in (panel.ratio, panel.axes))
        and panel.scale in get_args(Scale)
        and panel.kind in get_args(Kind)
        and panel.per in get_args(Per)
    )


def identity_of(path: Path, meta: Mapping[str, Any]) -> str:
    """Return what tells this file from another one that later takes its name."""
    text = f"{path}\0{path.stat().st_ino}\0{meta.get('started')}"
    return hashlib.blake2s(text.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()


def _described(
    path: Path, before: tuple[Signature, Mapping[str, Any] | None] | None
) -> tuple[Signature, Mapping[str, Any] | None]:
    """Return how a file stands and what its run says of itself, None where it cannot be read."""
    now = signature(path)
    if before is not None and before[0] == now:
        return before
    try:
        return now, load(path).meta
    except UNREADABLE:  # it vanished while the folder was listed, or is damaged: opening it says so
        return now, None
