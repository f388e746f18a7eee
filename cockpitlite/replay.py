"""Re-evaluation: a recorded forward made once more, at other parameters, with nothing of the user's touched.

Parameters and buffers are substituted, never written. The random number generators are put where they stood and put
back afterwards, autocast is entered as it was, nobody's hooks are called. Gradients are taken while the substitution
stands: a non-reentrant checkpoint recomputes inside the backward, from whatever parameters it then finds.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module

from cockpitlite.attributes import attributes_preserved
from cockpitlite.hooks import CallRecorder as CallRecorder
from cockpitlite.hooks import hooks_bypassed
from cockpitlite.losses import has_shared_term
from cockpitlite.records import Backward, Call, Forward, Streams, Surroundings
from cockpitlite.trace import walk
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
    ``loss`` is scaled as it was given to backward. ``outputs`` are the tensors the model returned, one list a forward.
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
        with contextlib.ExitStack() as stack, torch.enable_grad():
            for forward in backward.forwards:
                stack.enter_context(surrounded(forward.surroundings))
                with self._substituted(forward) as module, around(forward):
                    outputs = list(tensors_in(module(*forward.args, **forward.kwargs)))
                self.outputs.append(outputs)
                known.update((id(old), new) for old, new in zip(forward.outputs, outputs, strict=True))
            walk(backward.trace.road_to(*backward.givens), known)
            losses = [known.get(id(given)) for given in backward.givens]
            if any(loss is None or loss.grad_fn is None for loss in losses):
                raise NotReplayable(
                    "the loss does not come from the model's output by torch functions that can be followed"
                )
            self.loss = torch.stack([loss.reshape(()) for loss in losses if loss is not None]).sum()

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Let the model see the leaves again: a checkpoint recomputes inside the backward, from what it then finds."""
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
    return replay.loss.detach() / replay.scale, [dense(g) / replay.scale for g in filled]


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
    forwards: list[Forward] = []

    @contextlib.contextmanager
    def recorded(forward: Forward) -> Iterator[None]:
        with recorder.over(forward) as again:
            forwards.append(again)
            yield

    replay = Replay(backward, parameters, values, recorded)
    with replay.standing():
        gradients_of([replay.loss], replay.leaves)
    return Backward([], backward.loss, backward.scale, None, forwards)


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
    """Let a module see other values of its parameters and copies of its buffers, as it was, and call no hooks."""
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


class _OpenCheckpoint:
    """Stands in for torch's CheckpointFunction."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """Call the function; what it draws from the random streams, the checkpoint would draw too."""
        return function(*args)


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
