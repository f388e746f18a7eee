"""The precision that numbers are taken in: sums in float64, or in the widest format a device has."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half-precision numbers as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def widest(tensor: Tensor) -> Tensor:
    """Return few numbers in the precision that sums and differences of them are taken in."""
    return tensor.to(_widest_on(tensor.device))


def wide_sum(tensor: Tensor) -> Tensor:
    """Return the sum of all elements, taken in that precision."""
    return tensor.sum(dtype=_widest_on(tensor.device))


def above_rounding(deviation: Tensor, values: Tensor, rounding: float) -> Tensor:
    """Return Σ(x − centre)² of some values, or 0 where their relative ``rounding`` explains it."""
    floor = (8 * rounding) ** 2 * values.square().sum()
    return torch.where(deviation <= floor, torch.zeros_like(deviation), deviation)


def _widest_on(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
