"""A step of plain momentum is a combination of the step before it and the gradient, and so are projections on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpitlite.statistics.step import Step

LOOKED_AT = 128  # elements of each parameter
ROUNDING = 16  # times the rounding of the elements, which is in a step as the difference of two parameters


def combination(step: Step) -> tuple[float, float] | None:
    """Return a and b such that the step is a·(the last step) + b·g, None where that is not so or not known here.

    SGD with momentum is linear in both, whatever the rates. The coefficients are fitted to some elements of every
    parameter, each by how exact it is, and must explain all of them. Not on devices that would have to be waited for.
    """
    group = step.optimizer.param_groups[0]
    linear = type(step.optimizer) is torch.optim.SGD and group["momentum"] and not group["nesterov"]
    if not linear or step.line is None or step.start[0].device.type != "cpu" or step.clipped is None:
        return None
    if any(seen is not own for seen, own in zip(step.clipped, step.gradient, strict=True)):
        return None
    target, last, gradient, start = (
        _some(part) for part in (step.displacement, step.line.displacement, step.gradient, step.start)
    )
    basis = np.stack([last, gradient], 1)
    if not (np.isfinite(basis).all() and np.isfinite(target).all()):
        return None
    rounding = torch.finfo(step.start[0].dtype).eps * (np.abs(start) + np.abs(last) + np.abs(target))
    known = rounding > 0  # an element that is always 0 tells nothing
    basis, target = basis[known] / rounding[known, None], target[known] / rounding[known]
    found, _, rank, _ = np.linalg.lstsq(basis, target, rcond=None)
    if rank < 2:
        return None
    explained = np.abs(target - basis @ found) <= ROUNDING
    return (float(found[0]), float(found[1])) if explained.all() else None


def _some(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return some elements of each tensor, from its middle, one tensor after another."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    begins = [max(0, (len(each) - LOOKED_AT) // 2) for each in flat]
    parts = [each[begin : begin + LOOKED_AT] for each, begin in zip(flat, begins, strict=True)]
    found: NDArray[np.float64] = torch.cat(parts).double().numpy()
    return found
