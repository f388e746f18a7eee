"""The learning rates of every step, so that a jump is known at its step, whatever else is measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RATE = "learning_rate"  # the instrument
LEAST_JUMP = 0.1  # of the larger rate


class Rates:
    """Follows the rates of the parameter groups; those that are on a device are left to be measured."""

    def __init__(self) -> None:
        self._before: list[float] | None = None
        self._step = -1
        self._kept = -1  # the last step whose rates are recorded

    def of(self, step: int, groups: Sequence[Mapping[str, Any]], measured: bool) -> list[tuple[int, list[float]]]:
        """Return the rates to record around a jump to this step, by step, beside those that are ``measured``."""
        rates = [group.get("lr") for group in groups]
        now = [rate for rate in rates if isinstance(rate, int | float)]
        before = self._before if self._step == step - 1 else None  # else it was paused meanwhile
        self._step, self._before = step, now if len(now) == len(rates) else None
        found: list[tuple[int, list[float]]] = []
        if before is not None and self._before is not None and _jumped(before, now):
            found = [] if self._kept >= step - 1 else [(step - 1, before)]
            found += [] if measured else [(step, now)]
        if measured or found:
            self._kept = step
        return found


def _jumped(before: Sequence[float], now: Sequence[float]) -> bool:
    if before == now or len(before) != len(now):
        return False
    pairs = zip(before, now, strict=True)
    return any(abs(new - old) >= LEAST_JUMP * max(abs(old), abs(new)) and new != old for old, new in pairs)
