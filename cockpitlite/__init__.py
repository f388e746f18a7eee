"""A live instrument panel for PyTorch training: one line wraps the optimizer, and the run measures itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cockpitlite.attach import watch
    from cockpitlite.diagnosis import Evidence, Finding, diagnose
    from cockpitlite.instrument import Instrument
    from cockpitlite.notebook import show
    from cockpitlite.panel import Panel
    from cockpitlite.plots import plot
    from cockpitlite.schedule import every, logarithmic
    from cockpitlite.store import Event, Run, RunFileError, load

__version__ = "0.1.0"

# Where each public name lives. Importing cockpitlite imports none of them: reading a run must never load torch.
_HOMES = {
    "watch": "attach",
    "Instrument": "instrument",
    "every": "schedule",
    "logarithmic": "schedule",
    "Panel": "panel",
    "Run": "store",
    "Event": "store",
    "RunFileError": "store",
    "load": "store",
    "diagnose": "diagnosis",
    "Evidence": "diagnosis",
    "Finding": "diagnosis",
    "plot": "plots",
    "show": "notebook",
}

__all__ = [
    "Event",
    "Evidence",
    "Finding",
    "Instrument",
    "Panel",
    "Run",
    "RunFileError",
    "__version__",
    "diagnose",
    "every",
    "load",
    "logarithmic",
    "plot",
    "show",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cockpitlite' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cockpitlite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
