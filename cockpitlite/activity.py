"""How the outputs of a layer are distributed: mean, spread, and the shares of units that are dead or saturated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cockpitlite.precision import wide_sum
from cockpitlite.records import Activation

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold)  # of these a unit can die: it is 0 on every sample
_SQUASHING_AT = {nn.Tanh: 0.97, nn.Hardtanh: 0.97, nn.Softsign: 0.97}  # saturated beyond ±
_SIGMOIDS = (nn.Sigmoid, nn.Hardsigmoid)
LOW, HIGH = 0.02, 0.98  # a sigmoid is saturated outside of these


def activation(module: nn.Module, output: Tensor, units_first: bool, moments: bool) -> Activation:
    """Describe what a module returned for a batch, without waiting for the device; ``moments`` are a pass more.

    A unit is a feature or a channel: axis 1 of a matrix and of images, and of sequences where ``units_first``, else
    their last axis.
    """
    values = output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
    return Activation(
        count=values.numel(),
        total=wide_sum(values) if moments else None,
        squares=wide_sum(values.square()) if moments else None,
        extent=_extent(module, values, units_first) if isinstance(module, _RECTIFIERS) else None,
        saturated=_saturated(module, values),
        dtype=output.dtype,
    )


def has_rectifiers(model: nn.Module) -> bool:
    """Whether some module of the model is one whose units can die."""
    return any(isinstance(module, _RECTIFIERS) for module in model.modules())


def has_squashers(model: nn.Module) -> bool:
    """Whether some module of the model is one that saturates."""
    return any(isinstance(module, _SIGMOIDS) or type(module) in _SQUASHING_AT for module in model.modules())


def _extent(module: nn.Module, values: Tensor, units_first: bool) -> Tensor:
    """Return the largest magnitude of each unit, ``[unit]``; NaN where any value is."""
    units = 1 if values.dim() in (2, 4, 5) or (units_first and values.dim() > 2) else values.dim() - 1
    others = [axis for axis in range(values.dim()) if axis != units]
    magnitudes = values if isinstance(module, nn.ReLU | nn.ReLU6) else values.abs()
    return magnitudes.amax(others) if others else magnitudes.reshape(-1)


def _saturated(module: nn.Module, values: Tensor) -> Tensor | None:
    if isinstance(module, _SIGMOIDS):
        return _count_above((values - (LOW + HIGH) / 2).abs_(), (HIGH - LOW) / 2)
    limit = _SQUASHING_AT.get(type(module))
    return None if limit is None else _count_above(values.abs(), limit)


def _count_above(values: Tensor, limit: float) -> Tensor:
    """Return how many elements are above a limit; as numbers, which are compared faster than truths are."""
    return torch.gt(values, limit, out=torch.empty_like(values)).sum()
