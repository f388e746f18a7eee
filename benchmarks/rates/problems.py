"""The problems: twelve small trainings, convex to recurrent, at batches from 8 samples to all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diagnosis import programs, samples
from diagnosis.programs import network
from diagnosis.samples import Samples
from diagnosis.surgery import Residual
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Problem:
    """What is trained on what, in batches of how many samples (None: all), for how many steps.

    ``rates`` are guesses of a good learning rate for SGD, for SGD with momentum and for Adam; the rates that are tried
    lie around them. ``studied`` says whether its kind was among the runs that the shipped thresholds were fitted on.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    samples: Callable[[], Samples]
    batch: int | None
    steps: int
    rates: tuple[float, float, float]
    studied: bool = True


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of a batch: squared error of numbers, cross-entropy of classes."""
    if targets.is_floating_point():
        return functional.mse_loss(outputs, targets)
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def normed_cnn() -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    body = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
    return network(stem, body, nn.Linear(256, 10))


def logistic() -> nn.Linear:
    return nn.Linear(30, 2)


def residual() -> nn.Sequential:
    blocks = (
        Residual(nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)),
        Residual(nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)),
    )
    return network(nn.Linear(64, 64), nn.Sequential(*blocks, nn.LayerNorm(64)), nn.Linear(64, 10))


def deep_tanh() -> nn.Sequential:
    body = [layer for _ in range(4) for layer in (nn.Linear(48, 48), nn.Tanh())]
    return network(nn.Sequential(nn.Linear(64, 48), nn.Tanh()), nn.Sequential(*body), nn.Linear(48, 10))


@functools.cache
def tumours() -> Samples:
    """Return thirty standardised measures of each tumour ``[tumour, 30]``, and whether it is benign."""
    values, benign = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(values))
    inputs = torch.tensor(((values - values.mean(0)) / values.std(0))[order], dtype=torch.float32)
    targets = torch.tensor(benign[order])
    return Samples(inputs[:-140], targets[:-140], inputs[-140:], targets[-140:])


_mlp = functools.partial(Problem, model=programs.mlp, samples=samples.digits)

_ALL = (
    _mlp(name="mlp-8", title="MLP, digits, batch 8", batch=8, steps=300, rates=(0.2, 0.02, 3e-3)),
    _mlp(name="mlp-64", title="MLP, digits, batch 64", batch=64, steps=300, rates=(0.4, 0.05, 5e-3)),
    _mlp(name="mlp-full", title="MLP, digits, full batch", batch=None, steps=200, rates=(0.4, 0.1, 0.01)),
    Problem("cnn", "CNN, digits", programs.cnn, samples.pictures, 64, 250, (0.3, 0.1, 0.01)),
    Problem("cnn-norm", "CNN with BatchNorm, digits", normed_cnn, samples.pictures, 64, 200, (0.5, 0.1, 0.02)),
    Problem("logistic", "logistic regression, tumours", logistic, tumours, 32, 200, (1.0, 0.1, 0.05)),
    Problem("regression", "MLP, diabetes", programs.regressor, samples.patients, 32, 200, (0.1, 0.01, 3e-3)),
    Problem("transformer", "transformer, text", programs.transformer, samples.text, 16, 200, (0.2, 0.05, 3e-3)),
    Problem("lstm", "LSTM, text", programs.lstm, samples.text, 16, 200, (2.0, 0.3, 0.01), studied=False),
    Problem("residual", "residual MLP, digits", residual, samples.digits, 64, 200, (0.2, 0.03, 3e-3), studied=False),
    Problem("autoencoder", "autoencoder", programs.autoencoder, samples.pixels, 64, 300, (3.0, 1.0, 0.01)),
    Problem("deep-tanh", "five layers of tanh, digits", deep_tanh, samples.digits, 128, 250, (0.3, 0.1, 5e-3)),
)  # fmt: skip
PROBLEMS = {problem.name: problem for problem in _ALL}
