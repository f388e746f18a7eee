"""Per-sample gradients of a step, reduced to norms and projections without being kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from cockpitlite.losses import has_shared_term
from cockpitlite.records import Backward, Call
from cockpitlite.statistics.convolution import ConvolutionRule
from cockpitlite.statistics.generic import GenericRule
from cockpitlite.statistics.gradient import MeanGradient
from cockpitlite.statistics.linear import LinearRule
from cockpitlite.statistics.rule import Reduced, Rule, Scope, joined, reduce_contributions
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable, inner, widest

_GENERIC = GenericRule()
_CONVOLUTION = ConvolutionRule()
_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: LinearRule(),
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
}


def rule_for(kind: type[nn.Module]) -> Rule:
    """Return the rule of a layer type: a closed one for exactly the types it was written for, else the generic one."""
    return _RULES.get(kind, _GENERIC)


def is_generic(module: nn.Module) -> bool:
    """Whether the calls of a module have to be made again to know its samples' contributions."""
    plain = not hasattr(module, "parametrizations") and not module._forward_pre_hooks
    return not plain or rule_for(type(module)) is _GENERIC


@dataclass(frozen=True)
class SampleReductions(Statistic):
    """g_n = N c_n of the samples looked at: ``squared`` norms ``[K]``, and projections ``[K]`` by what they are on."""

    squared: Tensor | None
    projections: Mapping[Want, Tensor]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Reduce all that any demanded statistic wants in one pass over the records."""
        step = supply.step
        if "contributions" in step.reasons:
            raise Unavailable(step.reasons["contributions"])
        directions = _directions(step, supply.wants)
        squares = Want.SQUARES in supply.wants
        shared = _shared(step)
        reduced = _reduce(step, [*directions.values(), *([] if shared is None else [shared])], squares)
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


@dataclass(frozen=True)
class _Share:
    """The calls of one module in one backward, and which watched parameters they account for."""

    rule: Rule
    calls: Sequence[Call]
    parameters: Mapping[str, int]  # name inside the module -> position among the watched parameters


def _shares(step: Step, backward: Backward) -> list[_Share]:
    """Divide the parameters that got a gradient among the calls it came through."""
    positions = {id(parameter): index for index, parameter in enumerate(step.parameters) if not step.missing[index]}
    calls: dict[nn.Module, list[Call]] = {}
    for call in backward.calls:
        calls.setdefault(call.module, []).append(call)
    calls = {module: made for module, made in calls.items() if all(call.divisible for call in made)}
    owned = {module: _own(module, positions) for module in calls}
    covered = {index for names in owned.values() for index in names.values()}
    for index in sorted(set(positions.values()) - covered):
        module, name = _nearest(step, index, calls)
        owned[module][name] = index
    return [_Share(_rule_of(module, names), calls[module], names) for module, names in owned.items() if names]


def _own(module: nn.Module, positions: Mapping[int, int]) -> dict[str, int]:
    named = module.named_parameters(recurse=False)
    return {name: positions[id(parameter)] for name, parameter in named if id(parameter) in positions}


def _nearest(step: Step, index: int, calls: Mapping[nn.Module, Sequence[Call]]) -> tuple[nn.Module, str]:
    """Return the innermost called module that holds a parameter whose own module was not called, as attention does."""
    found: tuple[nn.Module, str] | None = None
    for module in calls:
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if parameter is step.parameters[index] and (found is None or name.count(".") < found[1].count(".")):
                found = module, name
    if found is None:
        raise Unavailable(
            f"the gradient of parameter {step.names[index]!r} did not come through a seen call whose output has rows "
            "for each sample; pass batch_dim if the batch is not the first axis of the model's inputs"
        )
    return found


def _rule_of(module: nn.Module, names: Mapping[str, int]) -> Rule:
    foreign = any("." in name for name in names)
    return _GENERIC if foreign or is_generic(module) else rule_for(type(module))


def _reduce(step: Step, directions: Sequence[Sequence[Tensor]], squares: bool) -> Reduced:
    """Return norms and projections of c_n, the samples of all backwards one after another."""
    if not step.samples:
        raise Unavailable("the batch is empty")
    passes = zip(step.backwards, step.chosen, strict=True)
    return joined([_reduce_backward(step, backward, chosen, directions, squares) for backward, chosen in passes])


def _shared(step: Step) -> list[Tensor] | None:
    """Return what of the gradient flows through no sample, where the loss has such a term; unsigned, per parameter."""
    if not any(has_shared_term(backward) for backward in step.backwards):
        return None
    gradient = zip(step.gradient, step.signs, _sums(step), strict=True)
    return [g * sign - explained for g, sign, explained in gradient]


def _with_shared(reduced: Reduced, shared: list[Tensor], directions: Sequence[list[Tensor]], samples: int) -> Reduced:
    """Give each sample its N-th part of what they share; the last projection of ``reduced`` is the one on that."""
    along = torch.stack([inner(shared, direction) for direction in directions]).to(reduced.projected)
    projected = reduced.projected[:-1] + along[:, None] / samples
    if reduced.squared is None:
        return Reduced(None, projected)
    own = inner(shared, shared).to(reduced.squared) / samples**2
    return Reduced(reduced.squared + 2 * reduced.projected[-1] / samples + own, projected)


def _reduce_backward(
    step: Step, backward: Backward, chosen: Tensor | None, directions: Sequence[Sequence[Tensor]], squares: bool
) -> Reduced:
    """Return norms and projections of c_n for the samples of one backward."""
    samples = backward.samples
    assert samples is not None
    shares = _shares(step, backward)
    scope = _scope(step, samples, chosen)
    uses = [index for share in shares for index in share.parameters.values()]
    tied = {index for index in uses if uses.count(index) > 1}
    parts: list[Reduced] = []
    sums: dict[int, Tensor] = {}
    for share in shares:
        own = {name: index for name, index in share.parameters.items() if index not in tied}
        both = [name for name, index in share.parameters.items() if index in tied]
        if own:
            along = {name: torch.stack([tensors[index] for tensors in directions]) for name, index in own.items()}
            parts.append(share.rule.reduce(share.calls, along, scope, squares))
        if both:
            built = share.rule.contributions(share.calls, both, scope)
            for name, each in built.items():
                index = share.parameters[name]
                sums[index] = sums[index] + each if index in sums else each
    if sums:
        named = {str(index): each for index, each in sums.items()}
        along = {str(index): torch.stack([tensors[index] for tensors in directions]) for index in sums}
        parts.append(reduce_contributions(named, along, squares))
    if not parts:
        raise Unavailable("no gradient reached any module of the model")
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    if backward.scale is None:
        return whole
    squared = None if whole.squared is None else whole.squared / backward.scale**2
    return Reduced(squared, whole.projected / backward.scale)


def accounted(step: Step) -> Tensor:
    """Return, per watched parameter, ‖Σ c_n − g‖ relative to ‖g‖ and to what rounding explains, shape ``[parameter]``.

    The check that the records account for the whole gradient; up to 1 is right. Where the loss has a term of its own
    on the parameters, the rest is that term's.
    """
    sums = [each * sign for each, sign in zip(_sums(step), step.signs, strict=True)]
    if any(has_shared_term(backward) for backward in step.backwards):
        return torch.zeros(len(sums), device=sums[0].device)
    lowest = torch.float16 if any(_low_precision(backward) for backward in step.backwards) else sums[0].dtype
    tolerance = 50 * torch.finfo(lowest).eps ** 0.75
    largest = torch.stack([gradient.abs().max() for gradient in step.gradient])
    gaps = torch.stack([(a - b).abs().max() for a, b in zip(sums, step.gradient, strict=True)])
    return gaps / (tolerance * (largest + 1e-3 * largest.max()) + torch.finfo(sums[0].dtype).tiny)


def _sums(step: Step) -> list[Tensor]:
    """Return Σ c_n of each watched parameter from the records, unscaled, without the sign of ``maximize``."""
    if not step.samples:
        raise Unavailable("the batch is empty")
    sums = [torch.zeros_like(gradient) for gradient in step.gradient]
    for backward in step.backwards:
        samples = backward.samples
        assert samples is not None
        scope = _scope(step, samples, None)
        for share in _shares(step, backward):
            for name, part in share.rule.total(share.calls, list(share.parameters), scope).items():
                index = share.parameters[name]
                sums[index] = sums[index] + (part if backward.scale is None else part / backward.scale)
    return sums


def _scope(step: Step, samples: int, chosen: Tensor | None) -> Scope:
    values = {id(parameter): start for parameter, start in zip(step.parameters, step.start, strict=True)}
    return Scope(samples, chosen, values)


def _low_precision(backward: Backward) -> bool:
    half = (torch.float16, torch.bfloat16)
    return any(g is not None and g.dtype in half for call in backward.calls for g in call.gradients)
