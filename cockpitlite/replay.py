"""Re-evaluation: a recorded forward made once more, at other parameters, with nothing of the user's touched.

Parameters and buffers are substituted, never written. The random number generators are put where they stood and put
back afterwards, autocast is entered as it was, nobody's hooks are called. Gradients are taken while the substitution
stands: a non-reentrant checkpoint recomputes inside the backward, from whatever parameters it then finds.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module

from cockpitlite.attributes import attributes_preserved
from cockpitlite.hooks import hooks_bypassed
from cockpitlite.losses import has_shared_term
from cockpitlite.records import Backward, Call, Streams, Surroundings
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


def loss_gradient(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a recorded backward and its gradient, evaluated anew at ``values``.

    Both are unscaled. ``values`` belong to ``parameters``; other parameters of the model keep theirs. Raises
    NotReplayable where the road from the model's output to the loss was not seen.
    """
    if backward.given is None or backward.trace is None or not backward.forwards:
        raise NotReplayable("the loss of this step was not seen, so it cannot be evaluated again")
    if not all(forward.intact for forward in backward.forwards):
        raise NotReplayable("the batch was overwritten in place during the step, so it cannot be evaluated again")
    if has_shared_term(backward):
        raise NotReplayable(
            "the loss has a term that was computed from the parameters outside of the model, such as a penalty, and "
            "how it was computed was not seen"
        )
    leaves = [value.detach().requires_grad_(value.is_floating_point()) for value in values]
    substitutes = {id(parameter): leaf for parameter, leaf in zip(parameters, leaves, strict=True)}
    known: dict[int, Tensor] = dict(substitutes)
    road = backward.trace.road_to(backward.given)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for forward in backward.forwards:
            stack.enter_context(surrounded(forward.surroundings))
            module = bare(forward.root)
            stack.enter_context(substituted(module, substitutes, forward.buffers))
            outputs = list(tensors_in(module(*forward.args, **forward.kwargs)))
            known.update((id(old), new) for old, new in zip(forward.outputs, outputs, strict=True))
        walk(road, known)
        loss = known.get(id(backward.given))
        if loss is None or loss.grad_fn is None:
            raise NotReplayable(
                "the loss does not come from the model's output by torch functions that can be followed"
            )
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    scale = 1.0 if backward.scale is None else backward.scale
    filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]
    return loss.detach() / scale, [(g.to_dense() if g.is_sparse else g) / scale for g in filled]


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
        stack.enter_context(substituted(module, substitutes, call.buffers))
        yield list(tensors_in(module(*call.args, **call.kwargs)))


@contextlib.contextmanager
def substituted(module: nn.Module, substitutes: Mapping[int, Tensor], buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a module see other values of its parameters and copies of its buffers, and call no hooks."""
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
        warnings.catch_warnings(),
    ):
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


def _prefix(buffers: Mapping[str, Tensor], module: nn.Module) -> str:
    """Return what a wrapper put before the names of the buffers it recorded."""
    own = next((name for name, _ in module.named_buffers()), "")
    recorded = next(iter(buffers), "")
    return recorded.removesuffix(own) if own and recorded.endswith(own) else ""


def _eager(module: nn.Module) -> Any:
    """Return a context in which compiled submodules run as plain Python, where this torch can do that."""
    compiled = any(getattr(part, "_compiled_call_impl", None) is not None for part in module.modules())
    stance = getattr(torch.compiler, "set_stance", None)
    return stance("force_eager") if compiled and stance is not None else contextlib.nullcontext()
