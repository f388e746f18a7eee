"""Which steps are tracked: every k-th, logarithmically spaced ones, or as many as a share of the time pays for."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cockpitlite.plan import Plan

Schedule = Callable[[int], bool]


@dataclass(frozen=True)
class Every:
    """Steps ``offset``, ``offset + k``, ``offset + 2k`` and so on."""

    k: int
    offset: int = 0

    def __call__(self, step: int) -> bool:
        """Whether a step is tracked."""
        return step >= self.offset and (step - self.offset) % self.k == 0

    def quiet(self, step: int) -> int:
        """Return for how many steps from this one on nothing can be due."""
        untracked = self.offset - step if step < self.offset else -(step - self.offset) % self.k
        return min(untracked, _until_diagnosis(step))

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


FREE_STEPS = 50  # the start of a run is watched closely whatever it costs
ROUND = 500  # steps from one burst of the diagnosis schedule to the next
BURST = 10  # its steps in a row
LEAST_BURST = 3  # where a budget cannot pay for more


def on_diagnosis_schedule(step: int, burst: int = BURST, rounds: int = 1) -> bool:
    """Whether the paired step lengths are measured: every 5th of the first 50 steps, then 10 in a row every 500.

    After the start it is ``burst`` steps in a row, and only in each so many-th of the ``rounds``.
    """
    if step < FREE_STEPS:
        return step % 5 == 0
    return step >= ROUND and step % ROUND < burst and step // ROUND % rounds == 0


def diagnosed_under(schedule: Schedule, step: int) -> bool:
    """Whether the paired step lengths are measured under a schedule."""
    if isinstance(schedule, Budget):
        return on_diagnosis_schedule(step, schedule.burst, schedule.rounds)
    return on_diagnosis_schedule(step)


def _until_diagnosis(step: int) -> int:
    return 0 if step < FREE_STEPS or step % ROUND < BURST else ROUND - step % ROUND


LEAST_SHARE = 0.2  # of what is allowed, for the panel, whatever everything else takes
MEMORY = 100  # untracked steps over which what they cost is averaged
FASTER = 0.5  # times as long as before: steps that are so much shorter are another training, with other prices


class _Prices:
    """What the last measurements took, in steps' plain times."""

    def __init__(self, most: int) -> None:
        self._last: deque[float] = deque(maxlen=most)
        self.median = self.least = 0.0

    def note(self, price: float, *, begins: bool) -> None:
        """Note what a step took; the one after a measured step is a part of its price."""
        if begins or not self._last:
            self._last.append(price)
        else:
            self._last[-1] += price
        self.median, self.least = statistics.median(self._last), min(self._last)


@dataclass
class Budget:
    """Track as often as an ``overhead`` (watching time over plain time) pays for, measured as the run goes.

    Every plain second earns ``overhead`` seconds, whatever watching takes is paid from them, and a step is tracked when
    nothing is owed. What untracked steps cost comes first, and the diagnosis schedule: its next burst is saved for in
    equal parts, so that the share holds over any thousand steps and tracked steps stay evenly spaced; what a burst then
    takes more or less is paid or given back. A burst that would take more than half of what untracked steps leave is
    shortened, down to LEAST_BURST, and where these are too dear as well it comes in fewer rounds. LEAST_SHARE of what
    is allowed is spent on the panel whatever untracked steps take, so that it does not go blind. The past is forgotten:
    nothing is saved, no debt is more than the panel may take in one round, or than a tracked step costs, and where
    steps become much faster, debts shrink with them. Steps 0 and 1 are always tracked, and up to step FREE_STEPS no
    debt exceeds the cheapest tracked step.

    ``pending`` are tracked steps whose cost is not known yet, ``usual`` is the slowest usual step that still counts,
    and ``around`` what untracked steps cost, in steps' plain times, of which ``untracked`` have been seen.
    """

    overhead: float
    pending: int = 0
    credit: float = 0.0
    usual: float = 0.0
    around: float = 0.0
    untracked: int = 0
    prices: _Prices = field(default_factory=lambda: _Prices(8))
    diagnoses: _Prices = field(default_factory=lambda: _Prices(BURST))

    def __call__(self, step: int) -> bool:
        """Whether a step is tracked."""
        return step < 2 or self.credit >= self.pending * self.prices.median * self.usual

    def quiet(self, step: int) -> int:
        """Return for how many steps from this one on nothing can be due: until half of what is owed has been earned."""
        owed = self.pending * self.prices.median * self.usual - self.credit
        earned = self.rate * self.usual
        return min(int(owed / earned / 2) if earned > 0 else 0, _until_diagnosis(step)) if step > 1 else 0

    @property
    def paid(self) -> float:
        """How many steps of the diagnosis a round pays for, with half of what untracked steps leave."""
        price = self.diagnoses.median
        left = max(self.overhead - self.around, LEAST_SHARE * self.overhead)
        return min(left / 2 * ROUND / price, BURST) if price > 0 else BURST

    @property
    def burst(self) -> int:
        """How many steps in a row the diagnosis takes."""
        return max(LEAST_BURST, int(self.paid))

    @property
    def rounds(self) -> int:
        """In each how many-th round it takes them."""
        return math.ceil(LEAST_BURST / max(self.paid, 1e-9))

    @property
    def rate(self) -> float:
        """What is left for the panel of a plain second, when the next burst of the diagnosis has been saved for."""
        left = self.overhead - self.around - self.diagnoses.median * self.burst / (ROUND * self.rounds)
        return max(left, LEAST_SHARE * self.overhead)

    def account(self, step: int, plain: float, cost: float, usual: float, plan: Plan) -> None:
        """Note what a step took by itself and by being watched, and what it usually takes, in seconds."""
        if usual < FASTER * self.usual:
            self.credit *= usual / self.usual
            self.usual = usual
        self.usual = max(self.usual, usual)
        self.credit = min(self.credit - self._due(step, max(plain, usual), cost, plan), 0.0) + self.rate * plain
        if step < FREE_STEPS - 1:
            self.credit = max(self.credit, -self.prices.least * usual)
        else:
            most = max(ROUND * self.rate, self.prices.least) * usual
            self.credit = max(self.credit, -most if step >= FREE_STEPS else 0.0)

    def _due(self, step: int, plain: float, cost: float, plan: Plan) -> float:
        """Return what the panel has to pay for a step, and note the price."""
        saved = self.diagnoses.median * plain if plan.diagnosis else 0.0
        price = 1 / plain if plain > 0 else 0.0
        if plan.panel or plan.after_panel:
            due = max(0.0, cost - saved)
            self.prices.note(due * price, begins=plan.panel)
            return due
        if plan.diagnosis or plan.after_diagnosis:
            self.diagnoses.note(cost * price, begins=plan.diagnosis)
            return cost - saved if step >= FREE_STEPS else 0.0
        self.untracked += 1
        self.around += (min(cost * price, 1.0) - self.around) / min(self.untracked, MEMORY)
        return 0.0

    def __str__(self) -> str:
        return f"as often as {100 * self.overhead:g} % of the time pays for"
