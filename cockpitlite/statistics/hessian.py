"""The Hessian of the batch loss at the start of the step: products, its trace, and both ends of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.curvature import Extreme, HessianProduct, Search, TraceEstimate, Vectors, hutchinson
from cockpitlite.precision import wide_sum
from cockpitlite.statistics.evaluation import Again
from cockpitlite.statistics.preconditioner import Preconditioner
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step

COLD_PRODUCTS = 32  # Hessian products of the first probe of a spectrum,
WARM_PRODUCTS = 5  # and of each later one for each end, which starts where the last one ended: batches differ
SMALL_PRODUCTS = 16  # the same in a small model, where a product takes hardly any time,
SMALL = 4096  # and how many parameters that has at the most


@dataclass(frozen=True)
class Hessian(Statistic):
    """H = ∇²L of the step's batch at θ_t, in train mode, with the step's own random masks; never built.

    Products cost about two evaluations of the batch each, after one to begin with.
    """

    step: Step
    again: Again
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Nothing is computed until a product is asked for."""
        return cls(supply.step, supply(Again))

    @property
    def names(self) -> Sequence[str]:
        """The names of the parameters."""
        return self.step.names

    def product(self, vectors: Vectors) -> Vectors:
        """Return Hv, one tensor per parameter."""
        product = self._product
        with self.again.unheard():
            images = product(vectors)
        return images if self.step.sign > 0 else [-image for image in images]

    def gradient(self) -> Vectors:
        """Return ∇L where H is taken; elsewhere than the gradient that was used, where the optimizer moved about."""
        return self._product.gradient()

    def trace(self, probes: int) -> TraceEstimate:
        """Return Hutchinson's estimate of the trace; NaN for a tensor that is frozen."""
        step = self.step
        before = step.memory.squared_hessian
        found, step.memory.squared_hessian = hutchinson(self.product, step.start, probes, step.generator, before)
        frozen = torch.tensor(step.frozen, device="cpu").to(found.by_tensor.device, non_blocking=True)
        by_tensor = self.trusted(found.by_tensor.masked_fill(frozen, torch.nan))
        return replace(found, total=self.trusted(found.total), by_tensor=by_tensor)

    def search(self, roots: Sequence[Tensor] | None = None) -> Search:
        """Return a search for eigenvalues of H, or of SHS for a diagonal S of ``roots``, over what is trained."""
        step = self.step
        free = [index for index, frozen in enumerate(step.frozen) if not frozen]

        def product(vectors: Vectors) -> Vectors:
            given = dict(zip(free, vectors, strict=True))
            if roots is not None:
                given = {index: roots[index] * vector for index, vector in given.items()}
            whole = [given[i] if i in given else torch.zeros_like(start) for i, start in enumerate(step.start)]
            images = self.product(whole)
            return [images[index] if roots is None else roots[index] * images[index] for index in free]

        return Search(product, [step.start[index] for index in free], step.generator)

    def followed(self, search: Search, name: str, sign: int) -> Extreme:
        """Return one end of a spectrum; the search goes on from where those of the steps before have come to."""
        known = self.step.memory.followed
        starts = known.get(name)
        if starts is not None and search.can_start_from(starts):
            search.towards(sign, SMALL_PRODUCTS if search.dimension <= SMALL else WARM_PRODUCTS, starts)
        else:
            search.anywhere(COLD_PRODUCTS - search.size)
        found = search.end(sign)
        known[name] = found.ahead
        return Extreme(self.trusted(found.value), self.trusted(found.residual), found.ahead)

    def along(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return the Rayleigh quotient vᵀHv/‖v‖²; NaN for a vector of length zero."""
        images = self.product([vector.detach() for vector in vectors])
        pairs = [wide_sum(v * w) for v, w in zip(vectors, images, strict=True)]
        squares = [wide_sum(v.square()) for v in vectors]
        return self.trusted(torch.stack(pairs).sum() / torch.stack(squares).sum())

    def trusted(self, value: Tensor) -> Tensor:
        """Return a value, or NaN where the batch did not evaluate to the loss that was computed."""
        return self.step.trusted("replay", value)

    @cached_property
    def _product(self) -> HessianProduct:
        step, replays = self.step, self.again.replays
        with self.again.unheard():
            made = HessianProduct(step.backwards, step.parameters, step.start, replays)
        if made.by_differences is not None:
            step.remarks["curvature"] = f"by differences of gradients, for {made.by_differences}"
        return made


@dataclass(frozen=True)
class Spectrum(Statistic):
    """The ends of the spectrum of H, followed from step to step; an end is looked for when it is asked for."""

    hessian: Hessian
    wants: ClassVar[frozenset[Want]] = Hessian.wants
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Nothing is computed until an end is asked for."""
        return cls(supply(Hessian))

    @cached_property
    def largest(self) -> Extreme:
        """The largest eigenvalue, not the largest in magnitude."""
        return self.hessian.followed(self._search, "largest", 1)

    @cached_property
    def smallest(self) -> Extreme:
        """The smallest eigenvalue."""
        return self.hessian.followed(self._search, "smallest", -1)

    @cached_property
    def _search(self) -> Search:
        return self.hessian.search()


@dataclass(frozen=True)
class Stability(Statistic):
    """lr·λ_max(P⁻¹H) over the largest value for which the optimizer's iteration is stable: 1 is the edge.

    ``ratio`` is NaN where the batch did not evaluate to its loss.
    """

    ratio: Tensor
    wants: ClassVar[frozenset[Want]] = Hessian.wants
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Take λ_max of H where every parameter has the same rate, else of the scaled Hessian."""
        preconditioner, hessian = supply(Preconditioner), supply(Hessian)
        if preconditioner.rate is not None:
            largest = supply(Spectrum).largest.value * preconditioner.rate
        else:
            search = hessian.search([scale.sqrt() for scale in preconditioner.scales])
            largest = hessian.followed(search, "scaled", 1).value
        return cls(hessian.trusted(largest * preconditioner.factor))
