"""Where the parameters are and how far the step took them."""

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
class Weights(Statistic):
    """The parameters before the step; ``norms`` per parameter, ``[parameter]``."""

    names: Sequence[str]
    each: Sequence[Tensor]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        return cls(supply.step.names, supply.step.start)

    @cached_property
    def norms(self) -> Tensor:
        """‖θ‖ per parameter, ``[parameter]``."""
        return norms(self.each)


@dataclass(frozen=True)
class Displacement(Statistic):
    """d = θ_{t+1} − θ_t as really taken, whatever the optimizer did; ``norms`` per parameter, ``[parameter]``."""

    names: Sequence[str]
    each: Sequence[Tensor]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take it from the step."""
        return cls(supply.step.names, supply.step.displacement)

    @cached_property
    def norms(self) -> Tensor:
        """‖d‖ per parameter, ``[parameter]``."""
        return norms(self.each)


@dataclass(frozen=True)
class Origin(Statistic):
    """How far the parameters are, before the step, from where they were when watching began."""

    names: Sequence[str]
    distances: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Subtract the copy made when watching began."""
        step = supply.step
        if step.origin is None:
            raise Unavailable("no copy of the first parameters was kept")
        return cls(step.names, norms(torch._foreach_sub(step.start, step.origin)))
