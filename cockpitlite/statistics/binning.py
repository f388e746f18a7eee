"""Counting elements into bins, exactly and without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32


def symmetric_log_edges(chunks: Iterable[Tensor], bins: int, factor: int) -> Tensor:
    """Return the edges of ``bins`` (an odd number) symmetric about 0, which hold the largest finite magnitude.

    The outermost edges are the power of two at or above it; each is ``factor`` times the next one inwards.
    """
    largest: Tensor | None = None
    for values in chunks:
        values = at_least_float32(values)
        top = torch.where(values.isfinite(), values.abs(), 0).amax() if values.numel() else values.new_zeros(())
        largest = top if largest is None else torch.maximum(largest, top)
    if largest is None:
        largest = torch.zeros(())
    _, exponent = torch.frexp(largest.clamp(min=1e-30))
    outwards = int(math.log2(factor)) * torch.arange((bins - 1) // 2, -1, -1, device=largest.device)
    positive = torch.ldexp(torch.ones_like(outwards, dtype=largest.dtype), exponent - outwards)
    return torch.cat([-positive.flip(0), positive])


def ascending(edges: Sequence[float]) -> list[float]:
    """Return edges of bins as they are; ValueError where they are no ascending finite numbers."""
    given = [float(edge) for edge in edges]
    if len(given) < 2 or not all(math.isfinite(edge) for edge in given) or sorted(set(given)) != given:
        raise ValueError(f"edges are at least two ascending finite numbers; got {list(edges)!r}")
    return given


class Tally:
    """Counts per layer, exact: within the edges of one or two axes, outside of them, and of what is not finite."""

    def __init__(self, layers: int, edges: Sequence[Tensor]) -> None:
        self.edges = tuple(edges)
        self.shape = [len(axis) - 1 for axis in self.edges]
        self._bins = math.prod(self.shape)
        self._counts = torch.zeros(layers, self._bins + 2, dtype=torch.int64, device=self.edges[0].device)

    def add(self, layer: int, values: Sequence[Tensor]) -> None:
        """Count elements, given by one value per axis, each ``[element]``.

        A bin holds its lower edge, the last one both.
        """
        place = torch.zeros_like(values[0], dtype=torch.int64)
        inside = finite = torch.ones_like(values[0], dtype=torch.bool)
        for each, edges in zip(values, self.edges, strict=True):
            value = at_least_float32(each).to(edges.dtype)
            bins = len(edges) - 1
            found = torch.bucketize(value.contiguous(), edges, right=True) - 1
            found = torch.where(value == edges[-1], bins - 1, found)
            inside = inside & (found >= 0) & (found < bins)
            finite = finite & value.isfinite()
            place = place * bins + found
        place = torch.where(finite, torch.where(inside, place, self._bins), self._bins + 1)
        self._counts[layer].scatter_add_(0, place, torch.ones_like(place))

    @property
    def counts(self) -> Tensor:
        """Counts within the edges, ``[layer, A]`` or ``[layer, A, B]``."""
        return self._counts[:, : self._bins].unflatten(1, self.shape)

    @property
    def outside(self) -> Tensor:
        """How many finite elements lie beyond the edges."""
        return self._counts[:, self._bins].sum()

    @property
    def nonfinite(self) -> Tensor:
        """How many elements are NaN or infinite."""
        return self._counts[:, self._bins + 1].sum()

    def error(self, taken: int, total: int) -> Tensor | float:
        """Return the largest standard error of a bin's share, where ``taken`` of ``total`` elements were drawn."""
        if taken >= total:
            return 0.0
        shares = self._counts.sum(0).to(self.edges[0].dtype) / taken
        return (shares * (1 - shares) / taken).sqrt().max()
