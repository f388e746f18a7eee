"""Which elements of the per-sample gradients are looked at: as many as a histogram needs, at random places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cockpitlite.statistics.step import Step

LIMIT = 2**14  # elements looked at unless all are asked for: one σ of a bin's share is then 0.4 % at most


@dataclass(frozen=True)
class Draw:
    """Flat ``places`` in each parameter, by position, ``[sample, pick]``; a tensor that got no gradient has some too.

    ``runs`` tell, going down one column of picks after another, how many stand for the total too, and how many are
    there for the sake of the tensor alone, whose due share of all drawn is smaller.
    """

    places: Mapping[int, Tensor]
    runs: Mapping[int, Sequence[tuple[int, bool]]]

    @classmethod
    def of(cls, step: Step, touched: Sequence[int], samples: int, looked_at: int) -> Self:
        """Draw for some of all samples ``looked_at``: the same share of every parameter's elements, but for rounding.

        ``touched`` are the parameters that a gradient reached. All places are taken where they are few.
        """
        others = [index for index, frozen in enumerate(step.frozen) if not frozen and index not in touched]
        sizes = {index: step.start[index].numel() for index in (*touched, *others) if step.start[index].numel()}
        share = LIMIT / (looked_at * sum(sizes.values())) if sizes else 1.0
        device, rounding = step.start[0].device, step.memory.rounding
        if share >= 1 or not samples:
            places = {index: torch.arange(size, device=device).expand(samples, size) for index, size in sizes.items()}
            return cls(places, {index: [(samples * size, True)] for index, size in sizes.items()})
        picks = {index: max(1, math.ceil(share * size)) for index, size in sizes.items()}
        numbers = torch.randint(2**62, (samples, sum(picks.values())), generator=step.generator, device=device)
        picked = zip(sizes.items(), numbers.split(list(picks.values()), 1), strict=True)
        due = _due({index: size * samples for index, size in sizes.items()}, share, rounding.random())
        begins = itertools.accumulate(due.values(), initial=rounding.randrange(samples))  # every sample has its turn
        return cls(
            {index: each.remainder(size) for (index, size), each in picked},
            {
                index: _runs(samples, picks[index], due[index], begin % samples)
                for index, begin in zip(due, begins, strict=False)
            },
        )


def _due(sizes: Mapping[int, int], share: float, offset: float) -> dict[int, int]:
    """Round shares of sizes to whole numbers with the right expectation and the right sum: ``offset`` is in [0, 1)."""
    found, passed = {}, 0.0
    for index, size in sizes.items():
        before, passed = math.floor(passed + offset), passed + share * size
        found[index] = math.floor(passed + offset) - before
    return found


def _runs(samples: int, picks: int, due: int, begin: int) -> list[tuple[int, bool]]:
    """Let the ``due`` number of picks stand for the total: whole columns, and part of one, from a sample on."""
    whole, rest = divmod(due, samples)
    begin = begin if rest else 0
    ahead = max(0, begin + rest - samples)  # of the part, what goes on at the first sample
    parts = [(whole * samples + ahead, True), (begin - ahead, False), (rest - ahead, True)]
    taken = sum(number for number, _ in parts)
    return [part for part in (*parts, (samples * picks - taken, False)) if part[0]]
