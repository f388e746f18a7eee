"""The most memory that tensors take at once while something runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault(
    "KINETO_LOG_LEVEL", "99"
)  # before torch is loaded: its profiler would talk of its starts and ends

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def peaks(actions: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Return for each action the most bytes that tensors hold at once during it.

    Only what is made from the first action on counts.
    """
    return _peaks_on_cuda(actions, device) if device.type == "cuda" else _peaks_on_cpu(actions)


def _peaks_on_cuda(actions: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    most = []
    for action in actions:
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        most.append(float(torch.cuda.max_memory_allocated(device) - before))
    return most


def _peaks_on_cpu(actions: Sequence[Callable[[], object]]) -> list[float]:
    ends = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        for action in actions:
            action()
            ends.append(time.time_ns())
    most, held, index = [0.0] * len(actions), 0, 0
    for when, size in sorted(allocations(profiler.profiler.kineto_results.experimental_event_tree())):
        while index < len(ends) - 1 and when > ends[index]:
            index += 1
            most[index] = held
        held += size
        most[index] = max(most[index], held)
    return most


def allocations(events: Any) -> Iterator[tuple[int, int]]:
    """Yield time in nanoseconds and bytes of each allocation, negative where memory is given back."""
    waiting = list(events)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            yield event.start_time_ns, event.extra_fields.alloc_size
