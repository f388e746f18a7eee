"""Which axis of a layer's output counts samples: found by calling the model once with one sample more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cockpitlite.hooks import Owner, Shapes, recorded_shapes
from cockpitlite.records import Forward
from cockpitlite.replay import bare, substituted, surrounded
from cockpitlite.tree import map_tensors


def shapes_with_one_more(forward: Forward, owners: Sequence[Owner], batch_dim: int) -> Mapping[tuple[str, int], Shapes]:
    """Return the output shapes of every owner's calls for the batch with its last sample given twice.

    A model that cannot take such a batch gives nothing: the shapes of the true batch must then speak for themselves.
    """
    samples = forward.samples
    assert samples is not None
    for every in (True, False):
        try:
            return _shapes(forward, owners, _widened(forward, samples, batch_dim, every))
        except Exception:
            continue  # a mask or a state of the model's own kept its size: try with the first input alone
    return {}


def _shapes(
    forward: Forward, owners: Sequence[Owner], inputs: tuple[tuple[Any, ...], dict[str, Any]]
) -> Mapping[tuple[str, int], Shapes]:
    args, kwargs = inputs
    module: nn.Module = bare(forward.root)
    buffers = {name: buffer.detach().clone() for name, buffer in forward.root.named_buffers()}
    with (
        torch.no_grad(),
        surrounded(forward.surroundings),
        substituted(module, {}, buffers, forward.modes),
        recorded_shapes(owners) as shapes,
    ):
        module(*args, **kwargs)
    return shapes


def _widened(forward: Forward, samples: int, batch_dim: int, every: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs with the last sample repeated: in every tensor with a batch axis, or in the first of them."""
    done = False

    def wider(tensor: Tensor) -> Tensor:
        nonlocal done
        if tensor.dim() <= batch_dim or tensor.shape[batch_dim] != samples or (done and not every):
            return tensor
        done = True
        return torch.cat([tensor, tensor.narrow(batch_dim, samples - 1, 1)], batch_dim)

    return map_tensors(wider, (forward.args, dict(forward.kwargs)))
