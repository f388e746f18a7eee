"""What a run file says about its run besides readings: model, optimizer, machine, command, versions, commit."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cockpitlite
from cockpitlite.store import this_process

_SETTINGS = ("lr", "momentum", "dampening", "nesterov", "betas", "alpha", "eps", "weight_decay", "maximize")


def describe_run(
    optimizer: torch.optim.Optimizer, model: nn.Module | None, parameters: Sequence[nn.Parameter]
) -> dict[str, Any]:
    """Return plain data about the run that is about to start."""
    return {
        "status": "running",
        "started": time.time(),
        "script": script_name(),
        "command": [sys.executable, *sys.argv],
        "pid": os.getpid(),
        "process": this_process(),
        "host": socket.gethostname(),
        "seed": torch.initial_seed(),
        "device": _device(parameters),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "cockpitlite": cockpitlite.__version__,
        },
        "model": None if model is None else _model(model),
        "optimizer": _optimizer(optimizer),
        **_commit(),
    }


def script_name() -> str:
    """Return the name of the running script without its suffix, or a stand-in for a notebook or a prompt."""
    name = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else ""
    return name if name and name not in ("-c", "-m", "__main__") else "session"


def family(optimizer: torch.optim.Optimizer) -> str:
    """Return which thresholds an optimizer is judged by: ``sgd``, ``momentum``, ``adam`` or ``other``."""
    group = optimizer.param_groups[0]
    if "betas" in group:
        return "adam"
    if isinstance(optimizer, torch.optim.SGD):
        return "momentum" if group.get("momentum", 0) else "sgd"
    return "other"


def _optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = [{name: _plain(group[name]) for name in _SETTINGS if name in group} for group in optimizer.param_groups]
    return {"class": type(optimizer).__name__, "family": family(optimizer), "groups": groups}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def _model(model: nn.Module) -> dict[str, Any]:
    parameters = list(model.parameters())
    layers = [
        {
            "name": name,
            "class": type(module).__name__,
            "parameters": sum(p.numel() for p in owned.values()),
            "tensors": list(owned),
        }
        for name, module in model.named_modules()
        if (owned := dict(module.named_parameters(recurse=False)))
    ]
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "layers": layers,
    }


def _device(parameters: Sequence[nn.Parameter]) -> str:
    device = parameters[0].device
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


def _commit() -> dict[str, Any]:
    """Return the commit of the working folder, where it is a checkout."""
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {} if commit is None else {"git_commit": commit, "git_dirty": bool(status)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
