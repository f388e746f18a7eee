"""Networks that are linear in each tensor of their parameters but for kinks, as rectifiers make them.

There the second derivative of what a model returns vanishes within a tensor, so that each tensor's trace of the
Hessian is that of the generalised Gauss-Newton matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import Node

# Nodes of the autograd graph that are linear, but for kinks, in all that they are given taken together,
_LINEAR = frozenset(
    f"{name}Backward0"
    for name in (
        *("Abs", "Add", "Alias", "AsStrided", "Cat", "Clone", "ConstantPadNd", "Expand", "Gather", "Index"),
        *("IndexSelect", "Neg", "Permute", "Pixelshuffle", "Repeat", "ReshapeAlias", "Select", "Slice", "Split"),
        *("SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "Unfold"),
        *("UnsafeSplit", "UnsafeView", "Unsqueeze", "View", "Mean", "Embedding", "NativeDropout"),
        *("Relu", "LeakyRelu", "Hardtanh", "Threshold", "Clamp", "ClampMin", "ClampMax"),
        *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AvgPool2D", "AvgPool3D"),
        *("AdaptiveAvgPool2D", "MkldnnAdaptiveAvgPool2D", "UpsampleNearest2D", "UpsampleBilinear2D"),
    )
) | {"SqueezeBackward1", "SumBackward1", "MeanBackward1", "SplitBackward1"}
# and those that are so in each of two factors, by their places among the node's inputs.
_PRODUCTS = {
    "AddmmBackward0": (1, 2),
    "BaddbmmBackward0": (1, 2),
    "BmmBackward0": (0, 1),
    "ConvolutionBackward0": (0, 1),
    "LinearBackward0": (0, 1),
    "MmBackward0": (0, 1),
    "MulBackward0": (0, 1),
    "MvBackward0": (0, 1),
    "PreluKernelBackward0": (0, 1),
}
_LEAF = "torch::autograd::AccumulateGrad"


def is_linear_in_each(ends: Sequence[Tensor]) -> bool:
    """Whether tensors are a linear function of each leaf they are computed from, between kinks, the others held.

    A product is one where no leaf is in both of its factors. An unknown operation is taken for a curved one.
    """
    leaves: dict[Node, frozenset[Node]] = {}
    waiting = [end.grad_fn for end in ends if end.grad_fn is not None]
    while waiting:
        node = waiting[-1]
        if node in leaves:
            waiting.pop()
            continue
        inputs = [given for given, _ in node.next_functions]
        missing = [given for given in inputs if given is not None and given not in leaves]
        if missing:
            waiting += missing
            continue
        before = [leaves[given] if given is not None else frozenset() for given in inputs]
        if not _keeps_linear(node, before):
            return False
        leaves[node] = frozenset({node}) if node.name() == _LEAF else frozenset().union(*before)
    return True


def depends_only_on(loss: Tensor, ends: Sequence[Tensor]) -> bool:
    """Whether a loss depends on leaves through ``ends`` alone, and not by a penalty on the parameters beside them."""
    stops = {(end.grad_fn, end.output_nr) for end in ends}
    waiting = [(loss.grad_fn, loss.output_nr)]
    seen = set(waiting)
    while waiting:
        place = waiting.pop()
        node = place[0]
        if node is None or place in stops:
            continue
        if node.name() == _LEAF:
            return False
        following = set(node.next_functions) - seen
        seen |= following
        waiting += following
    return True


def _keeps_linear(node: Node, before: Sequence[frozenset[Node]]) -> bool:
    """Whether what a node computes is linear in each leaf, where what it is given is; ``before`` are their leaves."""
    name = node.name()
    if name in _PRODUCTS:
        one, other = _PRODUCTS[name]
        return not before[one] & before[other]
    if name == "DivBackward0":
        return len(before) < 2 or not before[1]
    return name == _LEAF or name in _LINEAR
