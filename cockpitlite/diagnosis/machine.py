"""Notes on the machine that trains: it waits for data, or its memory fills up."""

from __future__ import annotations

import math

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number, percent

_WAITS = 3  # readings in a row that must agree (chosen)
_LONG = 400  # readings that are looked back on
_FEWEST = 8  # of the last two thirds, for a line to mean something (chosen)
_WARM = 3  # the first third, in which caches fill, is left out


@rule("F26", needs=("data_wait",))
def waits_for_data(readings: Readings) -> Finding | None:
    """More than half of the time passes between a step and the next forward: training waits for its data.

    In the last three readings, each over 200 steps; evaluations and long pauses do not count. A note: the results are
    the same, and what the loop does there besides loading, such as training another network, counts as well. Not where
    that is less than a millisecond for each step, as with a toy, whose batches take as long as its layers.
    """
    steps, shares = readings.recent("data_wait", _WAITS, _WAITS)
    if not shares.min() > t.WAITING or not shares[-1] * _step_seconds(readings) > t.WORTH_LOADING_AHEAD:
        return None
    return Finding(
        code="F26",
        severity="info",
        confidence=0.7,
        title=f"Training waits for its data {percent(float(shares[-1]))} of the time",
        explanation=(
            f"{percent(float(shares[-1]))} of the time from step to step passes before the forward begins, so training "
            f"could be up to {number(1 / max(1 - float(shares[-1]), 1e-3))} times as fast."
        ),
        evidence=(Evidence.of("data_wait", steps, shares),),
        suggestion=(
            "Load ahead: DataLoader(num_workers=..., persistent_workers=True, pin_memory=True); prepare samples once "
            "and keep them; move what else the loop does between steps out of it. If another network is trained in "
            "between, nothing needs to change."
        ),
        since=_waiting_since(readings),
    )


def _waiting_since(readings: Readings) -> int:
    """Return the step of the first of the readings in a row that are as high."""
    steps, shares = readings.recent("data_wait", _LONG)
    busy = np.flatnonzero(~(shares > t.WAITING))
    return int(steps[busy[-1] + 1 if len(busy) else 0])


def _step_seconds(readings: Readings) -> float:
    """Return how long a step takes, infinite where that is unknown."""
    if not (readings.has("samples_per_second") and readings.has("batch_size")):
        return math.inf
    (rate,), (samples,) = (readings.recent(name, 1, 1)[1] for name in ("samples_per_second", "batch_size"))
    return float(samples / rate)


@rule("F27", needs=("memory",))
def memory_grows(readings: Readings) -> Finding | None:
    """The memory in use grows by the same amount with every step, so that it will run out.

    Over the last two thirds of the readings a line explains nine tenths of its course, and it has grown by 16 MB and
    2 % at least. A note: a data set that is loaded into memory bit by bit looks like this until all of it is there. On
    a GPU the most that tensors have taken is looked at, which never falls.
    """
    steps, used = readings.recent("memory", _LONG)
    steps, used = steps[len(steps) // _WARM :], used[len(used) // _WARM :]
    if len(used) < _FEWEST:
        raise Unjudged(f"{_FEWEST} readings of the memory after the first third are needed, there are {len(used)}")
    slope, level = np.polyfit(steps - steps[0], used, 1)
    grown = float(slope * (steps[-1] - steps[0]))
    straight = 1 - float(np.var(used - level - slope * (steps - steps[0])) / max(float(np.var(used)), 1.0))
    if not (grown > max(t.GROWN_BYTES, t.GROWN_SHARE * level) and straight > t.STRAIGHT):
        return None
    return Finding(
        code="F27",
        severity="info",
        confidence=0.7,
        title=f"Memory grows with every step: {number(slope * 1000 / 1e6)} MB in 1,000 steps",
        explanation=(
            f"From step {int(steps[0]):,} to {int(steps[-1]):,} it grew from {number(float(used[0]) / 1e6)} to "
            f"{number(float(used[-1]) / 1e6)} MB, on a straight line."
        ),
        evidence=(Evidence.of("memory", steps, used),),
        suggestion=(
            "Keep numbers and not tensors: a loss that is summed up or put into a list keeps its whole graph "
            "(loss.item() or loss.detach() does not). Look for lists that only grow, for retain_graph=True and for "
            "hooks that are attached anew. If samples are kept in memory as they are met, it ends with the epoch."
        ),
        since=int(steps[0]),
    )
