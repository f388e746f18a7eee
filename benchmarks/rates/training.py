"""One training at one learning rate, watched while it is young, and what came of it in the end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import cockpitlite

from .methods import Condition, Method
from .problems import Problem, loss

TRACKED = 50  # steps from one look of the panel to the next; the step lengths have a schedule of their own
SHOWN = 1024  # samples at most that the final loss is taken over


@dataclass(frozen=True)
class Result:
    """Mean loss on the samples that are trained on, at first and in the end, and on those held out.

    ``error`` is the share of wrong classes of the latter, and NaN where numbers are learnt.
    """

    begin: float
    train: float
    valid: float
    error: float


def train(
    problem: Problem, method: Method, condition: Condition, rate: float, seed: int, path: Path, watched: int
) -> Result:
    """Train from a seed, watched for a number of steps into a run file, and return what came of it."""
    torch.manual_seed(seed)
    samples, model = problem.samples(), problem.model()
    inputs, targets = samples.inputs, samples.targets
    optimizer = method.make(model.parameters(), lr=rate, **dict(condition.settings))
    begin = _loss(model, inputs[:SHOWN], targets[:SHOWN])[0]
    model.train()
    cockpitlite.watch(optimizer, model, run=path, every=TRACKED)
    steps = condition.steps or problem.steps
    schedule = condition.schedule(optimizer, steps) if condition.schedule else None
    for step, chosen in zip(range(steps), _batches(len(inputs), problem.batch, seed)):  # noqa: B905  # the latter is endless
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if condition.sixteen else contextlib.nullcontext():
            value = loss(model(inputs[chosen]), targets[chosen])
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if step == watched:
            optimizer.cockpit.close()
        if step >= watched and not math.isfinite(value.item()):
            break
    optimizer.cockpit.close()
    train_loss, _ = _loss(model, inputs[:SHOWN], targets[:SHOWN])
    return Result(begin, train_loss, *_loss(model, samples.valid_inputs, samples.valid_targets))


def _batches(count: int, size: int | None, seed: int) -> Iterator[Tensor]:
    """Yield the indices of each batch's samples, in a new order in every epoch."""
    order = torch.Generator().manual_seed(seed + 1000)
    size = size or count
    while True:
        yield from torch.randperm(count, generator=order).split(size)[: count // size]


def _loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the mean loss in eval mode, and the share of wrong classes."""
    model.eval()
    with torch.no_grad():
        outputs = model(inputs)
    value = float(loss(outputs, targets))
    wrong = math.nan if targets.is_floating_point() else float((outputs.argmax(-1) != targets).float().mean())
    return value if math.isfinite(value) else math.inf, wrong
