"""The faults, by theme."""

from __future__ import annotations

from ..kind import Kind, kinds_of
from . import data, gradient, loss, machine, model, precision, rate

FAULTS: dict[str, Kind] = kinds_of(rate, gradient, model, loss, data, precision, machine)
