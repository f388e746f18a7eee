"""The elements of the per-sample gradients, all of them or some that were drawn, for histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32
from cockpitlite.statistics.account import Account, accounts
from cockpitlite.statistics.draw import Draw
from cockpitlite.statistics.samples import SampleSurvey, SharedGradient
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step


@dataclass(frozen=True)
class Elements:
    """Some elements of g_n, of one parameter after another: ``values`` ``[element]``.

    ``runs`` tell which: the position of a parameter, how many elements, and whether they count in the total, which
    those that were drawn for the sake of a small tensor alone do not. ``weighed`` gives the parameters' own elements.
    """

    runs: Sequence[tuple[int, int, bool]]
    values: Tensor
    weighed: Callable[[], Tensor]

    @cached_property
    def weights(self) -> Tensor:
        """The elements of the parameters that the values belong to, ``[element]``."""
        return self.weighed()


@dataclass(frozen=True)
class PerSampleElements(Statistic):
    """The elements g_nj of the per-sample gradients; ``names`` are the parameters', ``total`` is their number.

    ``drawn`` are 2^14 of them (all where there are no more), at random places: the same share of every parameter, and
    more of a small one for its own sake. ``everything()`` goes through all, some at a time.
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
        """Take those that were drawn."""
        step, shared = supply.step, supply(SharedGradient).each
        numbers = sum(start.numel() for start, frozen in zip(step.start, step.frozen, strict=True) if not frozen)
        drawn = [_picked(step, draw, found, shared) for draw, found in supply(SampleSurvey).drawn]

        def everything() -> Iterator[Elements]:
            for account in accounts(step, every=True):
                yield from _all(step, account, shared)

        return cls(step.names, step.samples * numbers, drawn, everything)

    def as_edges(self, edges: Sequence[float]) -> Tensor:
        """Return edges of bins in the precision and on the device of the elements."""
        like = self.drawn[0].values
        return torch.tensor(edges, dtype=at_least_float32(like[:0]).dtype, device="cpu").to(
            like.device, non_blocking=True
        )


def _picked(step: Step, draw: Draw, found: Mapping[int, Tensor], shared: list[Tensor] | None) -> Elements:
    """Put together what was picked of each parameter; one that got no gradient on these samples has zeros."""
    parts, runs = [], []
    for index, places in draw.places.items():
        part = found.get(index)
        part = step.start[index].new_zeros(places.shape) if part is None else part
        part = part if shared is None else part + shared[index].flatten()[places] / step.samples
        parts.append((part if step.signs[index] > 0 else -part).T.reshape(-1))
        runs += [(index, number, in_total) for number, in_total in draw.runs[index]]

    def weighed() -> Tensor:
        return torch.cat([step.start[index].flatten()[places.T].reshape(-1) for index, places in draw.places.items()])

    return Elements(runs, step.trusted("contributions", torch.cat(parts) * step.samples), weighed)


def _all(step: Step, account: Account, shared: list[Tensor] | None) -> Iterator[Elements]:
    samples = account.scope.count
    for built in account.built():
        for index, each in built.items():
            yield _whole(step, index, each if shared is None else each + shared[index] / step.samples)
    reached = account.parameters
    for index, frozen in enumerate(step.frozen):
        if not frozen and index not in reached:
            yield _whole(step, index, torch.zeros_like(step.start[index]).expand(samples, *step.start[index].shape))


def _whole(step: Step, index: int, contributions: Tensor) -> Elements:
    values = step.trusted("contributions", contributions.flatten() * (step.samples * step.signs[index]))
    each = step.start[index].expand_as(contributions)
    return Elements([(index, values.numel(), True)], values, each.flatten)
