"""Linear layers: the contribution of a sample is Σ_s g_s x_sᵀ over the rows s (time steps, tokens) it has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.products import Sizes, squared_by_pairs
from cockpitlite.statistics.rule import (
    Rule,
    Scope,
    by_sample,
    cache_sized,
    checked_input,
    chosen_rows,
    output_gradient,
)
from cockpitlite.statistics.survey import Asked, Found, surveyed


class LinearRule(Rule):
    """nn.Linear, without building ``[sample, out, in]`` where that is cheaper."""

    def survey(self, calls: Sequence[Call], asked: Asked[str], scope: Scope) -> Found[str]:
        """Answer from the rows themselves where a sample has few of them, else from what they build."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        if Sizes(g.shape[2], x.shape[2], x.shape[1]).better_built(asked):
            return super().survey(calls, asked, scope)
        found: Found[str] = Found()
        if "bias" in asked.names:
            found = surveyed({"bias": g.sum(1)}, asked.only("bias"))
        if "weight" in asked.names:
            everyone = (x, g) if scope.chosen is None else _rows(calls, scope.samples, None)
            found = found + _unbuilt(x, g, everyone, asked.only("weight"))
        return found

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return g xᵀ and Σ g per sample."""
        x, g = _rows(calls, scope.samples, scope.chosen)
        built = {"weight": lambda: g.mT @ x, "bias": lambda: g.sum(1)}
        return {name: built[name]() for name in names}

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the sums over samples."""
        x, g = _rows(calls, scope.samples, None)
        built = {"weight": lambda: _product(g, x), "bias": lambda: g.sum((0, 1))}
        return {name: built[name]() for name in names}

    def most(self, device: torch.device) -> int:
        """Return what a cache holds: what is built is read again at once."""
        return cache_sized(device)


def _unbuilt(x: Tensor, g: Tensor, everyone: tuple[Tensor, Tensor], asked: Asked[str]) -> Found[str]:
    """Answer for the weight from inputs ``[sample, row, in]`` and output gradients ``[sample, row, out]``."""
    found: Found[str] = Found()
    paired = Sizes(g.shape[2], x.shape[2], x.shape[1]).better_paired(len(everyone[0]))
    if asked.squares:
        found.squared = squared_by_pairs(x, g)
    if asked.count:
        along = [
            _paired(x, g, *everyone) if paired and place == asked.whole else _projected(x, g, direction)
            for place, direction in enumerate(asked.directions["weight"])
        ]
        found.projected = torch.stack(along)
    if asked.moments:  # only where each sample has one row
        found.moments["weight"] = _product(g.square(), x.square())
    if asked.sums:
        found.sums["weight"] = _product(g, x)
    if "weight" in asked.places:
        at = asked.places["weight"]
        row, column = torch.div(at, x.shape[2], rounding_mode="floor"), at.remainder(x.shape[2])
        found.picked["weight"] = _along_rows(g, row, x, column)
    return found


def _projected(x: Tensor, g: Tensor, direction: Tensor) -> Tensor:
    """Return Σ_s g_sᵀ V x_s per sample."""
    return (functional.linear(x, direction.to(x.dtype)) * g).sum((1, 2))


def _paired(x: Tensor, g: Tensor, others_x: Tensor, others_g: Tensor) -> Tensor:
    """Return Σ_m c_nᵀc_m per sample n: its projection on the sum over all samples m, each of one row."""
    return ((x[:, 0] @ others_x[:, 0].T) * (g[:, 0] @ others_g[:, 0].T)).sum(1)


def _product(g: Tensor, x: Tensor) -> Tensor:
    return g.flatten(0, 1).T @ x.flatten(0, 1)


def _along_rows(g: Tensor, row: Tensor, x: Tensor, column: Tensor) -> Tensor:
    """Return Σ_s g[n, s, row[n, p]] x[n, s, column[n, p]], ``[sample, pick]``."""
    if x.shape[1] == 1:
        return g[:, 0].gather(1, row) * x[:, 0].gather(1, column)
    shape = len(x), x.shape[1], row.shape[1]
    return (g.gather(2, row[:, None].expand(shape)) * x.gather(2, column[:, None].expand(shape))).sum(1)


def _rows(calls: Sequence[Call], samples: int, chosen: Tensor | slice | None) -> tuple[Tensor, Tensor]:
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
