"""The Hessian of the batch loss at the start of the step: products, its trace, and both ends of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.curvature import (
    Extremes,
    HessianProduct,
    TraceEstimate,
    Vectors,
    extreme_eigenvalues,
    hutchinson,
)
from cockpitlite.precision import wide_sum
from cockpitlite.replay import NotReplayable
from cockpitlite.statistics.preconditioner import Preconditioner
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable

COLD_PRODUCTS = 32  # Hessian products of the first probe of a spectrum,
WARM_PRODUCTS = 16  # and of each later one, which starts where the last one ended: batches differ


@dataclass(frozen=True)
class Hessian(Statistic):
    """H = ∇²L of the step's batch at θ_t, in train mode, with the step's own random masks; never built.

    Products cost about two evaluations of the batch each, after one to begin with.
    """

    step: Step
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Nothing is computed until a product is asked for."""
        return cls(supply.step)

    @property
    def names(self) -> Sequence[str]:
        """The names of the parameters."""
        return self.step.names

    def product(self, vectors: Vectors) -> Vectors:
        """Return Hv, one tensor per parameter."""
        images = self._product(vectors)
        return images if self.step.sign > 0 else [-image for image in images]

    def gradient(self) -> Vectors:
        """Return ∇L where H is taken; elsewhere than the gradient that was used, where the optimizer moved about."""
        return self._product.gradient()

    def trace(self, probes: int) -> TraceEstimate:
        """Return Hutchinson's estimate of the trace; NaN for a tensor that is frozen."""
        found = hutchinson(self.product, self.step.start, probes, self.step.generator)
        frozen = torch.tensor(self.step.frozen).to(found.by_tensor.device, non_blocking=True)
        by_tensor = found.by_tensor.masked_fill(frozen, torch.nan)
        return TraceEstimate(self.trusted(found.total), self.trusted(by_tensor), self.trusted(found.standard_error))

    def extremes(self, roots: Sequence[Tensor] | None, before: tuple[Tensor, Tensor] | None) -> Extremes:
        """Return the extreme eigenvalues of H, or of SHS for a diagonal S of ``roots``, over what is trained.

        The search goes on from the eigenvectors of the probe ``before``.
        """
        step = self.step
        free = [index for index, frozen in enumerate(step.frozen) if not frozen]

        def product(vectors: Vectors) -> Vectors:
            whole = [torch.zeros_like(start) for start in step.start]
            for index, vector in zip(free, vectors, strict=True):
                whole[index] = vector if roots is None else roots[index] * vector
            images = self.product(whole)
            return [images[index] if roots is None else roots[index] * images[index] for index in free]

        like = [step.start[index] for index in free]
        products = COLD_PRODUCTS if before is None else WARM_PRODUCTS
        return extreme_eigenvalues(product, like, products, step.generator, before)

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
        try:
            made = HessianProduct(self.step.backwards, self.step.parameters, self.step.start)
        except NotReplayable as reason:
            raise Unavailable(str(reason)) from reason
        if made.by_differences is not None:
            self.step.remarks["curvature"] = f"by differences of gradients, for {made.by_differences}"
        return made


@dataclass(frozen=True)
class Spectrum(Statistic):
    """The extreme eigenvalues of H, followed from step to step."""

    extremes: Extremes
    wants: ClassVar[frozenset[Want]] = Hessian.wants
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Go on from the eigenvectors of the last probe."""
        memory = supply.step.memory
        found = supply(Hessian).extremes(None, memory.hessian)
        memory.hessian = found.vectors
        return cls(found)


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
        preconditioner, hessian, memory = supply(Preconditioner), supply(Hessian), supply.step.memory
        if preconditioner.rate is not None:
            largest = supply(Spectrum).extremes.largest * preconditioner.rate
        else:
            found = hessian.extremes([scale.sqrt() for scale in preconditioner.scales], memory.scaled)
            memory.scaled = found.vectors
            largest = found.largest
        return cls(hessian.trusted(largest * preconditioner.factor))
