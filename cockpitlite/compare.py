"""A run at a glance, and several side by side: state, settings, last and best values, verdicts."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from cockpitlite.diagnosis import diagnose
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.kept import ENTRY
from cockpitlite.diagnosis.light import Light, light
from cockpitlite.diagnosis.words import verdict
from cockpitlite.store import Run, Values

NEWEST_SHARE = 0.1  # what "newest" means for a distribution: the last tenth of its values
ABSENT = "-"
_NOT_A_SETTING = frozenset({"heartbeat", "started", "ended", "status", "pid", "process", "layers", ENTRY})

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Glance:
    """What one line about a run says.

    ``state`` is ``live``, ``finished``, ``stopped`` (by an exception) or ``broken off`` (silent without an end).
    ``steps`` counts the steps taken, ``loss`` and ``learning_rate`` are the last values, and ``started`` is
    Unix time, each None where there is none. ``findings`` stand at the end of the run, most likely root cause first.
    """

    name: str
    state: str
    steps: int
    loss: float | None
    learning_rate: float | None
    model: str
    optimizer: str
    device: str
    started: float | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The most likely root cause in one sentence."""
        return plain_text(verdict(self.findings, self.steps))

    @property
    def light(self) -> Light:
        """The verdict in a word."""
        return light(self.findings, self.steps)

    @property
    def when(self) -> str:
        """The local date and time of the start, or nothing."""
        return "" if self.started is None else datetime.fromtimestamp(self.started).strftime("%Y-%m-%d %H:%M")


def glance(run: Run) -> Glance:
    """Look at a run: its description, its last values and its diagnosis."""
    meta = run.meta
    last_step = run.last_step
    started = meta.get("started")
    return Glance(
        name=plain_text(run.name),
        state=_state(run, meta),
        steps=0 if last_step is None else last_step + 1,
        loss=_last(_values(run, "loss")),
        learning_rate=_last(_values(run, "learning_rate")),
        model=model_words(meta),
        optimizer=optimizer_words(meta),
        device=plain_text(meta.get("device", "")),
        started=float(started) if isinstance(started, int | float) else None,
        findings=tuple(diagnose(run)),
    )


def comparison(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return the rows of a table with one column per run: a label, and one text for each run.

    First verdict, state and steps; then every setting in which the runs differ; then the last and the best value of
    each reading that has a better direction (``loss`` and ``error`` down, ``acc`` up), the last value of every other
    reading of the performance row, and the median of the newest tenth of each normalized step length.
    """
    glances = [glance(run) for run in runs]
    rows: list[tuple[str, list[str]]] = [
        ("verdict", [look.verdict for look in glances]),
        ("state", [look.state for look in glances]),
        ("steps", [str(look.steps) for look in glances]),
        ("started", [look.when for look in glances]),
    ]
    rows += differing([settings(run.meta) for run in runs])
    rows += [row for name in _compared(runs) for row in _performance(runs, name)]
    rows += [(f"{name}, newest median", _cells(runs, name, _newest_median)) for name in _step_lengths(runs)]
    return rows


def differing(settings: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all runs; a run without it has a dash."""
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [(name, [one.get(name, ABSENT) for one in settings]) for name in names]
    return [(name, cells) for name, cells in rows if len(set(cells)) > 1]


def settings(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the description of a run as flat names and texts, such as ``optimizer.groups.0.lr``."""
    flat: dict[str, str] = {}
    for name, value in meta.items():
        if name not in _NOT_A_SETTING:
            _flatten(plain_text(name), value, flat)
    return flat


def model_words(meta: Mapping[str, Any]) -> str:
    """Return the model's class and size, such as ``Net, 61,706 parameters``."""
    model = _mapping(meta.get("model"))
    words = [plain_text(model["class"])] if model.get("class") else []
    if isinstance(model.get("parameters"), int):
        words.append(f"{model['parameters']:,} parameters")
    return ", ".join(words)


def optimizer_words(meta: Mapping[str, Any]) -> str:
    """Return the optimizer's class and the settings of its groups that are neither off nor zero."""
    optimizer = _mapping(meta.get("optimizer"))
    groups = optimizer.get("groups")
    groups = [_mapping(group) for group in groups] if isinstance(groups, list) else []
    words = [plain_text(optimizer.get("class", ""))]
    for name in dict.fromkeys(name for group in groups for name in group):
        values = list(dict.fromkeys(_text(group.get(name)) for group in groups if group.get(name) is not None))
        if any(value not in ("", "0", "False") for value in values):
            words.append(f"{plain_text(name).replace('_', ' ')} {' / '.join(values)}")
    return " ".join(words[:1]) + ("" if len(words) < 2 else f" ({', '.join(words[1:])})")


def plain_text(value: Any) -> str:
    """Return a text in one line without control characters, which a terminal or a plot would act on."""
    text = " ".join(str(value).split())
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(sign)[0] == "C" else sign for sign in text)


def number(value: float | None) -> str:
    """Return four significant digits; a dash where there is no value."""
    return ABSENT if value is None else f"{value:.4g}"


def newest(values: Values) -> Values:
    """Return the last tenth (at least one) of the finite values."""
    finite = values[np.isfinite(values)]
    return finite[-max(math.ceil(NEWEST_SHARE * len(finite)), 1) :]


def _state(run: Run, meta: Mapping[str, Any]) -> str:
    if run.live:
        return "live"
    status = meta.get("status")
    return "broken off" if status in (None, "running") else plain_text(status)


def _values(run: Run, name: str) -> Values:
    try:
        return run.series(name)[1]
    except KeyError:
        return np.empty(0)


def _last(values: Values) -> float | None:
    """Return the last value, which may be NaN or infinite: that is what the run ended with."""
    return float(values[-1]) if len(values) else None


def _newest_median(values: Values) -> float | None:
    kept = newest(values)
    return float(np.median(kept)) if len(kept) else None


def _lowest(values: Values) -> float | None:
    return float(np.nanmin(values)) if not np.isnan(values).all() else None


def _highest(values: Values) -> float | None:
    return float(np.nanmax(values)) if not np.isnan(values).all() else None


def _cells(runs: Sequence[Run], name: str, value: Callable[[Values], float | None]) -> list[str]:
    return [number(value(_values(run, name))) for run in runs]


def _performance(runs: Sequence[Run], name: str) -> list[tuple[str, list[str]]]:
    rows = [(f"{plain_text(name)}, last", _cells(runs, name, _last))]
    better = _better(name)
    if better is not None:
        word, best = ("lowest", _lowest) if better == "lower" else ("highest", _highest)
        rows.append((f"{plain_text(name)}, {word}", _cells(runs, name, best)))
    return rows


def _better(name: str) -> Better | None:
    if "acc" in name:
        return "higher"
    return "lower" if "loss" in name or "error" in name else None


def _compared(runs: Sequence[Run]) -> list[str]:
    """Return the readings of the performance rows, and the logged ones, which no panel shows."""
    shown: dict[str, None] = {}
    elsewhere: set[str] = set()
    for run in runs:
        for panel in run.panels():
            if panel.group == "performance":
                shown.update(dict.fromkeys(panel.readings))
            else:
                elsewhere.update(panel.readings)
    logged = [name for run in runs for name in run.names() if _better(name) and name != "loss_std"]
    beside = tuple(f"{name}_" for name in elsewhere)  # what stands beside another reading, such as its error
    shown.update(dict.fromkeys(name for name in logged if name not in elsewhere and not name.startswith(beside)))
    return list(shown)


def _step_lengths(runs: Sequence[Run]) -> list[str]:
    """Return the readings that are normalized step lengths."""
    panels = [panel for run in runs for panel in run.panels() if panel.kind == "parabola"]
    return list(dict.fromkeys(panel.readings[0] for panel in panels if panel.readings))


def _flatten(name: str, value: Any, flat: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _NOT_A_SETTING:
                _flatten(f"{name}.{plain_text(key)}", item, flat)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            _flatten(f"{name}.{index}", item, flat)
    else:
        flat[name] = _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return plain_text(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
