"""Rules about what is trained at all: steps that change nothing, tensors that stand still or belong to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding, Severity
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import listed, plural
from cockpitlite.store import Values

_LOOK = 20  # tracked steps looked at
_PATIENCE = 20  # steps after which what was seen in every one of them is no coincidence


@rule("F0", needs=("update_size",), fault=True)
def nothing_moves(readings: Readings) -> Finding | None:
    """The parameters have not changed in any of the last tracked steps (five at least).

    The update is exactly 0, not merely small. Says which of these it is: a learning rate of 0, a gradient of 0 that the
    optimizer saw, or steps too small for the numbers' precision. An error if nothing has moved since the start, a
    warning if something had.
    """
    steps, sizes = readings.recent("update_size", _LOOK)
    if len(steps) < t.FEW:
        raise Unjudged(f"{len(steps)} {plural('step', len(steps))} tracked; {t.FEW} are needed")
    if np.any(sizes[-t.FEW :] != 0):
        return None
    all_steps, all_sizes = readings.series("update_size")
    moved = np.flatnonzero(all_sizes != 0)
    still = int(moved[-1]) + 1 if len(moved) else 0
    since = int(all_steps[still])
    cause, remedy = _why_still(readings)
    begin = f"since step {since:,}" if len(moved) else "since the first step"
    return Finding(
        code="F0",
        severity="warning" if len(moved) else "error",
        confidence=0.99,
        title=f"Nothing moves {begin}: {cause}",
        explanation=(
            f"In each of the last {len(all_steps) - still} tracked steps, up to step {int(all_steps[-1]):,}, "
            "the parameters were exactly the same after the step as before."
        ),
        evidence=(Evidence("update_size", tuple(map(int, steps)), tuple(map(float, sizes))),),
        suggestion=remedy,
        since=since,
    )


@rule("F9a", needs=("update_size", "grad_norm"), silenced_by=("F0",), fault=True)
def tensors_stand_still(readings: Readings) -> Finding | None:
    """Some parameters get a gradient but have not changed in any of the last tracked steps.

    Their update is exactly 0 over at least five tracked and twenty steps, while their gradient is not. They are in the
    optimizer, so their group's learning rate may be 0, or something puts them back after each step. Only a note where
    a group's learning rate is 0, as that is likely meant.
    """
    steps, layers, sizes = readings.recent_layers("update_size", _LOOK)
    if not layers:
        raise Unjudged("update_size was not recorded per layer")
    if len(steps) < t.FEW or readings.now < _PATIENCE - 1:
        raise Unjudged(f"{t.FEW} tracked steps and {_PATIENCE} steps in all are needed")
    gradients = dict(zip(*_columns(readings.recent_layers("grad_norm", _LOOK)), strict=True))
    still = [
        name
        for name, column in zip(layers, sizes.T, strict=True)
        if name in gradients and np.all(column == 0) and np.all(gradients[name] > 0)
    ]
    if not still:
        return None
    off = _groups_off(readings)
    severity: Severity = "info" if off else "warning"
    since = _still_since(readings, still)
    return Finding(
        code="F9a",
        severity=severity,
        confidence=0.95,
        title=f"{_parameters(still)} {_verb(still, 'stands', 'stand')} still despite a gradient: {listed(still)}",
        explanation=(
            f"{_verb(still, 'Its', 'Their')} update was exactly 0 in the last {len(steps)} tracked steps, "
            f"{int(steps[0]):,} to {int(steps[-1]):,}, while {_verb(still, 'its', 'their')} gradient was not. "
            + (f"The learning rate of parameter {plural('group', len(off))} {listed(off)} is 0." if off else "")
        ).strip(),
        evidence=(Evidence.of("update_size", steps, np.zeros(len(steps)), still[0]),),
        suggestion=(
            "Raise the learning rate of that group, unless it is meant to stand still."
            if off
            else "Check the learning rate of their group, and whether something writes the old values back after a "
            "step; in 16-bit numbers a step below the precision is lost."
        ),
        since=since,
    )


@rule("F9b", fault=True)
def no_gradient(readings: Readings) -> Finding | None:
    """Some parameters in the optimizer have had no gradient in any step so far (`grad` is None, not 0).

    Nothing of the loss depends on them: a module that is never called, or a graph cut by `detach`, `.data`, `.item` or
    `no_grad`. Parameters that are frozen, or that get a gradient in some steps, are not named. Nearly certain after
    twenty steps.
    """
    events = readings.events("parameters")
    if not events:
        raise Unjudged("the run does not say which parameters got a gradient")
    kept = [name for name in _names(events[-1].data, "no_gradient") if name not in _names(events[-1].data, "frozen")]
    never = [name for name in kept if all(name in _names(event.data, "no_gradient") for event in events)]
    if not never:
        return None
    seen = readings.now - events[0].step + 1
    return Finding(
        code="F9b",
        severity="warning",
        confidence=0.95 if seen >= _PATIENCE else 0.7,
        title=f"{_parameters(never)} {_verb(never, 'gets', 'get')} no gradient: {listed(never)}",
        explanation=(
            f"After the backward pass of every tracked step among the {seen:,} so far, {_verb(never, 'its', 'their')} "
            "gradient was None: the loss does not depend on "
            f"{_verb(never, 'it', 'them')}, so {_verb(never, 'it is', 'they are')} never trained."
        ),
        suggestion=(
            f"Check that the {_verb(never, 'module that owns it is', 'modules that own them are')} called in "
            "forward(), and that detach(), .data, .item() or no_grad() does not cut the graph behind them."
        ),
        since=events[0].step,
    )


@rule("F9c", fault=True)
def not_in_optimizer(readings: Readings) -> Finding | None:
    """Some trainable parameters of the model are in no group of this optimizer.

    With parameters in the optimizer that are not the model's, a part of the model was probably replaced after the
    optimizer had been made: a warning. Otherwise only a note, since another optimizer may train them, as in a GAN.
    """
    events = readings.events("parameters")
    if not events:
        raise Unjudged("the run does not say which parameters are in the optimizer")
    missing, foreign = _names(events[-1].data, "not_in_optimizer"), _foreign(events[-1].data)
    if not missing and not foreign:
        return None
    same = [event for event in events if _names(event.data, "not_in_optimizer") == missing]
    title, explanation, suggestion = _replaced(missing, foreign) if missing and foreign else _partial(missing, foreign)
    return Finding(
        code="F9c",
        severity="warning" if missing and foreign else "info",
        confidence=0.9,
        title=title,
        explanation=explanation,
        suggestion=suggestion,
        since=same[0].step,
    )


def _replaced(missing: list[str], foreign: int) -> tuple[str, str, str]:
    return (
        _left_out(missing),
        f"This optimizer never changes {_verb(missing, 'this trainable parameter', 'these trainable parameters')}, and "
        f"the optimizer holds {foreign:,} that the model does not have: a part of the model was probably replaced "
        "after the optimizer had been made.",
        "Make the optimizer after the model is complete.",
    )


def _partial(missing: list[str], foreign: int) -> tuple[str, str, str]:
    if missing:
        return (
            _left_out(missing),
            f"This optimizer never changes {_verb(missing, 'it', 'them')}; another one may.",
            "Add what is missing with optimizer.add_param_group, unless another optimizer trains it or it is to rest.",
        )
    return (
        f"The optimizer also holds {foreign:,} {plural('parameter', foreign)} that {_are(foreign)} not the model's",
        "What is shown here is about the watched model's parameters only.",
        "Nothing, if this optimizer trains several models; else make it from model.parameters().",
    )


def _left_out(missing: list[str]) -> str:
    return f"{_parameters(missing)} {_verb(missing, 'is', 'are')} in no group of the optimizer: {listed(missing)}"


def _why_still(readings: Readings) -> tuple[str, str]:
    """Return why nothing moves, and what to do."""
    settings = readings.derived(rate)
    if settings.now == 0:
        if settings.values.max() > 0:
            return (
                "the learning rate has gone to 0",
                "If training was to go on, check the schedule: it ended too early.",
            )
        return "the learning rate is 0", "Set a learning rate above 0, or check the schedule that sets it."
    if settings.now < t.FALLEN_RATE * settings.values.max(initial=0.0):
        return (
            "the learning rate has fallen to nearly 0",
            "If training was to go on, check the schedule: it ended too early, as one that is counted in epochs does "
            "when it is stepped at every batch.",
        )
    if _all_zero(readings, "grad_norm"):
        return (
            "every gradient is 0",
            "Do not change the learning rate: look for units that are all dead or saturated, a constant loss, or "
            "weights that start at 0.",
        )
    if _all_zero(readings, "grad_norm_clipped"):
        return (
            "the gradients are 0 when the optimizer sees them",
            "Check that zero_grad() does not stand between backward() and step(), and that clipping does not multiply "
            "by 0.",
        )
    return (
        "the steps are lost",
        "The learning rate may be so small that adding a step does not change the numbers; or something writes the old "
        "parameters back; or the optimizer holds copies of the parameters.",
    )


def _all_zero(readings: Readings, name: str) -> bool:
    if not readings.has(name):
        return False
    _, values = readings.recent(name, t.FEW)
    return bool(len(values)) and bool(np.all(values == 0))


def _still_since(readings: Readings, still: list[str]) -> int:
    """Return the first tracked step since which none of these tensors has moved."""
    _, layers, distances = readings.recent_layers("distance", 1)
    if len(distances) and all(distances[-1][layers.index(name)] == 0 for name in still if name in layers):
        return int(readings.series("update_size")[0][0])  # still where they began
    return readings.holding_since("update_size", tuple(still), lambda rows: np.all(rows.of(still) == 0, axis=1))


def _columns(rows: tuple[object, list[str], Values]) -> tuple[list[str], list[Values]]:
    """Return the layers and the values of each over the steps."""
    _, layers, values = rows
    return layers, list(values.T)


def _groups_off(readings: Readings) -> list[str]:
    """Return the parameter groups whose learning rate is 0."""
    _, groups, rates = readings.recent_layers("learning_rate", 1)
    return [group for group, column in zip(groups, rates.T, strict=True) if len(column) and column[-1] == 0]


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    found = data.get(key)
    return [str(name) for name in found] if isinstance(found, list) else []


def _foreign(data: Mapping[str, Any]) -> int:
    found = data.get("foreign")
    return found if isinstance(found, int) else 0


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _parameters(names: list[str]) -> str:
    return f"{len(names):,} {plural('parameter tensor', len(names))}"


def _verb(names: list[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many
