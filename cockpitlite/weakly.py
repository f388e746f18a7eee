"""Calls of methods that do not keep their objects alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., Any], otherwise: Any = None) -> Callable[..., Any]:
    """Return what calls a bound method as long as its object lives, and gives ``otherwise`` after that."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        alive = reference()
        return otherwise if alive is None else alive(*arguments)

    return call
