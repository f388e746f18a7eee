"""The mini-batch gradient, before and after clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Unavailable, norms


@dataclass(frozen=True)
class MeanGradient(Statistic):
    """g, the gradient of the minimised loss, unscaled and before any clipping.

    ``each`` runs over the watched parameters ``names``; ``missing`` marks those that got none and count as zero.
    """

    names: Sequence[str]
    each: Sequence[Tensor]
    missing: Sequence[bool]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take it from the step."""
        step = supply.step
        return cls(step.names, step.gradient, step.missing)

    @cached_property
    def norms(self) -> Tensor:
        """‖g‖ per parameter, ``[parameter]``; NaN where a parameter got no gradient."""
        return _without(self._norms, self.missing)

    @cached_property
    def squared_norm(self) -> Tensor:
        """‖g‖² over all parameters."""
        return self._norms.square().sum()

    @cached_property
    def _norms(self) -> Tensor:
        return norms(self.each)


@dataclass(frozen=True)
class ClippedGradient(Statistic):
    """The gradient as the optimizer saw it: clipped, if it was.

    ``norms`` per watched parameter, ``[parameter]``, NaN for one that got none; ``total`` is the norm over all.
    """

    names: Sequence[str]
    norms: Tensor
    total: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take its norms from the step."""
        step = supply.step
        if step.clipped is None:
            raise Unavailable("the optimizer called the closure more than once, so it used several gradients")
        each = norms(step.clipped)
        return cls(step.names, _without(each, step.missing), each.norm())


def _without(each: Tensor, missing: Sequence[bool]) -> Tensor:
    """Return norms with NaN for what is missing."""
    if not any(missing):
        return each
    return each.masked_fill(torch.tensor(missing).to(each.device, non_blocking=True), torch.nan)
