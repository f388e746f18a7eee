"""The elements of the per-sample gradients, all of them or some that were drawn, for histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32
from cockpitlite.statistics.account import Account, accounts, shared_part
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable

LIMIT = 2**16  # elements looked at unless all are asked for: one σ of a bin's share is then 0.2 % at most


@dataclass(frozen=True)
class Elements:
    """Some elements of g_n of one parameter: ``values`` and the ``weights`` they belong to, both ``[element]``."""

    parameter: int
    values: Tensor
    weights: Tensor


@dataclass(frozen=True)
class PerSampleElements(Statistic):
    """The elements g_nj of the per-sample gradients; ``names`` are the parameters', ``total`` is their number.

    ``drawn`` are at most about 2^16 of them (all where there are no more): the same share of every parameter, at
    random places in every sample. ``everything()`` goes through all, some at a time.
    """

    names: Sequence[str]
    total: int
    drawn: Sequence[Elements]
    everything: Callable[[], Iterator[Elements]]
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ELEMENTS})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Draw elements; where they are few, take them all."""
        step = supply.step
        if "contributions" in step.reasons:
            raise Unavailable(step.reasons["contributions"])
        numbers = sum(start.numel() for start, frozen in zip(step.start, step.frozen, strict=True) if not frozen)
        total = step.samples * numbers
        shared = shared_part(step)
        seen = accounts(step)
        if not seen:
            raise Unavailable("no gradient reached any module of the model")
        looked_at = numbers * sum(len(account.scope.indices) for account in seen)
        if looked_at <= LIMIT:
            drawn = [found for account in seen for found in _all(step, account, shared)]
        else:
            drawn = [found for account in seen for found in _drawn(step, account, shared, LIMIT / looked_at)]

        def everything() -> Iterator[Elements]:
            for account in accounts(step, every=True):
                yield from _all(step, account, shared)

        return cls(step.names, total, drawn, everything)

    def as_edges(self, edges: Sequence[float]) -> Tensor:
        """Return edges of bins in the precision and on the device of the elements."""
        like = self.drawn[0].values
        return torch.tensor(edges, dtype=at_least_float32(like[:0]).dtype).to(like.device, non_blocking=True)

    @property
    def taken(self) -> int:
        """How many elements were drawn."""
        return sum(found.values.numel() for found in self.drawn)


def _all(step: Step, account: Account, shared: list[Tensor] | None) -> Iterator[Elements]:
    for built in account.built():
        for index, each in built.items():
            rest = None if shared is None else shared[index].flatten()
            values = _as_gradient(step, index, each.reshape(len(each), -1), rest)
            yield Elements(index, values.flatten(), step.start[index].flatten().expand_as(values).flatten())
    for index in _untouched(step, account):
        weights = step.start[index].flatten().repeat(len(account.scope.indices))
        yield Elements(index, torch.zeros_like(weights), weights)


def _drawn(step: Step, account: Account, shared: list[Tensor] | None, share: float) -> Iterator[Elements]:
    looked_at = len(account.scope.indices)
    untouched = _untouched(step, account)
    positions = {
        index: _places(step, index, looked_at, max(1, round(share * step.start[index].numel())))
        for index in (*_touched(account), *untouched)
    }
    for index, picked in account.picked({index: positions[index] for index in _touched(account)}).items():
        places = positions[index]
        rest = None if shared is None else shared[index].flatten()[places]
        values = _as_gradient(step, index, picked, rest)
        yield Elements(index, values.flatten(), step.start[index].flatten()[places].flatten())
    for index in untouched:
        weights = step.start[index].flatten()[positions[index]].flatten()
        yield Elements(index, torch.zeros_like(weights), weights)


def _places(step: Step, index: int, samples: int, count: int) -> Tensor:
    """Draw places of elements of a parameter, ``[sample, pick]``."""
    start = step.start[index]
    return torch.randint(start.numel(), (samples, count), generator=step.generator, device=start.device)


def _touched(account: Account) -> list[int]:
    """Return the parameters that a gradient reached."""
    return list({index: 0 for part in (*account.alone, *account.together) for index in part.parameters.values()})


def _untouched(step: Step, account: Account) -> list[int]:
    """Return the parameters whose gradient is zero on these samples, for none of them used it."""
    touched = set(_touched(account))
    return [index for index, frozen in enumerate(step.frozen) if not frozen and index not in touched]


def _as_gradient(step: Step, index: int, contribution: Tensor, shared: Tensor | None) -> Tensor:
    """Return g_n = N c_n with the sign of ``maximize``, and NaN where the records do not account for the gradient."""
    whole = contribution if shared is None else contribution + shared / step.samples
    return step.trusted("contributions", whole * (step.samples * step.signs[index]))
