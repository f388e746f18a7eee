"""The base programs: six small trainings that go well, each a model with a stem, a body and a head."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import samples
from .samples import CHARACTERS, CONTEXT, Samples

Task = Literal["classes", "numbers"]
Half = Literal["tuning", "held out"]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Program:
    """A training that goes well: what is trained on what, by which optimizer, for how long.

    Thresholds may be tuned on the programs of one half; what they are worth is read from the other half. ``rate`` lies
    near the best learning rate, by the held-out samples, of a sweep in factors of about 3 (three seeds).
    """

    name: str
    title: str
    half: Half
    task: Task
    model: Callable[[], nn.Sequential]
    samples: Callable[[], Samples]
    optimizer: Callable[..., torch.optim.Optimizer]
    rate: float
    batch: int
    steps: int

    @property
    def real_inputs(self) -> bool:
        """Whether inputs are real numbers, which have a scale."""
        return self.name not in ("transformer", "lstm")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        if self.task == "classes":
            return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
        return functional.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Return what the program is judged by, lower is better: share of wrong classes, or share of the variance left.

        Neither sees the scale on which classes are scored, so a fault cannot look bad (or good) by that alone.
        """
        if self.task == "classes":
            return float((outputs.argmax(-1) != targets).float().mean())
        return float(functional.mse_loss(outputs.float(), targets) / targets.var(0).sum() * targets.shape[1])


def network(stem: nn.Module, body: nn.Module, head: nn.Module) -> nn.Sequential:
    """Return a model in three named parts."""
    return nn.Sequential(OrderedDict(stem=stem, body=body, head=head))


def mlp() -> nn.Sequential:
    stem = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    return network(stem, nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10))


def cnn() -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    body = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 32), nn.ReLU())
    return network(stem, body, nn.Linear(32, 10))


def regressor() -> nn.Sequential:
    stem = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
    return network(stem, nn.Sequential(nn.Linear(32, 32), nn.ReLU()), nn.Linear(32, 1))


def autoencoder() -> nn.Sequential:
    stem = nn.Sequential(nn.Linear(64, 32), nn.Tanh())
    return network(stem, nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 32), nn.Tanh()), nn.Linear(32, 64))


class Tokens(nn.Module):
    """Turns characters into vectors that know their place."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS + 1, features)
        self.places = nn.Embedding(CONTEXT, features)

    def forward(self, codes: Tensor) -> Tensor:
        return self.characters(codes) + self.places(torch.arange(codes.shape[1]))


class Block(nn.Module):
    """Attention to what came before, and a perceptron, each added to its input."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention, self.mix = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.perceptron = nn.Sequential(nn.Linear(features, 2 * features), nn.ReLU(), nn.Linear(2 * features, features))

    def forward(self, x: Tensor) -> Tensor:  # [sample, position, feature]
        parts = self.attention(self.before_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).flatten(-2))
        return x + self.perceptron(self.before_perceptron(x))


def transformer() -> nn.Sequential:
    body = nn.Sequential(Block(32, 2), Block(32, 2), nn.LayerNorm(32))
    return network(Tokens(32), body, nn.Linear(32, CHARACTERS + 1))


class Memory(nn.Module):
    """An LSTM of which only the outputs are used."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


def lstm() -> nn.Sequential:
    return network(nn.Embedding(CHARACTERS + 1, 24), Memory(24, 48), nn.Linear(48, CHARACTERS + 1))


_sgd, _adam = torch.optim.SGD, torch.optim.Adam
_momentum = functools.partial(torch.optim.SGD, momentum=0.9)

_ALL = (
    Program("mlp", "MLP, digits", "tuning", "classes", mlp, samples.digits, _momentum, 0.05, 64, 250),
    Program("cnn", "CNN, digits", "held out", "classes", cnn, samples.pictures, _sgd, 0.2, 64, 250),
    Program("transformer", "transformer, text", "tuning", "classes", transformer, samples.text, _adam, 0.01, 16, 200),
    Program("lstm", "LSTM, text", "held out", "classes", lstm, samples.text, _adam, 0.02, 16, 200),
    Program("regression", "MLP, diabetes", "tuning", "numbers", regressor, samples.patients, _sgd, 0.05, 32, 150),
    Program("autoencoder", "autoencoder", "held out", "numbers", autoencoder, samples.pixels, _momentum, 1.0, 64, 300),
)
PROGRAMS = {program.name: program for program in _ALL}

# For what trains every program by Adam or one of its kin.
ADAM_RATES = {"mlp": 3e-3, "cnn": 5e-3, "transformer": 0.01, "lstm": 0.02, "regression": 3e-3, "autoencoder": 1e-2}
