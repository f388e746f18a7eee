"""What was measured, on which machine, as a file that later measurements are added to."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from budget import Overhead
from interleaving import Spread
from pricing import Price
from scaling import Curve, Point


@dataclass
class Measured:
    """Everything known of a problem on a device; a part that was not measured is empty."""

    device: str
    problem: str
    machine: str
    prices: Sequence[Price] = field(default_factory=list)
    overheads: Sequence[Overhead] = field(default_factory=list)
    curves: Sequence[Curve] = field(default_factory=list)

    def put(self, later: Measured) -> None:
        """Take what was measured later, in place of what there was."""
        for part in ("prices", "overheads", "curves"):
            if getattr(later, part):
                setattr(self, part, getattr(later, part))
        self.machine = later.machine


def joined(known: Sequence[Measured], later: Measured) -> list[Measured]:
    """Return what is known with what was measured later."""
    for each in known:
        if (each.device, each.problem) == (later.device, later.problem):
            each.put(later)
            return list(known)
    return [*known, later]


def save(path: Path, measured: Sequence[Measured]) -> None:
    """Write everything as JSON."""
    path.write_text(json.dumps([dataclasses.asdict(each) for each in measured], indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Measured]:
    """Return what a file holds; nothing where there is none."""
    return [_measured(entry) for entry in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def _measured(entry: dict[str, Any]) -> Measured:
    prices = [Price(**{name: _value(value) for name, value in price.items()}) for price in entry["prices"]]
    overheads = [Overhead(**{name: _value(value) for name, value in each.items()}) for each in entry["overheads"]]
    curves = [Curve(c["axis"], [_point(p) for p in c["points"]], c["note"]) for c in entry["curves"]]
    return Measured(entry["device"], entry["problem"], entry["machine"], prices, overheads, curves)


def _value(value: Any) -> Any:
    return Spread(**value) if isinstance(value, dict) else value


def _point(point: dict[str, Any]) -> Point:
    return Point(**{name: _value(value) for name, value in point.items()})


def machine(device: torch.device) -> str:
    """Return the machine in words."""
    threads = torch.get_num_threads()
    cores = f"{_processor()}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}"
    card = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    return f"{card}{cores}, torch {torch.__version__}, Python {platform.python_version()}"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
