"""The whole model at once, for parameters that act through no call whose output has rows for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from cockpitlite.heads import NoHeads, dealt_out, replay_to_heads
from cockpitlite.records import Backward, Call
from cockpitlite.replay import NotReplayable, Replay, batched_gradients, gradients_of
from cockpitlite.statistics.rule import Rule, Scope
from cockpitlite.statistics.step import Step, Unavailable


class WholeRule(Rule):
    """The vector-Jacobian product from what the loss function is given, masked to one sample, back through the model.

    So a parameter of a model that returns its own loss is measured, as a positional embedding of a language model.
    Costs about one backward of the whole model per sample, batched.
    """

    def __init__(self, step: Step, backward: Backward, positions: Mapping[str, int]) -> None:
        self._step = step
        self._backward = backward
        self._positions = positions

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the masked products."""
        replay, inputs, slopes = self._evaluated
        if any(z.shape[0] % scope.samples for z in inputs):
            raise Unavailable("which rows of what the loss function is given belong to which sample was not seen")
        masked = [dealt_out(slope, scope.indices, scope.samples, scope.samples) for slope in slopes]
        with replay.standing():
            products = batched_gradients(inputs, replay.leaves, masked)
        return {name: self._filled(products, name, scope.count) for name in names}

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the product with the whole slope."""
        replay, inputs, slopes = self._evaluated
        with replay.standing():
            products = gradients_of(inputs, replay.leaves, slopes, retain_graph=True)
        return {name: self._filled(products, name) for name in names}

    def _filled(self, products: Sequence[Tensor | None], name: str, *batch: int) -> Tensor:
        position = self._positions[name]
        found, leaf = products[position], self._step.evaluated[position]
        return leaf.new_zeros((*batch, *leaf.shape)) if found is None else found

    @cached_property
    def _evaluated(self) -> tuple[Replay, list[Tensor], list[Tensor]]:
        try:
            replay, heads = replay_to_heads(self._backward, self._step.parameters, self._step.evaluated)
        except (NoHeads, NotReplayable) as reason:
            raise Unavailable(str(reason)) from reason
        inputs = [head.given for head in heads]
        slopes = torch.autograd.grad(replay.loss, inputs, retain_graph=True)
        return replay, inputs, list(slopes)
