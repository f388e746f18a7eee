"""One problem on one device: measures a way to watch it against the plain steps beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import memory
import torch
from cockpit_process import WARM as COCKPIT_WARM
from cockpit_process import CockpitProcess
from interleaving import Pair, take_turns
from problems import Problem, Size
from training import Trainer, Training
from watching import MOST, NEVER, PAIRED, PAIRED_FIRST, WARM, Setting, WatchedTraining

UNTRACKED = Setting("economy", every=NEVER)
PAIRED_ONLY = Setting("economy", every=NEVER, first=PAIRED_FIRST)
FEW = 8  # samples
LEAST_FILE_STEPS, FILE_STEPS = 48, 1920  # the size of a file goes by pages of 4096 bytes


@dataclass(frozen=True)
class Effort:
    """How often each row is measured, how many seconds each time, and the longest that one measurement may take."""

    rounds: int = 5
    seconds: float = 2.0
    longest: float = 60.0


@dataclass
class Bench:
    """One problem on one device, with the plain training that all others take turns with."""

    problem: Problem
    device: torch.device
    effort: Effort
    plain: Training = field(init=False)
    plain_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.batches = self.problem.batches(Size(), self.device)
        self.plain = Training(*self.place)
        self.plain.run(WARM)
        self.plain_seconds = self.plain.run(WARM) / WARM

    @property
    def place(self) -> tuple[Any, ...]:
        return self.problem, Size(), self.device, self.batches

    def pair(self, setting: Setting) -> Pair | None:
        """Measure once; None where that would take too long."""
        watched = WatchedTraining(*self.place, setting)
        try:
            return self._turns(watched, self.plain, setting.every or 1, watched.run(WARM) / WARM, self.plain_seconds)
        finally:
            watched.close()

    def paired_pair(self) -> Pair:
        """Measure the ten steps that have paired step lengths, and the one after; nothing else is tracked."""
        watched = WatchedTraining(*self.place, PAIRED_ONLY)
        try:
            watched.run(WARM)
            return take_turns(watched, self.plain, PAIRED, Pair(self.plain_seconds, self.plain_seconds))
        finally:
            watched.close()

    def cockpit_pair(self, process: CockpitProcess, panel: str) -> Pair:
        """Measure Cockpit once, against plain steps of its own process."""
        plain, watched = process.training("plain"), process.training(panel)
        plain.run(WARM)
        plain_seconds = plain.run(WARM) / WARM
        watched.run(COCKPIT_WARM - 1)
        try:
            pair = self._turns(watched, plain, 1, watched.run(1), plain_seconds)
            assert pair is not None  # one step is never too long
            return pair
        finally:
            watched.close()

    def _turns(
        self, watched: Trainer, plain: Trainer, every: int, warm_seconds: float, plain_seconds: float
    ) -> Pair | None:
        seconds = plain_seconds + max(0.0, warm_seconds - plain_seconds) / min(every, MOST)
        block = 1 if every == NEVER else every
        if block > 1 and block * seconds > self.effort.longest:
            return None
        steps = block * max(1, round(self.effort.seconds / (block * seconds)))
        return take_turns(watched, plain, min(steps, MOST // block * block), Pair(seconds, plain_seconds))

    def peaks(self, setting: Setting | None) -> tuple[float, float]:
        """Return the most bytes that tensors hold in the first steps of a training, and later; data left out."""
        begun: list[Training] = []

        def begin() -> None:
            begun.append(Training(*self.place) if setting is None else WatchedTraining(*self.place, setting))
            begun[0].run(WARM)

        first, later = memory.peaks([begin, lambda: begun[0].run(WARM)], self.device)
        begun[0].close()
        return first, later

    def bytes_a_step(self, setting: Setting) -> float:
        """Return what a tracked step adds to the run file.

        The batch is small: histograms look at as many elements all the same, and scalars are one number each.
        """
        batches = [(inputs[:FEW], targets[:FEW]) for inputs, targets in self.batches]
        short = WatchedTraining(self.problem, Size(), self.device, batches, setting)
        seconds = short.run(WARM) / WARM
        size = short.finish()
        short.close()
        steps = min(FILE_STEPS, max(LEAST_FILE_STEPS, round(self.effort.longest / 4 / seconds)))
        long = WatchedTraining(self.problem, Size(), self.device, batches, setting)
        long.run(WARM + steps)
        growth = long.finish() - size
        long.close()
        return growth / steps
