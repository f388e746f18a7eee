"""The parabola through both ends of a step, weighing each observation by its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.statistics.line import StepLine
from cockpitlite.statistics.statistic import Statistic, Supply, Want


@dataclass(frozen=True)
class ParabolaFit(Statistic):
    """The weighted least-squares fit of w0 + w1 x + w2 x² to value and slope at x = 0 and x = τ, all scalar tensors.

    ``position`` is τ/x* − 1, x* being the minimiser (−1 where there is none), ``standard_error`` that of the position,
    ``curvature`` 2 w2. The fit has four observations and three unknowns: its closed form divides the one residual
    f1 − f0 − τ(d0 + d1)/2 among the observations by their variances. Without variances the slopes alone decide.
    """

    position: Tensor
    standard_error: Tensor
    curvature: Tensor
    judges_previous: ClassVar[bool] = True
    wants: ClassVar[frozenset[Want]] = StepLine.wants
    wants_before: ClassVar[frozenset[Want]] = StepLine.wants_before

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Fit the line of the last step."""
        line = supply(StepLine)
        start, end, half = line.slope_start, line.slope_end, line.length / 2
        nan = torch.full_like(start, torch.nan)
        f0, f1 = _or(line.loss_start, nan), _or(line.loss_end, nan)
        v_start, v_end = _or(line.slope_start_variance, nan), _or(line.slope_end_variance, nan)
        v_values = _or(line.loss_start_variance, nan) + _or(line.loss_end_variance, nan)
        residual = f1 - f0 - half * (start + end)
        total = v_values + half.square() * (v_start + v_end)
        weighted = torch.isfinite(residual) & torch.isfinite(total) & (total > 0)
        fitted_start = start + torch.where(weighted, v_start * half * residual / total, 0.0)
        fitted_end = end + torch.where(weighted, v_end * half * residual / total, 0.0)
        curvature = (fitted_end - fitted_start) / line.length
        position = torch.where(curvature > 0, -fitted_end / fitted_start, -1.0)
        variance = _variance(fitted_start, fitted_end, v_start, v_end, half, total)
        return cls(
            position=torch.where(torch.isnan(curvature), nan, position),
            standard_error=torch.where(weighted, variance.clamp(min=0).sqrt(), nan),
            curvature=curvature,
        )

    def known(self, observation: Tensor | None) -> Tensor:
        """Return an observation, or NaN for one that is not known."""
        return _or(observation, torch.full_like(self.position, torch.nan))


def _or(observation: Tensor | None, nan: Tensor) -> Tensor:
    return nan if observation is None else observation


def _variance(start: Tensor, end: Tensor, v_start: Tensor, v_end: Tensor, half: Tensor, total: Tensor) -> Tensor:
    """Return Var(−p1/p0) by the delta method, with the covariance that the fit leaves on the slopes p0 and p1."""
    of_start = v_start - (half * v_start).square() / total
    of_end = v_end - (half * v_end).square() / total
    of_both = -half.square() * v_start * v_end / total
    by_start, by_end = end / start.square(), -1 / start
    return by_start.square() * of_start + by_end.square() * of_end + 2 * by_start * by_end * of_both
