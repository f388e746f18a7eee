"""What the programs learn from: digits, characters of a text and diabetes patients, all inside installed packages."""

from __future__ import annotations

import functools
import pydoc_data.topics
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor

CHARACTERS = 48  # the most frequent ones; all others are one more
CONTEXT = 24
WINDOWS, HELD_OUT_WINDOWS = 4096, 256


@dataclass(frozen=True)
class Samples:
    """Inputs and targets to train on, and those held out, each ``[sample, ...]``."""

    inputs: Tensor
    targets: Tensor
    valid_inputs: Tensor
    valid_targets: Tensor


@functools.cache
def digits() -> Samples:
    """Return 8 × 8 images ``[image, 64]`` with a mean near 0 and a deviation near 1, and their digits."""
    images, labels = load_digits(return_X_y=True)
    return _split(torch.tensor((images - 5) / 6, dtype=torch.float32), torch.tensor(labels), held_out=360)


@functools.cache
def pictures() -> Samples:
    """Return the digits as ``[image, 1, 8, 8]``."""
    flat = digits()
    shape = (-1, 1, 8, 8)
    return Samples(flat.inputs.view(shape), flat.targets, flat.valid_inputs.view(shape), flat.valid_targets)


@functools.cache
def pixels() -> Samples:
    """Return the digits with values in [0, 1], each its own target ``[image, 64]``."""
    flat = digits()
    train, valid = (flat.inputs * 6 + 5) / 16, (flat.valid_inputs * 6 + 5) / 16
    return Samples(train, train, valid, valid)


@functools.cache
def patients() -> Samples:
    """Return ten measured values of each patient and the progress of the disease ``[patient, 1]``, standardised."""
    values, progress = load_diabetes(return_X_y=True)
    inputs = torch.tensor((values - values.mean(0)) / values.std(0), dtype=torch.float32)
    targets = torch.tensor((progress - progress.mean()) / progress.std(), dtype=torch.float32)
    return _split(inputs, targets[:, None], held_out=110)


@functools.cache
def text() -> Samples:
    """Return windows of the text of Python's own help ``[window, position]``, and the characters that follow each."""
    whole = "".join(pydoc_data.topics.topics.values())
    frequent = {character: index for index, (character, _) in enumerate(Counter(whole).most_common(CHARACTERS), 1)}
    codes = torch.tensor([frequent.get(character, 0) for character in whole])
    border = len(codes) * 9 // 10
    inputs, targets = _windows(codes[:border], WINDOWS)
    return Samples(inputs, targets, *_windows(codes[border:], HELD_OUT_WINDOWS))


def _windows(codes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    starts = np.random.default_rng(0).integers(len(codes) - CONTEXT - 1, size=count)
    places = torch.tensor(starts)[:, None] + torch.arange(CONTEXT)
    return codes[places], codes[places + 1]


def _split(inputs: Tensor, targets: Tensor, held_out: int) -> Samples:
    """Hold out the last samples of a fixed random order."""
    order = torch.tensor(np.random.default_rng(0).permutation(len(inputs)))
    train, valid = order[:-held_out], order[-held_out:]
    return Samples(inputs[train], targets[train], inputs[valid], targets[valid])
