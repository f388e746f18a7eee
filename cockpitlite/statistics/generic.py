"""Any module: its recorded call is made again, and its output gradient sent back one sample at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cockpitlite.records import Call
from cockpitlite.replay import NotReplayable, batched_gradients, gradients_of, rerun
from cockpitlite.statistics.rule import Rule, Scope, own_parameters
from cockpitlite.statistics.step import Unavailable
from cockpitlite.statistics.survey import add_to


class GenericRule(Rule):
    """The vector-Jacobian product of the whole call, with the output gradient masked to one sample's rows.

    Right for whatever the module does, samples that interact included: the mask says which output rows the gradient
    comes through. Costs about one backward of the module per sample, batched.
    """

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the masked vector-Jacobian products, summed over calls."""
        total: dict[str, Tensor] = {}
        for call in calls:
            masked = [
                None if g is None else _masked(call, position, g, scope) for position, g in enumerate(call.gradients)
            ]
            add_to(total, _products(call, names, masked, scope.values, batched=True))
        return total

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the vector-Jacobian product with the whole output gradient."""
        total: dict[str, Tensor] = {}
        for call in calls:
            add_to(total, _products(call, names, call.gradients, scope.values, batched=False))
        return total

    def transient(self, calls: Sequence[Call]) -> int:
        """Return the size of the masked output gradient of a sample."""
        return sum(g.numel() for call in calls for g in call.gradients if g is not None)


def _masked(call: Call, position: int, gradient: Tensor, scope: Scope) -> Tensor:
    """Return ``[sample, *output]``: the output gradient with all rows but one sample's set to zero."""
    axis = call.axes[position]
    if scope.samples == 1 or axis is None:
        return gradient.unsqueeze(0)
    rows_each = gradient.shape[axis] // scope.samples
    owners = torch.arange(gradient.shape[axis], device=gradient.device) // rows_each
    mask = scope.indices.to(gradient.device, non_blocking=True)[:, None] == owners  # [sample, row]
    shape = [1] * gradient.dim()
    shape[axis] = -1
    return gradient * mask.reshape(len(mask), *shape)


def _products(
    call: Call, names: Sequence[str], gradients: Sequence[Tensor | None], values: Mapping[int, Tensor], batched: bool
) -> dict[str, Tensor]:
    """Return vᵀJ of a call for the named parameters, for one v or a batch of them."""
    owned = own_parameters(call.module, names)
    leaves = {name: values[id(parameter)].detach().requires_grad_() for name, parameter in owned.items()}
    substitutes = dict(values) | {id(owned[name]): leaf for name, leaf in leaves.items()}
    try:
        with rerun(call, substitutes) as outputs:
            pairs = [(out, g) for out, g in zip(outputs, gradients, strict=True) if g is not None and out.requires_grad]
            heads, tails = [out for out, _ in pairs], [g for _, g in pairs]
            products = (batched_gradients if batched else gradients_of)(heads, list(leaves.values()), tails)
    except NotReplayable as error:
        raise Unavailable(str(error)) from error
    size = (len(tails[0]),) if batched else ()
    return {
        name: leaf.new_zeros(size + leaf.shape) if product is None else product
        for (name, leaf), product in zip(leaves.items(), products, strict=True)
    }
