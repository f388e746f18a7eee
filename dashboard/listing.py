"""The runs of a folder as the rows of a table; a file that has not changed is not opened again."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cockpitlite.dashboard import results
from cockpitlite.dashboard.runs import UNREADABLE, Entry, Runs, Signature, identity_of, panels, signature, started
from cockpitlite.dashboard.unopened import Name, Unopened
from cockpitlite.dashboard.verdict import ICONS, Judge
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.kept import Kept, last_kept
from cockpitlite.diagnosis.light import WORDS, Light, headline, light
from cockpitlite.store import Run, is_live

Row = dict[str, Any]

STATES = {"live": "● Live", "finished": "✓ Finished", "ended": "■ Ended", "unreadable": "✕ Unreadable"}
NOT_JUDGED = "not judged yet"
RANKS: dict[Light, int] = {  # of what was found, for sorting
    "unknown": 0,
    "good": 1,
    "quiet": 2,
    "info": 3,
    "warning": 4,
    "error": 5,
}
SHOWN_APART = ("optimizer.groups.0.lr", "optimizer.class", "model.class", "device")  # have columns of their own


@dataclass(frozen=True)
class Facts:
    """What a run file tells the table."""

    meta: Mapping[str, Any]
    settings: Mapping[str, str]
    newest: Mapping[str, tuple[int, float]]
    titles: Mapping[str, str]  # of the readings that say how the run went
    best: Mapping[str, float]  # the least values of held-out losses
    identity: str

    @property
    def last_step(self) -> int:
        """The last step of any reading, −1 where there is none."""
        return max((step for step, _ in self.newest.values()), default=-1)


@dataclass(frozen=True)
class News:
    """What changed since a page was told last; ``whole`` where it must take the rows for all there are.

    ``titles`` are those of the readings of all rows, the most telling first.
    """

    stand: dict[str, Any]
    whole: bool
    added: list[Row]
    changed: list[Row]
    gone: list[str]
    titles: Mapping[str, str]


class Listing:
    """The rows of a table of runs, each numbered by the revision in which it last changed.

    Used by several requests at once. The findings are those that ``judge`` knows, else those that a training which
    judged itself left in its file; of the others those that ``unopened`` comes to know, to which they are left: no run
    is judged for the table.
    """

    def __init__(self, runs: Runs, judge: Judge, unopened: Unopened | None = None) -> None:
        self._runs, self._judge, self._unopened = runs, judge, unopened
        self._lock = threading.Lock()
        self._server = secrets.token_hex(4)  # a page may have been told by another server
        self._revision = 0
        self._facts: dict[str, tuple[Signature, Facts | None]] = {}
        self._rows: dict[str, Row] = {}
        self._came: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        self._gone: dict[str, int] = {}

    def news(self, stand: Mapping[str, Any] | None) -> News:
        """Return what a page lacks whose last news left it at ``stand``."""
        with self._lock:
            self._look()
            since = stand["revision"] if stand is not None and stand["server"] == self._server else None
            now = {"server": self._server, "revision": self._revision}
            titles = self._titles()
            if since is None:
                return News(now, True, list(self._rows.values()), [], [], titles)
            fresh = [key for key, revision in self._changed.items() if revision > since]
            return News(
                now,
                False,
                [self._rows[key] for key in fresh if self._came[key] > since],
                [self._rows[key] for key in fresh if self._came[key] <= since],
                [key for key, revision in self._gone.items() if revision > since],
                titles,
            )

    def _titles(self) -> dict[str, str]:
        known = [facts.titles for _, facts in self._facts.values() if facts is not None]
        found = {name: title for titles in known for name, title in titles.items()}
        return {name: found[name] for name in results.in_order(found)}

    def _look(self) -> None:
        """Read what has changed in the folder, and number it."""
        paths = self._runs.paths()
        rows = {key: self._row(key, path) for key, path in paths.items()}
        gone = [key for key in self._rows if key not in rows]
        changed = [key for key, row in rows.items() if self._rows.get(key) != row]
        if gone or changed:
            self._revision += 1
        for key in gone:
            self._gone[key] = self._revision
            for known in (self._facts, self._came, self._changed):
                known.pop(key, None)
        for key in changed:
            self._came.setdefault(key, self._revision)
            self._changed[key] = self._revision
            self._gone.pop(key, None)
        self._rows = rows
        if self._unopened is not None:
            self._unopened.want(self._unjudged(paths))

    def _unjudged(self, paths: Mapping[str, Path]) -> list[tuple[Name, Path]]:
        """Return the runs of which no findings of now are known, those that were started last first."""
        known = [(key, facts) for key, (_, facts) in self._facts.items() if facts is not None]
        found = [(key, facts) for key, facts in known if _findings(self._judge, None, facts) is None]
        found.sort(key=lambda run: -started(run[1].meta))
        return [(_name(facts), paths[key]) for key, facts in found]

    def _row(self, key: str, path: Path) -> Row:
        now = signature(path)
        known = self._facts.get(key)
        if known is None or known[0] != now:
            known = self._facts[key] = now, _facts(path)
        return _row(key, known[1], self._judge, self._unopened)


def _facts(path: Path) -> Facts | None:
    """Read what the table shows of a run; None for a file that cannot be read."""
    from cockpitlite.compare import settings  # here, so that the page stands before the rules are loaded

    try:
        with Run(path).held() as run:
            meta, newest = run.meta, run.newest()
            best = {name: _least(run, name) for name in results.HELD_OUT_LOSSES if name in newest}
            titles = results.titles(panels(run), newest, _instruments(meta))
            return Facts(meta, settings(meta), newest, titles, best, identity_of(path, meta))
    except UNREADABLE:
        return None


def _least(run: Run, name: str) -> float:
    values = run.outline(name).values
    return float(np.nanmin(values)) if np.isfinite(values).any() else math.nan


def _instruments(meta: Mapping[str, Any]) -> list[str]:
    names = meta.get("panel")
    return [str(name) for name in names] if isinstance(names, list) else []


def _row(key: str, facts: Facts | None, judge: Judge, unopened: Unopened | None) -> Row:
    row: Row = {"key": key, "run": Entry(key, False).label, "state": STATES["unreadable"]}
    row |= {"finding": "", "rank": RANKS["unknown"]}
    if facts is None:
        return row
    meta, settings = facts.meta, facts.settings
    steps = facts.last_step + 1
    row |= {
        "state": STATES[_state(meta)],
        **_found(_findings(judge, unopened, facts), steps),
        "started": _when(started(meta)),
        "duration": _duration(meta),
        "steps": steps,
        "model": settings.get("model.class", ""),
        "optimizer": settings.get("optimizer.class", ""),
        "device": settings.get("device", ""),
        "rate": _number(settings.get("optimizer.groups.0.lr")),
    }
    row |= {f"last {name}": _shown(facts.newest[name][1]) for name in facts.titles}
    row |= {f"best {name}": _shown(value) for name, value in facts.best.items()}
    return row | {f"set {name}": value for name, value in settings.items() if name not in SHOWN_APART}


def _state(meta: Mapping[str, Any]) -> str:
    if is_live(meta):
        return "live"
    return "finished" if meta.get("status") == "finished" else "ended"


def _findings(judge: Judge, unopened: Unopened | None, facts: Facts) -> Sequence[Finding | Kept] | None:
    """Return what was last found of a run, None where it was not judged."""
    last = facts.last_step
    known: Sequence[Finding | Kept] | None = judge.known(facts.identity, last // 2 if is_live(facts.meta) else last)
    if known is None:
        known = last_kept(facts.meta)
    return unopened.known(_name(facts)) if known is None and unopened is not None else known


def _name(facts: Facts) -> Name:
    """Return what a run is judged under while nobody opens it: each time it is twice as long, and when it has ended."""
    return facts.identity, str(facts.last_step.bit_length()) if is_live(facts.meta) else "ended"


def _found(found: Sequence[Finding | Kept] | None, steps: int) -> Row:
    """Return what of the findings is shown: the first, how many more there are, and how grave it is."""
    if found is None:
        return {"finding": NOT_JUDGED, "rank": RANKS["unknown"]}
    shown = light(found, steps)
    words, more = f"{ICONS[shown]} {WORDS[shown]}", f" · {len(found) - 1:,} more" if len(found) > 1 else ""
    if shown == "unknown":
        words += " yet"
    elif found:
        words += f": {headline(found).title}{more}"
    return {"finding": words, "rank": RANKS[shown]}


def _duration(meta: Mapping[str, Any]) -> int | None:
    """Return the whole seconds from a run's start to its end, or to its last sign of life; None where unknown."""
    end = next((meta[name] for name in ("ended", "heartbeat") if isinstance(meta.get(name), int | float)), math.nan)
    passed = end - started(meta)
    return round(passed) if started(meta) and 0 <= passed < math.inf else None


def _when(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if moment else ""
    except (ValueError, OverflowError, OSError):  # no calendar reaches that far
        return ""


def _number(text: str | None) -> float | str | None:
    try:
        return None if text is None else _shown(float(text))
    except ValueError:
        return text


def _shown(value: float) -> float | str:
    """Return a number, or the word for one that is none: NaN is shown, not left out."""
    return float(f"{value:.6g}") if math.isfinite(value) else "NaN" if math.isnan(value) else str(value)
