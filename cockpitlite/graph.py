"""What the graph behind a model's output tells of the model: where it narrows, what its norms average over.

Nothing is computed and no device is waited for: the graph says which functions were called, and on which shapes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cockpitlite.records import Forward

_LINEAR = {"addmm", "mm", "linear"}  # as autograd calls what a linear layer does
_FORMS = {"alias", "view", "unsafeview", "reshapealias", "squeeze", "unsqueeze", "expand", "clone", "tocopy"}
_FORMS |= {"t", "transpose", "permute", "slice", "select", "index", "split", "splitwithsizes", "unbind"}
_JOINS = {"add", "cat", "stack"}  # by which an input may come in later
_MOST = 50_000  # nodes looked at


def read_graph(forwards: Sequence[Forward], names: Mapping[int, str]) -> dict[str, Any]:
    """Return plain data on the models' calls of a step; ``names`` are those of the parameters, by identity.

    ``narrow`` is the weight of the linear layer whose single output is all that reaches the layers behind it, or None.
    ``norm_values`` is the least number of values that a batch norm in train mode takes a mean over, or None.
    ``dropout`` is the largest share that is dropped, and ``dropping`` the layers that do so.
    """
    found = [_Nodes.before(forward.outputs) for forward in forwards]
    narrow = [names.get(id(nodes.narrow)) for nodes in found if nodes.narrow is not None]
    counts = [count for nodes in found for count in nodes.averaged]
    shares = {name: share for forward in forwards for name, share in _shares_dropped(forward)}
    most = max(shares.values(), default=0.0)
    return {
        "narrow": narrow[0] if narrow else None,
        "norm_values": min(counts, default=None),
        "dropout": most,
        "dropping": [name for name, share in shares.items() if share == most and most > 0],
    }


def maker(tensor: Tensor) -> str:
    """Return the function that gave a tensor its values, as autograd calls it: ``softmax``, ``addmm``; empty for none.

    What changes only the form of a tensor is passed over.
    """
    node = tensor.grad_fn
    while node is not None and _called(node) in _FORMS and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else _called(node)


@dataclass
class _Nodes:
    """What a graph holds: the weight at which all of it passes through single numbers, and the counts of its norms."""

    narrow: Tensor | None
    averaged: list[int]

    @classmethod
    def before(cls, outputs: Sequence[Tensor]) -> _Nodes:
        """Go back from a model's outputs, latest first.

        Where nothing else is left to visit, and no input has been met, all that the model computes passes through.
        """
        found = cls(None, [])
        waiting: list[tuple[int, int, Any]] = []
        met: dict[int, Any] = {}  # which holds on to the nodes, so that no identity is given twice
        widens = begun = False

        def add(node: Any) -> None:
            if node is not None and id(node) not in met:
                met[id(node)] = node
                heapq.heappush(waiting, (-node._sequence_nr(), len(met), node))

        for output in outputs:
            add(output.grad_fn)
        while waiting and len(met) < _MOST:
            node = heapq.heappop(waiting)[2]
            if widens and not (begun or waiting or found.narrow is not None) and _is_single(node):
                found.narrow = next(_weights(node), None)
            found.averaged += _averaged(node)
            children = [child for child, _ in node.next_functions]
            leaves = [_leaf(child) for child in children]
            computed = [child for child, leaf in zip(children, leaves, strict=True) if child and leaf is None]
            widens = widens or any(leaf is not None and leaf.dim() > 1 and leaf.numel() > 1 for leaf in leaves)
            begun = begun or not computed or (None in children and _called(node) in _JOINS)
            for child in computed:
                add(child)
        return found


def _is_single(node: Any) -> bool:
    """Whether a node gives the output of a linear layer that has one."""
    shapes = _shapes(node)
    return _called(node) in _LINEAR and bool(shapes) and len(shapes[0]) > 1 and shapes[0][-1] == 1


def _weights(node: Any) -> Iterator[Tensor]:
    leaves = (_leaf(child) for child, _ in node.next_functions)
    yield from (leaf for leaf in leaves if leaf is not None and leaf.dim() > 1)


def _leaf(node: Any) -> Tensor | None:
    """Return the parameter that a node stands for, as it is or in another form, else None."""
    while node is not None and _called(node) in _FORMS and node.next_functions:
        node = node.next_functions[0][0]
    return getattr(node, "variable", None)


def _averaged(node: Any) -> Iterator[int]:
    """Yield how many values of each feature a batch norm in train mode saw."""
    if "batchnorm" in _called(node) and getattr(node, "_saved_training", False):
        for shape in _shapes(node):
            if len(shape) > 1 and shape[1]:
                yield math.prod(shape) // shape[1]


def _shapes(node: Any) -> list[Any]:
    """Return the shapes of what a node gave forwards; none where this version of torch does not say."""
    return [given.shape for given in getattr(node, "_input_metadata", ())][:1]


def _called(node: Any) -> str:
    return str(node.name()).rpartition("Backward")[0].rpartition("::")[2].lower()


def _shares_dropped(forward: Forward) -> Iterator[tuple[str, float]]:
    """Yield the layers that drop a part of their input in this call, and which share."""
    for name, module in forward.root.named_modules():
        share = getattr(module, "p" if isinstance(module, nn.modules.dropout._DropoutNd) else "dropout", None)
        if isinstance(share, float) and share > 0 and forward.modes.get(id(module)):
            yield name, share
