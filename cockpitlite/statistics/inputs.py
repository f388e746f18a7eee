"""What the model was given: how the numbers are distributed, and a fingerprint to know them again by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32, widest
from cockpitlite.records import Forward
from cockpitlite.statistics.checksum import checksum
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Unavailable
from cockpitlite.tree import tensors_in

_SPREAD_ROUNDING = 8  # of the format's precision; a feature that varies less is constant


@dataclass(frozen=True)
class InputScale(Statistic):
    """How the first floating-point input is distributed, over all forwards of the step; NaN for an empty batch."""

    given: Sequence[Tensor]
    wants: ClassVar[frozenset[Want]] = frozenset({Want.INPUTS})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Find what the forwards were given."""
        return cls([_first(forward, floating=True) for forward in _forwards(supply)])

    @cached_property
    def range(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value."""
        return torch.aminmax(self._values) if self._values.numel() else (self._nan, self._nan)

    @cached_property
    def mean(self) -> Tensor:
        """The mean of all values."""
        return self._columns[0].mean() if self._values.numel() else self._nan

    @cached_property
    def std(self) -> Tensor:
        """The standard deviation of all values."""
        if not self._values.numel():
            return self._nan
        means, variances = self._columns
        return (variances.mean() + (means - self.mean).square().mean()).sqrt()

    @cached_property
    def spread(self) -> Tensor | None:
        """The largest standard deviation of a feature over the smallest of those that vary; None but for matrices."""
        if self._values.dim() != 2:
            return None
        return _spread(*self._columns, self._values.dtype) if self._values.numel() else self._nan

    @cached_property
    def _values(self) -> Tensor:
        return _joined([at_least_float32(tensor) for tensor in self.given])

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        return _by_column(self._values.flatten(1) if self._values.dim() > 1 else self._values.reshape(-1, 1))

    @property
    def _nan(self) -> Tensor:
        return torch.full((), torch.nan, device=self._values.device)


@dataclass(frozen=True)
class InputFingerprint(Statistic):
    """A checksum of the first input, of whatever type, over all forwards of the step: equal for equal batches alone.

    A whole number below 2^52 in magnitude, as a scalar tensor; NaN for an empty batch.
    """

    value: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.INPUTS})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Add up what the forwards were given."""
        given = [_first(forward, floating=False) for forward in _forwards(supply)]
        if not any(tensor.numel() for tensor in given):
            return cls(torch.full((), torch.nan, device=given[0].device))
        sums = [checksum(tensor) for tensor in given]
        whole = sums[0] if len(sums) == 1 else checksum(torch.stack(sums))
        return cls(widest(whole >> 12))


def _forwards(supply: Supply) -> list[Forward]:
    found = [forward for backward in supply.step.backwards for forward in backward.forwards]
    if not found:
        raise Unavailable("no backward() through a call of the model was seen in this step, so neither was its input")
    if not all(forward.intact for forward in found):
        raise Unavailable("the input was overwritten in place during the step")
    return found


def _first(forward: Forward, floating: bool) -> Tensor:
    for tensor in tensors_in((forward.args, forward.kwargs)):
        if tensor.layout is torch.strided and (tensor.is_floating_point() or not floating):
            return tensor
    raise Unavailable("the model is given no " + ("floating-point tensor" if floating else "tensor"))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return the inputs of several forwards after each other; as plain numbers where their shapes differ."""
    if len(tensors) == 1:
        return tensors[0]
    alike = all(tensor.dim() and tensor.shape[1:] == tensors[0].shape[1:] for tensor in tensors)
    return torch.cat([tensor if alike else tensor.flatten() for tensor in tensors])


def _by_column(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each column: exactly 0 for one that is constant."""
    away = rows - rows[:1]
    shift = away.mean(0)
    variances = away.square_().mean(0).sub_(shift.square()).clamp_(min=0)
    return widest(rows[0]) + shift, widest(variances)


def _spread(means: Tensor, variances: Tensor, dtype: torch.dtype) -> Tensor:
    floor = (_SPREAD_ROUNDING * torch.finfo(dtype).eps * means).square()
    varying = ~(variances <= floor)  # NaN is told
    largest = torch.where(varying, variances, 0).amax()
    return (largest / torch.where(varying, variances, torch.inf).amin()).sqrt().where(varying.any(), torch.nan)
