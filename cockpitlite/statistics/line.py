"""The loss along the step that was taken: what is needed to tell a step that is too short from one that is too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import above_rounding
from cockpitlite.replay import NotReplayable, loss_gradient
from cockpitlite.statistics.loss import BatchLoss, SampleLosses
from cockpitlite.statistics.motion import Displacement
from cockpitlite.statistics.samples import SampleSurvey
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Line, Step, Unavailable, inner

COMPLEX = "some parameters are complex numbers, and slopes and samples' gradients are measured for real ones"


@dataclass(frozen=True)
class Descent(Statistic):
    """gᵀd: the slope of the batch's loss along the step it led to; negative when the step goes downhill."""

    slope: Tensor

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take the inner product of gradient and step."""
        _check_real(supply.step)
        return cls(inner(supply.step.gradient, supply.step.displacement))


@dataclass(frozen=True)
class StepLine(Statistic):
    """Value and slope of the loss at both ends of the last step, each end on its own batch, along e = d/‖d‖.

    Variances are those of the means: the unbiased variance over the samples, divided by the number of samples; None
    where the samples are not known.
    """

    length: Tensor
    loss_start: Tensor | None
    loss_end: Tensor | None
    slope_start: Tensor
    slope_end: Tensor
    loss_start_variance: Tensor | None
    loss_end_variance: Tensor | None
    slope_start_variance: Tensor | None
    slope_end_variance: Tensor | None
    judges_previous: ClassVar[bool] = True
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ON_LAST_STEP})
    wants_before: ClassVar[frozenset[Want]] = frozenset({Want.ON_STEP})

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Join what the last step left with what this batch says at its end."""
        _check_real(supply.step)
        step, line = supply.step, _line(supply.step)
        loss, loss_variance = loss_and_variance(supply)
        slope_variance = variance_along(supply, Want.ON_LAST_STEP)
        squared = line.length.square()
        return cls(
            length=line.length,
            loss_start=line.loss,
            loss_end=loss,
            slope_start=line.slope / line.length,
            slope_end=_slope_of_batch(step, line.displacement) / line.length,
            loss_start_variance=_of_mean(line.loss_variance, line.samples),
            loss_end_variance=_of_mean(loss_variance, _samples(step)),
            slope_start_variance=_of_mean(line.slope_variance, line.samples, squared),
            slope_end_variance=_of_mean(slope_variance, _samples(step), squared),
        )


@dataclass(frozen=True)
class SameBatchSlopes(Statistic):
    """dᵀ∇L of the step's own batch, before (``start``) and after (``end``) the step."""

    start: Tensor
    end: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Evaluate the batch once more where the step has led."""
        step = supply.step
        after = [parameter.detach() for parameter in step.parameters]
        again = step.moved or step.hooked
        start = _slope_elsewhere(step, step.start, step.displacement) if again else supply(Descent).slope
        return cls(start, _slope_elsewhere(step, after, step.displacement))


@dataclass(frozen=True)
class NextBatchSlopes(Statistic):
    """dᵀ∇L of the batch after the step, at the step's ``start`` and ``end``: data the step has not seen."""

    start: Tensor
    end: Tensor
    judges_previous: ClassVar[bool] = True
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    wants_before: ClassVar[frozenset[Want]] = frozenset({Want.START})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Evaluate this batch once more where the last step began."""
        step, line = supply.step, _line(supply.step)
        if line.start is None:
            raise Unavailable("it was not kept where the step before began")
        before = _slope_elsewhere(step, line.start, line.displacement)
        if step.moved or step.hooked:
            return cls(before, _slope_elsewhere(step, step.start, line.displacement))
        return cls(before, inner(step.gradient, line.displacement))


def _check_real(step: Step) -> None:
    if any(parameter.is_complex() for parameter in step.parameters):
        raise Unavailable(COMPLEX)


def _slope_of_batch(step: Step, direction: list[Tensor]) -> Tensor:
    """Return gᵀd; NaN for an empty batch, whose gradient of zero says nothing."""
    slope = inner(step.gradient, direction)
    empty = any(backward.samples == 0 for backward in step.backwards)
    return torch.full_like(slope, torch.nan) if empty else slope


def line_of(supply: Supply) -> Line:
    """Return what the next step needs to judge this one."""
    step = supply.step
    loss, loss_variance = loss_and_variance(supply)
    return Line(
        step=step.index,
        displacement=step.displacement,
        start=step.start if Want.START in supply.wants else None,
        length=supply(Displacement).norms.norm(),
        loss=loss,
        loss_variance=loss_variance,
        slope=supply(Descent).slope,
        slope_variance=variance_along(supply, Want.ON_STEP),
        samples=_samples(step),
    )


def loss_and_variance(supply: Supply) -> tuple[Tensor | None, Tensor | None]:
    """Return the batch loss and the variance over its samples, each None where it is not known."""
    try:
        loss = supply(BatchLoss).value
    except Unavailable:
        return None, None
    if not any(want.per_sample for want in supply.wants):
        return loss, None
    try:
        return loss, supply(SampleLosses).variance
    except Unavailable:
        return loss, None


def variance_along(supply: Supply, want: Want) -> Tensor | None:
    """Return the unbiased variance of the samples' slopes along a direction, None where they are not known."""
    if want not in supply.wants:
        return None
    try:
        slopes = supply(SampleSurvey).on(want)
    except Unavailable:
        return None
    total, looked_at = supply.step.samples, len(slopes)
    if total < 2:
        return torch.full_like(slopes.sum(), torch.nan)
    centre = slopes.mean() if looked_at == total else _mean_slope(supply, want)
    deviation = (slopes - centre).square().sum()
    rounding = torch.finfo(supply.step.gradient[0].dtype).eps
    return above_rounding(deviation, slopes, rounding) * (total / looked_at) / (total - 1)


def _mean_slope(supply: Supply, want: Want) -> Tensor:
    if want is Want.ON_STEP:
        return supply(Descent).slope
    return inner(supply.step.gradient, _line(supply.step).displacement)


def _line(step: Step) -> Line:
    if step.line is None or step.line.step != step.index - 1:
        raise Unavailable("the step before was not recorded")
    return step.line


def _samples(step: Step) -> int | None:
    try:
        return step.samples
    except Unavailable:
        return None


def _of_mean(variance: Tensor | None, samples: int | None, scale: Tensor | float = 1.0) -> Tensor | None:
    return None if variance is None or samples is None else variance / (samples * scale)


def _slope_elsewhere(step: Step, values: list[Tensor], direction: list[Tensor]) -> Tensor:
    """Return dᵀ∇L of the step's batch at other parameter values."""
    if not step.backwards:
        raise Unavailable("no backward was seen in this step, so its batch cannot be evaluated again")
    slopes = []
    try:
        for backward in step.backwards:
            _, gradient = loss_gradient(backward, step.parameters, values)
            slopes.append(inner(step.signed(gradient), direction))
    except NotReplayable as reason:
        raise Unavailable(str(reason)) from reason
    except Exception as error:
        raise Unavailable(f"the batch could not be evaluated again: {type(error).__name__}: {error}") from error
    return step.trusted("replay", sum(slopes[1:], slopes[0]))
