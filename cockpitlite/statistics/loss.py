"""The loss of the batch and of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import Unseen, sample_losses
from cockpitlite.precision import above_rounding, widest
from cockpitlite.records import Backward
from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Unavailable


@dataclass(frozen=True)
class BatchLoss(Statistic):
    """L, the sum of the losses of the step's backwards, as a scalar tensor; the minimised one under ``maximize``."""

    value: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Sum what was given to backward."""
        values = [backward.loss for backward in supply.step.backwards]
        if not values or any(value is None for value in values):
            raise Unavailable(
                "no scalar loss was given to backward() before this step, or the step was taken inside of it"
            )
        return cls(widest(torch.stack([value for value in values if value is not None])).sum() * supply.step.sign)


@dataclass(frozen=True)
class SampleLosses(Statistic):
    """ℓ_n = N × the part of the loss from sample n, ``[sample]``, so that their mean is L; ``rounding`` is relative."""

    each: Tensor
    rounding: float
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take each backward's losses and put them on the scale of the whole batch."""
        step = supply.step
        total = step.samples
        each = torch.cat([_shared_out(backward, total, step.loss_fn) for backward in step.backwards]) * step.sign
        return cls(each, torch.finfo(step.gradient[0].dtype).eps)

    @property
    def variance(self) -> Tensor:
        """The unbiased variance over the samples; NaN for one sample."""
        if len(self.each) < 2:
            return torch.full_like(self.each.sum(), torch.nan)
        deviation = (self.each - self.each.mean()).square().sum()  # var() waits, on the CPU
        return above_rounding(deviation, self.each, self.rounding) / (len(self.each) - 1)


def _shared_out(backward: Backward, total: int, loss_fn: object) -> Tensor:
    try:
        losses = sample_losses(backward, loss_fn)
    except Unseen as reason:
        raise Unavailable(str(reason)) from reason
    return widest(losses) * (total / len(losses))
