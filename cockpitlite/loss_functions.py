"""The loss functions on the road to the loss: what each compares, and the factor with which it enters what is given.

Nothing is computed: the factors come from the operations behind a loss function, as far as these are sums, means and
products with numbers, so that no device is waited for.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cockpitlite.graph import maker
from cockpitlite.records import Backward
from cockpitlite.trace import Operation, Trace

_OF_NUMBERS = (functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss)
_OF_CLASSES = (functional.cross_entropy, functional.nll_loss)
_OF_SWITCHES = (functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits)
_KNOWN = (*_OF_NUMBERS, *_OF_CLASSES, *_OF_SWITCHES)
_SUMS = {"sum", "add", "radd", "iadd", "stack", "cat"}
_SUMS |= {"view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous", "clone", "to", "float", "double", "alias"}
_PRODUCTS = {"mul", "rmul", "imul", "multiply"}
_QUOTIENTS = {"div", "truediv", "itruediv", "divide", "true_divide"}

Factors = Mapping[int, float]  # by the place of a loss function on the road


@dataclass(frozen=True)
class Comparison:
    """One call of a loss function: it falls as the prediction nears the target, and is not meant to rise.

    ``elements`` is how many single losses it makes. ``factor`` is the derivative of what was given to backward with
    respect to their mean: 1 as a rule, their number for a sum, negative where the loss is maximised; NaN where that is
    no plain number, as with a weight for each sample. ``maker`` is the function that gave the prediction, and
    ``weighted`` tells whether classes or elements have weights.
    """

    name: str
    maker: str
    prediction: Tensor
    target: Tensor
    of_numbers: bool
    elements: int
    factor: float
    weighted: bool


def comparisons(backward: Backward) -> list[Comparison]:
    """Return the calls of known loss functions on what the model returned.

    Where another network stands in between it is left out: a generator may be right to raise a discriminator's loss.
    """
    if backward.trace is None:
        return []
    road = backward.trace.road_to(*backward.givens)
    calls = {place: one for place, one in enumerate(road) if one.function in _KNOWN}
    factors = _factors(backward, road, calls)
    own = {place: call for place, call in calls.items() if not _passes_a_network(backward.trace, call)}
    return [_comparison(call, factors.get(place, math.nan)) for place, call in own.items()]


def crossed(backward: Backward) -> tuple[list[int], list[int]] | None:
    """Return the shapes of a prediction and a target whose samples were set against each other, each with all, or None.

    So it is where one of them lacks an axis, as ``[N]`` beside ``[N, 1]``.
    """
    samples = backward.samples
    if backward.trace is None or samples is None or samples < 2:
        return None
    for operation in backward.trace.road_to(*backward.givens):
        if operation.function in (*_OF_NUMBERS, *_OF_SWITCHES):
            pair = list(_given(operation))
        elif _name(operation.function) in ("sub", "rsub"):
            pair = operation.inputs
        else:
            continue
        if (
            len(pair) == 2
            and pair[0].requires_grad != pair[1].requires_grad
            and _are_crossed(pair[0], pair[1], samples)
        ):
            prediction, target = pair if pair[0].requires_grad else pair[::-1]
            return list(prediction.shape), list(target.shape)
    return None


def asked(backwards: Sequence[Backward], sign: float) -> dict[str, Any]:
    """Return plain data on the loss functions of a step, none where no known one was seen.

    ``sign`` is −1 where the optimizer maximises. ``factor`` is that on the mean of all their single losses, None where
    they have none in common; ``summed`` tells that the loss is a sum over the batch, ``weighted`` that classes or
    elements have weights. ``makers`` are the functions that gave the predictions, by loss function.
    """
    calls = [call for backward in backwards for call in comparisons(backward)]
    pairs = [pair for pair in map(crossed, backwards) if pair is not None]
    if not calls and not pairs:
        return {}
    factors = [call.factor * sign for call in calls]
    agree = bool(factors) and (all(factor > 0 for factor in factors) or all(factor < 0 for factor in factors))
    factor = float(f"{sum(factors):.4g}") if agree else None
    functions = sorted({call.name for call in calls})
    return {
        "functions": functions,
        "makers": {name: sorted({call.maker for call in calls if call.name == name}) for name in functions},
        "factor": factor,
        "weighted": any(call.weighted for call in calls),
        "summed": factor is not None and _is_summed(abs(sum(factors)), calls, backwards),
        "crossed": [list(shape) for shape in pairs[0]] if pairs else None,
    }


def _is_summed(factor: float, calls: Sequence[Comparison], backwards: Sequence[Backward]) -> bool:
    """Whether a loss is a sum over samples: its factor is their number, or that of all single losses."""
    samples = sum(backward.samples or 0 for backward in backwards)
    elements = sum(call.elements for call in calls)
    if samples < 2 or len({call.name for call in calls}) > 1:
        return False
    by_sample = math.isclose(factor, samples, rel_tol=1e-3) and elements != samples**2
    return by_sample or math.isclose(factor, elements, rel_tol=1e-3)


def _are_crossed(left: Tensor, right: Tensor, samples: int) -> bool:
    if left.dim() == right.dim() or not all(one.dim() and one.shape[0] == samples for one in (left, right)):
        return False
    return _together(left, right) > max(left.numel(), right.numel())


def _together(left: Tensor, right: Tensor) -> int:
    """Return how many elements two tensors have that are spread over each other."""
    return torch.broadcast_shapes(left.shape, right.shape).numel()


def _comparison(call: Operation, factor: float) -> Comparison:
    prediction, target = _given(call)
    return Comparison(
        name=_name(call.function),
        maker=maker(prediction),
        prediction=prediction,
        target=target,
        of_numbers=call.function in _OF_NUMBERS,
        elements=_elements(call),
        factor=factor,
        weighted=_arguments(call).get("weight") is not None,
    )


def _given(call: Operation) -> tuple[Tensor, Tensor]:
    """Return what a loss function was given: prediction and target."""
    arguments = _arguments(call)
    return arguments["input"], arguments["target"]


def _elements(call: Operation) -> int:
    prediction, target = _given(call)
    if call.function in _OF_CLASSES:
        by_class = target.is_floating_point() and target.dim() == prediction.dim()  # probabilities of the classes
        axis = 1 if prediction.dim() > 1 else 0
        return target.numel() // max(1, target.shape[axis]) if by_class else target.numel()
    return _together(prediction, target)


def _arguments(call: Operation) -> dict[str, Any]:
    bound = _signature(call.function).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return bound.arguments


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _passes_a_network(trace: Trace, call: Operation) -> bool:
    """Whether parameters were used on the way from the model's output to a loss function."""
    before = trace.road_to(*call.inputs)
    return any(isinstance(tensor, nn.Parameter) for operation in before for tensor in operation.inputs)


def _factors(backward: Backward, road: Sequence[Operation], calls: Mapping[int, Operation]) -> Factors:
    """Return the factor of each loss function in the sum of what was given to backward."""
    held: dict[int, Factors] = {}
    givens = {id(given) for given in backward.givens}
    for place, operation in enumerate(road):
        if place in calls:
            count = _elements(operation)
            mean = _arguments(operation)["reduction"] == "mean"
            found: Factors = {place: 1.0 if mean else float(count)}
        else:
            scaled = backward.scale is not None and any(id(result) in givens for result in operation.results)
            found = _passed_on(operation, held, scaled)
        for result in operation.results:
            held[id(result)] = found
    return _added([(held.get(id(given), {}), 1.0) for given in backward.givens])


def _passed_on(operation: Operation, held: Mapping[int, Factors], scaled: bool) -> Factors:
    """Return the factors in the sum over what an operation gave, from those in the sums over what it was given.

    ``scaled`` tells that it is a GradScaler's product, whose factor is taken off.
    """
    inputs = [tensor for tensor in operation.inputs if held.get(id(tensor))]
    if not inputs:
        return {}
    terms = [(held[id(tensor)], _slope(operation, tensor, scaled)) for tensor in inputs]
    return _added(terms)


def _slope(operation: Operation, tensor: Tensor, scaled: bool) -> float:
    """Return by what the sum over one input goes into the sum over the result, NaN where that is no one number."""
    name, result = _name(operation.function), operation.results[0]
    spread = result.numel() / max(1, tensor.numel())
    if name == "neg":
        return -1.0
    if name == "mean":
        return spread
    if name in _SUMS:
        return max(1.0, spread)
    if name in ("sub", "isub", "subtract", "rsub"):
        first = operation.args[0] is tensor
        return max(1.0, spread) * (1.0 if first != (name == "rsub") else -1.0)
    if name in _PRODUCTS:
        return 1.0 if scaled else _number(operation)
    if name in _QUOTIENTS and operation.args[0] is tensor:
        return 1 / (_number(operation) or math.nan)
    return math.nan


def _number(operation: Operation) -> float:
    """Return the plain number among the two arguments of a product or quotient, NaN where there is none."""
    numbers = [value for value in operation.args if isinstance(value, int | float)]
    return float(numbers[0]) if len(numbers) == 1 else math.nan


def _added(terms: Sequence[tuple[Factors, float]]) -> Factors:
    total: dict[int, float] = {}
    for factors, slope in terms:
        for place, factor in factors.items():
            total[place] = total.get(place, 0.0) + slope * factor
    return total


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "")).strip("_")
