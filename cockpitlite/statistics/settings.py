"""What is known on the host without measuring: settings of the optimizer, size of the batch, cost of watching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Unavailable


@dataclass(frozen=True)
class Settings(Statistic):
    """The optimizer's parameter groups as this step used them; ``each`` are those of the watched parameters."""

    groups: Sequence[Mapping[str, Any]]
    each: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        step = supply.step
        members = zip(step.optimizer.param_groups, step.groups, strict=True)
        known = {id(parameter): group for held, group in members for parameter in held["params"]}
        if any(id(parameter) not in known for parameter in step.parameters):
            raise Unavailable("the optimizer was given other parameters; they are watched from the next step on")
        return cls(step.groups, [known[id(parameter)] for parameter in step.parameters])


@dataclass(frozen=True)
class Occasion(Statistic):
    """Which step of the run this is; ``regular`` is every fifth, of several in a row enough for what changes slowly."""

    index: int

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take it from the step."""
        return cls(supply.step.index)

    @property
    def regular(self) -> bool:
        """Whether it is a fifth one."""
        return self.index % 5 == 0


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
    """What the run takes: watching's ``share`` of the time in a window (0 to 1), as ``cockpitlite.meters`` has it.

    ``interval`` are the steps since the panel was last tracked (NaN at first), ``step_seconds`` is the mean time from
    step to step, ``memory`` in bytes, ``watts`` the GPU's mean power since the last tracked step (NaN where it cannot
    be known).
    """

    share: float
    interval: float
    step_seconds: float
    memory: float
    watts: float

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Read the meters."""
        meters = supply.step.meters
        return cls(meters.share, supply.step.interval, meters.step_seconds, meters.memory, meters.watts())


@dataclass(frozen=True)
class Waiting(Statistic):
    """The ``share`` of the time of training that goes before the forwards (0 to 1); NaN where it is not known yet."""

    share: float
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Read the meters."""
        return cls(supply.step.meters.data_wait)


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
