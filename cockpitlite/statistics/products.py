"""Sums of outer products Σ_s a_s b_sᵀ per sample: when to build them, and their norms without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cockpitlite.statistics.survey import Asked

TOUCH = 4  # multiplications that take as long as reading or writing a number that is in a cache


@dataclass(frozen=True)
class Sizes:
    """A sample's contribution is a ``height`` × ``width`` matrix, the sum of ``places`` outer products."""

    height: int
    width: int
    places: int

    def better_built(self, asked: Asked[str]) -> bool:
        """Whether building it and reading it for each answer is less work than answering from the factors."""
        if asked.moments and self.places > 1:
            return True  # squares of sums need the sums
        elements = self.height * self.width
        built = elements * (self.places + TOUCH * (1 + asked.squares + asked.count))
        pairs = self.places**2 * (self.height + self.width) if asked.squares else 0
        return built < pairs + asked.count * elements * self.places

    def better_paired(self, samples: int) -> bool:
        """Whether the inner products with the contributions of all samples are less work than one with their sum."""
        return self.places == 1 and samples * (self.height + self.width) < self.height * self.width


def squared_by_pairs(x: Tensor, g: Tensor) -> Tensor:
    """Return ‖Σ_s g_s x_sᵀ‖² per sample, by the pairs of rows; ``[sample, row, ...]``."""
    if x.shape[1] == 1:
        return (torch.linalg.vector_norm(x, dim=(1, 2)) * torch.linalg.vector_norm(g, dim=(1, 2))).square()
    return ((x @ x.mT) * (g @ g.mT)).sum((1, 2))
