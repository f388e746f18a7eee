"""Faults of the samples: their scale, their order, their labels, and samples that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..kind import ALL, NUMBERS, REAL, fault
from ..training import Training

VECTORS = ("mlp", "regression", "autoencoder")  # whose inputs are matrices [sample, feature]


@fault("F6a", "F6b", programs=REAL, levels=(30, 255))
def inputs_not_normalised(training: Training, level: float) -> None:
    """Inputs are many times too large."""
    training.inputs, training.valid_inputs = training.inputs * level, training.valid_inputs * level


@fault("F6a", programs=REAL, levels=(1 / 30, 1 / 255))
def inputs_normalised_twice(training: Training, level: float) -> None:
    """Inputs are many times too small."""
    training.inputs, training.valid_inputs = training.inputs * level, training.valid_inputs * level


@fault("F6a", programs=REAL, levels=(10, 100))
def inputs_far_from_zero(training: Training, level: float) -> None:
    """Inputs have a mean many times their spread."""
    training.inputs, training.valid_inputs = training.inputs + level, training.valid_inputs + level


@fault("F6a", programs=VECTORS, levels=(1e2, 1e4))
def one_feature_far_too_large(training: Training, level: float) -> None:
    """One feature of the inputs is far larger than all others."""
    for name in ("inputs", "valid_inputs"):
        scaled = getattr(training, name).clone()
        scaled[:, 3] *= level
        setattr(training, name, scaled)


@fault("F6a", "F13", programs=REAL)
def inputs_all_equal(training: Training, level: float) -> None:
    """A broken step of preparation gives every sample the same values."""
    for name in ("inputs", "valid_inputs"):
        given = getattr(training, name)
        setattr(training, name, given[:1].expand_as(given).clone())


@fault("R0", programs=REAL, levels=(1, 0.02), breaks="no value is NaN or infinite")
def sample_not_a_number(training: Training, level: float) -> None:
    """Some samples hold a NaN (level: one sample, or a share of all)."""
    training.inputs = training.inputs.clone()
    count = 1 if level == 1 else max(1, int(level * len(training.inputs)))
    training.inputs.flatten(1)[torch.randperm(len(training.inputs))[:count], 0] = float("nan")


@fault("F6d", "F6b", "F6a", programs=NUMBERS, levels=(30, 1000))
def targets_not_normalised(training: Training, level: float) -> None:
    """Targets are many times larger than what the model gives at first."""
    training.targets, training.valid_targets = training.targets * level, training.valid_targets * level


@fault("F2b", "F2", "F25", programs=ALL, levels=(0.5, 1))
def labels_shuffled(training: Training, level: float) -> None:
    """A share of the targets belongs to other samples."""
    mixed = torch.randperm(len(training.targets))[: int(level * len(training.targets))]
    training.targets = training.targets.clone()
    training.targets[mixed] = training.targets[mixed[torch.randperm(len(mixed))]]
    if training.program.name in ("transformer", "lstm"):  # positions of one window are targets of their own
        training.targets[mixed] = training.targets[mixed][:, torch.randperm(training.targets.shape[1])]


@fault("F2b", "F2", "F25", programs=ALL)
def labels_of_the_sample_before(training: Training, level: float) -> None:
    """Inputs and targets are out of step by one sample."""
    training.targets = training.targets.roll(1, dims=0)


@fault("F13", programs=ALL, levels=(2, 1), breaks="batches differ from each other")
def same_batch_again_and_again(training: Training, level: float) -> None:
    """The loader gives the same one or two batches for ever."""

    def batches() -> Iterator[Tensor]:
        few = torch.randperm(len(training.inputs)).split(training.batch)[: int(level)]
        while True:
            yield from few

    training.batches = batches


@fault("F14", "R8", programs=("mlp", "cnn", "regression"))
def sorted_and_not_shuffled(training: Training, level: float) -> None:
    """Samples come in the order of their targets."""
    order = training.targets.flatten().argsort()
    training.batches = lambda: _in_order(order, training.batch)


@fault("F14", programs=("mlp", "cnn", "transformer", "lstm"), levels=(0.97, 0.99))
def one_class_nearly_alone(training: Training, level: float) -> None:
    """Nearly all labels are of one class (of text: nearly all of it is blanks)."""
    count = len(training.inputs)
    if training.program.real_inputs:
        ones = torch.nonzero(training.targets == 0).flatten()
        chosen = ones[torch.randint(len(ones), (count,))]
        rest = torch.rand(count) > level
        chosen[rest] = torch.randint(count, (int(rest.sum()),))
        training.inputs, training.targets = training.inputs[chosen], training.targets[chosen]
    else:
        blank = torch.rand(count) < level
        training.inputs, training.targets = training.inputs.clone(), training.targets.clone()
        training.inputs[blank], training.targets[blank] = 1, 1


@fault("F25", programs=("mlp", "cnn", "regression", "lstm"), levels=(48,))
def far_too_few_samples(training: Training, level: float) -> None:
    """There are so few samples that the model learns them by heart."""
    few = torch.randperm(len(training.inputs))[: int(level)]
    training.inputs, training.targets = training.inputs[few], training.targets[few]
    training.batch = min(training.batch, 16)


def _in_order(order: Tensor, batch: int) -> Iterator[Tensor]:
    while True:
        yield from order.split(batch)
