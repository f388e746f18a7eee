"""Cockpit 1.0.2 in a process of its own environment, told step by step when to train."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from problems import Problem

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".venv-cockpit" / "bin" / "python"
WARM = 2  # steps before what is timed


class CockpitProcess:
    """A process that trains under Cockpit or plainly, and says how long it took."""

    def __init__(self, problem: Problem, device: torch.device) -> None:
        script = HERE / "cockpit_worker.py"
        command = [str(PYTHON), str(script), problem.name, device.type, str(torch.get_num_threads())]
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True
        )

    def ask(self, **request: Any) -> Any:
        """Return the answer to a request; RuntimeError with the process's last words where there is none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and there will be no answer
            print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._words.seek(0)
            raise RuntimeError(f"Cockpit's process has ended: {self._words.read()[-2000:]}")
        return json.loads(answer)

    def training(self, name: str) -> CockpitTrainer:
        """Return one of its trainings: "plain", or a configuration of Cockpit."""
        return CockpitTrainer(self, name)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._words.close()


class CockpitTrainer:
    """One training of the process."""

    def __init__(self, process: CockpitProcess, name: str) -> None:
        self._process, self._name = process, name

    def run(self, steps: int) -> float:
        """Take some steps, and return the seconds that they took."""
        return float(self._process.ask(do="run", name=self._name, steps=steps))

    def peaks(self) -> tuple[float, float]:
        """Return the most bytes that tensors hold in the first steps, and later."""
        first, later = self._process.ask(do="peaks", name=self._name, steps=WARM)
        return first, later

    def bytes_a_step(self) -> float:
        """Return the bytes of Cockpit's own file for each of a few steps."""
        return float(self._process.ask(do="bytes_a_step", name=self._name, steps=WARM))

    def close(self) -> None:
        """Let go of the training; the process stays."""
        self._process.ask(do="close", name=self._name)
