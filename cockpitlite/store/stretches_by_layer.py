"""What every layer of a reading held in stretches of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store.contents import Steps, Values
from cockpitlite.store.pyramid import Rows, Stretches


@dataclass(frozen=True)
class LayerStretches:
    """The names of the layers ``[L]``, and the first steps ``[B]`` of stretches with what each held of every layer.

    ``low`` and ``high`` ``[B, L]`` are the extremes of the finite values, NaN where there was none, and ``broken``
    ``[B, L]`` counts those that were not finite.
    """

    names: tuple[str, ...]
    starts: Steps
    low: Values
    high: Values
    broken: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str], part: Rows | Stretches) -> LayerStretches:
        """Return rows, each of which is a stretch of its own, or summaries, as stretches of named layers."""
        if isinstance(part, Stretches):
            found = part.records
            return cls(tuple(names), part.starts, found["low"], found["high"], found["broken"].astype(np.int64))
        finite = np.isfinite(part.values)
        values = np.where(finite, part.values, np.nan)
        return cls(tuple(names), part.steps, values, values, (~finite).astype(np.int64))
