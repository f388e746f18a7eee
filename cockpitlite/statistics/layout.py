"""How the tensors of a recorded call lie, and how many digits sums over them need."""

from __future__ import annotations

from torch import Tensor

from cockpitlite.records import Call
from cockpitlite.statistics.rule import by_sample, chosen_rows
from cockpitlite.statistics.step import Unavailable


def rows_of(call: Call, tensor: Tensor, samples: int, chosen: Tensor | slice | None, leading: int) -> Tensor:
    """Return the chosen samples' rows of a tensor, ``[sample, row, ...]``, of a layer that works along its last axes.

    Only the first ``leading`` axes of its output may count samples: where another does, the samples are what the layer
    works along, and its closed formula does not tell them apart.
    """
    axis = call.axes[0]
    if samples > 1 and (axis is None or axis >= leading):
        raise Unavailable(f"layer {call.name!r} works along the axis that counts samples")
    return chosen_rows(by_sample(call, tensor, samples), chosen)


def with_batch_axis(tensor: Tensor, unbatched: int) -> Tensor:
    """Return a tensor with an axis for the batch in front, where it has only its ``unbatched`` axes."""
    return tensor.unsqueeze(0) if tensor.dim() == unbatched else tensor
