"""One training step as it was seen: the raw material that every statistic is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cockpitlite.records import Backward


class Unavailable(Exception):
    """A statistic or a reading cannot be had; the message is the reason a user reads.

    ``undefined`` names readings that are NaN for this reason, rather than missing.
    """

    def __init__(self, reason: str, undefined: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.undefined = tuple(undefined)


@dataclass(frozen=True)
class Line:
    """The step that was last taken, as a line from its start: what its successor needs to judge it.

    ``displacement`` and ``start`` are lists over parameters; ``slope`` is gᵀd along the displacement itself, and the
    variances are unbiased ones over the samples, None where they are not known.
    """

    step: int
    displacement: list[Tensor]
    start: list[Tensor]
    length: Tensor
    loss: Tensor | None
    loss_variance: Tensor | None
    slope: Tensor
    slope_variance: Tensor | None
    samples: int | None


@dataclass
class Step:
    """Everything known of a step once the optimizer has taken it.

    The lists run over the watched parameters, in the order of ``names``. ``start`` are the parameters before the step,
    ``displacement`` is what the step added, ``gradient`` the gradient of the minimised loss, unscaled and unclipped
    (zero where there was none), ``clipped`` the one the optimizer saw. Under ``maximize`` the loss and the gradient
    have changed sign, so that downhill is always good. ``chosen`` holds, per backward, the samples looked at, or None
    for all. ``reasons`` says, by topic, what is known not to work; ``held`` whether a check on the device held, which
    the host may not know yet.
    """

    index: int
    names: list[str]
    parameters: list[nn.Parameter]
    missing: list[bool]
    signs: list[float]
    start: list[Tensor]
    displacement: list[Tensor]
    gradient: list[Tensor]
    clipped: list[Tensor] | None
    backwards: list[Backward]
    chosen: list[Tensor | None]
    origin: list[Tensor] | None
    line: Line | None
    groups: list[dict[str, Any]]
    scan: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    held: dict[str, Tensor] = field(default_factory=dict)
    loss_fn: Any = None

    @cached_property
    def samples(self) -> int:
        """The batch size N, over all backwards of the step; raises Unavailable where it is not known."""
        sizes = [backward.samples for backward in self.backwards]
        if not sizes or any(size is None for size in sizes):
            raise Unavailable(
                self.reasons.get("samples", "the batch was not seen: the model was not called in this step")
            )
        total = sum(size for size in sizes if size is not None)
        if not total:
            raise Unavailable("the batch is empty")
        return total

    def trusted(self, topic: str, value: Tensor) -> Tensor:
        """Return a value, or NaN where the check it rests on did not hold; decided on the device."""
        held = self.held.get(topic)
        return value if held is None else torch.where(held, value, torch.nan)

    @property
    def sign(self) -> float:
        """−1 where the optimizer maximises, else 1."""
        return -1.0 if all(sign < 0 for sign in self.signs) else 1.0


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, as float64 ``[tensor]`` (float32 where the device has no more)."""
    return widest(torch.stack(torch._foreach_norm([at_least_float32(tensor) for tensor in tensors])))


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, as a float64 scalar tensor (float32 as above)."""
    pairs = zip(left, right, strict=True)
    products = [torch.dot(at_least_float32(a).flatten(), at_least_float32(b).flatten()) for a, b in pairs]
    return widest(torch.stack(products)).sum()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half-precision numbers as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def widest(tensor: Tensor) -> Tensor:
    """Return few numbers in the precision that sums and differences of them are taken in."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()
