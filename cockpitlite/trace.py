"""The road from the model's output to the loss: the torch functions called on it, so that it can be walked again.

On the steps that need it the model's output is handed to the training loop as a thin Tensor subclass. Every torch
function called on it runs as it would have run, and is noted. The loop sees the same numbers and the same gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import get_default_nowrap_functions

from cockpitlite.tree import map_tensors, tensors_in


@dataclass(frozen=True)
class Operation:
    """One torch function call and the tensors it gave."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: list[Tensor]
    versions: tuple[int, ...]

    @property
    def untouched(self) -> bool:
        """Whether what it gave still has the values it gave."""
        return self.versions == tuple(result._version for result in self.results)

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return list(tensors_in((self.args, self.kwargs)))


@dataclass(eq=False)
class Trace:
    """The operations noted in one step, in order, and the outputs of the model they began from."""

    operations: list[Operation] = field(default_factory=list)
    closed: bool = False

    def follow(self, output: Any) -> Any:
        """Return the model's output with every tensor that has a gradient replaced by one that is followed.

        A tensor of somebody's own class stays what it is, for it may behave in its own way.
        """
        return map_tensors(lambda tensor: self._followed(tensor) if tensor.requires_grad else tensor, output)

    def close(self) -> None:
        """Forget everything; tensors that are still followed are no longer noted."""
        self.closed = True
        self.operations.clear()

    def road_to(self, *losses: Tensor) -> list[Operation]:
        """Return the operations that ``losses`` were computed by, in order."""
        wanted = {id(loss) for loss in losses}
        road: list[Operation] = []
        for operation in reversed(self.operations):
            if any(id(result) in wanted for result in operation.results):
                road.append(operation)
                wanted.update(id(tensor) for tensor in operation.inputs)
        return road[::-1]

    def producer(self, tensor: Tensor) -> Operation | None:
        """Return the operation that gave a tensor, or None for an output of the model or a foreign tensor."""
        for operation in reversed(self.operations):
            if any(result is tensor for result in operation.results):
                return operation
        return None

    def _followed(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in _FOLLOWABLE:
            return tensor
        followed = tensor if isinstance(tensor, FollowedTensor) else tensor.as_subclass(FollowedTensor)
        if self not in followed._traces:
            followed._traces = (*(trace for trace in followed._traces if not trace.closed), self)
        return followed

    def _note(
        self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], result: Any, target: Tensor | None
    ) -> Any:
        """Note one call, and return its result followed; ``target`` is what it wrote to, as it was."""
        if self.closed or function in get_default_nowrap_functions() or _called(function) in _UNNOTED:
            return result
        followed = map_tensors(self._followed, result)
        results = (
            list(tensors_in(followed)) if result is not None else list(tensors_in(args[:1]))
        )  # written to in place
        if results:
            versions = tuple(tensor._version for tensor in results)
            noted = tuple(args) if target is None else (target, *args[1:])
            self.operations.append(Operation(function, noted, dict(kwargs), results, versions))
        return followed


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor outside of any graph, and no longer followed."""
    unfollowed = tensor.as_subclass(Tensor) if isinstance(tensor, FollowedTensor) else tensor
    return unfollowed.detach()


def walk(road: list[Operation], values: dict[int, Tensor]) -> None:
    """Call the operations of a road again; ``values`` maps the identity of a noted tensor to its new value."""

    for operation in road:
        writes = _writes(operation.function)

        def current(tensor: Tensor, writes: bool = writes) -> Tensor:
            known = values.get(id(tensor))
            if known is not None:
                return known
            return tensor.detach().clone() if writes and not tensor.requires_grad else tensor

        args = map_tensors(current, operation.args)
        kwargs = map_tensors(current, dict(operation.kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            result = operation.function(*args, **kwargs)
        if result is not None:
            values.update((id(noted), new) for noted, new in zip(operation.results, tensors_in(result), strict=True))


def _writes(function: Callable[..., Any]) -> bool:
    """Whether a function writes to one of its arguments: in place, or to running statistics."""
    name = _called(function)
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in _WRITERS


def _called(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", ""))


_WRITERS = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__", "__setitem__"}
_WRITERS |= {"batch_norm", "instance_norm"}


class FollowedTensor(Tensor):
    """A tensor on the road from the model's output to the loss."""

    _traces: tuple[Trace, ...] = ()

    @classmethod
    @torch._disable_dynamo  # type: ignore[attr-defined]  # traced into a compiled loss the handler fails; outside of it the loss runs eagerly
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function as on plain tensors, then note it."""
        kwargs = kwargs or {}
        target = None
        if _writes(func) and args and type(args[0]) is Tensor:
            target = args[0].detach().clone()
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        with contextlib.suppress(Exception):  # whatever goes wrong in noting, the loop gets its result
            followed = [tensor for tensor in tensors_in((args, kwargs)) if isinstance(tensor, FollowedTensor)]
            for trace in dict.fromkeys(trace for tensor in followed for trace in tensor._traces):
                result = trace._note(func, args, kwargs, result, target)
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as the plain tensor."""
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy as the plain tensor."""
        return self.as_subclass(Tensor).__deepcopy__(memo)

    def __repr__(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        """Show as the plain tensor."""
        return self.as_subclass(Tensor).__repr__(*args, **kwargs)

    def __format__(self, spec: str) -> str:
        """Format as the plain tensor: a number where it is one."""
        return format(self.as_subclass(Tensor), spec)


_FOLLOWABLE = (Tensor, torch.nn.Parameter, FollowedTensor)

# Running a backward is not a step on the road; and properties without a gradient are not worth keeping.
_UNNOTED = frozenset({"backward", Tensor.register_hook.__name__, Tensor.retain_grad.__name__})
