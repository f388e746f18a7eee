"""Which steps are tracked: every k-th, logarithmically spaced ones, or as many as a share of the time pays for."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Schedule = Callable[[int], bool]


@dataclass(frozen=True)
class Every:
    """Steps ``offset``, ``offset + k``, ``offset + 2k`` and so on."""

    k: int
    offset: int = 0

    def __call__(self, step: int) -> bool:
        """Whether a step is tracked."""
        return step >= self.offset and (step - self.offset) % self.k == 0

    def __str__(self) -> str:
        return f"every {self.k} steps" + (f" from {self.offset}" if self.offset else "")


@dataclass(frozen=True)
class Logarithmic:
    """Step 0 and steps spaced evenly on a logarithmic scale."""

    per_decade: int

    def __call__(self, step: int) -> bool:
        """Whether a step is tracked."""
        if step < 1:
            return step == 0
        index = round(self.per_decade * math.log10(step))
        return step in (self._step(index - 1), self._step(index), self._step(index + 1))

    def _step(self, index: int) -> int:
        return max(1, round(10 ** (index / self.per_decade)))

    def __str__(self) -> str:
        return f"{self.per_decade} steps per decade"


def every(k: int, offset: int = 0) -> Every:
    """Track steps ``offset``, ``offset + k``, ``offset + 2k`` and so on.

    Raises ValueError for a ``k`` below 1 or a negative ``offset``.
    """
    if k < 1 or offset < 0:
        raise ValueError(f"every(k, offset) takes k >= 1 and offset >= 0; got k={k}, offset={offset}")
    return Every(k, offset)


def logarithmic(per_decade: int = 20) -> Logarithmic:
    """Track step 0 and ``per_decade`` steps in each factor of ten of the step count: dense early, sparse late.

    Raises ValueError for ``per_decade`` below 1.
    """
    if per_decade < 1:
        raise ValueError(f"logarithmic(per_decade) takes at least 1; got {per_decade}")
    return Logarithmic(per_decade)


def on_diagnosis_schedule(step: int) -> bool:
    """Whether the paired step lengths are measured: every 5th of the first 50 steps, then 10 in a row every 500."""
    return step % 5 == 0 if step < 50 else step >= 500 and step % 500 < 10


FREE_STEPS = 50  # the start of a run is watched closely whatever it costs
WINDOW = 1000  # steps over which a debt or a saving is remembered


@dataclass
class Budget:
    """Track as often as an ``overhead`` (watching time over plain time) pays for, measured as the run goes.

    Every plain second earns ``overhead`` seconds; whatever watching takes is paid from them, and a step is tracked when
    the next one can be paid. Savings never exceed one tracked step and debts one window, so that the past is forgotten.
    Steps 0 and 1 are always tracked, and up to step FREE_STEPS nothing is a debt.
    """

    overhead: float
    credit: float = 0.0
    prices: deque[float] = field(default_factory=lambda: deque(maxlen=8))
    plain: deque[float] = field(default_factory=lambda: deque(maxlen=64))

    def __call__(self, step: int) -> bool:
        """Whether a step is tracked."""
        return step < 2 or not self.prices or self.credit >= self.price

    @property
    def price(self) -> float:
        """What tracking one step is expected to take, in seconds."""
        return statistics.median(self.prices) if self.prices else 0.0

    @property
    def interval(self) -> float:
        """The present number of steps from one tracked step to the next."""
        earned = self.overhead * statistics.median(self.plain) if self.plain else 0.0
        return max(1.0, self.price / earned) if earned > 0 else 1.0

    def account(self, step: int, plain: float, watching: float, tracked: bool) -> None:
        """Note what a step took by itself and by being watched, in seconds."""
        self.plain.append(plain)
        if tracked:
            self.prices.append(watching)
        usual = statistics.median(self.plain)
        earned = self.overhead * min(plain, 10 * usual)  # a validation pass between steps is no training time
        self.credit = min(self.credit + earned - watching, max(self.price, earned))
        debt = 0.0 if step < FREE_STEPS else WINDOW * self.overhead * usual
        self.credit = max(self.credit, -debt)

    def __str__(self) -> str:
        return f"as often as {self.overhead:.0%} of the time pays for"
