"""One training step as it was seen: the raw material that every statistic is made from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cockpitlite.meters import Meters
from cockpitlite.precision import at_least_float32, widest
from cockpitlite.records import Backward, Forward
from cockpitlite.replay import CallRecorder, NotReplayable, forwards_again, with_calls


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

    ``displacement`` and ``start`` (None where nobody wants it) are lists over parameters; ``slope`` is gᵀd along the
    displacement itself, and the variances are unbiased ones over the samples, None where they are not known.
    """

    step: int
    displacement: list[Tensor]
    start: list[Tensor] | None
    length: Tensor
    loss: Tensor | None
    loss_variance: Tensor | None
    slope: Tensor
    slope_variance: Tensor | None
    samples: int | None


@dataclass
class Memory:
    """What is carried from one tracked step to the next.

    ``followed`` says by name where the search for an eigenvalue goes on; ``squared_hessian`` is a mean of ‖Hv‖²,
    ``scatter`` one of the variance of a drawn trace; ``known_loss`` says whether the loss was found to have a curvature
    of a known form, None before that was tested; ``curved`` whether the model was found to be more than linear in some
    tensor of its parameters; ``calls_wanted`` whether the calls of the modules are wanted where the batch is evaluated
    again; ``rounding`` is a random stream on the host.
    """

    rounding: random.Random = field(default_factory=lambda: random.Random(0))
    known_loss: bool | None = None
    curved: bool = False
    calls_wanted: bool = False
    followed: dict[str, Tensor] = field(default_factory=dict)
    squared_hessian: Tensor | None = None
    scatter: Tensor | None = None


@dataclass
class Step:
    """Everything known of a step once the optimizer has taken it.

    The lists run over the watched parameters, in the order of ``names``; ``missing`` marks those that got no gradient,
    ``frozen`` those of them that take none. ``start`` are the parameters before the step,
    ``evaluated`` those that the batch was evaluated with, other ones where the optimizer has ``moved`` them in between;
    ``hooked`` tells that the user's hooks may have made the gradient another one than that of the loss;
    ``displacement`` is what the step added, ``gradient`` the gradient of the minimised loss, unscaled and unclipped
    (zero where there was none), ``clipped`` the one the optimizer saw, ``stale`` what of it was there before the step's
    first backward, None where nothing was. Under ``maximize`` the loss and the gradient
    have changed sign, so that downhill is always good. ``chosen`` holds, per backward, the samples looked at, or None
    for all. ``generator`` is a random stream of our own on the parameters' device; ``recorder`` records the calls of
    the modules where a batch is evaluated again, the only way to see them where they are ``unseen``. ``foreign`` are
    the parameters that act outside of the module that owns them too. ``reasons`` says,
    by topic, what is known not to work; ``held`` whether a check on the device held, None where that is sure;
    ``remarks`` what a user should know of how a reading was made.
    """

    index: int
    names: list[str]
    parameters: list[nn.Parameter]
    missing: list[bool]
    frozen: list[bool]
    signs: list[float]
    start: list[Tensor]
    evaluated: list[Tensor]
    moved: bool
    hooked: bool
    displacement: list[Tensor]
    gradient: list[Tensor]
    clipped: list[Tensor] | None
    stale: list[Tensor] | None
    backwards: list[Backward]
    chosen: list[Tensor | None]
    origin: list[Tensor] | None
    line: Line | None
    groups: list[dict[str, Any]]
    generator: torch.Generator
    optimizer: torch.optim.Optimizer
    memory: Memory
    meters: Meters
    interval: float
    recorder: CallRecorder | None
    unseen: bool = False
    foreign: frozenset[int] = frozenset()
    scan: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    held: dict[str, Tensor | None] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    loss_fn: Any = None

    @cached_property
    def passes(self) -> list[Backward]:
        """The backwards with the calls of the modules; Unavailable where those cannot be had."""
        if not self.unseen or self.recorder is None:
            return self.backwards
        try:
            return [with_calls(backward, self.parameters, self.evaluated, self.recorder) for backward in self.backwards]
        except NotReplayable as reason:
            raise _unseen(reason) from reason

    @cached_property
    def looked_into(self) -> list[Forward]:
        """The forwards with what was noted of the layers' outputs; Unavailable where that cannot be had."""
        if not self.unseen or self.recorder is None or "passes" in self.__dict__:
            return [forward for backward in self.passes for forward in backward.forwards]
        again = (forwards_again(b, self.parameters, self.evaluated, self.recorder) for b in self.backwards)
        try:
            return [forward for forwards in again for forward in forwards]
        except NotReplayable as reason:
            raise _unseen(reason) from reason

    @cached_property
    def samples(self) -> int:
        """The batch size N, over all backwards of the step; raises Unavailable where it is not known."""
        sizes = [backward.samples for backward in self.backwards]
        if not sizes or any(size is None for size in sizes):
            raise Unavailable(
                self.reasons.get(
                    "samples",
                    "no backward() through a call of the model was seen in this step, so neither was its batch; if the "
                    "loop calls what torch.compile(model) returns, give that to watch()",
                )
            )
        total = sum(size for size in sizes if size is not None)
        if not total:
            raise Unavailable("the batch is empty")
        return total

    def trusted(self, topic: str, value: Tensor) -> Tensor:
        """Return a value, or NaN where the check it rests on did not hold; decided on the device."""
        held = self.held.get(topic)
        return value if held is None else torch.where(held, value, torch.nan)

    def signed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors like the parameters with the opposite sign where the optimizer maximises; else as they are."""
        return [-tensor if sign < 0 else tensor for tensor, sign in zip(tensors, self.signs, strict=True)]

    @property
    def sign(self) -> float:
        """−1 where the optimizer maximises, else 1."""
        return -1.0 if all(sign < 0 for sign in self.signs) else 1.0


def _unseen(reason: NotReplayable) -> Unavailable:
    return Unavailable(f"what is compiled can only be seen in a second evaluation, and {reason}")


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, as float64 ``[tensor]`` (float32 where the device has no more)."""
    return widest(torch.stack(torch._foreach_norm([at_least_float32(tensor) for tensor in tensors])))


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, as a float64 scalar tensor (float32 as above)."""
    pairs = zip(left, right, strict=True)
    products = [torch.dot(at_least_float32(a).flatten(), at_least_float32(b).flatten()) for a, b in pairs]
    return widest(torch.stack(products)).sum()
