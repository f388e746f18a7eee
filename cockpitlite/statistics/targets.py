"""How the real numbers are distributed that a loss function compares predictions with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.loss_functions import comparisons
from cockpitlite.precision import at_least_float32, widest
from cockpitlite.statistics.statistic import Statistic, Supply, Want

_TWO = 2  # samples, which differ


@dataclass(frozen=True)
class RealTargets(Statistic):
    """The targets of the step's loss functions of real numbers; none ``known`` where no such function was seen."""

    given: Sequence[Tensor]
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ROAD})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the road to the loss."""
        calls = [call for backward in supply.step.backwards for call in comparisons(backward)]
        found = [call.target.detach().as_subclass(Tensor) for call in calls if call.of_numbers]
        return cls([target for target in found if target.numel()])

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self.given)

    @cached_property
    def mean(self) -> Tensor:
        """The mean of all of them."""
        return self._values.mean()

    @cached_property
    def std(self) -> Tensor:
        """The standard deviation of all of them."""
        return (self._values - self.mean).square().mean().sqrt()

    @cached_property
    def each_std(self) -> Tensor | None:
        """The standard deviation over samples ``[B, ...]``, as root mean square over the outputs.

        Its square, which has no bias, is what guessing the mean of each output costs. None for fewer than two samples
        and where the forwards of a step have targets of several shapes.
        """
        shapes = {target.shape[1:] for target in self.given if target.ndim}
        if len(shapes) != 1 or sum(target.shape[0] for target in self.given if target.ndim) < _TWO:
            return None
        samples = torch.cat([widest(at_least_float32(target)) for target in self.given if target.ndim])
        return samples.var(0).mean().sqrt()

    @cached_property
    def _values(self) -> Tensor:
        return widest(torch.cat([at_least_float32(target).flatten() for target in self.given]))
