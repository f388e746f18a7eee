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
        largest = torch.zeros((), device="cpu")
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
        self._bounds = [torch.cat([axis[:-1], torch.nextafter(axis[-1:], axis[-1:] + 1)]) for axis in edges]
        self._shape = [len(axis) + 1 for axis in edges]  # a cell for each bin and one for what lies beyond each end
        self._cells = math.prod(self._shape)
        self._counts = torch.zeros(layers, 2, self._cells + 1, dtype=torch.int64, device=edges[0].device)
        self._taken = 0

    def add(self, runs: Sequence[tuple[int, int, bool]], values: Sequence[Tensor]) -> None:
        """Count elements, given by one value per axis, each ``[element]``; a bin holds its lower edge, the last both.

        ``runs`` tell whose they are, one after another: layer, number, and whether they stand for the total too.
        """
        place: Tensor | None = None
        finite: Tensor | None = None
        for each, bounds in zip(values, self._bounds, strict=True):
            value = at_least_float32(each).to(bounds.dtype)
            found, whole = torch.bucketize(value, bounds, right=True), value.isfinite()
            place = found if place is None else place * (len(bounds) + 1) + found
            finite = whole if finite is None else finite & whole
        assert place is not None and finite is not None
        place = torch.where(finite, place, self._cells) + self._rows(runs) * (self._cells + 1)
        self._counts.view(-1).scatter_add_(0, place, torch.ones_like(place))
        self._taken += sum(number for _, number, in_total in runs if in_total)

    def _rows(self, runs: Sequence[tuple[int, int, bool]]) -> Tensor:
        """Return which row of the counts each element belongs to."""
        device = self._counts.device
        rows = torch.tensor([2 * layer + (not in_total) for layer, _, in_total in runs], device="cpu")
        numbers = torch.tensor([number for _, number, _ in runs], device="cpu")
        size = sum(number for _, number, _ in runs)
        placed = [part.to(device, non_blocking=True) for part in (rows, numbers)]
        return torch.repeat_interleave(*placed, output_size=size)

    @property
    def counts(self) -> Tensor:
        """Counts between the edges, ``[layer, A]`` or ``[layer, A, B]``."""
        return self._inside(self._counts.sum(1))

    @property
    def total(self) -> Tensor:
        """Counts of all together, ``[A]`` or ``[A, B]``."""
        return self._inside(self._total)

    @property
    def outside(self) -> Tensor:
        """How many finite elements lie beyond the edges."""
        return self._total[:-1].sum() - self.total.sum()

    @property
    def nonfinite(self) -> Tensor:
        """How many elements are NaN or infinite."""
        return self._total[-1]

    @property
    def _total(self) -> Tensor:
        return self._counts[:, 0].sum(0)

    def _inside(self, counts: Tensor) -> Tensor:
        """Return the counts of the bins, ``[..., A]`` or ``[..., A, B]``, of those of all cells."""
        inner = counts[..., :-1].unflatten(-1, self._shape)
        for axis in range(len(self._shape)):
            inner = inner.narrow(axis - len(self._shape), 1, self._shape[axis] - 2)
        return inner

    def error(self, number: int) -> Tensor | float:
        """Return the largest standard error of a bin's share in the total of ``number`` elements; 0 where all count."""
        if self._taken >= number:
            return 0.0
        shares = self.total.to(self.edges[0].dtype) / self._taken
        return (shares * (1 - shares) / self._taken).sqrt().max()
