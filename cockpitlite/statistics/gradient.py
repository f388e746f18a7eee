"""The mini-batch gradient, before and after clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from cockpitlite.precision import widest
from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Step, Unavailable, norms


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
        each = supply(MeanGradient)._norms if _is_unchanged(step) else norms(step.clipped)
        return cls(step.names, _without(each, step.missing), each.norm())


@dataclass(frozen=True)
class Clipping(Statistic):
    """‖g‖ of the gradient that the optimizer used over ‖g‖ of the one that backward left, as a scalar tensor."""

    factor: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Compare both; where nothing touched the gradient they are the same tensors."""
        step = supply.step
        if step.clipped is not None and _is_unchanged(step):
            return cls(torch.ones((), device=step.gradient[0].device))
        used = supply(ClippedGradient).total
        left = step.gradient if step.stale is None else torch._foreach_add(step.gradient, step.stale)
        norm = norms(left).norm()
        return cls(torch.where(used == norm, 1, used / norm))


@dataclass(frozen=True)
class StaleGradient(Statistic):
    """‖g‖ of what was left in the gradients before the step's first backward over ‖g‖ of what the backwards added.

    0 where they had been cleared; ``each`` per watched parameter, ``[parameter]``, and ``ratio`` over all.
    """

    names: Sequence[str]
    each: Tensor
    ratio: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Compare both."""
        step = supply.step
        if not step.backwards:
            raise Unavailable("no backward() was seen in this step")
        gradient = supply(MeanGradient)
        if step.stale is None:
            none = torch.zeros_like(gradient._norms)
            return cls(step.names, none, none.sum())
        left = norms(step.stale)
        each = torch.where(left > 0, left / gradient._norms, left)
        return cls(step.names, each, left.norm() / gradient.squared_norm.sqrt())


@dataclass(frozen=True)
class ZeroGradient(Statistic):
    """The share of each parameter's gradient that is exactly 0; NaN for one that got none."""

    names: Sequence[str]
    each: Sequence[Tensor]
    missing: Sequence[bool]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take the gradients from the step."""
        step = supply.step
        if all(step.missing):
            raise Unavailable("no parameter got a gradient in this step")
        return cls(step.names, step.gradient, step.missing)

    @cached_property
    def shares(self) -> Tensor:
        """The share of each one's elements, ``[parameter]``."""
        return self._zeros / self._sizes.where(self._sizes > 0, torch.nan)

    @cached_property
    def total(self) -> Tensor:
        """The share of all elements of those that got a gradient."""
        return self._zeros.where(self._sizes > 0, 0).sum() / self._sizes.sum()

    @cached_property
    def _zeros(self) -> Tensor:
        return torch.stack([gradient.numel() - torch.count_nonzero(gradient) for gradient in self.each])

    @cached_property
    def _sizes(self) -> Tensor:
        pairs = zip(self.each, self.missing, strict=True)
        sizes = torch.tensor([0.0 if missing else float(gradient.numel()) for gradient, missing in pairs], device="cpu")
        return widest(sizes).to(self.each[0].device, non_blocking=True)


def _is_unchanged(step: Step) -> bool:
    """Whether the optimizer is known to have used the gradient as it was, and no other."""
    assert step.clipped is not None
    each = zip(step.clipped, step.gradient, step.missing, strict=True)
    return step.stale is None and all(used is gradient or missing for used, gradient, missing in each)


def _without(each: Tensor, missing: Sequence[bool]) -> Tensor:
    """Return norms with NaN for what is missing."""
    if not any(missing):
        return each
    return each.masked_fill(torch.tensor(missing, device="cpu").to(each.device, non_blocking=True), torch.nan)
