"""Counting elements into bins, exactly and without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from cockpitlite.precision import at_least_float32


def symmetric_log_edges(chunks: Iterable[Tensor], bins: int, factor: int) -> Tensor:
    """Return the edges of ``bins`` (an odd number) symmetric about 0, which hold the largest finite magnitude.

    The outermost edges are the power of two above it; each is ``factor`` times the next one inwards.
    """
    largest: Tensor | None = None
    for values in chunks:
        values = at_least_float32(values)
        top = torch.where(values.isfinite(), values.abs(), 0).amax() if values.numel() else values.new_zeros(())
        largest = top if largest is None else torch.maximum(largest, top)
    if largest is None:
        largest = torch.zeros(())
    _, exponent = torch.frexp(largest.clamp(min=1e-25))
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
    """Exact counts per layer and in total: between edges of one or two axes, beyond them, and of the non-finite."""

    def __init__(self, layers: int, edges: Sequence[Tensor]) -> None:
        self.edges = tuple(edges)
        self.shape = [len(axis) - 1 for axis in self.edges]
        self._bins = math.prod(self.shape)
        device = self.edges[0].device
        self._counts = torch.zeros(layers, self._bins + 2, dtype=torch.int64, device=device)
        self._total = torch.zeros(self._bins + 2, dtype=torch.int64, device=device)
        self._taken = 0

    def add(self, layer: int, values: Sequence[Tensor], in_total: bool = True) -> None:
        """Count elements, given by one value per axis, each ``[element]``; for the total too, if they stand for it.

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
        counts = torch.zeros_like(self._total).scatter_add_(0, place, torch.ones_like(place))
        self._counts[layer] += counts
        if in_total:
            self._total += counts
            self._taken += place.numel()

    @property
    def counts(self) -> Tensor:
        """Counts between the edges, ``[layer, A]`` or ``[layer, A, B]``."""
        return self._counts[:, : self._bins].unflatten(1, self.shape)

    @property
    def total(self) -> Tensor:
        """Counts of all together, ``[A]`` or ``[A, B]``."""
        return self._total[: self._bins].view(self.shape)

    @property
    def outside(self) -> Tensor:
        """How many finite elements lie beyond the edges."""
        return self._total[self._bins]

    @property
    def nonfinite(self) -> Tensor:
        """How many elements are NaN or infinite."""
        return self._total[self._bins + 1]

    def error(self, number: int) -> Tensor | float:
        """Return the largest standard error of a bin's share of ``number`` elements; 0 where all were counted."""
        if self._taken >= number:
            return 0.0
        shares = self._total.to(self.edges[0].dtype) / self._taken
        return (shares * (1 - shares) / self._taken).sqrt().max()
