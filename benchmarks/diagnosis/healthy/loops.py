"""Healthy training loops that look odd: batches of all sizes, accumulation, clipping, autocast, averages."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from ..kind import AUTOCAST, REAL, healthy
from ..training import Training


@healthy(programs=("mlp", "cnn", "transformer", "lstm", "regression"))
def batch_of_8(training: Training, level: float) -> None:
    """Small, noisy batches, twice as many of them, with a smaller learning rate."""
    training.rate *= (8 / training.batch) ** 0.5
    training.batch, training.steps = 8, training.steps * 2


@healthy()
def batch_of_256(training: Training, level: float) -> None:
    """Large batches."""
    training.batch = min(256, len(training.inputs) // 2)


@healthy(programs=("mlp", "regression", "autoencoder"))
def full_batch(training: Training, level: float) -> None:
    """Every batch is all there is, in a new order."""
    training.batch = len(training.inputs)


@healthy(programs=("mlp", "regression"))
def full_batch_in_order(training: Training, level: float) -> None:
    """Every batch is all there is, in the same order: gradient descent."""
    training.batches = lambda: iter(lambda: torch.arange(len(training.inputs)), None)


@healthy(levels=(2, 4))
def gradients_accumulated(training: Training, level: float) -> None:
    """Gradients of several smaller batches are added up before a step."""

    def take(batches: Iterator[Tensor]) -> None:
        training.clear()
        for part in next(batches).chunk(int(level)):
            loss = training.loss(training.forward(training.inputs[part]), training.targets[part])
            (loss / level).backward()
        training.update()

    training.take = take


@healthy()
def gradients_set_to_zero(training: Training, level: float) -> None:
    """`zero_grad` fills gradients with 0 instead of dropping them."""
    training.clear = lambda: training.optimizer.zero_grad(set_to_none=False)


@healthy()
def gradients_cleared_after_step(training: Training, level: float) -> None:
    """`zero_grad` stands behind `step`."""
    training.clear = lambda: None
    step = training.update

    def update() -> None:
        step()
        training.optimizer.zero_grad()

    training.update = update


@healthy(levels=(1, 10))
def gradients_clipped(training: Training, level: float) -> None:
    """Gradients are clipped to a norm that few of them exceed."""
    step = training.update
    norms: list[float] = []

    def update() -> None:
        limit = level * 2 * sorted(norms)[len(norms) // 2] if norms else float("inf")
        norms.append(float(torch.nn.utils.clip_grad_norm_(training.model.parameters(), limit)))
        step()

    training.update = update


@healthy(programs=AUTOCAST)
def bfloat16_autocast(training: Training, level: float) -> None:
    """The forward pass in bfloat16 by autocast."""
    _autocast(training, torch.bfloat16)


@healthy(programs=AUTOCAST)
def float16_with_scaler(training: Training, level: float) -> None:
    """The forward pass in float16 by autocast, with a scaler that skips the first steps until its scale fits."""
    _autocast(training, torch.float16)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    training.backward = lambda loss: scaler.scale(loss).backward()

    def update() -> None:
        scaler.step(training.optimizer)
        scaler.update()

    training.update = update


@healthy()
def averaged_copy(training: Training, level: float) -> None:
    """A moving average of the weights is kept beside the model."""
    average, step = copy.deepcopy(training.model), training.update

    def update() -> None:
        step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), training.model.parameters(), strict=True):
                mean.lerp_(parameter, 0.01)

    training.update = update


@healthy(programs=REAL)
def noise_on_inputs(training: Training, level: float) -> None:
    """Augmentation: every batch gets a little noise of its own."""
    forward = training.forward
    training.forward = lambda inputs: forward(inputs + 0.1 * torch.randn_like(inputs))


@healthy()
def penalty_on_weights(training: Training, level: float) -> None:
    """The loss has a second term, the squared norm of the weights."""
    loss = training.loss
    training.loss = lambda outputs, targets: (
        loss(outputs, targets) + 1e-4 * sum(p.square().sum() for p in training.model.parameters())
    )


def _autocast(training: Training, dtype: torch.dtype) -> None:
    forward = training.forward

    def cast(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype):
            outputs = forward(inputs)
        return outputs.float()

    training.forward = cast
