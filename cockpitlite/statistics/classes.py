"""What a classifier said, and what would have been right: from the logits and targets that its loss was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import classified
from cockpitlite.precision import at_least_float32, widest
from cockpitlite.records import Classified
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Unavailable

_AT_ONCE = 2**24  # elements that are looked at together, so that no copy of a large vocabulary's scores is held
_ROUNDED_ZERO = 1e-6  # the logarithm of a probability of 1 may come out as much above 0
_SUM_TOLERANCE = 1e-3  # from which a row of probabilities may miss the sum of 1


@dataclass(frozen=True)
class Decisions(Statistic):
    """What each backward's loss function was given to choose from, and the ``targets`` of each class, ``[class]``.

    A target is one decision: a sample, a token, a pixel, or one switch of a multi-label loss (then there are two
    classes, off and on). What a loss ignores is not counted.
    """

    each: Sequence[Classified]
    classes: int
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ROAD})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Find them in all backwards of the step."""
        found = [one for one in map(classified, supply.step.backwards) if one is not None]
        sizes = {one.logits.shape[1] for one in found}
        if len(sizes) != 1:
            raise Unavailable("no loss function of this step was given one set of classes to choose from")
        return cls(found, sizes.pop())

    @cached_property
    def targets(self) -> Tensor:
        """How many targets each class had, ``[class]``."""
        return self.by_class([torch.ones((), device=place.device).expand(place.shape) for place in self.places])

    @cached_property
    def places(self) -> list[Tensor]:
        """The class of each decision, by backward, ``[decision]``; one beyond the last for what is not counted."""
        return [torch.where(one.targets == one.ignored, self.classes, one.targets) for one in self.each]

    @cached_property
    def normalizers(self) -> list[Tensor]:
        """The logarithm of the summed exponentials of each row, by backward, ``[decision]``."""
        return [_one([rows.logsumexp(1) for rows in _in_parts(one.logits)]) for one in self.each]

    def by_class(self, values: Sequence[Tensor]) -> Tensor:
        """Sum values, ``[decision]`` for each backward, by class, ``[class]``."""
        wide = widest(_one(values))
        sums = torch.zeros(self.classes + 1, dtype=wide.dtype, device=wide.device)
        return sums.index_add_(0, _one(self.places), wide)[: self.classes]


@dataclass(frozen=True)
class ClassCounts(Statistic):
    """Per class, ``[class]``: how many targets there were, how many of them were met, and their summed loss −log p."""

    targets: Tensor
    met: Tensor
    loss: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ROAD})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Count over all backwards of the step."""
        decisions = supply(Decisions)
        met, losses = [], []
        for one, place, normalizer in zip(decisions.each, decisions.places, decisions.normalizers, strict=True):
            target = torch.where(place < decisions.classes, place, 0)
            losses.append(normalizer - one.logits.gather(1, target.unsqueeze(1)).squeeze(1))
            met.append((one.logits.argmax(1) == target) & ~normalizer.isnan())  # NaN is no answer
        return cls(decisions.targets, decisions.by_class(met), decisions.by_class(losses))


@dataclass(frozen=True)
class RowSums(Statistic):
    """What the rows are that the loss function was given.

    ``given`` is what it takes: ``"scores"`` (cross-entropy) or ``"log-probabilities"`` (the negative log-likelihood).
    """

    decisions: Decisions
    given: str
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ROAD})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Find the rows of all backwards of the step."""
        decisions = supply(Decisions)
        given = {one.given for one in decisions.each}
        if "switches" in given:
            raise Unavailable(
                "each score of a binary cross-entropy stands for itself, so they need not sum to anything"
            )
        if "unseen" in given or len(given) > 1:
            raise Unavailable("what the loss function was given was not seen")
        return cls(decisions, given.pop())

    @property
    def probabilities(self) -> Tensor:
        """The share of the rows that are nowhere negative and sum to 1."""
        return self._shares[0]

    @property
    def logarithms(self) -> Tensor:
        """The share of the rows that are logarithms of such rows."""
        return self._shares[1]

    @cached_property
    def _shares(self) -> Tensor:
        pairs = zip(self.decisions.each, self.decisions.normalizers, strict=True)
        found = [_kinds(one, normalizer) for one, normalizer in pairs]
        return widest(found[0] if len(found) == 1 else torch.cat(found, 1)).mean(1)


def _kinds(one: Classified, normalizer: Tensor) -> Tensor:
    """Tell of each row whether it is probabilities, and whether it is their logarithms, ``[2, decision]``."""
    tolerance = max(_SUM_TOLERANCE, 2 * torch.finfo(one.logits.dtype).eps)
    parts = [(*torch.aminmax(rows, dim=1), rows.sum(1)) for rows in _in_parts(one.logits)]
    least, most, total = (_one(values) for values in zip(*parts, strict=True))
    miss = torch.stack([total - 1, normalizer]).abs_()
    return (torch.stack([least, -most]) >= -_ROUNDED_ZERO) & (miss <= tolerance)


def _in_parts(logits: Tensor) -> Iterator[Tensor]:
    """Yield some rows at a time, in at least single precision."""
    rows = max(1, _AT_ONCE // max(1, logits.shape[1]))
    return (at_least_float32(part) for part in logits.split(rows))


def _one(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors after each other."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
