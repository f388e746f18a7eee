"""Which recorded calls account for which parameter's gradient, and what their samples contribute to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cockpitlite.records import Backward, Call
from cockpitlite.replay import bare
from cockpitlite.statistics.added import AddedRule
from cockpitlite.statistics.families import GENERIC, is_generic, rule_for
from cockpitlite.statistics.rule import Rule, Scope
from cockpitlite.statistics.step import Step, Unavailable
from cockpitlite.statistics.survey import Asked, Found, add_to, side_by_side, surveyed
from cockpitlite.statistics.whole import WholeRule

ByParameter = dict[int, Tensor]  # by position among the watched parameters


@dataclass(frozen=True)
class Share:
    """The calls of one module in one backward, and which watched parameters they account for."""

    rule: Rule
    calls: Sequence[Call]
    parameters: Mapping[str, int]  # name inside the module -> position among the watched parameters

    def placed(self, found: Mapping[str, Tensor]) -> ByParameter:
        """Return what is given by name under the positions."""
        return {self.parameters[name]: value for name, value in found.items()}

    def part(self, tied: frozenset[int], *, among: bool) -> Share | None:
        """Return the share of the parameters that are (or are not) tied to other modules, None where it is empty."""
        kept = {name: index for name, index in self.parameters.items() if (index in tied) == among}
        return Share(self.rule, self.calls, kept) if kept else None


@dataclass(frozen=True)
class Account:
    """Contributions c_n of the samples looked at in one backward, unscaled; ``shares`` divide the parameters.

    A parameter that several modules use is ``tied``: what its modules contribute is summed before anything else.
    """

    scope: Scope
    alone: Sequence[Share]
    together: Sequence[Share]
    scale: Tensor | None
    sizes: Sequence[int]  # of all watched parameters

    @classmethod
    def of(cls, step: Step, backward: Backward, chosen: Tensor | None) -> Account:
        """Divide the parameters that got a gradient among the calls it came through."""
        samples = backward.samples
        if samples is None:
            raise Unavailable("the forwards of one backward saw different numbers of samples")
        shares = _shares(step, backward)
        uses = [index for share in shares for index in share.parameters.values()]
        tied = frozenset(index for index in uses if uses.count(index) > 1)
        values = {id(parameter): start for parameter, start in zip(step.parameters, step.evaluated, strict=True)}
        return cls(
            Scope(samples, chosen, values),
            [part for share in shares if (part := share.part(tied, among=False)) is not None],
            [part for share in shares if (part := share.part(tied, among=True)) is not None],
            backward.scale,
            [start.numel() for start in step.start],
        )

    def survey(self, asked: Asked[int]) -> Found[int]:
        """Answer what is asked of c_n; parameters are told by position."""
        parts = [
            share.rule.survey(share.calls, asked.of(share.parameters), self.scope).renamed(share.parameters)
            for share in self.alone
        ]
        if self.together:
            tied = [surveyed(built, asked.among(part)) for part, built in self._tied()]
            parts.append(side_by_side(tied))
        if not parts:
            raise Unavailable("no gradient reached any module of the model")
        whole = sum(parts[1:], parts[0])
        return whole if self.scale is None else whole.unscaled(self.scale)

    def totals(self) -> ByParameter:
        """Return Σ c_n of each parameter over all samples."""
        found: ByParameter = {}
        for share in (*self.alone, *self.together):
            add_to(found, share.placed(share.rule.total(share.calls, list(share.parameters), self.scope)))
        return self._unscaled(found)

    @property
    def parameters(self) -> list[int]:
        """The positions of the parameters that a gradient reached."""
        return list({index: 0 for share in (*self.alone, *self.together) for index in share.parameters.values()})

    def built(self) -> Iterator[ByParameter]:
        """Yield c_n of some parameters and some samples at a time, ``[sample, *parameter]``; together they are all."""
        for share in self.alone:
            for _, each in share.rule.parts(share.calls, list(share.parameters), self.scope):
                yield self._unscaled(share.placed(each))
        for _, tied in self._tied():
            yield self._unscaled(tied)

    def _tied(self) -> Iterator[tuple[slice, ByParameter]]:
        """Yield the summed contributions of tied parameters for some samples at a time."""
        if not self.together:
            return
        size = sum(
            share.rule.transient(share.calls) + sum(self.sizes[index] for index in share.parameters.values())
            for share in self.together
        )
        for place, part in self.scope.parts(size):
            built: ByParameter = {}
            for share in self.together:
                add_to(built, share.placed(share.rule.contributions(share.calls, list(share.parameters), part)))
            yield place, built

    def _unscaled(self, found: ByParameter) -> ByParameter:
        return found if self.scale is None else {index: value / self.scale for index, value in found.items()}


def accounts(step: Step, *, every: bool = False) -> list[Account]:
    """Return the account of each backward of a step, for the samples looked at or for ``every`` one."""
    if not step.samples:
        raise Unavailable("the batch is empty")
    passes = zip(step.passes, step.chosen, strict=True)
    return [Account.of(step, backward, None if every else chosen) for backward, chosen in passes]


def sums(step: Step) -> list[Tensor]:
    """Return Σ c_n of each watched parameter from the records, unscaled, without the sign of ``maximize``."""
    total = {index: torch.zeros_like(gradient) for index, gradient in enumerate(step.gradient)}
    for account in accounts(step, every=True):
        add_to(total, account.totals())
    return [total[index] for index in range(len(step.gradient))]


def _shares(step: Step, backward: Backward) -> list[Share]:
    """Divide the parameters that got a gradient among the calls it came through."""
    positions = {id(parameter): index for index, parameter in enumerate(step.parameters) if not step.missing[index]}
    added = {
        index: backward.spread[identity]
        for identity, index in positions.items()
        if identity in backward.spread and index not in step.foreign
    }
    positions = {identity: index for identity, index in positions.items() if index not in added}
    own = {identity: index for identity, index in positions.items() if index not in step.foreign}
    calls: dict[nn.Module, list[Call]] = {}
    for call in backward.calls:
        calls.setdefault(call.module, []).append(call)
    calls = {module: made for module, made in calls.items() if all(call.divisible for call in made)}
    owned = {module: _own(module, own) for module in calls}
    covered = {index for names in owned.values() for index in names.values()} | _seen(step, own)
    far: dict[str, int] = {}
    for index in sorted(set(positions.values()) - covered):
        nearest = _nearest(step, index, calls)
        if nearest is None:
            far[_name_in_root(step, backward, index)] = index
        else:
            owned[nearest[0]][nearest[1]] = index
    shares = [Share(_rule_of(module, names), calls[module], names) for module, names in owned.items() if names]
    shares += [Share(AddedRule({"": each}), [], {"": index}) for index, each in added.items()]
    root = [call for call in backward.calls if far and call.module is bare(backward.forwards[0].root)]
    return shares if not far else [*shares, Share(WholeRule(step, backward, far), root, far)]


def _name_in_root(step: Step, backward: Backward, index: int) -> str:
    """Return a parameter's name in the model whose calls were recorded; Unavailable where that says nothing of it."""
    root = bare(backward.forwards[0].root) if backward.forwards else None
    seen = root is not None and any(call.module is root for call in backward.calls)
    for name, parameter in root.named_parameters() if root is not None and seen else ():
        if parameter is step.parameters[index]:
            return name
    raise Unavailable(
        f"the gradient of parameter {step.names[index]!r} did not come through a seen call whose output has rows "
        "for each sample; pass batch_dim if the batch is not the first axis of the model's inputs"
    )


def _seen(step: Step, positions: Mapping[int, int]) -> set[int]:
    """Return the parameters whose own modules' calls account for them; another backward need not have reached them."""
    modules: dict[nn.Module, bool] = {}
    for backward in step.passes:
        for call in backward.calls:
            modules[call.module] = modules.get(call.module, True) and call.divisible
    return {index for module, whole in modules.items() if whole for index in _own(module, positions).values()}


def _own(module: nn.Module, positions: Mapping[int, int]) -> dict[str, int]:
    named = module.named_parameters(recurse=False)
    return {name: positions[id(parameter)] for name, parameter in named if id(parameter) in positions}


def _nearest(step: Step, index: int, calls: Mapping[nn.Module, Sequence[Call]]) -> tuple[nn.Module, str] | None:
    """Return the innermost called module that holds a parameter whose own module does not account for it.

    That was not called, as attention does not call its projection, or the parameter is used around it too.
    """
    found: tuple[nn.Module, str] | None = None
    for module in calls:
        for name, parameter in module.named_parameters(remove_duplicate=False):
            near = found is None or name.count(".") < found[1].count(".")
            around = "." in name or index not in step.foreign
            if parameter is step.parameters[index] and near and around:
                found = module, name
    return found


def _rule_of(module: nn.Module, names: Mapping[str, int]) -> Rule:
    foreign = any("." in name for name in names)
    return GENERIC if foreign or is_generic(module) else rule_for(type(module))
