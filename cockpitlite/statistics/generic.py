"""Any module: its recorded call is made again, and its output gradient sent back one sample at a time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cockpitlite.records import Call
from cockpitlite.replay import NotReplayable, rerun
from cockpitlite.statistics.rule import CHUNK, Reduced, Rule, joined, own_parameters, reduce_contributions
from cockpitlite.statistics.step import Unavailable


class GenericRule(Rule):
    """The vector-Jacobian product of the whole call, with the output gradient masked to one sample's rows.

    Right for whatever the module does, samples that interact included: the mask says which output rows the gradient
    comes through. Costs about one backward of the module per sample, batched.
    """

    def reduce(
        self,
        calls: Sequence[Call],
        directions: Mapping[str, Tensor],
        samples: int,
        chosen: Tensor | None,
        squares: bool,
        values: Mapping[int, Tensor],
    ) -> Reduced:
        """Build the contributions of as many samples at a time as memory allows, and reduce them at once."""
        indices = torch.arange(samples) if chosen is None else chosen
        outputs = sum(g.numel() for call in calls for g in call.gradients if g is not None)
        size = sum(direction[0].numel() for direction in directions.values()) + outputs
        parts = []
        for some in indices.split(max(1, CHUNK // size)):
            built = self.contributions(calls, list(directions), samples, some, values)
            parts.append(reduce_contributions(built, directions, squares))
        return joined(parts)

    def contributions(
        self,
        calls: Sequence[Call],
        names: Sequence[str],
        samples: int,
        chosen: Tensor | None,
        values: Mapping[int, Tensor],
    ) -> dict[str, Tensor]:
        """Return the masked vector-Jacobian products, summed over calls."""
        indices = torch.arange(samples) if chosen is None else chosen
        total: dict[str, Tensor] = {}
        for call in calls:
            masked = [
                None if g is None else _masked(call, position, g, samples, indices)
                for position, g in enumerate(call.gradients)
            ]
            for name, part in _products(call, names, masked, values, batched=True).items():
                total[name] = total[name] + part if name in total else part
        return total

    def total(
        self, calls: Sequence[Call], names: Sequence[str], samples: int, values: Mapping[int, Tensor]
    ) -> dict[str, Tensor]:
        """Return the vector-Jacobian product with the whole output gradient."""
        total: dict[str, Tensor] = {}
        for call in calls:
            for name, part in _products(call, names, call.gradients, values, batched=False).items():
                total[name] = total[name] + part if name in total else part
        return total


def _masked(call: Call, position: int, gradient: Tensor, samples: int, indices: Tensor) -> Tensor:
    """Return ``[sample, *output]``: the output gradient with all rows but one sample's set to zero."""
    axis = call.axes[position]
    if samples == 1 or axis is None:
        return gradient.unsqueeze(0)
    rows_each = gradient.shape[axis] // samples
    owners = torch.arange(gradient.shape[axis], device=gradient.device) // rows_each
    mask = indices.to(gradient.device)[:, None] == owners  # [sample, row]
    shape = [1] * gradient.dim()
    shape[axis] = -1
    return gradient * mask.reshape(len(indices), *shape)


def _products(
    call: Call, names: Sequence[str], gradients: Sequence[Tensor | None], values: Mapping[int, Tensor], batched: bool
) -> dict[str, Tensor]:
    """Return vᵀJ of a call for the named parameters, for one v or a batch of them."""
    owned = own_parameters(call.module, names)
    leaves = {name: values[id(parameter)].detach().requires_grad_() for name, parameter in owned.items()}
    substitutes = dict(values) | {id(owned[name]): leaf for name, leaf in leaves.items()}
    try:
        with rerun(call, substitutes) as outputs, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations that have no batched backward and are looped over
            pairs = [(out, g) for out, g in zip(outputs, gradients, strict=True) if g is not None and out.requires_grad]
            heads, tails = [out for out, _ in pairs], [g for _, g in pairs]
            products = _gradients(heads, list(leaves.values()), tails, batched)
    except NotReplayable as error:
        raise Unavailable(str(error)) from error
    size = (len(tails[0]),) if batched else ()
    return {
        name: leaf.new_zeros(size + leaf.shape) if product is None else product
        for (name, leaf), product in zip(leaves.items(), products, strict=True)
    }


def _gradients(
    heads: list[Tensor], leaves: list[Tensor], tails: list[Tensor], batched: bool
) -> Sequence[Tensor | None]:
    """Take gradients for a batch of tails at once; where the backward cannot be batched, one after another."""
    if not batched:
        return torch.autograd.grad(heads, leaves, tails, allow_unused=True)
    try:
        return torch.autograd.grad(heads, leaves, tails, is_grads_batched=True, allow_unused=True, retain_graph=True)
    except RuntimeError:
        each = [
            torch.autograd.grad(heads, leaves, [tail[index] for tail in tails], allow_unused=True, retain_graph=True)
            for index in range(len(tails[0]))
        ]
        return [
            None if any(part is None for part in parts) else torch.stack([part for part in parts if part is not None])
            for parts in zip(*each, strict=True)
        ]
