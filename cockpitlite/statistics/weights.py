"""How the elements of the parameters are distributed: their spread, and how much the units of a layer differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32, widest
from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Unavailable, norms

_CANCELLED = 16  # times the format's precision: what is left of a difference of squares means nothing below


class _Sums(NamedTuple):
    """Of each matrix, ``[matrix]``: elements and rows, the sum and that of squares, and squared lengths of rows.

    ``longest`` is that of the longest row, ``apart`` that of the largest difference from the mean row.
    """

    size: Tensor
    rows: Tensor
    whole: Tensor
    squares: Tensor
    longest: Tensor
    apart: Tensor


@dataclass(frozen=True)
class WeightSpread(Statistic):
    """How the parameters of two or more dimensions are spread before the step: ``matrices`` with a row per unit."""

    names: Sequence[str]
    matrices: Sequence[Tensor]

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take them from the step."""
        step = supply.step
        found = [(n, _matrix(t)) for n, t in zip(step.names, step.start, strict=True) if t.dim() > 1 and t.numel()]
        if not found:
            raise Unavailable("no parameter has two or more dimensions")
        names, matrices = zip(*found, strict=True)
        return cls(names, matrices)

    @cached_property
    def std(self) -> Tensor:
        """The standard deviation of each one's elements, ``[parameter]``."""
        sums = self._sums
        return self._std(sums.size, sums.whole, sums.squares)

    @cached_property
    def total(self) -> Tensor:
        """The standard deviation of all their elements."""
        sums = self._sums
        return self._std(sums.size.sum(), sums.whole.sum(), sums.squares.sum())

    @cached_property
    def rows(self) -> Tensor:
        """The largest distance of a row from the mean row over the longest row's length, ``[parameter]``.

        0 where all rows are equal, about 1 where they are independent; NaN for a single row.
        """
        sums = self._sums
        floor = _CANCELLED * self._rounding * sums.longest
        apart = sums.apart.where((sums.apart > floor) | sums.apart.isnan(), 0)
        ratios = (apart / sums.longest.where(sums.longest > 0, 1)).sqrt()
        return ratios.where(sums.rows > 1, torch.nan)

    @cached_property
    def _sums(self) -> _Sums:
        """‖w_r − m‖² = ‖w_r‖² − 2 w_r·m + ‖m‖² for a row and the mean row: no matrix of differences is needed."""
        means = [matrix.mean(0) for matrix in self.matrices]
        lengths = [torch.linalg.vector_norm(matrix, dim=1) for matrix in self.matrices]
        pairs = zip(self.matrices, means, strict=True)
        middles = norms(means).square()
        apart = torch._foreach_mul(lengths, lengths)
        torch._foreach_add_(apart, [matrix @ mean for matrix, mean in pairs], alpha=-2)
        sizes = torch.tensor([float(matrix.numel()) for matrix in self.matrices], device="cpu")
        counts = torch.tensor([float(len(matrix)) for matrix in self.matrices], device="cpu")
        size, rows = widest(torch.stack([sizes, counts])).to(middles.device, non_blocking=True).unbind()
        return _Sums(
            size=size,
            rows=rows,
            whole=widest(torch.stack([mean.sum() for mean in means])) * rows,
            squares=norms(lengths).square(),
            longest=widest(torch.stack([length.amax() for length in lengths])).square(),
            apart=widest(torch.stack([one.amax() for one in apart])) + middles,
        )

    @property
    def _rounding(self) -> float:
        return max(torch.finfo(matrix.dtype).eps for matrix in self.matrices)

    def _std(self, size: Tensor, whole: Tensor, squares: Tensor) -> Tensor:
        square = squares / size
        variance = square - (whole / size).square()
        return variance.where(variance > _CANCELLED * self._rounding * square, 0).sqrt()


def _matrix(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return at_least_float32(real).flatten(1)
