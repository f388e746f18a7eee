"""What a classifier said, and what would have been right: from the logits and targets that its loss was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.losses import classified
from cockpitlite.precision import widest
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
    log_probabilities = found.logits.log_softmax(1)
    classes = log_probabilities.shape[1]
    counted = (found.targets >= 0) & (found.targets < classes) & (found.targets != found.ignored)
    target = torch.where(counted, found.targets, 0)
    losses = -log_probabilities.gather(1, target.unsqueeze(1)).squeeze(1)
    met = (log_probabilities.argmax(1) == target) & ~log_probabilities.isnan().any(1)  # NaN is no answer
    onto = (target.unsqueeze(1) == torch.arange(classes, device=target.device)) & counted.unsqueeze(1)
    weights = widest(onto.to(losses.dtype))  # [decision, class]
    by_class = torch.where(onto, widest(losses).unsqueeze(1), 0.0)
    return weights.sum(0), (weights * met.unsqueeze(1)).sum(0), by_class.sum(0)
