"""Convolutions: a sample's weight gradient is Σ f wᵀ over the places of a field f, with the window w seen from each.

In a convolution the field is the output gradient and the windows are the input's; in a transposed one the field is the
input and the windows are the output gradient's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.layout import rows_of, with_batch_axis
from cockpitlite.statistics.rule import (
    Reduced,
    Rule,
    Scope,
    add,
    checked_input,
    joined,
    output_gradient,
    reduce_contributions,
)

_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}


class ConvolutionRule(Rule):
    """nn.Conv1d to nn.Conv3d and nn.ConvTranspose1d to nn.ConvTranspose3d, with all their options."""

    def reduce(self, calls: Sequence[Call], directions: Mapping[str, Tensor], scope: Scope, squares: bool) -> Reduced:
        """Return norms and projections by the cheaper of two ways: with the weight gradients built, or without."""
        if "weight" not in directions or not _few_places(calls, scope.samples):
            return super().reduce(calls, directions, scope, squares)
        parts = scope.parts(_size_unbuilt(calls, scope.samples, len(directions["weight"])))
        return joined([_reduced_unbuilt(calls, directions, part, squares) for part in parts])

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of each sample, batched over samples."""
        total: dict[str, Tensor] = {}
        few = _few_places(calls, scope.samples)
        for call in calls:
            made = _Correlation.of(call, scope.samples, scope.chosen)
            if "weight" in names:
                weight = made.weight_from_windows() if few else made.weight_of_each()
                add(total, "weight", at_least_float32(weight))
            if "bias" in names:
                add(total, "bias", made.bias_of_each())
        return total

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of the whole batch."""
        total: dict[str, Tensor] = {}
        for call in calls:
            made = _Correlation.of(call, scope.samples, None)
            if "weight" in names:
                add(total, "weight", made.weight())
            if "bias" in names:
                add(total, "bias", made.bias_of_each().sum(0))
        return total


@dataclass(frozen=True)
class _Correlation:
    """A call as the correlation of an ``image``, padded, with a ``field``; all are ``[sample, row, channel, ...]``."""

    module: Any
    image: Tensor
    field: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, call: Call, samples: int, chosen: Tensor | None) -> _Correlation:
        """Pad what the kernel slides over, so that it has a window for each place of the field."""
        module: Any = call.module
        gradient = output_gradient(call)
        given = checked_input(call).to(gradient.dtype)  # under autocast the layer computed in the gradient's type
        g, x = _rows(call, gradient, samples, chosen), _rows(call, given, samples, chosen)
        if module.transposed:
            return cls(module, _padded(g, _transposed_padding(module, x, g)), x, g)
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        return cls(module, _padded(x, module._reversed_padding_repeated_twice, mode), g, g)

    def weight_of_each(self) -> Tensor:
        """Return the weight gradient of each sample."""

        def of_one(image: Tensor, field: Tensor) -> Tensor:
            return self._weight(image[None], field[None])

        each: Tensor = torch.func.vmap(of_one)(self.image.flatten(0, 1), self.field.flatten(0, 1))
        return each.unflatten(0, self.field.shape[:2]).sum(1)

    def weight_from_windows(self) -> Tensor:
        """Return the same by a matrix product, which is faster where the windows are smaller than the result."""
        return (self.places() @ self.windows().mT).reshape(len(self.field), *self.module.weight.shape)

    def weight(self) -> Tensor:
        """Return the weight gradient of all samples together."""
        return self._weight(self.image.flatten(0, 1), self.field.flatten(0, 1))

    def _weight(self, image: Tensor, field: Tensor) -> Tensor:
        module = self.module
        gradient_of = _WEIGHT_GRADIENTS[len(module.kernel_size)]
        return gradient_of(image, module.weight.shape, field, module.stride, 0, module.dilation, module.groups)

    def bias_of_each(self) -> Tensor:
        """Return the bias gradient of each sample."""
        return at_least_float32(self.gradient).flatten(3).sum((1, 3))

    def windows(self) -> Tensor:
        """Return what the kernel sees from each place, ``[sample, group, channel * kernel, place]``."""
        module, seen = self.module, self.image
        rank = len(module.kernel_size)
        for axis in range(rank):
            reach = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
            seen = seen.unfold(3 + axis, reach, module.stride[axis])[..., :: module.dilation[axis]]
        seen = seen.permute(0, 2, *range(3 + rank, 3 + 2 * rank), 1, *range(3, 3 + rank))
        return seen.reshape(len(seen), module.groups, -1, math.prod(seen.shape[-1 - rank :]))

    def places(self) -> Tensor:
        """Return the field at each place, ``[sample, group, channel, place]``."""
        return self.field.transpose(1, 2).flatten(2).unflatten(1, (self.module.groups, -1))


def _rows(call: Call, tensor: Tensor, samples: int, chosen: Tensor | None) -> Tensor:
    """Return ``[sample, row, channel, ...]``; a single sample may have come without an axis of the batch."""
    module: Any = call.module
    unbatched = len(module.kernel_size) + 1
    if samples == 1:
        tensor = with_batch_axis(tensor, unbatched)
    return rows_of(call, tensor, samples, chosen, tensor.dim() - unbatched)


def _padded(tensor: Tensor, padding: Sequence[int], mode: str = "constant") -> Tensor:
    if not any(padding):
        return tensor
    return functional.pad(tensor.flatten(0, 1), list(padding), mode=mode).unflatten(0, tensor.shape[:2])


def _transposed_padding(module: Any, x: Tensor, g: Tensor) -> list[int]:
    """Return what the output gradient needs before and after to have a window for each place of the input.

    Last axis first; negative where the output has been padded beyond what any window reaches.
    """
    padding: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        before = module.padding[axis]
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        needed = (x.shape[3 + axis] - 1) * module.stride[axis] + reach
        padding += [before, needed - before - g.shape[3 + axis]]
    return padding


def _shape(calls: Sequence[Call], samples: int) -> tuple[int, int, int]:
    """Return the rows and columns of a group's weight gradient, and how many places of a sample it is a sum over."""
    module: Any = calls[0].module
    height, width = module.weight.shape[0] // module.groups, module.weight[0].numel()
    fields = [checked_input(call) if module.transposed else output_gradient(call) for call in calls]
    return height, width, sum(field.numel() for field in fields) // (samples * module.weight.shape[0])


def _few_places(calls: Sequence[Call], samples: int) -> bool:
    """Whether products between the places are fewer than the elements of the weight gradient that they stand for."""
    height, width, places = _shape(calls, samples)
    return places * (height + width) <= height * width


def _size_unbuilt(calls: Sequence[Call], samples: int, directions: int) -> int:
    """Return how many numbers a sample takes: its windows, their images by the directions, and two Gram matrices."""
    module: Any = calls[0].module
    height, width, places = _shape(calls, samples)
    return int(module.groups * places * (width + (directions + 1) * height + 2 * places))


def _reduced_unbuilt(calls: Sequence[Call], directions: Mapping[str, Tensor], scope: Scope, squares: bool) -> Reduced:
    """Return ‖Σ f wᵀ‖² by the Gram matrices of fields and windows, and projections Σ fᵀ V w."""
    made = [_Correlation.of(call, scope.samples, scope.chosen) for call in calls]
    windows = at_least_float32(torch.cat([each.windows() for each in made], 3))
    field = at_least_float32(torch.cat([each.places() for each in made], 3))
    groups, height = field.shape[1:3]
    along = directions["weight"].to(field.dtype).reshape(-1, groups, height, windows.shape[2]).transpose(0, 1)
    images = (along.flatten(1, 2) @ windows).unflatten(2, (-1, height))  # [sample, group, direction, channel, place]
    projected = torch.einsum("ngrcp,ngcp->rn", images, field)
    squared = ((windows.mT @ windows) * (field.mT @ field)).sum((1, 2, 3)) if squares else None
    reduced = Reduced(squared, projected)
    if "bias" in directions:
        bias = sum((each.bias_of_each() for each in made[1:]), made[0].bias_of_each())
        reduced = reduced + reduce_contributions({"bias": bias}, {"bias": directions["bias"]}, squares)
    return reduced
