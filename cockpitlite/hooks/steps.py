"""The two ends of an optimizer's step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle


def attach_to_steps(
    optimizer: torch.optim.Optimizer, before: Callable[[bool], None], after: Callable[[], None]
) -> list[RemovableHandle]:
    """Call ``before(closure given?)`` and ``after()`` around every step really taken, once where steps nest.

    Of a step that ends by an exception torch calls no second hook: whether one is still under way is told by its frame.
    """
    depth, outermost = 0, None

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth, outermost
        frames = stepping(sys._getframe(1))
        innermost = next(frames, None)
        depth = depth + 1 if depth and any(frame is outermost for frame in frames) else 1
        if depth == 1:
            outermost = innermost
            given = (*args, kwargs.get("closure"))
            before(any(callable(item) for item in given))

    def leaving(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth, outermost
        depth = max(0, depth - 1)
        if depth == 0:
            outermost = None
            after()

    hidden = torch._disable_dynamo  # type: ignore[attr-defined]  # a compiled step is not to be traced into our hooks
    return [
        optimizer.register_step_pre_hook(hidden(entering)),
        optimizer.register_step_post_hook(hidden(leaving)),
    ]


def stepping(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames that torch calls a step's hooks from, innermost first."""
    while frame is not None:
        if frame.f_globals.get("__name__") == torch.optim.Optimizer.__module__:
            yield frame
        frame = frame.f_back
