"""What happened to a run at its steps, as marks for its charts: the learning rate jumped, it was resumed or paused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cockpitlite.diagnosis.words import number, plural
from cockpitlite.rates import LEAST_JUMP
from cockpitlite.store import Event, Steps, Values

Kind = Literal["rate", "settings", "frozen", "resume", "pause", "nonfinite", "dropped", "chosen"]

KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_WORDS: Mapping[Kind, str] = {
    "rate": "learning rate jumped",
    "settings": "settings changed",
    "frozen": "layers frozen or freed",
    "resume": "resumed",
    "pause": "watching paused or gone on",
    "nonfinite": "first non-finite value",
    "dropped": "steps left out",
    "chosen": "the chosen cell",
}
ABRUPT = 3.0  # times as far as over equally many steps before and after
RULE = (
    "The learning rate of the first parameter group jumped where it changed by a tenth or more at once, and over three "
    "times as far as over equally many steps before and after: a smooth schedule has no marks, its restart has one."
)
SCHEDULED = 20  # a setting that changes more often than this follows a schedule and has no marks

_WORDS: Mapping[str, tuple[Kind, str]] = {
    "resume": ("resume", "resumed"),
    "pause": ("pause", "watching paused"),
    "unpause": ("pause", "watching goes on"),
    "nonfinite": ("nonfinite", "first non-finite value"),
    "dropped": ("dropped", "steps left out"),
}


@dataclass(frozen=True)
class Mark:
    """Something that happened at a step, in words."""

    step: int
    kind: Kind
    words: str


def marks(events: Sequence[Event], rate: tuple[Steps, Values]) -> tuple[Mark, ...]:
    """Return what is to be marked of a run's events and of its learning rate ``[T]``, in the order of the steps."""
    found = [Mark(event.step, *_WORDS[event.kind]) for event in events if event.kind in _WORDS]
    found += [*_settings(events), *_frozen(events), *_jumps(*rate)]
    return tuple(sorted(found, key=lambda mark: mark.step))


def thinned(found: Sequence[Mark], width: float) -> list[Mark]:
    """Return one mark for all of a kind that lie within about ``width`` steps, the first, with words for the others.

    The stretches are powers of two of steps long, so that they stay where they are while a run grows.
    """
    stretch = 2 ** max(int(np.ceil(np.log2(max(width, 1.0)))), 0)
    groups: dict[tuple[Kind, int], list[Mark]] = defaultdict(list)
    for mark in found:
        groups[mark.kind, mark.step // stretch].append(mark)
    return [_together(group) for group in groups.values()]


def _together(group: Sequence[Mark]) -> Mark:
    first, more = group[0], len(group) - 1
    words = f"{first.words} at step {first.step:,}"
    return Mark(first.step, first.kind, f"{words}; {more:,} more up to step {group[-1].step:,}" if more else words)


def _jumps(steps: Steps, values: Values) -> Iterator[Mark]:
    """Mark where the rate changed far and abruptly.

    Rates are not known at every step, so the change over a gap is held against that over stretches as long as the gap,
    and the mark stands at the end of the gap.
    """
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if len(steps) < 3:
        return
    gap, change = np.diff(steps), np.abs(np.diff(values))
    start, end = steps[:-1] - gap, steps[1:] + gap
    before = np.abs(values[:-1] - np.interp(start, steps, values))
    after = np.abs(values[1:] - np.interp(end, steps, values))
    judged = start >= steps[0]  # else there is nothing to hold it against
    larger = np.maximum(np.abs(values[:-1]), np.abs(values[1:]))
    jumped = judged & (change > 0) & (change >= LEAST_JUMP * larger) & (change > ABRUPT * np.maximum(before, after))
    for place in np.flatnonzero(jumped).tolist():
        old, new = (number(float(value)) for value in values[place : place + 2])
        yield Mark(int(steps[place + 1]), "rate", f"learning rate {old} → {new}")


def _settings(events: Sequence[Event]) -> Iterator[Mark]:
    """Mark changes of other hyperparameters, of all parameter groups together."""
    changes: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.kind == "settings":
            changes[str(event.data.get("name")), event.step].append(event.data)
    often = Counter(name for name, _ in changes)
    for (name, step), groups in changes.items():
        if often[name] <= SCHEDULED:
            of = f" in {len(groups)} groups" if len(groups) > 1 else ""
            words = f"{name} {_setting(groups[0].get('old'))} → {_setting(groups[0].get('new'))}{of}"
            yield Mark(step, "settings", words)


def _setting(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _frozen(events: Sequence[Event]) -> Iterator[Mark]:
    """Mark where tensors stopped or began to be trained."""
    before: set[str] | None = None
    for event in events:
        if event.kind == "parameters":
            now = set(map(str, event.data.get("frozen") or ()))
            fewer, more = (len(now - before), len(before - now)) if before is not None else (0, 0)
            parts = [f"{fewer} {plural('tensor', fewer)} frozen"] if fewer else []
            parts += [f"{more} {plural('tensor', more)} freed"] if more else []
            if parts:
                yield Mark(event.step, "frozen", ", ".join(parts))
            before = now
