"""Diagonals by BackPACK (Dangel, Kunstner, Hennig 2020), on a copy of the model that shares the parameters' values."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cockpitlite.losses import has_shared_term
from cockpitlite.records import Backward
from cockpitlite.replay import bare, surrounded

Kind = Literal["ggn_exact", "diag_h"]


class Unknown(Exception):
    """BackPACK cannot be asked; the message ends a sentence that says so."""


_LOSSES: dict[Callable[..., Any], type[nn.Module]] = {
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.mse_loss: nn.MSELoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
}
_PLAIN = {"weight": None, "pos_weight": None, "ignore_index": -100, "label_smoothing": 0.0}


def backpack_diagonal(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor], kind: Kind
) -> list[Tensor]:
    """Return a diagonal of the batch loss's curvature, one tensor per parameter.

    Waits for the device to look at the targets. Raises Unknown where a layer or the loss is not BackPACK's.
    """
    if len(backward.forwards) != 1 or len(backward.givens) != 1 or backward.trace is None:
        raise Unknown("several forwards or losses make up the step")
    forward, given = backward.forwards[0], backward.givens[0]
    root = bare(forward.root)
    loss_module, target = _loss(backward, given)
    model = _copied(root, dict(zip(map(id, parameters), values, strict=True)))
    from backpack import backpack, extend  # here, for it costs a second that most runs need not pay
    from backpack.extensions import DiagGGNExact, DiagHessian

    extension, attribute = (DiagHessian, "diag_h") if kind == "diag_h" else (DiagGGNExact, "diag_ggn_exact")
    try:
        with surrounded(forward.surroundings), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its hooks want inputs with a gradient, and the batch has none
            loss = extend(loss_module)(extend(model)(*forward.args, **forward.kwargs), target)
            with backpack(extension()):
                loss.backward()
    except NotImplementedError as error:
        raise Unknown(f"it does not know a layer of this model ({str(error).splitlines()[0]})") from error
    named = dict(model.named_parameters())
    wanted = {id(parameter): name for name, parameter in root.named_parameters()}
    found = []
    for parameter, value in zip(parameters, values, strict=True):
        diagonal = getattr(named[wanted[id(parameter)]], attribute, None) if id(parameter) in wanted else None
        found.append(torch.zeros_like(value) if diagonal is None else diagonal.detach())
    return found


def _loss(backward: Backward, given: Tensor) -> tuple[nn.Module, Tensor]:
    """Return the loss as a module, and its target; only for one plain loss function."""
    assert backward.trace is not None
    road = backward.trace.road_to(given)
    if has_shared_term(backward) or len(road) != 1 or backward.scale is not None:
        raise Unknown("the loss is no single loss function")
    function = road[0].function
    if function not in _LOSSES:
        raise Unknown("the loss is no single loss function")
    bound = inspect.signature(function).bind(*road[0].args, **road[0].kwargs)
    bound.apply_defaults()
    options = bound.arguments
    if any(options.get(name, plain) != plain for name, plain in _PLAIN.items()) or options["reduction"] == "none":
        raise Unknown("the loss is weighted")
    outputs = backward.forwards[0].outputs
    if len(outputs) != 1 or options["input"] is not outputs[0] or outputs[0].dim() != 2:
        raise Unknown("the loss is not that of a matrix of outputs")
    target = options["target"]
    if function is functional.cross_entropy and (target.is_floating_point() or bool((target < 0).any())):
        raise Unknown("the targets are no classes, or some are ignored")
    return _LOSSES[function](reduction=options["reduction"]), target.detach()


def _copied(root: nn.Module, values: dict[int, Tensor]) -> nn.Module:
    """Return a copy of a plain sequence of layers, with the given values as parameters and nobody's hooks."""
    layers = [module for module in root.modules() if not isinstance(module, nn.Sequential)]
    if not isinstance(root, nn.Sequential | nn.Linear) or any(_is_foreign(layer) for layer in layers):
        raise Unknown("the model is no plain sequence of layers that it knows")
    if len(layers) != sum(1 for _ in _steps(root)):
        raise Unknown("a layer stands in the model twice")
    memo: dict[int, Any] = {}
    for parameter in root.parameters():
        value = values.get(id(parameter), parameter)
        memo[id(parameter)] = nn.Parameter(value.detach(), requires_grad=parameter.requires_grad)
    for buffer in root.buffers():
        memo[id(buffer)] = buffer.detach().clone()
    stripped = copy.deepcopy(root, memo)
    for module in stripped.modules():
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            getattr(module, name).clear()
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return stripped


def _steps(module: nn.Module) -> Any:
    """Yield the layers of nested sequences, as often as they are called."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _steps(child)
    else:
        yield module


def _is_foreign(layer: nn.Module) -> bool:
    known = type(layer).__module__.startswith("torch.nn.modules") and not any(True for _ in layer.children())
    padded = getattr(layer, "padding_mode", "zeros") != "zeros"  # of which it takes no notice
    normed = isinstance(layer, nn.modules.batchnorm._NormBase)
    return not known or padded or normed or hasattr(layer, "parametrizations")
