"""Per-sample gradients of a step, reduced to norms and projections without being kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import has_shared_term
from cockpitlite.precision import widest
from cockpitlite.records import Backward
from cockpitlite.statistics.account import accounts, shared_part, sums
from cockpitlite.statistics.gradient import MeanGradient
from cockpitlite.statistics.rule import Reduced, joined
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable, inner


@dataclass(frozen=True)
class SampleReductions(Statistic):
    """g_n = N c_n of the samples looked at: ``squared`` norms ``[K]``, and projections ``[K]`` by what they are on."""

    squared: Tensor | None
    projections: Mapping[Want, Tensor]
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Reduce all that any demanded statistic wants in one pass over the records."""
        step = supply.step
        directions = _directions(step, supply.wants)
        squares = Want.SQUARES in supply.wants
        shared = shared_part(step)
        along = [*directions.values(), *([] if shared is None else [shared])]
        reduced = joined([account.reduced(along, squares) for account in accounts(step)])
        if shared is not None:
            reduced = _with_shared(reduced, shared, list(directions.values()), step.samples)
        total = step.samples
        projected = step.trusted("contributions", widest(reduced.projected) * total)
        squared = None if reduced.squared is None else step.trusted("contributions", widest(reduced.squared) * total**2)
        return cls(squared, dict(zip(directions, projected, strict=True)))

    def on(self, want: Want) -> Tensor:
        """Return the projections on one direction, ``[K]``."""
        if want not in self.projections:
            raise Unavailable(f"not kept of this step: {want.value}")
        return self.projections[want]


@dataclass(frozen=True)
class PerSampleNorms(Statistic):
    """Squared norms of the per-sample gradients.

    ``squared`` is ‖g_n‖² of the samples looked at, ``[K]``; ``deviation`` is Σ‖g_n − g‖² over all N samples (estimated
    without bias where K < N); ``samples`` is N.
    """

    squared: Tensor
    deviation: Tensor
    samples: int
    wants: ClassVar[frozenset[Want]] = frozenset({Want.SQUARES, Want.ON_GRADIENT})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Centre the squares about the mean gradient of the whole batch."""
        mean, reductions, samples = supply(MeanGradient), supply(SampleReductions), supply.step.samples
        squared = reductions.squared
        assert squared is not None
        looked_at = len(squared)
        if looked_at == samples:
            deviation = squared.sum() - samples * mean.squared_norm
            noise = squared.sum()
        else:
            centred = squared - 2 * reductions.on(Want.ON_GRADIENT) + mean.squared_norm
            deviation = centred.sum() * (samples / looked_at)
            noise = (squared + mean.squared_norm).sum() * (samples / looked_at)
        return cls(squared, _above_rounding(deviation, noise, mean.each[0].dtype), samples)


@dataclass(frozen=True)
class PerSampleProjections(Statistic):
    """Projections of the per-sample gradients on the mean gradient.

    ``onto_mean`` is g_nᵀg of the samples looked at, ``[K]``; ``deviation`` is Σ(g_nᵀg − ‖g‖²)² over all N samples
    (estimated without bias where K < N); ``samples`` is N.
    """

    onto_mean: Tensor
    deviation: Tensor
    samples: int
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ON_GRADIENT})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Centre the projections about that of the mean gradient itself."""
        mean, samples = supply(MeanGradient), supply.step.samples
        onto = supply(SampleReductions).on(Want.ON_GRADIENT)
        deviation = (onto - mean.squared_norm).square().sum() * (samples / len(onto))
        return cls(onto, deviation, samples)


def _above_rounding(deviation: Tensor, terms: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a difference of large sums, or 0 where it is no larger than their rounding."""
    floor = 4 * torch.finfo(dtype).eps * terms
    return torch.where(deviation.abs() <= floor, torch.zeros_like(deviation), deviation)


def _directions(step: Step, wants: frozenset[Want]) -> dict[Want, list[Tensor]]:
    """Return what to project on, with the sign of each parameter's gradient put on it."""
    last = None if step.line is None else step.line.displacement
    known = {Want.ON_GRADIENT: step.gradient, Want.ON_STEP: step.displacement, Want.ON_LAST_STEP: last}
    return {
        want: [tensor * sign if sign < 0 else tensor for tensor, sign in zip(tensors, step.signs, strict=True)]
        for want, tensors in known.items()
        if want in wants and tensors is not None
    }


def _with_shared(reduced: Reduced, shared: list[Tensor], directions: Sequence[list[Tensor]], samples: int) -> Reduced:
    """Give each sample its N-th part of what they share; the last projection of ``reduced`` is the one on that."""
    along = torch.stack([inner(shared, direction) for direction in directions]).to(reduced.projected)
    projected = reduced.projected[:-1] + along[:, None] / samples
    if reduced.squared is None:
        return Reduced(None, projected)
    own = inner(shared, shared).to(reduced.squared) / samples**2
    return Reduced(reduced.squared + 2 * reduced.projected[-1] / samples + own, projected)


def accounted(step: Step) -> Tensor:
    """Return, per watched parameter, ‖Σ c_n − g‖ relative to ‖g‖ and to what rounding explains, shape ``[parameter]``.

    The check that the records account for the whole gradient; up to 1 is right. Where the loss has a term of its own
    on the parameters, the rest is that term's.
    """
    explained = [each * sign for each, sign in zip(sums(step), step.signs, strict=True)]
    if any(has_shared_term(backward) for backward in step.backwards):
        return torch.zeros(len(explained), device=explained[0].device)
    lowest = torch.float16 if any(low_precision(backward) for backward in step.backwards) else explained[0].dtype
    tolerance = 50 * torch.finfo(lowest).eps ** 0.75
    largest = torch.stack([_largest(gradient) for gradient in step.gradient])
    gaps = torch.stack([_largest(a - b) for a, b in zip(explained, step.gradient, strict=True)])
    return gaps / (tolerance * (largest + 1e-3 * largest.max()) + torch.finfo(explained[0].dtype).tiny)


def _largest(tensor: Tensor) -> Tensor:
    return tensor.abs().amax() if tensor.numel() else tensor.new_zeros(())


def low_precision(backward: Backward) -> bool:
    """Whether the gradients of some layers were computed in half precision."""
    half = (torch.float16, torch.bfloat16)
    return any(g is not None and g.dtype in half for call in backward.calls for g in call.gradients)
