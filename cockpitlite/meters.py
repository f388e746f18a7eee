"""What a run takes: its time and how much of that is due to being watched, memory, and energy where NVML can tell."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

RECENT_STEPS = 200  # over which the time from step to step is averaged
SHARE_STEPS = 500  # over which the share is taken: one round of the diagnosis schedule, whose burst it so evens out
PLAIN_STEPS = 32  # whose median is the usual time of a step
PAUSE = 16.0  # usual steps: so long before a forward is a pause, such as for a checkpoint
MOST_PLAIN = 2.0  # usual steps: one that takes longer was held up by something else, such as a validation
PLAIN_AGE = 256  # steps after which a time is no longer taken for usual
ALIKE_STEPS = 8  # tracked steps of one kind, whose median tells what the host's clock did not see
WAITING_STEPS = 64  # that the device may be behind before its oldest ones go untimed


class Lap(NamedTuple):
    """A step that has ended: ``kind`` tells what was measured, None for nothing.

    ``watching`` are the seconds that our code took on the host, ``writing`` those of other threads meanwhile.
    """

    step: int
    kind: Hashable | None
    watching: float
    writing: float


class Spent(NamedTuple):
    """What a step took, in seconds: ``plain`` by itself, ``cost`` by being watched; ``usual`` is what is usual now.

    ``plain`` is at most MOST_PLAIN of the usual time: what held the step up is not training.
    """

    step: int
    kind: Hashable | None
    plain: float
    cost: float
    usual: float


class Taken(NamedTuple):
    """The seconds from the last step's end to a step's, and those of them before the first forward, NaN if unknown."""

    lap: Lap
    seconds: float
    before: float


class Clock(Protocol):
    """Times the way from each step's end to the next."""

    overlaps: bool

    def leave(self) -> None:
        """Note that the loop goes on after a step."""

    def arrive(self) -> None:
        """Note that the first forward after a step begins."""

    def mark(self, lap: Lap) -> None:
        """Note that a step has ended."""

    def durations(self) -> Iterable[Taken]:
        """Return the steps whose time has become known since this was last asked, in order."""

    def waiting(self) -> Iterable[Lap]:
        """Return the steps whose time is not known yet."""


class HostClock:
    """The host's own clock, which knows at once; what our code takes there is a part of the step."""

    overlaps = False

    def __init__(self) -> None:
        self._last = self._left = time.perf_counter()
        self._arrival = math.nan
        self._known: list[Taken] = []

    def leave(self) -> None:
        """Note that the loop goes on after a step: what our code took until now is no waiting."""
        self._left = time.perf_counter()

    def arrive(self) -> None:
        """Note that the first forward after a step begins."""
        self._arrival = time.perf_counter()

    def mark(self, lap: Lap) -> None:
        """Note that a step has ended."""
        now = time.perf_counter()
        self._known.append(Taken(lap, now - self._last, self._arrival - self._left))
        self._last, self._arrival = now, math.nan

    def durations(self) -> list[Taken]:
        """Return the steps that have ended since this was last asked."""
        known, self._known = self._known, []
        return known

    def waiting(self) -> tuple[Lap, ...]:
        """Return nothing: every time is known at once."""
        return ()


class DeviceClock:
    """The clock of a GPU, which knows a little later: events are looked at and never waited for.

    ``record`` makes the device pass an event, a given one or a new one; None tells that it cannot now, and the steps
    beside are not timed. The host runs ahead of the device, so that what our code takes there may cost nothing.
    """

    overlaps = True

    def __init__(self, record: Callable[[Any], Any]) -> None:
        self._record = record
        self._spare: list[Any] = []
        self._waiting: deque[tuple[Lap, Any, Any, Any]] = deque(maxlen=WAITING_STEPS)
        self._last = record(None)
        self._arrival: Any = None

    def leave(self) -> None:
        """Do nothing: what our code takes on the host keeps the device waiting only where that has nothing to do."""

    def arrive(self) -> None:
        """Note on the device that the first forward after a step begins: until then it has nothing to do."""
        self._arrival = self._new()

    def mark(self, lap: Lap) -> None:
        """Note on the device that a step has ended."""
        arrival, self._arrival = self._arrival, None
        begin, self._last = self._last, self._new()
        if begin is not None and self._last is not None:
            self._waiting.append((lap, begin, arrival, self._last))

    def durations(self) -> Iterator[Taken]:
        """Yield the steps that the device has ended since this was last asked."""
        while self._last is not None and self._waiting and self._waiting[0][3].query():
            lap, begin, arrival, end = self._waiting.popleft()
            before = math.nan if arrival is None else begin.elapsed_time(arrival) / 1000
            yield Taken(lap, begin.elapsed_time(end) / 1000, before)
            self._spare.append(begin)  # the step that it ended has been timed before
            if arrival is not None:
                self._spare.append(arrival)

    def waiting(self) -> list[Lap]:
        """Return the steps that the device has not ended yet."""
        return [lap for lap, *_ in self._waiting]

    def _new(self) -> Any:
        return self._record(self._spare.pop() if self._spare else None)


def _recorded(device: torch.device, event: Any) -> Any:
    """Record an event on the current stream; None while a graph is captured, where it would become a part of that."""
    if torch.cuda.is_current_stream_capturing():
        return None
    event = torch.cuda.Event(enable_timing=True) if event is None else event
    event.record(torch.cuda.current_stream(device))
    return event


def clock_of(device: torch.device) -> Clock:
    """Return the clock that tells how long training on a device takes."""
    return DeviceClock(functools.partial(_recorded, device)) if device.type == "cuda" else HostClock()


class Meters:
    """Times of the last steps, and readings of the machine; nothing here waits for a device.

    What a tracked step costs is the time by which it exceeds the usual one, the median of the last untracked steps. Of
    that the host's clock sees what our own code takes, exactly and at once; what it does not see, such as slower
    kernels of the user's or work of the device, is the median over the last steps of the same kind, so that a pause
    for validation or a burst of other work is not taken for a cost. Where every step is tracked there is nothing to
    compare with, and only what the host sees counts. An untracked step costs what its hooks take, and to each is added
    what other threads have taken meanwhile.
    """

    def __init__(self, device: torch.device, clock: Clock | None = None) -> None:
        self._device = device
        self._clock = clock_of(device) if clock is None else clock
        self._recent = _SlidingSum(RECENT_STEPS)
        self._costs, self._wholes = _SlidingSum(SHARE_STEPS), _SlidingSum(SHARE_STEPS)
        self._before, self._around = _SlidingSum(RECENT_STEPS), _SlidingSum(RECENT_STEPS)
        self._plain: deque[tuple[int, float]] = deque(maxlen=PLAIN_STEPS)
        self._bare: deque[float] = deque(maxlen=ALIKE_STEPS)
        self._usual, self._begun = 0.0, False
        self._unseen: defaultdict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=ALIKE_STEPS))
        self._written = 0.0
        self._energy = EnergyMeter(device)

    def leave(self) -> None:
        """Note that the loop goes on after a step."""
        self._clock.leave()

    def arrive(self) -> None:
        """Note that the first forward after a step begins."""
        self._clock.arrive()

    def mark(self, step: int, kind: Hashable | None, watching: float, written: float = 0.0) -> None:
        """Note that a step has ended.

        ``kind`` tells what was measured, None for nothing; ``watching`` are the seconds that our code took on the host,
        ``written`` those that other threads have taken since the start.
        """
        self._clock.mark(Lap(step, kind, watching, written - self._written))
        self._written = written

    def news(self) -> list[Spent]:
        """Return what has become known of the steps that have ended: on a GPU that of the last ones comes later."""
        return [self._spent(taken) for taken in self._clock.durations()]

    def _spent(self, taken: Taken) -> Spent:
        lap, seconds, before = taken
        rest, unseen = seconds - lap.watching, 0.0
        if lap.kind is None:
            self._note_plain(lap.step, rest)
        else:
            unseen = self._not_seen(lap, rest)
        cost = lap.watching + unseen + lap.writing
        plain = min(max(0.0, rest - unseen), MOST_PLAIN * self._usual)
        self._recent.add(seconds)
        self._wholes.add(plain + min(cost, seconds))
        self._costs.add(min(cost, seconds))
        if self._begun and before < PAUSE * self._usual:  # not where it is unknown
            self._before.add(before)
            self._around.add(before + min(max(0.0, rest - unseen - before), MOST_PLAIN * self._usual))
        self._begun = True  # the time before the first step is no waiting
        return Spent(lap.step, lap.kind, plain, cost, self._usual)

    def _note_plain(self, step: int, seconds: float) -> None:
        self._plain.append((step, seconds))
        if step % 4 == 0 or len(self._plain) < 4:
            self._usual = max(0.0, statistics.median([plain for _, plain in self._plain]))

    def _not_seen(self, lap: Lap, rest: float) -> float:
        """Return what a tracked step has cost besides what the host saw; negative where that was hidden behind work."""
        while self._plain and self._plain[0][0] < lap.step - PLAIN_AGE:
            self._plain.popleft()
        if not self._plain:
            self._bare.append(max(0.0, rest))
            self._usual = statistics.median(self._bare)
            return 0.0
        unseen = self._unseen[lap.kind]
        unseen.append(rest - self._usual)
        return max(-lap.watching if self._clock.overlaps else 0.0, statistics.median(unseen))

    @property
    def waiting(self) -> list[Hashable | None]:
        """The kinds of the steps whose time is not known yet."""
        return [lap.kind for lap in self._clock.waiting()]

    @property
    def share(self) -> float:
        """What watching has cost of the time of training, over the last SHARE_STEPS steps."""
        return self._costs.total / self._wholes.total if self._wholes.total > 0 else 0.0

    @property
    def data_wait(self) -> float:
        """The share of the time of the last RECENT_STEPS that passed before the first forward; NaN while unknown."""
        return self._before.total / self._around.total if self._around.total > 0 else math.nan

    @property
    def step_seconds(self) -> float:
        """The mean time from step to step, in seconds, over the last RECENT_STEPS; NaN before the first is known."""
        return self._recent.mean

    @property
    def memory(self) -> float:
        """Bytes: the most that tensors have taken on the GPU, or what the process holds of the machine's memory."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        return _resident_bytes()

    def watts(self) -> float:
        """The GPU's mean power since this was last asked; NaN where NVML cannot tell."""
        return self._energy.watts()


class _SlidingSum:
    """The sum and the mean of the last values."""

    def __init__(self, most: int) -> None:
        self._values: deque[float] = deque(maxlen=most)
        self.total = 0.0

    def add(self, value: float) -> None:
        if len(self._values) == self._values.maxlen:
            self.total -= self._values[0]
        self._values.append(value)
        self.total += value

    @property
    def mean(self) -> float:
        return self.total / len(self._values) if self._values else math.nan


class EnergyMeter:
    """The energy a GPU has taken, by NVML's own counter (Volta and later)."""

    def __init__(self, device: torch.device) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        self._last: tuple[float, float] | None = None
        if device.type == "cuda":
            with contextlib.suppress(Exception):  # no library, no driver, no such counter
                self._open(device)

    def _open(self, device: torch.device) -> None:
        import pynvml

        pynvml.nvmlInit()
        identity = torch.cuda.get_device_properties(device).uuid
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        self._nvml = pynvml

    def watts(self) -> float:
        """Return the mean power since the last call, NaN on the first."""
        if self._nvml is None:
            return math.nan
        try:
            now = time.perf_counter(), self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000
        except Exception:  # a driver that has gone away
            self._nvml = None
            return math.nan
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return math.nan
        return float((now[1] - last[1]) / (now[0] - last[0]))


def _resident_bytes() -> float:
    """Return the memory that this process holds; NaN where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return float(pages * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ImportError):
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    return math.nan
