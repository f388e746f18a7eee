"""Normalisation layers: a sample contributes Σ g x̂ to the gain and Σ g to the shift, over its own positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from cockpitlite.precision import at_least_float32
from cockpitlite.records import Call
from cockpitlite.statistics.layout import rows_of, with_batch_axis
from cockpitlite.statistics.rule import Rule, Scope, checked_input, output_gradient
from cockpitlite.statistics.survey import add_to


class _NormalizationRule(Rule):
    """What the layers share: x̂ is found again from the recorded input, with all that the layer normalised over."""

    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return Σ g x̂ and Σ g per sample."""
        total: dict[str, Tensor] = {}
        for call in calls:
            g = at_least_float32(output_gradient(call))
            for name in names:
                product = g if name == "bias" else g * self._normalized(call, at_least_float32(checked_input(call)))
                add_to(total, {name: self._summed(call, product, scope)})
        return total

    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return the sums over samples; the contributions are no larger than a layer's input."""
        every = self.contributions(calls, names, replace(scope, chosen=None))
        return {name: each.sum(0) for name, each in every.items()}

    @abstractmethod
    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        """Return x̂, the layer's output before gain and shift."""

    @abstractmethod
    def _summed(self, call: Call, product: Tensor, scope: Scope) -> Tensor:
        """Sum each chosen sample's share of what has the shape of the output, ``[sample, *parameter]``."""


class _TrailingRule(_NormalizationRule):
    """Layers whose parameters lie along the last axes, those normalised over."""

    def _summed(self, call: Call, product: Tensor, scope: Scope) -> Tensor:
        module: Any = call.module
        leading = product.dim() - len(module.normalized_shape)
        rows = rows_of(call, product, scope.samples, scope.chosen, leading)
        return rows.reshape(len(rows), -1, *module.normalized_shape).sum(1)


class LayerNormRule(_TrailingRule):
    """nn.LayerNorm."""

    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        module: Any = call.module
        return functional.layer_norm(given, module.normalized_shape, eps=module.eps)


class RMSNormRule(_TrailingRule):
    """nn.RMSNorm."""

    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        module: Any = call.module
        return functional.rms_norm(given, module.normalized_shape, eps=module.eps)


class _ChannelRule(_NormalizationRule):
    """Layers whose parameters lie along axis 1."""

    def _summed(self, call: Call, product: Tensor, scope: Scope) -> Tensor:
        return _by_channel(rows_of(call, product, scope.samples, scope.chosen, 1))


class GroupNormRule(_ChannelRule):
    """nn.GroupNorm."""

    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        module: Any = call.module
        return functional.group_norm(given, module.num_groups, eps=module.eps)


class BatchNormRule(_ChannelRule):
    """nn.BatchNorm1d to nn.BatchNorm3d: by the statistics of the whole batch of a call, or by the running ones."""

    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        module: Any = call.module
        mean, variance = _running(module, given)
        batch = call.training or mean is None
        return functional.batch_norm(
            given, None if batch else mean, None if batch else variance, training=batch, eps=module.eps
        )


class InstanceNormRule(_ChannelRule):
    """nn.InstanceNorm1d to nn.InstanceNorm3d, which also take a single sample without an axis for it."""

    def _normalized(self, call: Call, given: Tensor) -> Tensor:
        module: Any = call.module
        mean, variance = _running(module, given)
        own = call.training or not module.track_running_stats
        batched = with_batch_axis(given, module._get_no_batch_dim())
        return functional.instance_norm(
            batched, None if own else mean, None if own else variance, use_input_stats=own, eps=module.eps
        ).view_as(given)

    def _summed(self, call: Call, product: Tensor, scope: Scope) -> Tensor:
        module: Any = call.module
        unbatched = module._get_no_batch_dim()
        if scope.samples == 1:
            product = with_batch_axis(product, unbatched)
        return _by_channel(rows_of(call, product, scope.samples, scope.chosen, product.dim() - unbatched))


def _by_channel(rows: Tensor) -> Tensor:
    """Sum ``[sample, row, channel, ...]`` over all but samples and channels."""
    return rows.unsqueeze(-1).flatten(3).sum((1, 3))


def _running(module: Any, given: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the running mean and variance in the precision of the input, None for a layer that keeps none."""
    if module.running_mean is None:
        return None, None
    return module.running_mean.to(given.dtype), module.running_var.to(given.dtype)
