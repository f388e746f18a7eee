"""Rules about units that pass nothing on: dead ones are always 0, and saturated ones have a slope of nearly 0."""

from __future__ import annotations

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import Peak, peak, suffers
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import has_layers_after, matrices, over_rows
from cockpitlite.diagnosis.rate import rate
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import listed, new_rate, percent, plural
from cockpitlite.store import Steps, Values


@rule("F3", silenced_by=("F0", "F6c", "F19"), fault=True)
def dead_units(readings: Readings) -> Finding | None:
    """Units of a ReLU layer are 0 on every sample, so nothing passes and nothing is learnt through them.

    A layer is named when more than nine tenths of its units are 0 on all of the last three tracked batches; from half
    of them on it is a warning only where the loss has blown up or hardly fallen, else a note. Batches of fewer than 16
    samples leave many units at 0 by chance: there the whole layer must be. Where no ReLU module is seen, the share of
    gradient elements that are exactly 0 stands in, without the first weights (inputs may be 0), embeddings and biases.
    Units that were alive at the start and died within the first 100 steps died of too long steps: a warning then asks
    for a smaller learning rate.
    """
    if readings.has("dead_units"):
        steps, layers, values = readings.recent_layers("dead_units", t.ROWS, t.ROWS)
        if np.isfinite(values).any():
            return _dead(readings, "dead_units", steps, layers, values)
    elif not readings.has("zero_gradient"):
        readings.require("dead_units")
    steps, layers, values = readings.recent_layers("zero_gradient", t.ROWS, t.ROWS)
    hidden = matrices(readings, layers)[1:]
    if not hidden or not np.any(values < t.NOTHING_FLOWS):
        return None
    return _dead(readings, "zero_gradient", steps, [layers[index] for index in hidden], values[:, hidden])


@rule("F5", needs=("saturated_units",), silenced_by=("F0", "F6c"), fault=True)
def saturated_units(readings: Readings) -> Finding | None:
    """Units of a sigmoid or tanh layer stand at the ends of their range, where gradients vanish on the way back.

    More than half of a layer's outputs, on each of the last three tracked batches, lie outside 0.02 to 0.98 (sigmoid)
    or beyond ±0.97 (tanh). A warning where that was so from the start, holds for more than nine tenths, or the loss has
    blown up or hardly fallen; else a note, since trained nets may saturate late. No more than a note, too, where no
    layer with parameters is known to come after it: the output of a model is meant to be sure.
    """
    steps, layers, values = readings.recent_layers("saturated_units", t.ROWS, t.ROWS)
    low, _ = over_rows(values)
    bad = [index for index in np.argsort(-low) if low[index] > t.SATURATED]
    if not bad:
        return None
    since = _since(readings, "saturated_units", layers[bad[0]], t.SATURATED)
    begin, _, _ = readings.first_layers("saturated_units", 1)
    from_start = since == int(begin[0])
    names = [layers[index] for index in bad]
    hidden = any(has_layers_after(readings, name) for name in names)
    bad_enough = from_start or low[bad[0]] > t.SURELY_SATURATED or readings.derived(suffers)
    return Finding(
        code="F5",
        severity="warning" if hidden and bad_enough else "info",
        confidence=0.8 if hidden else 0.5,
        title=f"{percent(low[bad[0]])} of the units of layer {names[0]} are saturated" + _others(names, "layer"),
        explanation=(
            f"On each of the last {len(steps)} tracked batches, {_at_least(low[bad[0]])} of its outputs stood "
            "at an end of the range of its sigmoid or tanh, where the slope is nearly 0: hardly any gradient gets "
            "through. "
            f"{'It was so from the start.' if from_start else ''}{_after_blow_up(readings, since)}"
        ).strip(),
        evidence=(Evidence.of("saturated_units", steps, values[:, bad[0]], names[0]),),
        suggestion=(
            "Start with smaller weights (Xavier initialisation), standardise the inputs, or put a norm before the "
            "nonlinearity. Judge the learning rate only after that."
        ),
        since=since,
    )


def surely_dead(readings: Readings) -> bool:
    """Whether nearly all units of a layer are dead."""
    _, _, values = readings.recent_layers("dead_units", t.ROWS)
    return len(values) >= t.ROWS and bool(np.any(over_rows(values)[0] > t.SURELY_DEAD))


def _dead(readings: Readings, reading: str, steps: Steps, layers: list[str], values: Values) -> Finding | None:
    low, _ = over_rows(values)
    half, most = (t.DEAD, t.SURELY_DEAD) if reading == "dead_units" else (t.DEAD_GRADIENT, t.DEAD_GRADIENT)
    if _small_batches(readings):
        half = most = t.NOTHING_FLOWS
    bad = [index for index in np.argsort(-low) if low[index] > half]
    if not bad:
        return None
    worst = float(low[bad[0]])
    names = [layers[index] for index in bad]
    sure = worst > most and reading == "dead_units"
    since = _since(readings, reading, names[0], half)
    severe = sure or readings.derived(suffers)
    killed = (severe or reading == "dead_units") and _died_early(readings, reading, since)
    return Finding(
        code="F3",
        severity="warning" if severe else "info",
        confidence=0.95 if sure else 0.7,
        title=_dead_title(reading, worst, names),
        explanation=(
            f"{_dead_story(reading, worst, len(steps))} Such units get no gradient and do not come back by themselves. "
            f"In healthy networks at most 13 % were dead.{_after_blow_up(readings, since)}"
        ),
        evidence=(Evidence.of(reading, steps, values[:, bad[0]], names[0]),),
        suggestion=_revive(readings, since, killed),
        lr_factor=float(t.AFTER_BLOW_UP) if killed else None,
        since=since,
    )


def _at_least(share: float) -> str:
    return "all" if share >= 1 else f"at least {percent(share)}"


def _dead_title(reading: str, share: float, names: list[str]) -> str:
    if reading == "dead_units":
        return f"{percent(share)} of the units of layer {names[0]} are dead" + _others(names, "layer")
    return f"{percent(share)} of the gradient of {names[0]} is exactly 0" + _others(names, "parameter")


def _dead_story(reading: str, share: float, count: int) -> str:
    if reading == "dead_units":
        return f"On each of the last {count} tracked batches, {_at_least(share)} of its units were 0 for every sample."
    return (
        f"On each of the last {count} tracked batches, {_at_least(share)} of its gradient was exactly 0, as it "
        "is where units are dead."
    )


def _died_early(readings: Readings, reading: str, since: int) -> bool:
    """Whether units that are dead were alive at the start and died in the steps in which too large a rate shows."""
    begin, _, _ = readings.first_layers(reading, 1)
    return int(begin[0]) < since < int(begin[0]) + t.BLOW_UP_STEPS


def _revive(readings: Readings, since: int, killed: bool) -> str:
    if _blow_up(readings, since) is not None:
        return "Put right what made the loss blow up and restart from the initial parameters: the units died of it."
    if killed:
        return (
            "They were alive at the start, so too long steps have killed them: restart from the initial parameters "
            f"with a learning rate of {new_rate(readings.derived(rate).at(since), t.AFTER_BLOW_UP)}."
        )
    return (
        "Look at the initial biases (strongly negative ones kill units) and the scale of weights and inputs; LeakyReLU "
        "or GELU cannot die, and a norm before the ReLU keeps units alive. Do not raise the learning rate."
    )


def _after_blow_up(readings: Readings, since: int) -> str:
    found = _blow_up(readings, since)
    return "" if found is None else f" The loss had blown up at step {found.since:,}."


def _blow_up(readings: Readings, since: int) -> Peak | None:
    """Return the early blow-up of the loss that came before a step, if there was one."""
    try:
        found = readings.derived(peak)
    except Unjudged:
        return None
    return found if found is not None and found.since <= since else None


def _small_batches(readings: Readings) -> bool:
    if not readings.has("batch_size"):
        return False
    _, sizes = readings.recent("batch_size", t.ROWS)
    return bool(len(sizes)) and bool(np.min(sizes) < t.FEW_SAMPLES)


def _since(readings: Readings, reading: str, layer: str, limit: float) -> int:
    return readings.holding_since(reading, (layer, limit), lambda rows: ~(rows.of([layer])[:, 0] <= limit))


def _others(names: list[str], noun: str) -> str:
    return f" (also affected: {plural(noun, len(names) - 1)} {listed(names[1:])})" if len(names) > 1 else ""
