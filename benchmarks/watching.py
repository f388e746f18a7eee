"""Training under our panel: what is watched, how often and from how many samples."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from problems import Batch, Problem, Size
from training import Training

import cockpitlite
from cockpitlite.store import RunWriter

NEVER = 10**9
# Cockpit's contents of each panel, and the paired step lengths, which have a schedule of their own.
ECONOMY = (
    *("loss", "learning_rate", "batch_size", "alpha", "update_size", "distance", "grad_norm"),
    *("norm_test", "inner_test", "ortho_test", "grad_hist_1d", "alpha_same", "alpha_next"),
)
BUSINESS = (*ECONOMY, "hess_trace", "tic_diag")
FULL = (*BUSINESS, "hess_max_ev", "grad_hist_2d")
SCALARS = tuple(name for name in ECONOMY if not name.startswith("grad_hist"))
CONTENTS = {"economy": ECONOMY, "business": BUSINESS, "full": FULL}
WHOLE = {f"whole-{name}": name for name in CONTENTS}  # our presets as they are
PANELS: dict[str, str | Sequence[str]] = {**CONTENTS, **WHOLE, "scalars of economy": SCALARS}

# Long runs: past the first 50 steps and past step 510, so that there are no paired step lengths up to step 999 ...
FIRST = 512
# ... or just before the ten steps that have them, and the one after, which completes the last.
PAIRED_FIRST, PAIRED, PAIRED_EVERY = 496, 11, 500
WARM = 4  # steps before what is timed: three tracked ones and the one after, which judges the last
MOST = 480  # steps that are timed, so that step 999 is not passed


@dataclass(frozen=True)
class Setting:
    """A way to watch; ``every=None`` is the default budget, from the first step on."""

    panel: str
    every: int | None = 1
    samples: int | None = None
    first: int = FIRST

    def options(self, run: Path) -> dict[str, Any]:
        """Return the arguments of ``watch``."""
        panel = PANELS[self.panel]
        given: dict[str, Any] = {"panel": list(panel) if isinstance(panel, tuple) else panel, "samples": self.samples}
        if self.every is None:
            return {**given, "run": run}
        return {**given, "run": begun(run, self.first), "resume": True, "every": self.tracks}

    def tracks(self, step: int) -> bool:
        """Whether a step is tracked: those that warm up, and then each k-th."""
        return step < self.first + WARM - 1 or step % (self.every or 1) == 0


def begun(run: Path, first: int) -> Path:
    """Put a run file there whose next step is ``first``."""
    writer = RunWriter(run)
    writer.reading("loss", first - 1, 0.0)
    writer.close()
    return run


class WatchedTraining(Training):
    """Training under our panel, with a run file that lasts as long as this."""

    def __init__(
        self, problem: Problem, size: Size, device: torch.device, batches: Sequence[Batch], setting: Setting
    ) -> None:
        super().__init__(problem, size, device, batches)
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "run.cockpit"
        self.cockpit = cockpitlite.watch(self.optimizer, self.model, **setting.options(self.path)).cockpit

    def settle(self) -> None:
        """Wait until the file holds all: the recorder's thread takes its time from the same cores."""
        self.cockpit._recorder.flush()

    def finish(self) -> int:
        """End the watch, and return the size of its file in bytes."""
        self.cockpit.close()
        return self.path.stat().st_size

    def close(self) -> None:
        """End the watch, and delete its file."""
        self.finish()
        self._folder.cleanup()
