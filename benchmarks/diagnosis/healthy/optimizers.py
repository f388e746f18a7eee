"""Healthy optimizers, learning rates and schedules."""

from __future__ import annotations

import functools
import math

import torch
from torch.optim import lr_scheduler

from ..kind import healthy
from ..programs import ADAM_RATES
from ..training import Training

SGD_RATES = {"mlp": 0.05, "cnn": 0.05, "regression": 0.01, "autoencoder": 1.0}  # with a momentum of 0.9
PLAIN_RATES = {"mlp": 0.4, "cnn": 0.2, "regression": 0.05}


def _by(optimizer: type[torch.optim.Optimizer], training: Training, factor: float = 1.0, **settings: object) -> None:
    training.make_optimizer = functools.partial(optimizer, **settings)
    training.rate = ADAM_RATES[training.program.name] * factor


@healthy()
def usual(training: Training, level: float) -> None:
    """The program as it is."""


@healthy(levels=(0.6, 1.6))
def rate_in_range(training: Training, level: float) -> None:
    """A learning rate a little beside the best."""
    training.rate *= level


@healthy(programs=tuple(PLAIN_RATES))
def plain_sgd(training: Training, level: float) -> None:
    """SGD without momentum."""
    training.make_optimizer, training.rate = torch.optim.SGD, PLAIN_RATES[training.program.name]


@healthy(programs=tuple(SGD_RATES))
def nesterov(training: Training, level: float) -> None:
    """SGD with Nesterov's momentum."""
    training.make_optimizer = functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    training.rate = SGD_RATES[training.program.name]


@healthy()
def adam(training: Training, level: float) -> None:
    """Adam."""
    _by(torch.optim.Adam, training)


@healthy(levels=(0.01, 0.1))
def adamw(training: Training, level: float) -> None:
    """AdamW with weight decay."""
    _by(torch.optim.AdamW, training, weight_decay=level)


@healthy()
def adam_for_transformers(training: Training, level: float) -> None:
    """Adam with betas (0.9, 0.95)."""
    _by(torch.optim.Adam, training, betas=(0.9, 0.95))


@healthy()
def amsgrad(training: Training, level: float) -> None:
    """AdamW with AMSGrad."""
    _by(torch.optim.AdamW, training, amsgrad=True)


@healthy()
def rmsprop(training: Training, level: float) -> None:
    """RMSprop."""
    _by(torch.optim.RMSprop, training, 0.4)


@healthy()
def adagrad(training: Training, level: float) -> None:
    """Adagrad."""
    _by(torch.optim.Adagrad, training, 4.0)


@healthy()
def nadam(training: Training, level: float) -> None:
    """NAdam."""
    _by(torch.optim.NAdam, training)


@healthy(levels=(1e-4, 1e-3))
def weight_decay(training: Training, level: float) -> None:
    """The usual weight decay, on norms and biases too."""
    training.make_optimizer = functools.partial(training.make_optimizer, weight_decay=level)


@healthy()
def no_decay_of_biases(training: Training, level: float) -> None:
    """Two parameter groups: weights decay, biases and norms do not."""
    matrices = [p for p in training.model.parameters() if p.dim() > 1]
    others = [p for p in training.model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}]
    training.optimizer = training.make_optimizer(groups, lr=training.rate)


@healthy()
def slower_stem(training: Training, level: float) -> None:
    """The stem has a third of the learning rate."""
    above = [*training.model.body.parameters(), *training.model.head.parameters()]
    groups = [{"params": training.model.stem.parameters(), "lr": training.rate / 3}, {"params": above}]
    training.optimizer = training.make_optimizer(groups, lr=training.rate)


@healthy(levels=(20, 60))
def warm_up_from_zero(training: Training, level: float) -> None:
    """The learning rate rises linearly from 0."""
    training.make_schedule = lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / level))


@healthy()
def cosine_to_zero(training: Training, level: float) -> None:
    """The learning rate falls to 0 along a cosine."""
    training.make_schedule = lambda o: lr_scheduler.CosineAnnealingLR(o, training.steps)


@healthy()
def warm_up_and_cosine(training: Training, level: float) -> None:
    """A warm-up from 0, then a cosine to 0."""

    def factor(step: int) -> float:
        rest = (step - 20) / (training.steps - 20)
        return step / 20 if step < 20 else 0.5 * (1 + math.cos(math.pi * rest))

    training.make_schedule = lambda o: lr_scheduler.LambdaLR(o, factor)


@healthy()
def step_decay(training: Training, level: float) -> None:
    """The learning rate falls to a tenth at two thirds of the run."""
    training.make_schedule = lambda o: lr_scheduler.MultiStepLR(o, [training.steps * 2 // 3], gamma=0.1)


@healthy()
def one_cycle(training: Training, level: float) -> None:
    """One cycle: up to the best learning rate, then down to nearly 0."""
    training.make_schedule = lambda o: lr_scheduler.OneCycleLR(
        o, training.rate, total_steps=training.steps + 1, cycle_momentum=False
    )
