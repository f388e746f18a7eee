"""Faults of the loss: what enters it, what it is compared with, how it is added up, and where it is not defined."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import surgery
from ..kind import ALL, CLASSES, fault
from ..training import Training

LOGITS = "rows of what enters cross-entropy are no probabilities"
WRONG_INPUT = ("F8a", "F8c", "F8d")
DENSE = ("mlp", "cnn", "autoencoder", "regression")


@fault("F8a", programs=CLASSES, breaks=LOGITS)
def softmax_before_cross_entropy(training: Training, level: float) -> None:
    """The model ends in a softmax, and cross-entropy takes another."""
    surgery.after_head(training.model, nn.Softmax(dim=-1))


@fault("F8f", "F8a", programs=CLASSES)
def sigmoid_before_cross_entropy(training: Training, level: float) -> None:
    """The model ends in a sigmoid, and cross-entropy takes a softmax of that."""
    surgery.after_head(training.model, nn.Sigmoid())


@fault("F8f", "F8a", "F8c", "F3", programs=CLASSES)
def rectifier_before_cross_entropy(training: Training, level: float) -> None:
    """The model's outputs pass a rectifier before cross-entropy."""
    surgery.after_head(training.model, nn.ReLU())


@fault(*WRONG_INPUT, programs=CLASSES)
def nll_of_probabilities(training: Training, level: float) -> None:
    """`nll_loss` gets probabilities without their logarithm, so the loss is a mean of -p."""
    surgery.after_head(training.model, nn.Softmax(dim=-1))
    training.loss = _nll


@fault(*WRONG_INPUT, programs=CLASSES)
def nll_of_logits(training: Training, level: float) -> None:
    """`nll_loss` gets logits, so the loss has no lower bound."""
    training.loss = _nll


@fault(*WRONG_INPUT, programs=(*CLASSES, "autoencoder"))
def sigmoid_before_bce_with_logits(training: Training, level: float) -> None:
    """The model ends in a sigmoid, and the binary loss takes another."""
    surgery.after_head(training.model, nn.Sigmoid())
    training.loss = lambda outputs, targets: functional.binary_cross_entropy_with_logits(
        outputs, _one_hot(training, outputs, targets)
    )


@fault("F8g", *WRONG_INPUT, programs=CLASSES)
def squared_error_of_classes(training: Training, level: float) -> None:
    """Classes are learnt by the squared error of their probabilities."""
    surgery.after_head(training.model, nn.Softmax(dim=-1))
    training.loss = lambda outputs, targets: functional.mse_loss(outputs, _one_hot(training, outputs, targets))


@fault("F15", programs=ALL, breaks="the loss does not grow with the batch")
def loss_summed_over_batch(training: Training, level: float) -> None:
    """The loss is the sum over the batch instead of the mean."""
    program = training.program
    training.loss = lambda outputs, targets: program.loss(outputs, targets) * targets.numel()


@fault("F8e", "F2", "F8d", programs=DENSE)
def targets_broadcast(training: Training, level: float) -> None:
    """Targets have one axis too many, so that each output is compared with the targets of the whole batch."""
    training.loss = lambda outputs, targets: functional.mse_loss(
        outputs, _one_hot(training, outputs, targets).unsqueeze(1)
    )


@fault("R0", programs=ALL, breaks="no value is NaN or infinite")
def logarithm_of_zero(training: Training, level: float) -> None:
    """A penalty takes the logarithm of something that becomes exactly 0."""
    program = training.program
    training.loss = lambda outputs, targets: (
        program.loss(outputs, targets) - 1e-3 * torch.log(functional.relu(outputs).amin())
    )


@fault("R0", programs=ALL, breaks="no value is NaN or infinite")
def root_of_zero(training: Training, level: float) -> None:
    """A penalty takes a square root at exactly 0: finite forward, not defined backward."""
    program = training.program
    training.loss = lambda outputs, targets: (
        program.loss(outputs, targets) + 1e-3 * torch.sqrt((outputs - outputs.detach()).square().sum())
    )


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.nll_loss(outputs.flatten(0, -2), targets.flatten())


def _one_hot(training: Training, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the targets as numbers in the shape of the outputs."""
    if training.program.task == "numbers":
        return targets
    return functional.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
