"""Convolutions: a sample's weight gradient is Σ f wᵀ over the places of a field f, with the window w seen from each.

In a convolution the field is the output gradient and the windows are the input's; in a transposed one the field is the
input and the windows are the output gradient's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.layout import rows_of, with_batch_axis
from cockpitlite.statistics.products import Sizes
from cockpitlite.statistics.rule import Rule, Scope, cache_sized, checked_input, output_gradient
from cockpitlite.statistics.survey import Asked, Found, add_to, side_by_side, surveyed

_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}


class ConvolutionRule(Rule):
    """nn.Conv1d to nn.Conv3d and nn.ConvTranspose1d to nn.ConvTranspose3d, with all their options."""

    def survey(self, calls: Sequence[Call], asked: Asked[str], scope: Scope) -> Found[str]:
        """Answer from the places of field and windows where they are few, else from the weight gradients they build."""
        if "weight" not in asked.names or asked.moments or _sizes(calls, scope.samples).better_built(asked):
            return super().survey(calls, asked, scope)
        size, most = _size_unbuilt(calls, scope.samples, asked.count), self.most(output_gradient(calls[0]).device)
        return side_by_side([_unbuilt(calls, asked.among(place), part) for place, part in scope.parts(size, most)])

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of each sample, batched over samples."""
        total: dict[str, Tensor] = {}
        for call in calls:
            made = _Correlation.of(call, scope.samples, scope.chosen)
            if "weight" in names:
                add_to(total, {"weight": at_least_float32(made.weight_of_each())})
            if "bias" in names:
                add_to(total, {"bias": made.bias_of_each()})
        return total

    def transient(self, calls: Sequence[Call]) -> int:
        """Return the size of a sample's windows."""
        module: Any = calls[0].module
        samples = calls[0].samples or 1
        return int(max(_places([call], samples) for call in calls) * module.weight[0].numel() * module.groups)

    def most(self, device: torch.device) -> int:
        """Return what a cache holds: what is built is read again at once."""
        return cache_sized(device)

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the weight gradient of the whole batch."""
        total: dict[str, Tensor] = {}
        for call in calls:
            made = _Correlation.of(call, scope.samples, None)
            if "weight" in names:
                add_to(total, {"weight": made.weight()})
            if "bias" in names:
                add_to(total, {"bias": made.bias_of_each().sum(0)})
        return total


@dataclass(frozen=True)
class _Correlation:
    """A call as the correlation of an ``image``, padded, with a ``field``; all are ``[sample, row, channel, ...]``."""

    module: Any
    image: Tensor
    field: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, call: Call, samples: int, chosen: Tensor | slice | None) -> _Correlation:
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
        """Return the weight gradient of each sample, by a product with its windows."""
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


def _rows(call: Call, tensor: Tensor, samples: int, chosen: Tensor | slice | None) -> Tensor:
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


def _places(calls: Sequence[Call], samples: int) -> int:
    """Return how many places of a sample its weight gradient is a sum over."""
    module: Any = calls[0].module
    fields = [checked_input(call) if module.transposed else output_gradient(call) for call in calls]
    return sum(field.numel() for field in fields) // (samples * module.weight.shape[0])


def _sizes(calls: Sequence[Call], samples: int) -> Sizes:
    """Return the sizes of a group's weight gradient."""
    module: Any = calls[0].module
    return Sizes(module.weight.shape[0] // module.groups, module.weight[0].numel(), _places(calls, samples))


def _size_unbuilt(calls: Sequence[Call], samples: int, directions: int) -> int:
    """Return how many numbers a sample takes: its windows, their images by the directions, and two Gram matrices."""
    module: Any = calls[0].module
    sizes = _sizes(calls, samples)
    each = sizes.width + (directions + 1) * sizes.height + 2 * sizes.places
    return int(module.groups * sizes.places * each)


def _unbuilt(calls: Sequence[Call], asked: Asked[str], scope: Scope) -> Found[str]:
    """Return ‖Σ f wᵀ‖² by the Gram matrices of fields and windows, projections Σ fᵀ V w, and single elements."""
    made = [_Correlation.of(call, scope.samples, scope.chosen) for call in calls]
    windows = at_least_float32(torch.cat([each.windows() for each in made], 3))
    field = at_least_float32(torch.cat([each.places() for each in made], 3))
    found: Found[str] = Found()
    if asked.squares:
        found.squared = ((windows.mT @ windows) * (field.mT @ field)).sum((1, 2, 3))
    if asked.count:
        groups, height = field.shape[1:3]
        along = torch.stack([direction.to(field.dtype) for direction in asked.directions["weight"]])
        along = along.reshape(-1, groups, height, windows.shape[2]).transpose(0, 1)
        images = (along.flatten(1, 2) @ windows).unflatten(
            2, (-1, height)
        )  # [sample, group, direction, channel, place]
        found.projected = torch.einsum("ngrcp,ngcp->rn", images, field)
    if "weight" in asked.places:
        found.picked["weight"] = _elements(field, windows, asked.places["weight"])
    if asked.sums:
        module: Any = calls[0].module
        found.sums["weight"] = torch.einsum("ngcp,ngwp->gcw", field, windows).reshape(module.weight.shape)
    if "bias" in asked.names:
        bias = sum((each.bias_of_each() for each in made[1:]), made[0].bias_of_each())
        found = found + surveyed({"bias": bias}, asked.only("bias"))
    return found


def _elements(field: Tensor, windows: Tensor, positions: Tensor) -> Tensor:
    """Return elements of the weight gradients at flat positions, ``[sample, pick]``."""
    height, width = field.shape[2], windows.shape[2]
    channel = torch.div(positions, width, rounding_mode="floor")
    row = torch.div(channel, height, rounding_mode="floor") * width + positions.remainder(width)
    sample = torch.arange(len(positions), device=positions.device)[:, None]
    return (field.flatten(1, 2)[sample, channel] * windows.flatten(1, 2)[sample, row]).sum(2)
