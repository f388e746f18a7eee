"""Which elements of the per-sample gradients are looked at: as many as a histogram needs, at random places."""

from __future__ import annotations

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

    Those of a tensor so small that its due share of all drawn is none are there for its own sake, not ``in_total``.
    """

    places: Mapping[int, Tensor]
    in_total: Mapping[int, bool]

    @classmethod
    def of(cls, step: Step, touched: Sequence[int], samples: int, looked_at: int) -> Self:
        """Draw for some of all samples ``looked_at``: in expectation the same share of every parameter's elements.

        ``touched`` are the parameters that a gradient reached. All places are taken where they are few.
        """
        others = [index for index, frozen in enumerate(step.frozen) if not frozen and index not in touched]
        sizes = {index: step.start[index].numel() for index in (*touched, *others) if step.start[index].numel()}
        share = LIMIT / (looked_at * sum(sizes.values())) if sizes else 1.0
        device = step.start[0].device
        if share >= 1:
            places = {index: torch.arange(size, device=device).expand(samples, size) for index, size in sizes.items()}
            return cls(places, dict.fromkeys(sizes, True))
        due = _due(sizes, share, step.memory.rounding.random())
        counts = [max(1, count) for count in due.values()]
        numbers = torch.randint(2**62, (samples, sum(counts)), generator=step.generator, device=device)
        picked = zip(sizes.items(), numbers.split(counts, 1), strict=True)
        return cls(
            {index: each.remainder(size) for (index, size), each in picked},
            {index: count > 0 for index, count in due.items()},
        )


def _due(sizes: Mapping[int, int], share: float, offset: float) -> dict[int, int]:
    """Round shares of sizes to whole numbers with the right expectation and the right sum: ``offset`` is in [0, 1)."""
    found, passed = {}, 0.0
    for index, size in sizes.items():
        before, passed = math.floor(passed + offset), passed + share * size
        found[index] = min(size, math.floor(passed + offset) - before)
    return found
