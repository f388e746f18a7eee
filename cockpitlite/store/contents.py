"""What a run file holds, as its reader and its writer name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SUFFIX = ".cockpit"
LIVE_SECONDS = 10.0  # a run whose writer has been silent for longer counts as ended
MOST_BINS = 2**22  # of one histogram: 32 MiB of counts, which is all that reading one of a stranger's can cost

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


class RunFileError(ValueError):
    """A file is not a run file, or was written by a newer version; the message names cause and fix."""


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: ``kind`` says what, ``data`` holds its particulars, ``time`` is Unix time."""

    step: int
    time: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Histogram:
    """Exact counts between edges; two tuples of edges and a matrix of counts where two quantities are joined."""

    counts: NDArray[np.int64]
    edges: tuple[Values, ...]


class Column(NamedTuple):
    """A reading in a frame: one number, or its total and then one for each of its ``layers``."""

    name: str
    layers: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many numbers it takes."""
        return 1 + len(self.layers or ())
