"""What torch.compile has compiled: modules, and losses, which with followed tensors would run eagerly or refuse to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

_MOST = 50_000  # nodes looked at


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is the wrapper of torch.compile, or was compiled in place."""
    return hasattr(module, "_orig_mod") or is_compiled_in_place(module)


def is_compiled_in_place(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called: hooks on it would be compiled in."""
    return getattr(module, "_compiled_call_impl", None) is not None


class CompiledLoss:
    """Whether the loss may be computed by compiled code, found out from the graph of one step that is not followed.

    That the model is compiled, or parts of it, is no reason to look.
    """

    def __init__(self, root: nn.Module | None) -> None:
        self._found = False
        self._known = 0 if root is None else sum(map(is_compiled, root.modules()))  # compilers, when it was found out
        self._ends: list[Any] = []

    def is_possible(self) -> bool:
        """Whether it is so, or is still to be found out since something has been compiled."""
        return self._found or _compilers() > self._known

    def left(self, outputs: Sequence[Tensor]) -> None:
        """Note where the graph of the model ends."""
        self._ends = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]

    def look(self, losses: Sequence[Tensor]) -> None:
        """Find it out from what is about to be given to backward."""
        if self._ends and losses and _compilers() > self._known:
            self._known, self._found = _compilers(), _is_compiled(losses, self._ends)
        self._ends = []


def _compilers() -> int:
    """Return how many there are; none where torch.compile has not been used."""
    known = getattr(sys.modules.get("torch._dynamo.eval_frame"), "cached_backends", {})
    return sum(callable(compiler) for compiler in known.values())  # it notes too where nothing is to be compiled


def _is_compiled(losses: Sequence[Tensor], ends: Sequence[Any]) -> bool:
    """Whether there is compiled code between the outputs of the model and the losses."""
    met = {id(end): end for end in ends}
    waiting = [loss.grad_fn for loss in losses]
    while waiting and len(met) < _MOST:
        node = waiting.pop()
        if node is None or id(node) in met:
            continue
        if node.name().startswith("CompiledFunction"):
            return True
        met[id(node)] = node  # which holds on to it, so that no identity is given twice
        waiting += [child for child, _ in node.next_functions]
    return False
