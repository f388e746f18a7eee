"""Healthy trainings, odd ones among them, by theme."""

from __future__ import annotations

from ..kind import Kind, kinds_of
from . import loops, models, optimizers, tasks

HEALTHY: dict[str, Kind] = kinds_of(optimizers, models, loops, tasks)
