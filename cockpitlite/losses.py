"""The losses of single samples, found on the road from the model's output to the loss, or in the autograd graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cockpitlite.records import Backward, Classified
from cockpitlite.trace import Operation, Trace, walk

_RESHAPES = {"view", "reshape", "flatten", "contiguous", "to", "float", "double", "clone", "unsqueeze", "squeeze"}
_AFFINE = {
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "truediv",
    "rtruediv",
    "neg",
    "sum",
    "mean",
    "stack",
    "cat",
    "iadd",
    "isub",
}
_AFFINE |= {
    "radd",
    "rmul",
    "imul",
    "itruediv",
    "idiv",
    "true_divide",
    "multiply",
    "divide",
    "subtract",
    "getitem",
    "alias",
}
_AFFINE |= _RESHAPES


class Unseen(Exception):
    """The losses of the samples are not known; the message is the reason a user reads."""


@dataclass(frozen=True)
class Term:
    """A reduced loss among what was added up: its value, and per-element parts that sum to it."""

    value: Tensor
    parts: Tensor  # [sample]


def sample_losses(backward: Backward, loss_fn: Any) -> Tensor:
    """Return ℓ_n, ``[sample]`` with mean L, unscaled; NaN where the parts do not sum to the loss that was computed.

    Raises Unseen with the reason where the loss cannot be divided among the samples.
    """
    samples = backward.samples
    if samples is None or backward.loss is None or not backward.givens:
        raise Unseen("no scalar loss of a seen batch was given to backward()")
    with torch.no_grad():
        if backward.per_sample is not None:
            return _observed(backward.per_sample, samples)
        try:
            parts = zip(backward.givens, backward.nodes, strict=True)
            return torch.stack([_from_road(backward, given, node, samples) for given, node in parts]).sum(0)
        except Unseen:
            if loss_fn is None:
                raise
            return _by_function(backward, loss_fn, samples)


def has_shared_term(backward: Backward) -> bool:
    """Whether the loss has a term besides those of samples that has a gradient: a penalty on the parameters."""
    if not backward.givens or backward.trace is None:
        return False
    known = {id(output) for forward in backward.forwards for output in forward.outputs}
    for operation in backward.trace.road_to(*backward.givens):
        foreign = [tensor for tensor in operation.inputs if id(tensor) not in known]
        if any(tensor.dim() == 0 and tensor.requires_grad and not tensor.is_leaf for tensor in foreign):
            return True
        known.update(id(result) for result in operation.results)
    return False


def _observed(losses: Tensor, samples: int) -> Tensor:
    if losses.shape != (samples,):
        raise Unseen(f"observe() was given losses of shape {tuple(losses.shape)} for a batch of {samples}")
    return losses


def _from_road(backward: Backward, given: Tensor, node: Tensor | None, samples: int) -> Tensor:
    """Divide one of the losses given to backward among the samples."""
    trace = backward.trace
    assert trace is not None
    plain = given.detach().as_subclass(Tensor).reshape(())
    loss = plain if backward.scale is None else plain / backward.scale
    if any(output is given for forward in backward.forwards for output in forward.outputs):
        if node is None:
            raise Unseen("the model returns its loss, and how it was computed inside could not be read")
        return _checked(loss, node, samples)
    if node is not None and node.dim() and node.shape[0] == samples:
        return _checked(loss, node, samples)
    road = trace.road_to(given)
    if not road:
        if node is not None:
            return _checked(loss, node, samples)
        raise Unseen(
            "the loss was computed by functions that could not be followed, such as one compiled by itself; pass "
            "loss_fn=, or give the losses of the samples to optimizer.cockpit.observe()"
        )
    reductions, tail = _split(backward, road)
    terms = [Term(op.results[0], _parts(op, trace, samples)) for op in reductions]
    weights = _weights([term.value for term in terms], tail, given)
    scale = torch.ones_like(loss) if backward.scale is None else backward.scale
    value, losses, consistent = torch.zeros_like(loss), None, None
    for reduction, term, weight in zip(reductions, terms, weights, strict=True):
        whole = term.parts.sum()
        value = value + weight / scale * whole
        part = samples * weight / scale * term.parts
        losses = part if losses is None else losses + part
        right = _close(whole, term.value.as_subclass(Tensor).detach()) if reduction.untouched else whole == whole
        consistent = right if consistent is None else consistent & right
    assert losses is not None and consistent is not None
    losses = losses + (loss - value)  # what comes from no sample is shared by all
    return torch.where(consistent, losses, torch.nan)


def _checked(loss: Tensor, node: Tensor, samples: int) -> Tensor:
    """Sum the elements read from the graph by sample, on the scale of the loss."""
    if node.dim() == 0 or node.shape[0] != samples:
        raise Unseen(
            f"the loss has elements of shape {tuple(node.shape)} for {samples} samples, and which belong to which "
            "sample was not seen"
        )
    parts = node.flatten(1).sum(1) if node.dim() > 1 else node
    whole = parts.sum()
    return torch.where(whole == 0, parts, parts * (loss * samples / whole))


def _split(backward: Backward, road: Sequence[Operation]) -> tuple[list[Operation], list[Operation]]:
    """Divide the road where tensors over samples become scalars: the reductions, and what follows them."""
    followed = {id(output) for forward in backward.forwards for output in forward.outputs}
    reductions, tail = [], []
    for operation in road:
        carried = [tensor for tensor in operation.inputs if id(tensor) in followed]
        result = operation.results[0]
        if result.dim() == 0 and any(tensor.dim() > 0 for tensor in carried) and not _stacks(operation):
            reductions.append(operation)
        elif result.dim() == 0 or all(tensor.dim() == 0 for tensor in carried) or _stacks(operation):
            name = _name(operation.function)
            if name not in _AFFINE or (name in ("mul", "rmul", "imul", "div", "truediv") and len(carried) > 1):
                raise Unseen(f"the loss passes through {name}(), so it is no sum over samples")
            tail.append(operation)
        followed.update(id(result) for result in operation.results)
    if not reductions:
        raise Unseen("the loss is not a sum or mean over the batch")
    return reductions, tail


def _stacks(operation: Operation) -> bool:
    """Whether an operation gathers scalars."""
    return _name(operation.function) == "stack"


def _weights(values: list[Tensor], tail: list[Operation], given: Tensor) -> list[Tensor]:
    """Return the derivative of the loss with respect to each reduced term."""
    leaves = [value.detach().as_subclass(Tensor).clone().requires_grad_() for value in values]
    with torch.enable_grad():
        known = {id(value): leaf.clone() for value, leaf in zip(values, leaves, strict=True)}  # may be written to
        walk(tail, known)
        gradients = torch.autograd.grad(known[id(given)], leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]


def _parts(operation: Operation, trace: Trace, samples: int) -> Tensor:
    """Return the share of each sample in a reduction, ``[sample]``; they sum to what it gave."""
    name = _name(operation.function)
    if name in ("mean", "sum"):
        source = operation.args[0] if operation.args else operation.kwargs["input"]
        plain = source.as_subclass(Tensor).detach().to(operation.results[0].dtype)
        return _folded(plain / plain.numel() if name == "mean" else plain, source, trace, samples)
    return _folded(_elements(operation), operation.inputs[0], trace, samples)


def _elements(operation: Operation) -> Tensor:
    """Call a loss function again without its reduction, and put the weight of the reduction on each element."""
    function = operation.function
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*operation.args, **operation.kwargs)
    except (TypeError, ValueError) as error:
        raise Unseen(
            f"the loss is reduced by {_name(function)}(), which is not known to be a sum over samples"
        ) from error
    if "reduction" not in signature.parameters:
        raise Unseen(f"the loss is reduced by {_name(function)}(), which is not known to be a sum over samples")
    bound.apply_defaults()
    arguments = bound.arguments
    if arguments.get("reduce") is not None or arguments.get("size_average") is not None:
        raise Unseen(f"{_name(function)}() was called with the deprecated size_average or reduce")
    reduction = arguments["reduction"]
    arguments["reduction"] = "none"
    dtype = operation.results[0].dtype  # under autocast the loss is computed in more digits than the output has
    for key, value in arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            arguments[key] = value.as_subclass(Tensor).detach().to(dtype)
    with torch._C.DisableTorchFunctionSubclass():
        elements = function(*bound.args, **bound.kwargs).detach().as_subclass(Tensor)
    return elements / _denominator(function, reduction, arguments, elements)


def _denominator(function: Callable[..., Any], reduction: str, arguments: dict[str, Any], elements: Tensor) -> Any:
    """Return what a reduction divides the sum of the elements by."""
    if reduction == "sum":
        return 1
    if reduction == "batchmean":
        return arguments["input"].shape[0]
    if function in (functional.cross_entropy, functional.nll_loss) and not arguments["target"].is_floating_point():
        target = arguments["target"]
        counted = target != arguments["ignore_index"]
        if arguments["weight"] is None:
            return counted.sum()
        return (arguments["weight"][target.where(counted, torch.zeros_like(target))] * counted).sum()
    if function is functional.ctc_loss:
        lengths = torch.as_tensor(arguments["target_lengths"]).to(elements.device, non_blocking=True)
        return lengths.clamp(min=1) * elements.numel()
    return elements.numel()


def _folded(elements: Tensor, source: Tensor, trace: Trace, samples: int) -> Tensor:
    """Sum elements by sample: the first axis is the batch, or was seen to be the batch times rows of each sample."""
    if elements.dim() and elements.shape[0] == samples:
        return elements.flatten(1).sum(1) if elements.dim() > 1 else elements
    if elements.dim() and elements.shape[0] % samples == 0 and _was_batch_first(source, trace, samples):
        return elements.unflatten(0, (samples, -1)).flatten(1).sum(1)
    raise Unseen(
        f"the loss has elements of shape {tuple(elements.shape)} for {samples} samples, and which belong to which "
        "sample was not seen"
    )


def _was_batch_first(tensor: Tensor, trace: Trace, samples: int) -> bool:
    """Whether a tensor was only reshaped since its first axis was the batch."""
    while tensor.dim() == 0 or tensor.shape[0] != samples:
        operation = trace.producer(tensor)
        if operation is None or _name(operation.function) not in _RESHAPES | {"log_softmax", "softmax"}:
            base = tensor._base
            return base is not None and base.dim() > 0 and base.shape[0] == samples and tensor.is_contiguous()
        tensor = operation.inputs[0]
    return True


def _by_function(backward: Backward, loss_fn: Any, samples: int) -> Tensor:
    """Call the user's loss on one sample at a time, with the target found beside the output."""
    assert backward.trace is not None and backward.loss is not None
    outputs = [output for forward in backward.forwards for output in forward.outputs if output.requires_grad]
    if len(outputs) != 1:
        raise Unseen("loss_fn= can be used where the model returns one tensor; it returned several")
    road = backward.trace.road_to(*backward.givens)
    followed = {id(result) for operation in road for result in operation.results} | {id(outputs[0])}
    targets = [t for op in road for t in op.inputs if id(t) not in followed and t.dim() and t.shape[0] == samples]
    if not targets:
        raise Unseen("the target was not seen beside the model's output; give the losses to cockpit.observe()")
    output, target = outputs[0].detach().as_subclass(Tensor), targets[0].detach()
    each = torch.stack([loss_fn(output[n : n + 1], target[n : n + 1]).reshape(()) for n in range(samples)])
    return torch.where(_close(each.mean(), backward.loss), each, torch.nan)


def _close(left: Tensor, right: Tensor) -> Tensor:
    tolerance = 64 * torch.finfo(right.dtype).eps ** 0.75
    return (left - right).abs() <= tolerance * right.abs().clamp(min=1e-3) + torch.finfo(right.dtype).tiny


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "")).strip("_")


# --- what a classifier was asked ---------------------------------------------------------------------------------


def classified(backward: Backward) -> Classified | None:
    """Return what the first classifying loss function of a backward was given, None where there was none."""
    if backward.trace is None:
        return None
    for operation in backward.trace.road_to(*backward.givens):
        reader = _CLASSIFIERS.get(operation.function)
        found = None if reader is None else reader(operation)
        if found is not None:
            return found
    return backward.decisions


def _of_classes(operation: Operation) -> Classified | None:
    bound = _signature(operation.function).bind(*operation.args, **operation.kwargs)
    bound.apply_defaults()
    target = bound.arguments["target"]
    if target.is_floating_point():
        return None
    logits = _plain(bound.arguments["input"])
    flat = logits.movedim(1, -1).flatten(0, -2) if logits.dim() > 1 else logits.unsqueeze(0)
    given: Any = "log-probabilities" if operation.function is functional.nll_loss else "scores"
    return Classified(flat, _plain(target).reshape(-1), bound.arguments["ignore_index"], given)


def _of_switches(operation: Operation) -> Classified | None:
    """Take every element of a multi-label loss as a choice between off and on."""
    bound = _signature(operation.function).bind(*operation.args, **operation.kwargs)
    logits = _plain(bound.arguments["input"]).reshape(-1)
    on = _plain(bound.arguments["target"]).reshape(-1) > 0.5
    return Classified(torch.stack([torch.zeros_like(logits), logits], 1), on.long(), given="switches")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor).detach()


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return a signature of one of the few functions known below, which takes as long to find out as to count."""
    return inspect.signature(function)


_CLASSIFIERS: dict[Callable[..., Any], Callable[[Operation], Classified | None]] = {
    functional.cross_entropy: _of_classes,
    functional.nll_loss: _of_classes,
    functional.binary_cross_entropy_with_logits: _of_switches,
}


# --- the autograd graph, read before the backward ------------------------------------------------------------------

_PASSED = {"MulBackward0", "DivBackward0", "AliasBackward0", "ToCopyBackward0", "ViewBackward0", "CloneBackward0"}
_TRANSPARENT = {"LogSoftmaxBackward0", "ToCopyBackward0", "CloneBackward0"}
_VIEWS = {"ViewBackward0", "ReshapeAliasBackward0", "UnsafeViewBackward0"}
_IGNORED = 2**64


def read_graph(loss: Tensor) -> Tensor | None:
    """Return elements proportional to the parts of a loss computed by one known function, or None.

    Their first axis is the one the function's input had before it was reshaped, where that was seen. Must be called
    before the backward, which frees what is read.
    """
    node = _loss_node(loss)
    reader = _READERS.get(node.name()) if node is not None else None
    if reader is None:
        return None
    with torch.no_grad():
        return _as_before_reshape(reader(node), node)


def read_decisions(loss: Tensor) -> Classified | None:
    """Return what a loss computed by one known function of classes was given, or None; before the backward."""
    node = _loss_node(loss)
    if node is None or node.name() not in ("NllLossBackward0", "NllLoss2DBackward0"):
        return None
    logits = node._saved_self
    flat = logits.movedim(1, -1).flatten(0, -2) if logits.dim() > 1 else logits.unsqueeze(0)
    return Classified(flat.detach(), node._saved_target.reshape(-1), _ignored_target(node), "unseen")


def _loss_node(loss: Tensor) -> Any:
    """Return the node of the loss function, below the factors put on the loss."""
    node: Any = loss.grad_fn
    while node is not None and node.name() in _PASSED:
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        node = parents[0] if len(parents) == 1 else None
    return node


def _ignored_target(node: Any) -> int:
    ignored: int = node._saved_ignore_index
    return ignored - _IGNORED if ignored >= _IGNORED // 2 else ignored


def _as_before_reshape(elements: Tensor, node: Any) -> Tensor:
    """Give elements the first axis that the input of their function had before it was flattened."""
    source = node.next_functions[0][0]
    while source is not None and source.name() in _TRANSPARENT:
        source = source.next_functions[0][0]
    if source is None or source.name() not in _VIEWS:
        return elements
    first = source._saved_self_sym_sizes[0]
    return elements.reshape(first, -1) if elements.numel() % first == 0 else elements


def _nll(node: Any) -> Tensor:
    log_probabilities, target = node._saved_self, node._saved_target
    counted = target != _ignored_target(node)
    index = target.where(counted, torch.zeros_like(target))
    losses = -log_probabilities.gather(1, index.unsqueeze(1)).squeeze(1)
    weight = node._saved_weight
    return losses * counted * (1 if weight is None else weight[index])


def _elementwise(function: Callable[..., Tensor], *options: str) -> Callable[[Any], Tensor]:
    def read(node: Any) -> Tensor:
        extra = {option: getattr(node, f"_saved_{option}") for option in options}
        return function(node._saved_self, node._saved_target, reduction="none", **extra)

    return read


_READERS: dict[str, Callable[[Any], Tensor]] = {
    "NllLossBackward0": _nll,
    "NllLoss2DBackward0": _nll,
    "MseLossBackward0": _elementwise(functional.mse_loss),
    "HuberLossBackward0": _elementwise(functional.huber_loss, "delta"),
    "SmoothL1LossBackward0": _elementwise(functional.smooth_l1_loss, "beta"),
    "BinaryCrossEntropyBackward0": _elementwise(functional.binary_cross_entropy, "weight"),
    "BinaryCrossEntropyWithLogitsBackward0": _elementwise(
        functional.binary_cross_entropy_with_logits, "weight", "pos_weight"
    ),
}
