"""What is known on the host without measuring: settings of the optimizer, size of the batch, cost of watching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from cockpitlite.statistics.statistic import Statistic, Supply


@dataclass(frozen=True)
class Settings(Statistic):
    """The optimizer's parameter groups as this step used them."""

    groups: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        return cls(supply.step.groups)


@dataclass(frozen=True)
class BatchSize(Statistic):
    """N, the samples of all backwards of the step."""

    samples: int
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take it from the step."""
        return cls(supply.step.samples)


@dataclass(frozen=True)
class Costs(Statistic):
    """What watching takes: its ``share`` of the time in a window (0 to 1), and the ``interval`` of tracked steps."""

    share: float
    interval: float

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        return cls(**supply.step.costs)


@dataclass(frozen=True)
class Scan(Statistic):
    """The largest magnitude at each place a non-finite value can first show, in the order of the computation.

    A key is what was looked at (``input``, ``parameter``, ``forward``, ``loss``, ``gradient``, ``update``) and the
    layer; the magnitude (a scalar tensor) is NaN or infinite where any value there is.
    """

    magnitudes: Mapping[tuple[str, str], Tensor]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        return cls(supply.step.scan)
