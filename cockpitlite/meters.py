"""What a run takes: time with and without being watched, memory, and, where NVML can tell, energy."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch

WINDOW = 200  # steps over which times are averaged


class Meters:
    """Times of the last steps, and readings of the machine; nothing here waits for a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._energy = EnergyMeter(device)

    def account(self, plain: float, watching: float) -> None:
        """Note what a step took by itself and by being watched, in seconds."""
        self._steps.append((plain, watching))

    @property
    def share(self) -> float:
        """Watching over everything, over the last steps."""
        watching = sum(step[1] for step in self._steps)
        whole = sum(step[0] for step in self._steps) + watching
        return watching / whole if whole > 0 else 0.0

    @property
    def step_seconds(self) -> float:
        """The mean time from step to step, in seconds; NaN before the first has ended."""
        return sum(map(sum, self._steps)) / len(self._steps) if self._steps else float("nan")

    @property
    def memory(self) -> float:
        """Bytes: the most that tensors have taken on the GPU, or what the process holds of the machine's memory."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        return _resident_bytes()

    def watts(self) -> float:
        """The GPU's mean power since this was last asked; NaN where NVML cannot tell."""
        return self._energy.watts()


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
            return float("nan")
        try:
            now = time.perf_counter(), self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000
        except Exception:  # a driver that has gone away
            self._nvml = None
            return float("nan")
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return float("nan")
        return float((now[1] - last[1]) / (now[0] - last[0]))


def _resident_bytes() -> float:
    """Return the memory that this process holds; NaN where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return float(pages * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ImportError):
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    return float("nan")
