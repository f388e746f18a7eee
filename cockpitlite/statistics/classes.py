"""What a classifier said, and what would have been right: from the logits and targets that its loss was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import classified
from cockpitlite.precision import at_least_float32, widest
from cockpitlite.records import Classified
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable


@dataclass(frozen=True)
class ClassCounts(Statistic):
    """Per class, ``[class]``: how many targets there were, how many of them were met, and their summed loss −log p.

    A target is one decision: a sample, a token, a pixel, or one switch of a multi-label loss (then there are two
    classes, off and on). What a loss ignores is not counted.
    """

    targets: Tensor
    met: Tensor
    loss: Tensor
    wants: ClassVar[frozenset[Want]] = frozenset({Want.ROAD})
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Count over all backwards of the step."""
        counted = [_counts(found) for found in _found(supply.step)]
        sizes = {len(targets) for targets, _, _ in counted}
        if len(sizes) != 1:
            raise Unavailable("no loss function of this step was given one set of classes to choose from")
        return cls(*(torch.stack(parts).sum(0) for parts in zip(*counted, strict=True)))


def _found(step: Step) -> Iterator[Classified]:
    for backward in step.backwards:
        found = classified(backward)
        if found is not None:
            yield found


def _counts(found: Classified) -> tuple[Tensor, Tensor, Tensor]:
    logits, targets = at_least_float32(found.logits), found.targets
    classes = logits.shape[1]
    counted = (targets >= 0) & (targets < classes) & (targets != found.ignored)
    target = torch.where(counted, targets, 0)
    normalizer = logits.logsumexp(1)
    losses = normalizer - logits.gather(1, target.unsqueeze(1)).squeeze(1)
    met = (logits.argmax(1) == target) & ~normalizer.isnan()  # NaN is no answer
    slot = torch.where(counted, target, classes)  # what is not counted goes into one place more
    return tuple(_by_class(slot, classes, values) for values in (torch.ones_like(losses), met, losses))  # type: ignore[return-value]


def _by_class(slot: Tensor, classes: int, values: Tensor) -> Tensor:
    """Sum values by class, ``[class]``."""
    wide = widest(values)
    return torch.zeros(classes + 1, dtype=wide.dtype, device=wide.device).index_add_(0, slot, wide)[:classes]
