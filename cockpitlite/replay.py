"""Re-evaluation: a recorded forward made once more, at other parameters, with nothing of the user's touched.

Parameters and buffers are substituted, never written. The random number generators are put where they stood and put
back afterwards, autocast is entered as it was, nobody's hooks are called. Where a backward may call Python, gradients
are taken while the substitution stands: a checkpoint recomputes inside of it, from whatever parameters it then finds.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn.utils.stateless import _reparametrize_module

from cockpitlite.attributes import attributes_preserved
from cockpitlite.hooks import CallRecorder as CallRecorder
from cockpitlite.hooks import hooks_bypassed
from cockpitlite.losses import has_shared_term
from cockpitlite.records import Backward, Call, Forward, Streams, Surroundings
from cockpitlite.trace import Operation, walk
from cockpitlite.tree import tensors_in


class NotReplayable(Exception):
    """A forward cannot be made again faithfully; the message is a sentence for the user."""


def bare(model: nn.Module) -> nn.Module:
    """Return the module inside the wrappers that add communication or compilation."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # torch.compile(model)
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


class Replay:
    """The loss of a recorded backward, evaluated anew at ``values``, with its graph.

    ``values`` belong to ``parameters``, whose stand-ins are ``leaves``; other parameters of the model keep theirs.
    ``loss`` is scaled as it was given to backward, ``nodes`` are those of its graph. ``outputs`` are the tensors the
    model returned, one list a forward. ``calls_python`` tells whether a backward may call more than torch itself.
    Raises NotReplayable where the road from the model's output to the loss was not seen.
    """

    def __init__(
        self,
        backward: Backward,
        parameters: Sequence[nn.Parameter],
        values: Sequence[Tensor],
        around: Callable[[Forward], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        _check_replayable(backward)
        self.backward = backward
        trained = zip(parameters, values, strict=True)
        self.leaves = [v.detach().requires_grad_(p.requires_grad and v.is_floating_point()) for p, v in trained]
        self._substitutes = {id(parameter): leaf for parameter, leaf in zip(parameters, self.leaves, strict=True)}
        self.outputs: list[list[Tensor]] = []
        assert backward.trace is not None
        known: dict[int, Tensor] = dict(self._substitutes)
        with contextlib.ExitStack() as stack, torch.enable_grad(), _python_noted() as noted:
            for forward in backward.forwards:
                stack.enter_context(surrounded(forward.surroundings))
                with self._substituted(forward) as module, around(forward):
                    outputs = list(tensors_in(module(*forward.args, **forward.kwargs)))
                self.outputs.append(outputs)
                known.update((id(old), new) for old, new in zip(forward.outputs, outputs, strict=True))
            _go_again(backward.trace.road_to(*backward.givens), known)
            losses = [known.get(id(given)) for given in backward.givens]
            if any(loss is None or loss.grad_fn is None for loss in losses):
                raise NotReplayable(
                    "the loss does not come from the model's output by torch functions that can be followed"
                )
            self.loss = torch.stack([loss.reshape(()) for loss in losses if loss is not None]).sum()
        self.nodes = nodes_before(self.loss)
        self.calls_python = bool(noted) or self.has_foreign_nodes

    @property
    def has_foreign_nodes(self) -> bool:
        """Whether some operation's backward is not torch's own."""
        return any(isinstance(node, BackwardCFunction) or "CppNode" in node.name() for node in self.nodes)

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Let the model see the leaves again: a checkpoint recomputes inside the backward, from what it then finds.

        Where the backward is all torch's own, it sees nothing of the model, and nothing is done.
        """
        if not self.calls_python:
            with torch.enable_grad():
                yield
            return
        modules = {id(forward.root): forward for forward in self.backward.forwards}
        with contextlib.ExitStack() as stack, torch.enable_grad():
            for forward in modules.values():
                stack.enter_context(surrounded(forward.surroundings))
                stack.enter_context(self._substituted(forward))
            yield

    @property
    def scale(self) -> Tensor | float:
        """The factor of a GradScaler on the loss."""
        return 1.0 if self.backward.scale is None else self.backward.scale

    @contextlib.contextmanager
    def _substituted(self, forward: Forward) -> Iterator[nn.Module]:
        """Let the model see the leaves; not to be entered twice for one model, which would then see no leaves."""
        module = bare(forward.root)
        with substituted(module, self._substitutes, forward.buffers, forward.modes):
            yield module


def _check_replayable(backward: Backward) -> None:
    if not backward.givens or backward.trace is None or not backward.forwards:
        raise NotReplayable("the loss of this step was not seen, so it cannot be evaluated again")
    if not all(forward.intact for forward in backward.forwards):
        raise NotReplayable("the batch was overwritten in place during the step, so it cannot be evaluated again")
    if has_shared_term(backward):
        raise NotReplayable(
            "the loss has a term that was computed from the parameters outside of the model, such as a penalty, and "
            "how it was computed was not seen"
        )


def loss_gradient(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a recorded backward and its gradient, evaluated anew at ``values``; both are unscaled."""
    replay = Replay(backward, parameters, values)
    with replay.standing():
        gradients = gradients_of([replay.loss], replay.leaves)
    filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, replay.leaves, strict=True)]
    loss, found = replay.loss.detach(), [dense(gradient) for gradient in filled]
    scale = backward.scale
    return (loss, found) if scale is None else (loss / scale, [gradient / scale for gradient in found])


def gradients_of(
    heads: Sequence[Tensor], leaves: Sequence[Tensor], tails: Sequence[Tensor] | None = None, **options: bool
) -> list[Tensor | None]:
    """Return the gradients of heads (weighed by ``tails``) by leaves; None for those without one, or frozen."""
    trained = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(heads, trained, tails, allow_unused=True, **options))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def batched_gradients(
    heads: Sequence[Tensor], leaves: Sequence[Tensor], tails: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the gradients for a batch of tails, ``[tail, *leaf]``; one after another where they cannot be batched."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations that have no batched backward and are looped over
        try:
            return gradients_of(heads, leaves, tails, is_grads_batched=True, retain_graph=True)
        except RuntimeError:
            each = [
                gradients_of(heads, leaves, [tail[index] for tail in tails], retain_graph=True)
                for index in range(len(tails[0]))
            ]
    return [
        None if any(part is None for part in parts) else torch.stack([part for part in parts if part is not None])
        for parts in zip(*each, strict=True)
    ]


def with_calls(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor], recorder: CallRecorder
) -> Backward:
    """Return a backward made again with the calls of the modules recorded, where they could not be seen before."""
    replay, forwards = _seen_again(backward, parameters, values, recorder)
    with replay.standing():
        gradients_of([replay.loss], replay.leaves)
    return Backward([], backward.loss, backward.scale, None, forwards)


def forwards_again(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor], recorder: CallRecorder
) -> list[Forward]:
    """Return the forwards of a backward made again, with what was noted of the layers' outputs."""
    return _seen_again(backward, parameters, values, recorder)[1]


def _seen_again(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor], recorder: CallRecorder
) -> tuple[Replay, list[Forward]]:
    forwards: list[Forward] = []

    @contextlib.contextmanager
    def recorded(forward: Forward) -> Iterator[None]:
        with recorder.over(forward) as again:
            forwards.append(again)
            yield

    return Replay(backward, parameters, values, recorded), forwards


def dense(tensor: Tensor) -> Tensor:
    """Return a sparse gradient as a dense one."""
    return tensor.to_dense() if tensor.is_sparse else tensor


@contextlib.contextmanager
def rerun(call: Call, substitutes: Mapping[int, Tensor]) -> Iterator[list[Tensor]]:
    """Make a recorded call again and yield the tensors among its outputs; gradients are to be taken inside.

    ``substitutes`` maps the identity of a parameter to the value to use. Raises NotReplayable where an input was
    overwritten.
    """
    if not call.intact:
        raise NotReplayable(f"an input of layer {call.name!r} was overwritten in place after the call")
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(surrounded(call.surroundings))
        module = bare(call.module)
        stack.enter_context(substituted(module, substitutes, call.buffers, call.modes))
        yield list(tensors_in(module(*call.args, **call.kwargs)))


@contextlib.contextmanager
def substituted(
    module: nn.Module, substitutes: Mapping[int, Tensor], buffers: Mapping[str, Tensor], modes: Mapping[int, bool]
) -> Iterator[None]:
    """Let a module see other values of its parameters and copies of its buffers, as it was, and call no hooks.

    Raises NotReplayable for one that exchanges tensors with other processes: these may be on another step.
    """
    if _processes() > 1 and (kind := _exchanging(module)):
        raise NotReplayable(
            f"{kind} exchanges tensors with the other processes, which may not be at the same step, so a batch is not "
            "evaluated again"
        )
    parameters = {
        name: substitutes.get(id(parameter), parameter.detach())
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    prefix = _prefix(buffers, module)
    copies = {name.removeprefix(prefix): buffer.clone() for name, buffer in buffers.items()}
    with (
        hooks_bypassed(module),
        attributes_preserved(module),
        _reparametrize_module(module, {**parameters, **copies}),
        _eager(module),
        _checkpoints_open(),
        warnings.catch_warnings(),
    ):
        for part in module.modules():
            part.training = modes.get(id(part), part.training)  # put back with the other attributes
        warnings.simplefilter("ignore")  # what the model warns of, it has warned of in its own call
        yield


def _processes() -> int:
    """Return how many processes train together."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def _exchanging(module: nn.Module) -> str:
    """Return the kind of a part whose forward waits for other processes, or nothing."""
    kinds = (kind for part in module.modules() for kind in type(part).__mro__)
    return next((kind.__name__ for kind in kinds if kind.__name__ in _EXCHANGING), "")


_EXCHANGING = ("SyncBatchNorm", "FullyShardedDataParallel", "FSDPModule")


@contextlib.contextmanager
def surrounded(surroundings: Surroundings | None) -> Iterator[None]:
    """Put the random number generators and autocast where they stood, and put them back."""
    if surroundings is None:
        yield
        return
    device = surroundings.device
    before = Streams.now(device)
    enabled, dtype = surroundings.autocast
    try:
        surroundings.streams.restore()
        with torch.autocast(device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
            yield
    finally:
        before.restore()


_closed_checkpoint = torch.utils.checkpoint.CheckpointFunction
_opening = threading.Lock()
_open: list[bool] = []


@contextlib.contextmanager
def _checkpoints_open() -> Iterator[None]:
    """Let a re-entrant checkpoint call its function as if it were none: no gradient can be asked through it else."""
    with _opening:
        _open.append(True)
        torch.utils.checkpoint.CheckpointFunction = _OpenCheckpoint  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        with _opening:  # threads that train at the same time may leave in any order
            _open.pop()
            if not _open:
                torch.utils.checkpoint.CheckpointFunction = _closed_checkpoint  # type: ignore[misc]


_plain_packing = saved_tensors_hooks.__enter__
_plain_hooking = Tensor.register_hook
_noting: list[list[None]] = []


@contextlib.contextmanager
def _python_noted() -> Iterator[list[None]]:
    """Note whether a forward leaves Python behind for its backward: to unpack what it saved, or as a tensor's hook.

    Other threads' forwards may be noted too, and ours taken for one of that kind: that costs time and no more.
    """
    noted: list[None] = []
    with _opening:
        _noting.append(noted)
        saved_tensors_hooks.__enter__ = _noted_packing  # type: ignore[method-assign]
        Tensor.register_hook = _noted_hooking  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        with _opening:
            _noting[:] = [other for other in _noting if other is not noted]
            if not _noting:
                saved_tensors_hooks.__enter__ = _plain_packing  # type: ignore[method-assign]
                Tensor.register_hook = _plain_hooking  # type: ignore[method-assign]


@functools.wraps(_plain_packing)
def _noted_packing(hooks: saved_tensors_hooks) -> None:
    for noted in _noting:
        noted.append(None)
    _plain_packing(hooks)


@functools.wraps(_plain_hooking)
def _noted_hooking(tensor: Tensor, hook: Callable[..., Any]) -> Any:
    if not isinstance(getattr(getattr(hook, "func", None), "__self__", None), CallRecorder):
        for noted in _noting:
            noted.append(None)
    return _plain_hooking(tensor, hook)  # type: ignore[no-untyped-call]


class _OpenCheckpoint:
    """Stands in for torch's CheckpointFunction."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """Call the function; what it draws from the random streams, the checkpoint would draw too."""
        return function(*args)


def _go_again(road: list[Operation], known: dict[int, Tensor]) -> None:
    """Walk from the model's output to the loss; NotReplayable with the reason where that fails."""
    try:
        walk(road, known)
    except Exception as error:
        if any(operation.function is torch.autograd.grad for operation in road):
            raise NotReplayable(
                "the loss contains a gradient, as a gradient penalty does, and a second evaluation does not see what "
                "that was taken of"
            ) from error
        raise NotReplayable(
            "the way from the model's output to the loss could not be gone a second time "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no words'})"
        ) from error


def nodes_before(tensor: Tensor) -> list[Node]:
    """Return the nodes of the graph that a tensor was computed by."""
    found = dict.fromkeys([tensor.grad_fn] if tensor.grad_fn is not None else [])
    waiting = list(found)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in found:
                found[node] = None
                waiting.append(node)
    return list(found)


def _prefix(buffers: Mapping[str, Tensor], module: nn.Module) -> str:
    """Return what a wrapper put before the names of the buffers it recorded."""
    own = next((name for name, _ in module.named_buffers()), "")
    recorded = next(iter(buffers), "")
    return recorded.removesuffix(own) if own and recorded.endswith(own) else ""


def _eager(module: nn.Module) -> Any:
    """Return a context in which compiled parts run as plain Python, where this torch can do that."""
    compiled = any(
        getattr(part, "_compiled_call_impl", None) is not None or hasattr(part, "_orig_mod")
        for part in module.modules()
    )
    stance = getattr(torch.compiler, "set_stance", None)
    return stance("force_eager") if compiled and stance is not None else contextlib.nullcontext()
