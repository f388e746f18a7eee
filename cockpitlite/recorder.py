"""From the device to the run file without the training step ever waiting: a flat buffer a step, a writer thread."""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import threading
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpitlite.instrument import Histogram, Layered, Reading
from cockpitlite.panel import Panel
from cockpitlite.store import Column, RunWriter, explained
from cockpitlite.store import Histogram as StoredHistogram

COMMIT_SECONDS = 0.4  # so that a killed process loses less than a second
MOST_TOGETHER = 64  # steps that are not tracked, whose losses are sent together
ALIVE_SECONDS = 2.0  # from one sign of life to the next where nothing happens
MOST_WAITING = 2**28  # bytes on their way to the file: what comes when there are more is left out, and said to be
ITEM_BYTES = 512  # what anything else than a block takes on its way, about
PATIENCE = 10.0  # seconds without any progress after which a file is taken for stuck


@dataclass(frozen=True)
class Check:
    """A promise that is tested on the device and judged on the host: all of ``passed`` must be true.

    ``readings`` are unavailable where it is not, for a reason that ``explain`` words from the positions that failed;
    values that are ``kept`` are NaN there, and stay.
    """

    topic: str
    passed: Tensor
    explain: Callable[[list[int]], str]
    readings: set[str] = field(default_factory=set)
    kept: bool = False


@dataclass
class Block:
    """What one step leaves: readings by name with the step they belong to, checks, and a scan for non-finite values.

    ``spoilt`` is the sample with a non-finite input, −1 for none. ``skips`` are steps whose kernel has left the
    parameters alone where the number beside them is not 0.
    """

    step: int
    readings: list[tuple[str, int, Reading]] = field(default_factory=list)
    scan: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    spoilt: Tensor | None = None
    checks: list[Check] = field(default_factory=list)
    skips: list[tuple[int, Tensor]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Label:
    """What the numbers of a reading are: name and step, layers (None for a scalar), bins by axis of a histogram."""

    name: str
    step: int
    layers: Sequence[str] | None = None
    bins: tuple[int, ...] = ()


class _Buffers:
    """Host memory that a GPU copies to by itself, used again: to pin memory makes the device wait."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)

    def take(self, like: Tensor) -> Tensor:
        """Return a buffer of at least as many numbers."""
        size = max(256, 1 << (like.numel() - 1).bit_length())
        free = self._free[size]
        return free.pop() if free else torch.empty(size, dtype=like.dtype, device="cpu", pin_memory=True)

    def give_back(self, buffer: Tensor) -> None:
        """Take a buffer back whose numbers have been used; any thread may."""
        self._free[buffer.numel()].append(buffer)


@dataclass(frozen=True)
class _Shipment:
    """A block on its way: its numbers in one host buffer, which those of a GPU may not have ``arrived`` in yet.

    ``parts`` are the lengths of its parts, or such numbers as the host has known from the start. ``places`` is what the
    scan looked at, ``skips`` are the steps that may have been skipped. Of the device only what the ``checks`` found is
    held.
    """

    step: int
    seconds: float
    readings: list[_Label]
    places: list[tuple[str, str]]
    checks: Sequence[Check]
    skips: list[int]
    buffer: Tensor | NDArray[np.float64]
    arrived: Any
    parts: list[int | NDArray[np.float64]]

    @property
    def bytes(self) -> int:
        """What it takes of the host's memory, about."""
        return self.buffer.nbytes + 128 * len(self.parts)

    def unpack(self) -> list[NDArray[np.float64]]:
        """Return the numbers of each part; waits for the copy, in the thread that calls it."""
        if self.arrived is not None:
            self.arrived.synchronize()
        numbers = self.buffer.numpy() if isinstance(self.buffer, Tensor) else self.buffer
        unpacked, position = [], 0
        for part in self.parts:
            if isinstance(part, int):
                unpacked.append(numbers[position : position + part])
                position += part
            else:
                unpacked.append(part)
        return unpacked


@dataclass(frozen=True)
class _Notice:
    """A wish to be called when everything before it has been committed."""

    call: Callable[[], None]


class Recorder:
    """Takes blocks, events and panels from the training thread and writes them from a thread of its own.

    The training thread never waits for the file. Where that is slow, or held by another process, blocks wait in memory;
    when more than MOST_WAITING bytes do, blocks and readings are left out until half of it has been written, with a
    warning at the first and an event ``dropped`` that tells how many, from which step to which. Where the file cannot
    be written at all, ``failure`` says why, and what comes later is left out.

    A process forked off has no thread to write, and records nothing: it is not ``working``. ``seconds`` is the
    processor time that the thread has taken.
    """

    def __init__(self, writer: RunWriter) -> None:
        self.on_failed_check: Callable[[Check, list[int], str], bool] = lambda check, failed, reason: True
        self.on_alarm: Callable[[], None] = lambda: None
        self.failure: str | None = None
        self.seconds = 0.0
        self.closed = False
        self.path = writer.path
        self._writer = writer
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._taken = 0  # bytes, counted where they are put
        self._counting = threading.Lock()
        self._written = self._handled = 0  # bytes and all things, counted by the thread that writes
        self._left_out: list[int] = []  # from which step and to which, of all that was
        self._told_left_out = self._told_failure = False
        self._buffers = _Buffers()
        self._losses: deque[tuple[int, Tensor | float]] = deque()  # both threads take from it
        self._skips: list[tuple[int, Tensor]] = []
        self._skipped, self._last_skipped = 0, -1  # how many steps were, and the last; known to the thread that writes
        self._shipped = time.monotonic()
        self._ill = self._broken = False  # what the last scan found, and whether the last loss was not finite
        self._failed_topics: set[str] = set()
        self._unsure: set[str] = set()  # readings that rest on a check which failed, until they have a value again
        self._after_commit: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="cockpitlite-recorder", daemon=True)
        self._thread.start()

    def loss(self, step: int, loss: Tensor | float) -> None:
        """Take the loss of a step that is not tracked; many are sent together."""
        self._losses.append((step, loss))
        if len(self._losses) >= MOST_TOGETHER or time.monotonic() - self._shipped > COMMIT_SECONDS / 2:
            self.block(Block(step))

    def skipped_where(self, step: int, flag: Tensor) -> None:
        """Take a step for skipped where a number on the device is not 0: an event, of which nothing is kept."""
        self._skips.append((step, flag))
        if len(self._skips) > MOST_TOGETHER:
            self.block(Block(step))

    @property
    def working(self) -> bool:
        """Whether anything can still be recorded."""
        return self.failure is None and self._thread.is_alive()

    def block(self, block: Block) -> None:
        """Take what a step has left, with the losses that came before it."""
        block.readings = [*self._pending_losses(), *block.readings]
        block.skips, self._skips = self._skips, []
        self._shipped = time.monotonic()
        if not self.working:
            return
        if self._is_full():
            self._leave_out(min([block.step, *(step for _, step, _ in block.readings)]), block.step)
            return
        self._tell_left_out()
        self._put(_shipped(block, self._buffers))

    def _pending_losses(self) -> list[tuple[str, int, Reading]]:
        """Take the losses that wait to be sent together."""
        pending: list[tuple[str, int, Reading]] = []
        with contextlib.suppress(IndexError):
            while True:
                step, loss = self._losses.popleft()
                pending.append(("loss", step, loss))
        return pending

    def _put(self, item: Any) -> None:
        """Send something to the thread that writes."""
        if self._thread.is_alive():
            with self._counting:
                self._taken += _bytes(item)
            self._queue.put(item)

    def _is_full(self) -> bool:
        waiting = self._taken - self._written
        return waiting > MOST_WAITING or (bool(self._left_out) and waiting > MOST_WAITING / 2)

    def _leave_out(self, first: int, last: int) -> None:
        self._left_out += [first, last]
        if not self._told_left_out:
            self._told_left_out = True
            warnings.warn(
                f"cockpitlite: {self.path} is written too slowly, and {MOST_WAITING >> 20} MiB are waiting: from step "
                f"{self._left_out[0]} on, steps are left out until half of it has been written",
                stacklevel=2,
            )

    def _tell_left_out(self) -> None:
        """Let the file say which steps it does not hold."""
        if self._left_out:
            steps, self._left_out = self._left_out, []
            self.event(steps[-1], "dropped", {"blocks": len(steps) // 2, "from": min(steps), "to": max(steps)})

    def event(self, step: int, kind: str, data: Mapping[str, Any]) -> None:
        """Take an event."""
        self._put(("event", step, kind, data, time.time()))

    def meta(self, **entries: Any) -> None:
        """Take entries of the run's description."""
        self._put(("meta", entries))

    def panel(self, panel: Panel) -> None:
        """Take how a reading is drawn."""
        self._put(("panel", panel))

    def reading(self, step: int, name: str, value: float) -> None:
        """Take one number that is known on the host."""
        if self._is_full():
            self._leave_out(step, step)
        else:
            self._tell_left_out()
            self._put(("reading", name, step, value))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call something in the writer thread when all that was taken so far can be read."""
        self._put(_Notice(call))

    def flush(self) -> bool:
        """Wait until everything taken so far is in the file; False where nothing moves for PATIENCE seconds."""
        if self._losses or self._skips:
            self.block(Block((self._losses or self._skips)[-1][0]))
        self._tell_left_out()
        done = threading.Event()
        self.after_commit(done.set)
        handled = self._handled
        while self._thread.is_alive() and not done.wait(PATIENCE):
            if self._handled == handled:
                return False
            handled = self._handled
        return True

    def close(self) -> None:
        """Write what is left and end the thread; where the file is stuck, leave it with a warning."""
        if self.closed:
            return
        self.closed = True
        complete = self.flush()
        self._queue.put(None)
        self._thread.join(PATIENCE if complete else 0.0)
        if self.failure is not None:
            self.tell_failure()
        elif self._thread.is_alive():
            warnings.warn(
                f"cockpitlite: {self.path} could not be written for {PATIENCE:.0f} seconds; what was recorded last may "
                "be missing in it",
                stacklevel=2,
            )

    def abandon(self) -> None:
        """Write what is left and end the thread, without waiting for either."""
        self.closed = True
        if self._losses or self._skips:
            self.block(Block((self._losses or self._skips)[-1][0]))
        self._queue.put(None)

    def tell_failure(self) -> None:
        """Warn once that nothing is recorded any more, where that is so."""
        if self.failure is not None and not self._told_failure:
            self._told_failure = True
            warnings.warn(
                f"cockpitlite: recording to {self.path} has stopped ({self.failure}); training goes on unrecorded",
                stacklevel=2,
            )

    def _run(self) -> None:
        """Write what comes until the end is told, and commit now and then."""
        last, changed = time.monotonic(), False
        while True:
            try:
                item = self._queue.get(timeout=COMMIT_SECONDS)
            except queue.Empty:
                item = ()
                changed = self._write_resting_losses() or changed
            if item is None:
                self._attempt(self._writer.close)
                if self.failure is not None:
                    with contextlib.suppress(Exception):  # what it could write, it has written
                        self._writer.close()
                return
            if isinstance(item, _Notice):
                self._after_commit.append(item.call)
            elif item:
                self._attempt(self._write, item)
                changed = True
            self._release(item)
            silent = time.monotonic() - last
            if silent > (COMMIT_SECONDS if changed else ALIVE_SECONDS) or (self._after_commit and self._queue.empty()):
                self._attempt(self._writer.commit)
                last, changed = time.monotonic(), False
                self._notify()
            self._handled += 1
            self.seconds = time.thread_time()

    def _release(self, item: Any) -> None:
        """Let go of what something has taken of the memory."""
        self._written += _bytes(item) if item else 0
        if isinstance(item, _Shipment) and isinstance(item.buffer, Tensor):
            self._buffers.give_back(item.buffer)

    def _write_resting_losses(self) -> bool:
        """Write the losses that wait for others while the training rests, as in a validation; tell if there were any.

        Those of a device wait for the training thread, which alone may ask it for anything; of those there are no more
        than of COMMIT_SECONDS / 2.
        """
        try:
            _, first = self._losses[0]
        except IndexError:
            return False
        if self._skips or isinstance(first, Tensor):
            return False
        pending = self._pending_losses()
        if pending:
            self._attempt(self._write, _shipped(Block(pending[-1][1], pending), self._buffers))
        return bool(pending)

    def _notify(self) -> None:
        calls, self._after_commit = self._after_commit, []
        for call in calls:
            call()

    def _attempt(self, action: Callable[..., None], *args: Any) -> None:
        """Do something with the file when it is free; after the first failure nothing more is tried."""
        if self.failure is not None:
            return
        try:
            while not self._writer.begin():
                pass  # it has waited some seconds for another process to end its writing
            action(*args)
        except Exception as error:
            self.failure = explained(error)

    def _write(self, item: Any) -> None:
        if isinstance(item, _Shipment):
            self._write_block(item)
            return
        kind, *rest = item
        if kind == "event":
            step, name, data, when = rest
            self._writer.event(step, name, data, when)
        elif kind == "meta":
            self._writer.meta(**rest[0])
        elif kind == "panel":
            self._writer.panel(rest[0])
        elif kind == "reading":
            name, step, value = rest
            self._writer.reading(name, step, value)

    def _write_block(self, shipment: _Shipment) -> None:
        parts = shipment.unpack()
        count = len(shipment.readings)
        skipped = self._note_skips(shipment, parts)
        here = shipment.step in skipped
        dropped = set() if here else self._judge(shipment, parts[count + (1 if shipment.places else 0) :])
        frames: defaultdict[int, list[tuple[_Label, NDArray[np.float64]]]] = defaultdict(list)
        losses: list[tuple[int, float]] = []
        for label, numbers in zip(shipment.readings, parts, strict=False):
            if label.name in dropped or label.step in skipped or (here and label.name != "loss"):
                continue
            if label.bins:
                self._write_histogram(label, numbers)
                continue
            if label.name in self._unsure:
                if np.isnan(numbers[0]):  # the step was taken before the training had heard of the check
                    continue
                self._unsure.discard(label.name)
            if label.name == "loss":
                losses.append((label.step, float(numbers[0])))
            frames[label.step].append((label, numbers))
        self._write_frames(frames)
        self._report_losses(shipment, losses)
        if shipment.places and not here:
            self._report_scan(shipment, parts[count])
        if shipment.seconds:
            self._writer.clock(shipment.step, shipment.seconds)

    def _note_skips(self, shipment: _Shipment, parts: Sequence[NDArray[np.float64]]) -> set[int]:
        """Write an event for each step that was skipped; return them, and the last of those before."""
        found = {self._last_skipped}
        for step, numbers in zip(shipment.skips, parts[len(parts) - len(shipment.skips) :], strict=True):
            if numbers.any():
                self._skipped, self._last_skipped = self._skipped + 1, step
                self._writer.event(step, "skipped_step", {"count": self._skipped})
                found.add(step)
        return found

    def _write_frames(self, frames: Mapping[int, Sequence[tuple[_Label, NDArray[np.float64]]]]) -> None:
        """Write the readings of each step at once; one by itself, such as the loss of an untracked step, as it is."""
        alone: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for step, members in frames.items():
            if len(members) == 1 and members[0][0].layers is None:
                alone[members[0][0].name].append((step, float(members[0][1][0])))
                continue
            columns = [
                Column(label.name, None if label.layers is None else tuple(label.layers)) for label, _ in members
            ]
            self._writer.frame(step, columns, np.concatenate([numbers for _, numbers in members]))
        for name, points in alone.items():
            self._writer.readings(name, points)

    def _write_histogram(self, label: _Label, numbers: NDArray[np.float64]) -> None:
        """Write the total and each layer; nothing where no element was finite, so that bins mean nothing.

        float64 holds every count up to 2^53 exactly.
        """
        *edges, counts = np.split(numbers, np.cumsum([bins + 1 for bins in label.bins]))
        if not all(np.isfinite(axis).all() and (np.diff(axis) > 0).all() for axis in edges):
            return
        total, *layers = counts.astype(np.int64).reshape(-1, *label.bins)
        axes = tuple(edges)
        self._writer.histogram(label.name, label.step, StoredHistogram(total, axes))
        for layer, each in zip(label.layers or (), layers, strict=True):
            self._writer.histogram(label.name, label.step, StoredHistogram(each, axes), layer)

    def _judge(self, shipment: _Shipment, parts: Sequence[NDArray[np.float64]]) -> set[str]:
        """Return the readings to leave out because what they rest on did not hold."""
        dropped: set[str] = set()
        for check, passed in zip(shipment.checks, parts, strict=False):
            failed = [int(index) for index in np.flatnonzero(passed == 0.0)]
            if not failed:
                continue
            dropped |= set() if check.kept else check.readings
            self._unsure |= dropped
            if check.topic not in self._failed_topics:
                reason = check.explain(failed)
                final = self.on_failed_check(check, failed, reason)
                if not final:
                    text = (
                        "some parameters act outside of their modules too, and are looked for around them from now on"
                    )
                    self._writer.event(shipment.step, "remark", {"topic": check.topic, "text": text})
                    continue
                self._failed_topics.add(check.topic)
                for name in sorted(check.readings):
                    self._writer.event(shipment.step, "unavailable", {"reading": name, "reason": reason})
        return dropped

    def _report_losses(self, shipment: _Shipment, losses: Sequence[tuple[int, float]]) -> None:
        """Raise the alarm when losses cease to be finite; the step that the scan looked at is left to that."""
        for step, value in losses:
            broken = not math.isfinite(value)
            if broken and not self._broken:
                self.on_alarm()
                if step < shipment.step or not shipment.places:
                    seen = {"what": "loss", "layer": None, "sample": None, "searched": False}
                    self._writer.event(step, "nonfinite", seen)
            self._broken = broken

    def _report_scan(self, shipment: _Shipment, magnitudes: NDArray[np.float64]) -> None:
        """Write an event when a non-finite value shows for the first time, or again after a healthy step."""
        bad = np.flatnonzero(~np.isfinite(magnitudes[:-1]))
        if len(bad) and not self._ill:
            what, layer = shipment.places[int(bad[0])]
            sample = int(magnitudes[-1]) if what == "input" and magnitudes[-1] >= 0 else None
            self._writer.event(shipment.step, "nonfinite", {"what": what, "layer": layer or None, "sample": sample})
        self._ill = bool(len(bad))


def _bytes(item: Any) -> int:
    """Return what something on its way to the file takes of the host's memory, about."""
    return item.bytes if isinstance(item, _Shipment) else ITEM_BYTES


def _shipped(block: Block, buffers: _Buffers) -> _Shipment:
    """Put all numbers of a block into one host buffer; a GPU copies its own there while the training goes on."""
    groups: list[list[Any]] = [_members(reading) for _, _, reading in block.readings]
    groups += [[*block.scan.values(), -1 if block.spoilt is None else block.spoilt]] if block.scan else []
    groups += [[check.passed] for check in block.checks] + [[flag] for _, flag in block.skips]
    devices = (member.device for members in groups for member in members if isinstance(member, Tensor))
    device = next((each for each in devices if each.type != "cpu"), torch.device("cpu"))
    labels = [_label(name, step, reading) for name, step, reading in block.readings]
    skips = [step for step, _ in block.skips]
    shipment = functools.partial(_Shipment, block.step, block.seconds, labels, list(block.scan), block.checks, skips)
    if device.type == "cpu":
        arrays = [[_array(member) for member in members] for members in groups]
        flat = [array for part in arrays for array in part]
        lengths: list[int | NDArray[np.float64]] = [sum(len(array) for array in part) for part in arrays]
        return shipment(np.concatenate([np.zeros(0), *flat]), None, lengths)
    sent: list[Tensor] = []
    parts: list[int | NDArray[np.float64]] = []
    for members in groups:
        if any(isinstance(member, Tensor) for member in members):
            numbers = [_number(member, device) for member in members]
            parts.append(sum(len(number) for number in numbers))
            sent += numbers
        else:
            parts.append(np.concatenate([_array(member) for member in members]))
    buffer = torch.cat(sent)
    if device.type != "cuda":
        return shipment(buffer.cpu().double().numpy(), None, parts)
    host = buffers.take(buffer)
    host[: len(buffer)].copy_(buffer, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(device))
    return shipment(host, arrived, parts)


def _label(name: str, step: int, reading: Reading) -> _Label:
    if isinstance(reading, Histogram):
        return _Label(name, step, reading.layers, tuple(len(axis) - 1 for axis in reading.edges))
    return _Label(name, step, reading.layers if isinstance(reading, Layered) else None)


def _members(reading: Reading) -> list[Any]:
    if isinstance(reading, Histogram):
        total = reading.counts.sum(0) if reading.total is None else reading.total
        return [*reading.edges, total, reading.counts]
    return [reading.total, reading.values] if isinstance(reading, Layered) else [reading]


def _array(value: Any) -> NDArray[np.float64]:
    """Return a number or a tensor of the host as plain numbers, not always a copy."""
    if not isinstance(value, Tensor):
        return np.array(value, dtype=np.float64).reshape(-1)
    value = value.detach().as_subclass(Tensor)
    known = not value.is_floating_point() or value.dtype in (torch.float64, torch.float32, torch.float16)
    return (value if known else value.double()).numpy().reshape(-1).astype(np.float64, copy=False)


def _number(value: Any, device: torch.device) -> Tensor:
    """Return a number or tensor as plain detached numbers on the device, in float64 where it has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    if isinstance(value, Tensor):
        return value.detach().as_subclass(Tensor).to(device, dtype, non_blocking=True).reshape(-1)
    return torch.tensor(value, dtype=dtype, device="cpu").to(device, non_blocking=True).reshape(-1)
