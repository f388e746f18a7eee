"""Per-sample gradients of a step, looked at once without being kept: norms, projections, moments, elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import has_shared_term
from cockpitlite.precision import widest
from cockpitlite.records import Backward
from cockpitlite.statistics.account import Account, accounts, sums
from cockpitlite.statistics.combination import combination
from cockpitlite.statistics.draw import Draw
from cockpitlite.statistics.gradient import MeanGradient
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable, inner
from cockpitlite.statistics.survey import Asked, Found, add_to, side_by_side


@dataclass(frozen=True)
class SharedGradient(Statistic):
    """What of the gradient flows through no sample, ``each`` parameter's, unsigned; None where there is none.

    Every sample has its N-th part of it.
    """

    each: list[Tensor] | None

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Subtract what the records account for."""
        step = supply.step
        if not any(has_shared_term(backward) for backward in step.backwards):
            return cls(None)
        return cls([g - found for g, found in zip(step.signed(step.gradient), sums(step), strict=True)])


@dataclass(frozen=True)
class SampleSurvey(Statistic):
    """g_n = N c_n of the samples looked at, K of the N: ``squared`` norms ``[K]``, ``projections`` ``[K]`` on what.

    ``moments`` and ``sums`` are Σ c_n² and Σ c_n by the position of the parameter, ``drawn`` the elements c_nj that
    were picked of each backward; these three without what the samples share. What nobody wants is left out.
    """

    squared: Tensor | None
    projections: Mapping[Want, Tensor]
    moments: Mapping[int, Tensor]
    sums: Mapping[int, Tensor]
    drawn: Sequence[tuple[Draw, Mapping[int, Tensor]]]
    looked_at: int
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Answer all that any demanded statistic wants in one pass over the records."""
        step, wants = supply.step, supply.wants
        mixed = _mixed(step, wants)
        directions = _directions(step, wants - {Want.ON_STEP} if mixed else wants)
        shared = supply(SharedGradient).each
        along = [*directions.values(), *([] if shared is None else [shared])]
        made = accounts(step)
        looked_at = sum(account.scope.count for account in made)
        rough = any(low_precision(backward) for backward in step.passes)
        alone = len(made) == 1 and made[0].scale is None and shared is None and not rough
        asked = Asked[int](
            names=range(len(step.names)),
            squares=Want.SQUARES in wants,
            directions=dict(enumerate(zip(*along, strict=True))),
            whole=list(directions).index(Want.ON_GRADIENT) if alone and Want.ON_GRADIENT in directions else None,
            moments=Want.MOMENTS in wants,
            sums=Want.MOMENTS in wants and (rough or looked_at < step.samples),
        )
        draws = _draws(step, made) if Want.ELEMENTS in wants else [Draw({}, {})] * len(made)
        found = [account.survey(replace(asked, places=draw.places)) for account, draw in zip(made, draws, strict=True)]
        surveyed = cls._put_together(supply, found, draws, directions, looked_at)
        if mixed is None:
            return surveyed
        of_last, of_gradient = (surveyed.on(want) for want in (Want.ON_LAST_STEP, Want.ON_GRADIENT))
        on_step = {Want.ON_STEP: mixed[0] * of_last + mixed[1] * of_gradient}
        return replace(surveyed, projections={**surveyed.projections, **on_step})

    @classmethod
    def _put_together(
        cls,
        supply: Supply,
        found: Sequence[Found[int]],
        draws: Sequence[Draw],
        directions: Mapping[Want, list[Tensor]],
        looked_at: int,
    ) -> Self:
        step, total = supply.step, supply.step.samples
        per_sample = [Found[int](each.squared, each.projected) for each in found]
        reduced = side_by_side(per_sample)
        shared = supply(SharedGradient).each
        if shared is not None:
            reduced = _with_shared(reduced, shared, list(directions.values()), total)
        projected = None if reduced.projected is None else widest(reduced.projected) * total
        return cls(
            None if reduced.squared is None else step.trusted("contributions", widest(reduced.squared) * total**2),
            {} if projected is None else dict(zip(directions, step.trusted("contributions", projected), strict=True)),
            _summed([each.moments for each in found]),
            _summed([each.sums for each in found]),
            [(draw, each.picked) for draw, each in zip(draws, found, strict=True)],
            looked_at,
        )

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
        mean, reductions, samples = supply(MeanGradient), supply(SampleSurvey), supply.step.samples
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
        onto = supply(SampleSurvey).on(Want.ON_GRADIENT)
        deviation = (onto - mean.squared_norm).square().sum() * (samples / len(onto))
        return cls(onto, deviation, samples)


def _above_rounding(deviation: Tensor, terms: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a difference of large sums, or 0 where it is no larger than their rounding."""
    floor = 4 * torch.finfo(dtype).eps * terms
    return torch.where(deviation.abs() <= floor, torch.zeros_like(deviation), deviation)


def _mixed(step: Step, wants: frozenset[Want]) -> tuple[float, float] | None:
    """Return how the projections on the step are made of those on the last step and the gradient, where they are."""
    every = {Want.ON_GRADIENT, Want.ON_STEP, Want.ON_LAST_STEP}
    return combination(step) if every <= wants and all(sign > 0 for sign in step.signs) else None


def _directions(step: Step, wants: frozenset[Want]) -> dict[Want, list[Tensor]]:
    """Return what to project on, with the sign of each parameter's gradient put on it."""
    last = None if step.line is None else step.line.displacement
    known = {Want.ON_GRADIENT: step.gradient, Want.ON_STEP: step.displacement, Want.ON_LAST_STEP: last}
    return {want: step.signed(tensors) for want, tensors in known.items() if want in wants and tensors is not None}


def _draws(step: Step, made: Sequence[Account]) -> list[Draw]:
    """Draw places of elements in what is looked at in each backward."""
    looked_at = sum(account.scope.count for account in made)
    return [Draw.of(step, account.parameters, account.scope.count, looked_at) for account in made]


def _summed(parts: Sequence[Mapping[int, Tensor]]) -> dict[int, Tensor]:
    """Add up what several backwards contributed to each parameter."""
    total: dict[int, Tensor] = {}
    for part in parts:
        add_to(total, part)
    return total


def _with_shared(
    reduced: Found[int], shared: list[Tensor], directions: Sequence[list[Tensor]], samples: int
) -> Found[int]:
    """Give each sample its N-th part of what they share; the last projection of ``reduced`` is the one on that."""
    assert reduced.projected is not None
    squared, projected = reduced.squared, reduced.projected[:-1]
    if directions:
        along = torch.stack([inner(shared, direction) for direction in directions]).to(projected)
        projected = projected + along[:, None] / samples
    if squared is not None:
        own = inner(shared, shared).to(squared) / samples**2
        squared = squared + 2 * reduced.projected[-1] / samples + own
    return Found(squared, projected)


def accounted(step: Step) -> Tensor:
    """Return, per watched parameter, ‖Σ c_n − g‖ relative to ‖g‖ and to what rounding explains, shape ``[parameter]``.

    The check that the records account for the whole gradient; up to 1 is right. Where the loss has a term of its own
    on the parameters, the rest is that term's.
    """
    explained = step.signed(sums(step))
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
