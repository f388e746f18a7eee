"""Embeddings: a sample contributes its output gradients, each to the row of the table that was looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.layout import rows_of
from cockpitlite.statistics.rule import Rule, Scope, checked_input, output_gradient
from cockpitlite.statistics.survey import Asked, Found


class EmbeddingRule(Rule):
    """nn.Embedding without building ``[sample, *table]``: a sample touches few rows of the table.

    A ``max_norm`` shortens the table itself before it is read, outside of the gradient.
    """

    def survey(self, calls: Sequence[Call], asked: Asked[str], scope: Scope) -> Found[str]:
        """Answer from the rows merged by place in the table, and for projections from the directions' own rows."""
        looked_up = _LookedUp.of(calls, scope)
        index, g = looked_up.index, looked_up.gradient
        found: Found[str] = Found()
        if asked.count:
            along = [functional.embedding(index, v.to(g.dtype)) for v in asked.directions["weight"]]
            found.projected = torch.stack([torch.linalg.vecdot(rows, g).sum(1) for rows in along])
        if asked.sums:
            found.sums["weight"] = looked_up.table()
        if asked.squares or asked.moments or asked.places:
            merged = looked_up.merged()
            if asked.squares:
                found.squared = merged.squared_norms(len(index))
            if asked.moments:
                found.moments["weight"] = merged.table(merged.rows.square())
            if "weight" in asked.places:
                found.picked["weight"] = merged.elements(asked.places["weight"])
        return found

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the table's gradient of each sample."""
        looked_up = _LookedUp.of(calls, scope)
        return {name: looked_up.tables() for name in names}

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the sum over samples."""
        looked_up = _LookedUp.of(calls, replace(scope, chosen=None))
        return {name: looked_up.table() for name in names}


@dataclass(frozen=True)
class _LookedUp:
    """What was looked up in a table of ``places``.

    ``index`` is where, ``[sample, row]``, and ``gradient`` what reached it, ``[sample, row, feature]``, the rows of all
    calls one after another.
    """

    index: Tensor
    gradient: Tensor
    places: int

    @classmethod
    def of(cls, calls: Sequence[Call], scope: Scope) -> _LookedUp:
        module: Any = calls[0].module
        each = [_rows(call, scope) for call in calls]
        index = torch.cat([index for index, _ in each], 1)
        return cls(index, torch.cat([gradient for _, gradient in each], 1), module.num_embeddings)

    @property
    def keys(self) -> Tensor:
        """One number for each sample and place, ``[sample * row]``."""
        first = torch.arange(len(self.index), device=self.index.device) * self.places
        return (self.index + first[:, None]).flatten()

    def table(self) -> Tensor:
        """Sum the rows by place."""
        return _summed_into(self.places, self.index.flatten(), self.gradient.flatten(0, 1))

    def tables(self) -> Tensor:
        """Sum the rows by sample and place, ``[sample, place, feature]``."""
        samples = len(self.index)
        flat = _summed_into(samples * self.places, self.keys, self.gradient.flatten(0, 1))
        return flat.unflatten(0, (samples, self.places))

    def merged(self) -> _Merged:
        """Sum the rows by sample and place, but only those there are."""
        keys, order = self.keys.sort()
        begins = torch.cat([keys.new_zeros(1), (keys[1:] != keys[:-1]).long()])[: len(keys)]
        groups = begins.cumsum(0)
        rows = self.gradient.flatten(0, 1)
        return _Merged(keys, groups, _summed_into(len(rows), groups, rows[order]), self.places)


@dataclass(frozen=True)
class _Merged:
    """Rows of the table's gradient, by sample and place.

    ``keys`` are sample · places + place of what was looked up, sorted, and ``groups`` say which of the ``rows`` each
    went into; as many rows as keys are kept, the last of them empty, so that nobody waits for their number.
    """

    keys: Tensor
    groups: Tensor
    rows: Tensor
    places: int

    @property
    def owners(self) -> Tensor:
        """The key of each row, ``[row]``; of an empty one 0."""
        return torch.zeros_like(self.keys).scatter_(0, self.groups, self.keys)

    def squared_norms(self, samples: int) -> Tensor:
        """Sum the squares by sample."""
        return _summed_into(samples, self.owners // self.places, self.rows.square().sum(1))

    def table(self, values: Tensor) -> Tensor:
        """Sum values of the rows by place."""
        return _summed_into(self.places, self.owners % self.places, values)

    def elements(self, positions: Tensor) -> Tensor:
        """Return the elements at flat positions in the table of each sample, ``[sample, pick]``."""
        width = self.rows.shape[1]
        samples = torch.arange(len(positions), device=positions.device)[:, None]
        wanted = samples * self.places + positions // width
        found = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        values = self.rows[self.groups[found], positions % width]
        return torch.where(self.keys[found] == wanted, values, 0)


def _rows(call: Call, scope: Scope) -> tuple[Tensor, Tensor]:
    """Return the places looked up, ``[sample, row]``, and their gradients, zero where the layer lets none through."""
    module: Any = call.module
    index, g = checked_input(call).long(), at_least_float32(output_gradient(call))
    if module.padding_idx is not None:
        g = g * (index != module.padding_idx).unsqueeze(-1)
    if module.scale_grad_by_freq:
        flat = index.flatten()
        counts = _summed_into(module.num_embeddings, flat, torch.ones_like(flat))
        g = g / counts[index].unsqueeze(-1)
    places = rows_of(call, index, scope.samples, scope.chosen, index.dim())
    gradients = rows_of(call, g, scope.samples, scope.chosen, index.dim())
    return places.reshape(len(places), -1), gradients.reshape(len(places), -1, g.shape[-1])


def _summed_into(count: int, index: Tensor, values: Tensor) -> Tensor:
    """Sum values, ``[row, ...]``, into ``count`` places."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, index, values)
