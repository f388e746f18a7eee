"""The optimizers, and the conditions under which they train besides the plain one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from .problems import Problem

WARM = 30  # steps of the warm-up, so that the diagnosis measures some steps behind it before it is asked
LONG = 2000


@dataclass(frozen=True)
class Method:
    """An optimizer; ``guess`` is the place of its learning rate in a problem's guesses, times ``factor``.

    ``studied`` says whether the shipped thresholds were fitted on runs with it.
    """

    name: str
    title: str
    make: Callable[..., torch.optim.Optimizer]
    guess: int
    factor: float = 1.0
    studied: bool = False

    def rate(self, problem: Problem) -> float:
        """Return the guess of a good learning rate."""
        return problem.rates[self.guess] * self.factor


_sgd, _adam = torch.optim.SGD, torch.optim.Adam
_momentum = functools.partial(_sgd, momentum=0.9)

_METHODS = (
    Method("sgd", "SGD", _sgd, 0, studied=True),
    Method("momentum", "SGD, momentum 0.9", _momentum, 1, studied=True),
    Method("adam", "Adam", _adam, 2, studied=True),
    Method("nesterov", "SGD, Nesterov 0.9", functools.partial(_momentum, nesterov=True), 1),
    Method("adamw", "AdamW, weight decay 0.1", functools.partial(torch.optim.AdamW, weight_decay=0.1), 2),
    Method("betas", "Adam, betas 0.8 and 0.95", functools.partial(_adam, betas=(0.8, 0.95)), 2),
    Method("rmsprop", "RMSprop", torch.optim.RMSprop, 2, factor=0.3),
)
METHODS = {method.name: method for method in _METHODS}


@dataclass(frozen=True)
class Condition:
    """What is different from plain training at a constant learning rate, and where it is tried."""

    name: str
    title: str
    problems: tuple[str, ...]
    methods: tuple[str, ...] = ("sgd", "momentum", "adam")
    settings: tuple[tuple[str, Any], ...] = ()  # of the optimizer
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None
    sixteen: bool = False  # the forward pass in bfloat16
    steps: int | None = None


def warmed_cosine(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Return a linear warm-up and a cosine down to 0."""

    def factor(step: int) -> float:
        if step < WARM:
            return (step + 1) / WARM
        return 0.5 * (1 + math.cos(math.pi * (step - WARM) / (steps - WARM)))

    return LambdaLR(optimizer, factor)


_CONDITIONS = (
    Condition(
        "schedule",
        f"warm-up over {WARM} steps, cosine to 0",
        ("mlp-64", "cnn-norm", "transformer", "residual"),
        schedule=warmed_cosine,
    ),
    Condition(
        "decay", "weight decay 0.01 in the gradient", ("mlp-64", "cnn", "residual"), settings=(("weight_decay", 0.01),)
    ),
    Condition("bf16", "autocast to bfloat16", ("mlp-64", "transformer", "residual"), sixteen=True),
    Condition("long", f"{LONG} steps", ("mlp-64", "regression", "residual"), steps=LONG),
)
PLAIN = Condition("plain", "constant learning rate", ())
CONDITIONS = {condition.name: condition for condition in (PLAIN, *_CONDITIONS)}
