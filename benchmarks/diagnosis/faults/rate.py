"""Faults of the learning rate, its schedule and the optimizer's other settings."""

from __future__ import annotations

import functools

import torch

from ..kind import ALL, fault
from ..programs import ADAM_RATES
from ..training import Training

TOO_LARGE = ("R1", "R1b", "R2")


@fault(*TOO_LARGE, "R0", programs=ALL, levels=(100, 1000))
def rate_far_too_large(training: Training, level: float) -> None:
    """The learning rate is hundreds of times too large."""
    training.rate *= level


@fault(*TOO_LARGE, "R2b", "R8", programs=ALL, levels=(5, 10))
def rate_too_large(training: Training, level: float) -> None:
    """The learning rate is somewhat too large: training oscillates."""
    training.rate *= level


@fault("R3", "F0", programs=ALL, levels=(1e-2, 1e-3, 1e-5))
def rate_too_small(training: Training, level: float) -> None:
    """The learning rate is far too small."""
    training.rate *= level


@fault("F17", "F0", programs=ALL, levels=(0.9, 0.5))
def schedule_stepped_per_batch(training: Training, level: float) -> None:
    """A schedule meant for epochs is stepped after every batch, so the learning rate is nearly 0 early."""
    training.make_schedule = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=level)


@fault("R3", "F17", "F0", programs=ALL)
def schedule_never_stepped(training: Training, level: float) -> None:
    """A warm-up from a thousandth is set up but never stepped."""
    build = training.make_optimizer

    def made(parameters: object, **settings: float) -> torch.optim.Optimizer:
        optimizer = build(parameters, **settings)
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=100)
        return optimizer

    training.make_optimizer = made


@fault("F20b", *TOO_LARGE, "R2b", "R8", programs=ALL)
def momentum_of_0999(training: Training, level: float) -> None:
    """SGD has a momentum of 0.999, so steps add up to a thousand times the learning rate."""
    training.make_optimizer = functools.partial(torch.optim.SGD, momentum=0.999)
    if training.program.optimizer is torch.optim.Adam:
        training.rate = 0.1


@fault("R3", "R3b", programs=ALL, levels=(1, 100))
def adam_epsilon_of_1(training: Training, level: float) -> None:
    """Adam has an epsilon far above the gradients, so its steps are tiny."""
    training.make_optimizer = functools.partial(torch.optim.Adam, eps=level)
    training.rate = ADAM_RATES[training.program.name]


@fault("F20", *TOO_LARGE, "R2b", "R8", programs=ALL)
def adam_betas_swapped(training: Training, level: float) -> None:
    """Adam's two betas are exchanged: (0.999, 0.9)."""
    training.make_optimizer = functools.partial(torch.optim.Adam, betas=(0.999, 0.9))
    training.rate = ADAM_RATES[training.program.name]


@fault("F11", "R3", "R3b", programs=ALL, levels=(1e-4,))
def stem_and_body_far_too_slow(training: Training, level: float) -> None:
    """All but the head is in a parameter group with a far smaller learning rate."""
    _own_rate_below_head(training, level)


@fault("F11", *TOO_LARGE, "R0", programs=ALL, levels=(300,))
def stem_and_body_far_too_fast(training: Training, level: float) -> None:
    """All but the head is in a parameter group with a far larger learning rate."""
    _own_rate_below_head(training, level)


def _own_rate_below_head(training: Training, factor: float) -> None:
    head = list(training.model.head.parameters())
    below = [p for p in training.model.parameters() if not any(p is other for other in head)]
    groups = [{"params": below, "lr": training.rate * factor}, {"params": head}]
    training.optimizer = training.make_optimizer(groups, lr=training.rate)
