"""Faults of the numbers' precision and of the model's mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import surgery
from ..kind import ALL, AUTOCAST, fault
from ..training import Training


@fault("F19", "F0", programs=AUTOCAST, levels=(2.0**-16, 2.0**-24))
def half_precision_underflows(training: Training, level: float) -> None:
    """The scale of the loss has collapsed, and the gradients of float16 autocast underflow to 0."""
    _autocast_scaled(training, level)


@fault("R0", "F19", programs=AUTOCAST, levels=(2.0**26,), breaks="no value is NaN or infinite")
def half_precision_overflows(training: Training, level: float) -> None:
    """The scale of the loss is so large that the gradients of float16 autocast overflow, and no step is skipped."""
    _autocast_scaled(training, level)


@fault("F16", programs=ALL, breaks="the model trains in train mode")
def left_in_eval_mode(training: Training, level: float) -> None:
    """The first validation puts the model into eval mode, and nothing puts it back."""
    surgery.before_head(training.model, nn.Dropout(0.2))
    training.validate = _without_going_back(training)


@fault("F16", programs=ALL, breaks="the model trains in train mode")
def in_eval_mode_from_the_start(training: Training, level: float) -> None:
    """The model is in eval mode from the first step on."""
    surgery.before_head(training.model, nn.Dropout(0.2))
    training.model.eval()
    training.validate = _without_going_back(training)


def _without_going_back(training: Training) -> Callable[[bool], None]:
    """Return a validation that leaves the model in eval mode."""

    def validate(watched: bool) -> None:
        training.score()

    return validate


def _autocast_scaled(training: Training, scale: float) -> None:
    forward, step = training.forward, training.update

    def cast(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            outputs = forward(inputs)
        return outputs.float()

    def unscaled() -> None:
        for parameter in training.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
        step()

    training.forward, training.update = cast, unscaled
    training.backward = lambda loss: (loss * scale).backward()
