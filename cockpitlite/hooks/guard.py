"""What every hook of ours has around it: no error reaches the training loop, time is counted, copies have none."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Meter:
    """What our hooks take of the training's time, and the first error in them: none reaches the training loop."""

    seconds: float = 0.0
    trouble: Exception | None = None


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let no error of ours reach the training loop: it is kept for the tracker to report. Add up the time it takes."""

    @functools.wraps(method)
    def body(self: Any, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.meter.trouble = self.meter.trouble or error
            return None
        finally:
            self.meter.seconds += time.perf_counter() - begin

    return body


class Hook:
    """A hook that vanishes when its module is copied or pickled, for copies are not watched, or compiled."""

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body

    def __call__(self, *args: Any) -> Any:
        """Do what is to be done, but in a graph that is compiled."""
        if torch.compiler.is_compiling():
            return None
        return self.body(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return contextlib.nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")  # takes anything, does nothing, loads without us
