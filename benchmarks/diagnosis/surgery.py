"""Changes to a finished model: layers in between, other activations, other weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Apply(nn.Module):
    """Applies a function of tensors, as a model's own code does between its layers."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator]


class Residual(nn.Module):
    """Adds what it holds to its input."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def width(model: nn.Module) -> int:
    """Return the number of features between body and head."""
    return model.head.in_features


def before_head(model: nn.Module, *layers: nn.Module) -> None:
    """Put layers between body and head."""
    model.body = nn.Sequential(model.body, *layers)


def after_head(model: nn.Module, *layers: nn.Module) -> None:
    """Put layers behind the head."""
    model.head = nn.Sequential(model.head, *layers)


def exchange(model: nn.Module, old: type[nn.Module] | tuple[type[nn.Module], ...], new: type[nn.Module]) -> None:
    """Put a module of another type in place of each of some type."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, old):
                setattr(parent, name, new())


def weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters that have two or more dimensions, to be changed in place."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            yield parameter.data


def biases(model: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)) -> Iterator[Tensor]:
    """Yield the biases of layers that feed an activation, those of the head excepted, to be changed in place."""
    head = set(model.head.modules())
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for layer, following in zip(module, list(module)[1:], strict=False):
                if isinstance(layer, kinds) and isinstance(following, nn.ReLU | nn.Tanh) and layer not in head:
                    yield layer.bias.data


def scale(model: nn.Module, factor: float) -> None:
    """Multiply every weight matrix, those of norms and biases excepted."""
    with torch.no_grad():
        for weight in weights(model):
            weight.mul_(factor)
