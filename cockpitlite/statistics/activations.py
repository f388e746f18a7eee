"""How the outputs of the layers are distributed."""

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
    """Mean, spread, dead and saturated share of each layer's outputs in the step, ``[layer]``.

    All calls count together; a unit is dead that is 0 in all of them. A share is NaN for layers of another kind.
    ``names`` are those of the modules without parts, in the order of their first calls.
    """

    names: Sequence[str]
    means: Tensor
    spreads: Tensor
    dead: Tensor
    saturated: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ACTIVATIONS})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Join what the hooks noted."""
        found: dict[str, list[Activation]] = {}
        for backward in supply.step.passes:
            for forward in backward.forwards:
                for name, calls in forward.activations.items():
                    found.setdefault(name, []).extend(calls)
        if not found:
            raise Unavailable("no layer without parts was called in this step")
        columns = torch.stack([_joined(calls) for calls in found.values()]).unbind(1)
        return cls(list(found), *columns)


def _joined(calls: Sequence[Activation]) -> Tensor:
    """Return mean, spread, dead and saturated share over some calls of one layer."""
    count = sum(call.count for call in calls)
    mean = torch.stack([call.total for call in calls]).sum() / count
    square = torch.stack([call.squares for call in calls]).sum() / count
    nan = torch.full_like(mean, torch.nan)
    alive = [call.alive for call in calls if call.alive is not None]
    saturated = [call.saturated for call in calls if call.saturated is not None]
    return torch.stack(
        [
            mean,
            (square - mean.square()).clamp(min=0).sqrt(),
            _dead_share(alive).to(mean) if alive else nan,
            torch.stack(saturated).sum().to(mean) / count if saturated else nan,
        ]
    )


def _dead_share(alive: Sequence[Tensor]) -> Tensor:
    """Return the share of units that no call found alive; calls with other numbers of units have units of their own."""
    by_width: dict[int, Tensor] = {}
    for units in alive:
        known = by_width.get(len(units))
        by_width[len(units)] = units if known is None else known | units
    return 1 - widest(torch.cat(list(by_width.values()))).mean()
