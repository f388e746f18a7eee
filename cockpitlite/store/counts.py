"""Counts of histograms, packed into few bytes."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from cockpitlite.store.contents import MOST_BINS


def packed(counts: NDArray[np.int64]) -> bytes:
    """Return counts compressed: all their lowest bytes first, then the next, up to the highest, which are mostly 0."""
    planes = np.ascontiguousarray(counts, dtype="<i8").reshape(-1, 1).view(np.uint8).T
    return zlib.compress(planes.tobytes(), 1)


def unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Undo :func:`packed`; ValueError where there are not as many counts, and never more memory than for these."""
    size = 8 * math.prod(shape)
    if size > 8 * MOST_BINS:
        raise ValueError(f"it has more than {MOST_BINS:,} bins")
    planes = zlib.decompressobj().decompress(packed, size + 1)
    if len(planes) != size:
        raise ValueError("it has too many or too few counts")
    counts = np.frombuffer(planes, dtype=np.uint8).reshape(8, -1).T
    return np.ascontiguousarray(counts).view("<i8").astype(np.int64).reshape(shape)
