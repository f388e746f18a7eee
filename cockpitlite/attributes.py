"""What modules keep in plain Python attributes, left as it was by a re-evaluation: counters, caches, generators."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OF_TORCH = frozenset(nn.Module().__dict__)


@contextlib.contextmanager
def attributes_preserved(root: nn.Module) -> Iterator[None]:
    """Put every plain attribute of every module back to the object it was, with the contents it had."""
    before = [(module, dict(module.__dict__)) for module in root.modules()]
    plain = [value for _, attributes in before for name, value in attributes.items() if name not in _OF_TORCH]
    restorers = [restorer for restorer in map(_restorer, plain) if restorer is not None]
    try:
        yield
    finally:
        for module, attributes in before:
            now = module.__dict__
            for name in [name for name in now if name not in attributes]:
                del now[name]
            now.update({name: value for name, value in attributes.items() if now.get(name) is not value})
        for restore in restorers:
            restore()


def _restorer(value: Any) -> Callable[[], None] | None:
    """Return what puts the contents of a mutable value back, None for a value that cannot change."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: _set_state(value, state)
    if isinstance(value, random.Random):
        stream = value.getstate()
        return lambda: value.setstate(stream)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits)
    if isinstance(value, Tensor):
        return _tensor_restorer(value)
    if isinstance(value, list | deque):
        items = list(value)
        return lambda: _refill(value, items)
    if isinstance(value, dict | set):
        contents = value.copy()
        return lambda: _refill(value, contents)
    return None


def _set_state(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _tensor_restorer(tensor: Tensor) -> Callable[[], None]:
    version, values = tensor._version, tensor.detach().clone()

    def restore() -> None:
        if tensor._version != version:
            tensor.detach().copy_(values)

    return restore


def _refill(container: Any, contents: Any) -> None:
    """Give a container its former contents, if they have changed."""
    same = len(container) == len(contents) and all(a is b for a, b in zip(container, contents, strict=True))
    if same and not isinstance(container, dict):
        return
    container.clear()
    container.extend(contents) if isinstance(container, list | deque) else container.update(contents)
