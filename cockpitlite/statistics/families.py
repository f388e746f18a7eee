"""Which rule a layer is measured by: a closed one for exactly the types it was written for, else the generic one."""

from __future__ import annotations

from torch import nn

from cockpitlite.statistics.convolution import ConvolutionRule
from cockpitlite.statistics.embedding import EmbeddingRule
from cockpitlite.statistics.generic import GenericRule
from cockpitlite.statistics.linear import LinearRule
from cockpitlite.statistics.normalization import (
    BatchNormRule,
    GroupNormRule,
    InstanceNormRule,
    LayerNormRule,
    RMSNormRule,
)
from cockpitlite.statistics.rule import Rule

GENERIC = GenericRule()
_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: LinearRule(),
    nn.Embedding: EmbeddingRule(),
    nn.LayerNorm: LayerNormRule(),
    nn.RMSNorm: RMSNormRule(),
    nn.GroupNorm: GroupNormRule(),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), ConvolutionRule()),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), ConvolutionRule()),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), BatchNormRule()),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), InstanceNormRule()),
}


def rule_for(kind: type[nn.Module]) -> Rule:
    """Return the rule of a layer type."""
    return _RULES.get(kind, GENERIC)


def is_generic(module: nn.Module) -> bool:
    """Whether the calls of a module have to be made again to know its samples' contributions."""
    plain = not hasattr(module, "parametrizations") and not module._forward_pre_hooks
    return not plain or rule_for(type(module)) is GENERIC
