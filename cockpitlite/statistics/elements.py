"""The elements of the per-sample gradients, all of them or some that were drawn, for histograms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Some elements of g_n of one parameter: ``values`` and the ``weights`` they belong to, both ``[element]``.

    Those of a tensor so small that its due share of all drawn is none are there for its own sake, not ``in_total``.
    """

    parameter: int
    values: Tensor
    weights: Tensor
    in_total: bool = True


@dataclass(frozen=True)
class PerSampleElements(Statistic):
    """The elements g_nj of the per-sample gradients; ``names`` are the parameters', ``total`` is their number.

    ``drawn`` are about 2^16 of them (all where there are no more), at random places in every sample: in expectation the
    same share of every parameter. ``everything()`` goes through all, some at a time.
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
    touched, untouched = _touched(account), _untouched(step, account)
    sizes = {index: step.start[index].numel() for index in (*touched, *untouched)}
    due = _due(sizes, share, step.memory.rounding.random())
    positions = {index: _places(step, index, looked_at, max(1, count)) for index, count in due.items()}
    for index, picked in account.picked({index: positions[index] for index in touched}).items():
        places = positions[index]
        rest = None if shared is None else shared[index].flatten()[places]
        values = _as_gradient(step, index, picked, rest)
        yield Elements(index, values.flatten(), step.start[index].flatten()[places].flatten(), due[index] > 0)
    for index in untouched:
        weights = step.start[index].flatten()[positions[index]].flatten()
        yield Elements(index, torch.zeros_like(weights), weights, due[index] > 0)


def _due(sizes: Mapping[int, int], share: float, offset: float) -> dict[int, int]:
    """Round shares of sizes to whole numbers with the right expectation and the right sum: ``offset`` is in [0, 1)."""
    found, passed = {}, 0.0
    for index, size in sizes.items():
        before, passed = math.floor(passed + offset), passed + share * size
        found[index] = min(size, math.floor(passed + offset) - before)
    return found


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
    return [
        index
        for index, frozen in enumerate(step.frozen)
        if not frozen and index not in touched and step.start[index].numel()
    ]


def _as_gradient(step: Step, index: int, contribution: Tensor, shared: Tensor | None) -> Tensor:
    """Return g_n = N c_n with the sign of ``maximize``, and NaN where the records do not account for the gradient."""
    whole = contribution if shared is None else contribution + shared / step.samples
    return step.trusted("contributions", whole * (step.samples * step.signs[index]))
