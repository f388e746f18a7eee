"""Tensors without an axis of samples that are added to ones with it, as positions are to tokens.

Their gradient reaches them summed over the samples; at the addition it can still be seen sample by sample.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def origin_of(tensor: Tensor) -> int:
    """Return a number for what computed a tensor, or for a leaf itself; holding it keeps nothing alive."""
    return id(tensor) if tensor.grad_fn is None else -1 - int(tensor.grad_fn._sequence_nr())


def additions(losses: Sequence[Tensor], wanted: Collection[int]) -> Mapping[int, list[tuple[Any, float]]]:
    """Return, for those of the wanted origins that are only added to other tensors, the additions and their factors.

    Walks the autograd graph of the losses, which must be alive.
    """
    found: dict[int, list[tuple[Any, float]]] = {}
    used_otherwise: set[int] = set()
    waiting: list[Any] = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for place, (parent, _) in enumerate(node.next_functions):
            if parent is None:
                continue
            origin = _origin(parent)
            if origin in wanted:
                if node.name() == "AddBackward0":
                    found.setdefault(origin, []).append((node, node._saved_alpha if place == 1 else 1.0))
                else:
                    used_otherwise.add(origin)
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return {origin: adders for origin, adders in found.items() if origin not in used_otherwise}


def by_sample(gradient: Tensor, shape: torch.Size, samples: int) -> Tensor | None:
    """Return what of the gradient of a sum belongs to each sample, ``[sample, *shape]``, for a part of that shape.

    None where it is not plain that the first axis, and no other, counts samples, and that the part lacks it.
    """
    lacking = gradient.dim() > len(shape) or (gradient.dim() == len(shape) and shape[0] == 1 != samples)
    if not lacking or gradient.shape[0] != samples or list(gradient.shape).count(samples) != 1:
        return None
    tail = shape if gradient.dim() > len(shape) else shape[1:]
    between = gradient.dim() - 1 - len(tail)
    return gradient.sum_to_size(samples, *[1] * between, *tail).reshape(samples, *shape)


def _origin(node: Any) -> int:
    variable = getattr(node, "variable", None)
    return id(variable) if variable is not None else -1 - int(node._sequence_nr())
