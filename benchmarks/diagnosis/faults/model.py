"""Faults of the model: its activations, its depth, its first weights, its size and its regularisation."""

from __future__ import annotations

import functools

import torch
from torch import nn

from .. import surgery
from ..kind import ALL, fault
from ..training import Training

RECTIFIED = ("mlp", "cnn", "transformer", "regression")
PERCEPTRONS = ("mlp", "cnn", "regression", "autoencoder")


@fault(programs=PERCEPTRONS)
def activations_missing(training: Training, level: float) -> None:
    """There is nothing but linear layers: every activation is missing."""
    surgery.exchange(training.model, (nn.ReLU, nn.Tanh), nn.Identity)


@fault("F3", programs=RECTIFIED, levels=(-3, -10))
def rectifiers_dead(training: Training, level: float) -> None:
    """Biases of rectified layers start far below 0, so their units never fire."""
    for bias in surgery.biases(training.model):
        bias.fill_(level)


@fault("F5", "F6b", programs=PERCEPTRONS, levels=(5, 20))
def sigmoids_saturated(training: Training, level: float) -> None:
    """The activations are sigmoids, and weights start so large that they are saturated."""
    surgery.exchange(training.model, (nn.ReLU, nn.Tanh), nn.Sigmoid)
    surgery.scale(training.model, level)


@fault("F4a", programs=ALL, levels=(6, 12))
def gradients_vanish(training: Training, level: float) -> None:
    """A deep stack of sigmoid layers stands before the head: the gradient shrinks in each."""
    width = surgery.width(training.model)
    surgery.before_head(training.model, *(_layer(width, nn.Sigmoid()) for _ in range(int(level))))


@fault("F4b", "F6b", programs=ALL, levels=(2.5, 4))
def gradients_explode(training: Training, level: float) -> None:
    """Six rectified layers before the head are orthogonal times 2.5 or 4: the gradient grows in each."""
    width = surgery.width(training.model)
    for _ in range(6):
        layer = _layer(width, nn.ReLU())
        nn.init.orthogonal_(layer[0].weight, gain=level)
        surgery.before_head(training.model, layer)


@fault("F6c", programs=ALL, levels=(0, 0.1))
def weights_all_equal(training: Training, level: float) -> None:
    """All weights start at the same number, so all units of a layer stay equal (level 0: at 0)."""
    for weight in surgery.weights(training.model):
        weight.fill_(level)


@fault("F6b", programs=ALL, levels=(5, 20))
def first_weights_too_large(training: Training, level: float) -> None:
    """The weights start many times too large."""
    surgery.scale(training.model, level)


@fault("F6b", "F4a", programs=ALL, levels=(0.1, 0.01))
def first_weights_too_small(training: Training, level: float) -> None:
    """The weights start many times too small."""
    surgery.scale(training.model, level)


@fault("F24", "R5", programs=("mlp", "cnn", "transformer", "autoencoder"), levels=(2,))
def batch_norm_with_tiny_batches(training: Training, level: float) -> None:
    """Batch normalisation with batches of two samples."""
    width = surgery.width(training.model)
    norm = nn.BatchNorm1d(width)
    layers = [norm] if training.program.name != "transformer" else [_OverPositions(norm)]
    surgery.before_head(training.model, *layers)
    training.batch = int(level)


@fault("F23", "R6", programs=ALL)
def one_hidden_unit(training: Training, level: float) -> None:
    """The model is far too small: a single number passes from the body to the head."""
    width = surgery.width(training.model)
    surgery.before_head(training.model, nn.Linear(width, 1), nn.ReLU(), nn.Linear(1, width))


@fault("F22", "R6", programs=ALL, levels=(0.9, 0.97))
def dropout_far_too_strong(training: Training, level: float) -> None:
    """Nearly all of what enters the head is dropped."""
    surgery.before_head(training.model, nn.Dropout(level))


@fault("F18", programs=ALL, levels=(0.1, 1))
def weight_decay_far_too_strong(training: Training, level: float) -> None:
    """Weight decay shrinks the weights faster than the loss lets them grow."""
    training.make_optimizer = functools.partial(training.make_optimizer, weight_decay=level)


class _OverPositions(nn.Module):
    """A batch norm whose batch is every position of every sample."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def _layer(width: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), activation)
