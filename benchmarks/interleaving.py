"""Two trainings that take turns, so that what the machine does meanwhile falls on both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from training import Trainer

TURN = 0.5  # seconds, about, that one trains before it is the other's turn: longer than the recorder waits to write


@dataclass(frozen=True)
class Pair:
    """Seconds that a step took, watched and plain."""

    watched: float
    plain: float

    @property
    def added(self) -> float:
        """The seconds that watching adds to a step."""
        return self.watched - self.plain

    @property
    def ratio(self) -> float:
        """A watched step over a plain one."""
        return self.watched / self.plain


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, between their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the quartiles; of one value, itself."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


def take_turns(watched: Trainer, plain: Trainer, steps: int, seconds: Pair) -> Pair:
    """Take some watched steps in turns with plain ones, and return what a step took.

    ``seconds`` is what a step is expected to take. Who begins changes from turn to turn.
    """
    turn = min(TURN, steps * seconds.watched)
    chunk, plain_chunk = (max(1, round(turn / each)) for each in (seconds.watched, seconds.plain))
    took, plain_took, taken, plain_taken = 0.0, 0.0, 0, 0
    while taken < steps:
        count = min(chunk, steps - taken)
        turns = [(watched, count), (plain, plain_chunk)]
        for trainer, size in turns if plain_taken % (2 * plain_chunk) else reversed(turns):
            if trainer is watched:
                took += trainer.run(size)
            else:
                plain_took += trainer.run(size)
        taken += count
        plain_taken += plain_chunk
    return Pair(took / taken, plain_took / plain_taken)
