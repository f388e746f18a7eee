"""Parameters that are added to what the samples computed: the gradient there is that of each sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from cockpitlite.records import Call
from cockpitlite.statistics.rule import Rule, Scope, chosen_rows


class AddedRule(Rule):
    """A parameter of its own, such as positions that are added to tokens: contributions were seen as they came."""

    def __init__(self, gradients: Mapping[str, Tensor]) -> None:
        self._gradients = gradients

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the gradients of the chosen samples."""
        return {name: chosen_rows(self._gradients[name], scope.chosen) for name in names}

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return their sums."""
        return {name: self._gradients[name].sum(0) for name in names}

    def parts(
        self, calls: Sequence[Call], names: Sequence[str], scope: Scope
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield all of them at once: they are there already."""
        yield slice(0, scope.count), self.contributions(calls, names, scope)
