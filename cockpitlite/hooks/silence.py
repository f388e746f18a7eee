"""The silence around a re-evaluation: nobody's hooks are called, and ours only look at shapes."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from cockpitlite.hooks.calls import Owner, Shapes
from cockpitlite.tree import tensors_in

_HOOK_DICTIONARIES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextlib.contextmanager
def hooks_bypassed(root: nn.Module) -> Iterator[None]:
    """Call no hook of anybody inside ``root``, but those of torch.nn.utils, which compute parameters."""
    saved: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in root.modules():
            for attribute in _HOOK_DICTIONARIES:
                hooks = getattr(module, attribute)
                if hooks:
                    saved.append((module, attribute, hooks))
                    kept = {key: hook for key, hook in hooks.items() if _computes_parameters(hook)}
                    object.__setattr__(module, attribute, OrderedDict(kept))
        yield
    finally:
        for module, attribute, hooks in saved:
            object.__setattr__(module, attribute, hooks)


@contextlib.contextmanager
def recorded_shapes(owners: Sequence[Owner]) -> Iterator[dict[tuple[str, int], Shapes]]:
    """Record the output shapes of the owners' calls inside, by owner and how often it was called before."""
    found: dict[tuple[str, int], Shapes] = {}
    handles: list[RemovableHandle] = []

    def record(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        found[name, sum(key[0] == name for key in found)] = [tensor.shape for tensor in tensors_in(output)]

    try:
        hooks = [(owner.module, functools.partial(record, owner.name)) for owner in owners]
        handles += [module.register_forward_hook(hook) for module, hook in hooks]
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _computes_parameters(hook: Any) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")
