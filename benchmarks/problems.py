"""The models and batches that the price of watching is measured on, each at a width, depth, batch and length."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pydoc_data.topics import topics

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]
CLASSES = 10
SYMBOLS = 256  # bytes
HEADS = 4
BATCHES = 8  # different ones, taken in turn


@dataclass(frozen=True)
class Size:
    """Factors on a problem's own size: of its layers' width, their number, the batch, and the sequence's length."""

    width: int = 1
    depth: int = 1
    batch: int = 1
    length: int = 1

    def along(self, axis: str, factor: int) -> Size:
        """Return this size, larger along one axis."""
        return replace(self, **{axis: getattr(self, axis) * factor})


@dataclass(frozen=True)
class Problem:
    """A model with batches to train it on; ``axes`` are those it can grow along.

    ``refused`` says why Cockpit cannot watch it, and is empty where it can.
    """

    name: str
    title: str
    model: Callable[[Size], nn.Module]
    draw: Callable[[Size, int], Batch]
    samples: int
    axes: tuple[str, ...] = ("width", "depth", "batch")
    refused: str = ""

    def batches(self, size: Size, device: torch.device) -> Sequence[Batch]:
        """Return a few batches, the same at every call."""
        torch.manual_seed(1)
        drawn = [self.draw(size, self.samples * size.batch) for _ in range(BATCHES)]
        return [(inputs.to(device), targets.to(device)) for inputs, targets in drawn]


# Dense ----------------------------------------------------------------------------------------------------------------


def dense(size: Size) -> nn.Module:
    """784-512-256-10, as for MNIST."""
    widths = [784, *[512 * size.width] * size.depth, 256 * size.width]
    hidden = [(nn.Linear(before, after), nn.ReLU()) for before, after in itertools.pairwise(widths)]
    layers = [layer for pair in hidden for layer in pair]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], CLASSES))


# Convolutions ---------------------------------------------------------------------------------------------------------


def three_convolutions(size: Size) -> nn.Module:
    """DeepOBS's 3c3d as for CIFAR-10: three convolutions and three dense layers, 895,210 parameters."""
    w = size.width
    more = [(nn.Conv2d(128 * w, 128 * w, 3, padding=1), nn.ReLU()) for _ in range(size.depth - 1)]
    return nn.Sequential(
        *(nn.Conv2d(3, 64 * w, 5), nn.ReLU(), halved()),
        *(nn.Conv2d(64 * w, 96 * w, 3), nn.ReLU(), halved()),
        *(nn.Conv2d(96 * w, 128 * w, 3, padding=1), nn.ReLU()),
        *(layer for pair in more for layer in pair),
        *(halved(), nn.Flatten()),
        *(nn.Linear(3 * 3 * 128 * w, 512 * w), nn.ReLU(), nn.Linear(512 * w, 256 * w), nn.ReLU()),
        nn.Linear(256 * w, CLASSES),
    )


def halved() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class Residual(nn.Module):
    """Two convolutions with batch normalisation, and a way around them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *(nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
            *(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)),
        )
        same = stride == 1 and channels == out
        around = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.around = nn.Identity() if same else around
        self.bend = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images passed through both ways, added."""
        return self.bend(self.inner(images) + self.around(images))


def residual(size: Size) -> nn.Module:
    """A ResNet for CIFAR with batch normalisation: three stages of 16, 32 and 64 channels, one block each."""
    w = size.width
    blocks, channels = [], 16 * w
    for out, stride in ((16 * w, 1), (32 * w, 2), (64 * w, 2)):
        blocks += [Residual(channels, out, stride), *(Residual(out, out, 1) for _ in range(size.depth - 1))]
        channels = out
    return nn.Sequential(
        *(nn.Conv2d(3, 16 * w, 3, padding=1, bias=False), nn.BatchNorm2d(16 * w), nn.ReLU(inplace=True)),
        *(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(channels, CLASSES),
    )


# Attention ------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Causal attention of several heads, by torch's fused kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, words: Tensor) -> Tensor:
        """Return for each place what it takes from those before it, ``[sample, place, width]``."""
        samples, places, width = words.shape
        split = self.into(words).view(samples, places, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(*split.unbind(), is_causal=True)
        return self.out(heard.transpose(1, 2).reshape(samples, places, width))


class Layer(nn.Module):
    """A transformer's layer, normalised before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.attention = nn.LayerNorm(width), Attention(width)
        self.before_dense = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, words: Tensor) -> Tensor:
        """Return the words with what attention and the dense layers add to them."""
        words = words + self.attention(self.before_attention(words))
        return words + self.dense(self.before_dense(words))


class Transformer(nn.Module):
    """A small GPT over bytes."""

    def __init__(self, width: int, depth: int, places: int) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(SYMBOLS, width), nn.Embedding(places, width)
        self.layers = nn.Sequential(*(Layer(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, SYMBOLS, bias=False)
        self.register_buffer("index", torch.arange(places))

    def forward(self, text: Tensor) -> Tensor:
        """Return the scores of the next symbol, ``[sample, place, symbol]``."""
        words = self.symbols(text) + self.places(self.index[: text.shape[1]])
        return self.head(self.norm(self.layers(words)))


def transformer(size: Size) -> nn.Module:
    """Four layers, 256 wide, for sequences of 128."""
    return Transformer(256 * size.width, 4 * size.depth, 128 * size.length)


# Data that comes inside of packages -----------------------------------------------------------------------------------


def digits(size: Size, samples: int, side: int, channels: int) -> Batch:
    """Draw scikit-learn's digits at another size, ``[sample, channel, side, side]``, and their classes."""
    images, classes = all_digits()
    drawn = torch.randint(len(images), (samples,))
    scaled = functional.interpolate(images[drawn], (side, side), mode="bilinear")
    return scaled.repeat(1, channels, 1, 1), classes[drawn]


@functools.cache
def all_digits() -> Batch:
    found = load_digits()
    return torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, torch.tensor(found.target)


def text(size: Size, samples: int) -> Batch:
    """Draw pieces of Python's own manual, ``[sample, place]``, and at each place the symbol that follows."""
    symbols, places = manual(), 128 * size.length
    starts = torch.randint(len(symbols) - places, (samples, 1))
    drawn = symbols[starts + torch.arange(places + 1)]
    return drawn[:, :-1], drawn[:, 1:]


@functools.cache
def manual() -> Tensor:
    return torch.tensor(list("\n".join(topics.values()).encode()))


MNIST = functools.partial(digits, side=28, channels=1)
CIFAR = functools.partial(digits, side=32, channels=3)

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("mlp", "MLP 784-512-256-10", dense, MNIST, 128),
        Problem("3c3d", "3c3d", three_convolutions, CIFAR, 128),
        Problem(
            "resnet",
            "ResNet with BatchNorm",
            residual,
            CIFAR,
            128,
            refused="it has no per-sample gradients where samples interact, as in batch normalisation",
        ),
        Problem(
            "gpt",
            "GPT, 4 layers of 256, 128 symbols",
            transformer,
            text,
            16,
            axes=("width", "depth", "batch", "length"),
            refused="BackPACK does not know attention, sums of branches, or free modules",
        ),
    )
}
