"""Linear layers: the contribution of a sample is Σ_s g_s x_sᵀ over the rows s (time steps, tokens) it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.rule import Reduced, Rule, Scope, by_sample, checked_input, chosen_rows, output_gradient


class LinearRule(Rule):
    """Norms and projections of nn.Linear without building ``[sample, out, in]`` where that is cheaper."""

    def reduce(self, calls: Sequence[Call], directions: Mapping[str, Tensor], scope: Scope, squares: bool) -> Reduced:
        """Return norms by the cheaper of two ways, and projections gᵀVx by one product for all directions."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        count = next(iter(directions.values())).shape[0]
        squared = x.new_zeros(len(x)) if squares else None
        projected = x.new_zeros(count, len(x))
        if "weight" in directions:
            images = x @ directions["weight"].to(x.dtype).flatten(0, 1).T  # [sample, row, direction * out]
            images = images.unflatten(2, (count, g.shape[2]))
            projected = projected + torch.einsum("nsro,nso->rn", images, g)
            squared = None if squared is None else squared + _squared_norm(x, g)
        if "bias" in directions:
            summed = g.sum(1)
            projected = projected + directions["bias"].to(x.dtype) @ summed.T
            squared = None if squared is None else squared + summed.square().sum(1)
        return Reduced(squared, projected)

    def moments(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return sums of squares: where a sample has one row, squares of factors."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        if x.shape[1] > 1:
            return super().moments(calls, names, scope)
        built = {"weight": lambda: g[:, 0].square().T @ x[:, 0].square(), "bias": lambda: g[:, 0].square().sum(0)}
        return {name: built[name]() for name in names}

    def partial(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the sums over the samples looked at."""
        return _summed(*_rows(calls, scope.samples, scope.chosen), names)

    def picked(self, calls: Sequence[Call], positions: Mapping[str, Tensor], scope: Scope) -> dict[str, Tensor]:
        """Return single elements: where a sample has one row, products of a factor of each side."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        if x.shape[1] > 1 or "weight" not in positions:
            return super().picked(calls, positions, scope)
        at = positions["weight"]
        row, column = at // x.shape[2], at % x.shape[2]
        found = {"weight": g[:, 0].gather(1, row) * x[:, 0].gather(1, column)}
        if "bias" in positions:
            found["bias"] = g[:, 0].gather(1, positions["bias"])
        return found

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return g xᵀ and Σ g per sample."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        built = {"weight": lambda: g.mT @ x, "bias": lambda: g.sum(1)}
        return {name: built[name]() for name in names}

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the sums over samples."""
        return _summed(*_rows(calls, scope.samples, None), names)


def _summed(x: Tensor, g: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    built = {"weight": lambda: g.flatten(0, 1).T @ x.flatten(0, 1), "bias": lambda: g.sum((0, 1))}
    return {name: built[name]() for name in names}


def _rows(calls: Sequence[Call], samples: int, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return inputs ``[sample, row, in]`` and output gradients ``[sample, row, out]``, all calls one after another."""
    inputs, gradients = [], []
    for call in calls:
        gradient = output_gradient(call)
        given = checked_input(call).to(gradient.dtype)  # under autocast the layer computed in the gradient's type
        given, gradient = at_least_float32(given), at_least_float32(gradient)  # and squares would overflow in it
        inputs.append(chosen_rows(by_sample(call, given, samples), chosen).flatten(1, -2))
        gradients.append(chosen_rows(by_sample(call, gradient, samples), chosen).flatten(1, -2))
    if len(calls) == 1:
        return inputs[0], gradients[0]
    return torch.cat(inputs, 1), torch.cat(gradients, 1)


def _squared_norm(x: Tensor, g: Tensor) -> Tensor:
    """Return ‖Σ_s g_s x_sᵀ‖² per sample: by the Gram matrices of the rows, or by building the sum."""
    rows, width, height = x.shape[1], x.shape[2], g.shape[2]
    if rows == 1:
        return x.square().sum((1, 2)) * g.square().sum((1, 2))
    if rows * (width + height) <= width * height:
        return ((x @ x.mT) * (g @ g.mT)).sum((1, 2))
    return (g.mT @ x).square().sum((1, 2))
