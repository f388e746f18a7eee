"""How the outputs of the layers are distributed, and which of their units do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import widest
from cockpitlite.records import Activation
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Unavailable


@dataclass(frozen=True)
class Activations(Statistic):
    """Mean and spread of each layer's outputs in the step, ``[layer]``; all calls count together.

    ``names`` are those of the modules without parts, in the order of their first calls.
    """

    names: Sequence[str]
    means: Tensor
    spreads: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ACTIVATIONS})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Join what the hooks noted."""
        found = _noted(supply)
        return cls(list(found), *torch.stack([_moments(calls) for calls in found.values()]).unbind(1))


@dataclass(frozen=True)
class IdleUnits(Statistic):
    """The ``dead`` share of each rectifying layer's units, and the ``saturated`` one of each squashing layer's outputs.

    A unit is dead that is 0 in all of a step's calls. Both are scalar tensors by the layer's name, in the order of the
    first calls.
    """

    dead: dict[str, Tensor]
    saturated: dict[str, Tensor]
    wants: ClassVar[frozenset[Want]] = frozenset({Want.UNITS})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Join what the hooks noted."""
        dead, saturated = {}, {}
        for name, calls in _noted(supply).items():
            extents = [call.extent for call in calls if call.extent is not None]
            beyond = [call.saturated for call in calls if call.saturated is not None]
            if extents:
                dead[name] = _dead_share(extents)
            if beyond:
                count = sum(call.count for call in calls)
                saturated[name] = widest(beyond[0] if len(beyond) == 1 else torch.stack(beyond).sum()) / count
        return cls(dead, saturated)


def _noted(supply: Supply) -> dict[str, list[Activation]]:
    found: dict[str, list[Activation]] = {}
    for forward in supply.step.looked_into:
        for name, calls in forward.activations.items():
            found.setdefault(name, []).extend(calls)
    if not found:
        raise Unavailable("no layer without parts was called in this step")
    return found


def _moments(calls: Sequence[Activation]) -> Tensor:
    """Return mean and spread over some calls of one layer."""
    count = sum(call.count for call in calls)
    mean = torch.stack([call.total for call in calls if call.total is not None]).sum() / count
    square = torch.stack([call.squares for call in calls if call.squares is not None]).sum() / count
    return torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()])


def _dead_share(extents: Sequence[Tensor]) -> Tensor:
    """Return the share of units that are 0 in all calls; calls with other numbers of units have units of their own."""
    by_width: dict[int, Tensor] = {}
    for units in extents:
        known = by_width.get(len(units))
        by_width[len(units)] = units if known is None else torch.maximum(known, units)
    found = list(by_width.values())
    return widest((found[0] if len(found) == 1 else torch.cat(found)) == 0).mean()
