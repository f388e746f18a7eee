"""Convolutions: the contribution of a sample is its own weight gradient; a projection is one more convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from cockpitlite.records import Call
from cockpitlite.statistics.rule import Rule, Scope, add, by_sample, checked_input, chosen_rows, output_gradient

_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}
_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class ConvolutionRule(Rule):
    """nn.Conv1d to nn.Conv3d with any groups, stride, dilation and padding."""

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of each sample, batched over samples."""
        total: dict[str, Tensor] = {}
        for call in calls:
            module, x, g = _prepared(call, scope.samples, scope.chosen)
            if "weight" in names:
                weight = _weight_contributions(module, x.flatten(0, 1), g.flatten(0, 1))
                add(total, "weight", weight.unflatten(0, x.shape[:2]).sum(1))
            if "bias" in names:
                add(total, "bias", g.flatten(3).sum((1, 3)))
        return total

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of the whole batch."""
        total: dict[str, Tensor] = {}
        for call in calls:
            module, x, g = _prepared(call, scope.samples, None)
            if "weight" in names:
                arguments = x.flatten(0, 1), module.weight.shape, g.flatten(0, 1), *_geometry(module)
                add(total, "weight", _WEIGHT_GRADIENTS[len(module.kernel_size)](*arguments))
            if "bias" in names:
                add(total, "bias", g.flatten(3).sum((0, 1, 3)))
        return total


def _prepared(call: Call, samples: int, chosen: Tensor | None) -> tuple[_Convolution, Tensor, Tensor]:
    """Return the module, its padded input and its output gradient, both ``[sample, row, channel, ...]``."""
    module: Any = call.module
    gradient = output_gradient(call)
    given = checked_input(call).to(gradient.dtype)
    g = chosen_rows(by_sample(call, gradient, samples), chosen)
    x = chosen_rows(by_sample(call, given, samples), chosen)
    if module.padding_mode != "zeros":
        padding = module._reversed_padding_repeated_twice
        x = functional.pad(x.flatten(0, 1), padding, mode=module.padding_mode).unflatten(0, x.shape[:2])
    elif module.padding == "same":  # may be uneven, which the gradient functions do not take
        x = functional.pad(x, module._reversed_padding_repeated_twice)
    return module, x, g


def _geometry(module: _Convolution) -> tuple[Any, Any, Any, int]:
    padded = module.padding_mode != "zeros" or module.padding in ("same", "valid")
    padding = (0,) * len(module.kernel_size) if padded else module.padding
    return module.stride, padding, module.dilation, module.groups


def _weight_contributions(module: _Convolution, x: Tensor, g: Tensor) -> Tensor:
    """Return the weight gradient of each row, ``[row, out, in / groups, ...]``."""
    shape = module.weight.shape
    gradient_of = _WEIGHT_GRADIENTS[len(module.kernel_size)]
    geometry = _geometry(module)

    def of_one(row: Tensor, gradient: Tensor) -> Tensor:
        return gradient_of(row[None], shape, gradient[None], *geometry)

    return torch.func.vmap(of_one)(x, g)
