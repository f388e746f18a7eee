"""Readings by layer as the rules see them: in blocks, over a run that grows, as if all of it had been read anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cockpitlite.diagnosis import blocks
from cockpitlite.diagnosis.readings import Readings
from cockpitlite.store import Column, Run, RunWriter, load

LAYERS = ("a", "b", "c")
BLOCK = 16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cut runs into blocks of some steps, of which a few stay in memory."""
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    monkeypatch.setattr("cockpitlite.diagnosis.readings.BLOCK", BLOCK)
    for module in ("blocks", "readings"):
        monkeypatch.setattr(f"cockpitlite.diagnosis.{module}.LATE", 20)
    monkeypatch.setattr(blocks, "MOST", 6 * BLOCK)


def write(writer: RunWriter, start: int, stop: int, values: np.ndarray) -> None:
    """Write the rows of some steps; the last layer comes at step 30 only, and step 41 is a frame of another kind."""
    for step in range(start, stop):
        names = LAYERS[:2] if step < 30 else LAYERS
        if step % 7 == 3:
            continue
        writer.frame(step, (Column("x", names),), np.array([0.0, *values[step, : len(names)]]))
    writer.commit()


def expected(values: np.ndarray, now: int) -> tuple[list[int], np.ndarray]:
    steps = [step for step in range(now + 1) if step % 7 != 3]
    table = values[steps].copy()
    table[[step < 30 for step in steps], 2] = np.nan
    return steps, table


def since(readings: Readings, limit: float) -> int:
    return readings.holding_since("x", limit, lambda rows: ~(rows.of(["b"])[:, 0] <= limit))


def since_by_hand(values: np.ndarray, now: int, limit: float) -> int:
    steps, table = expected(values, now)
    found = steps[-1]
    for step, value in reversed(list(zip(steps[:-1], table[:-1, 1], strict=True))):
        if value <= limit:
            break
        found = step
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_run_that_grows_is_seen_as_one_read_anew(tmp_path, seed):
    random = np.random.default_rng(seed)
    values = random.uniform(size=(200, 3))
    values[40:] = np.where(random.uniform(size=(160, 3)) < 0.01, values[40:], values[40:] + 1)
    writer, memory = RunWriter(tmp_path / "run.cockpit"), {}
    run, end = Run(writer.path), 0
    while end < 200:
        start, end = end, min(200, end + int(random.integers(1, 60)))
        write(writer, start, end, values)
        for now in {end - 1, int(random.integers(0, end))}:
            readings, fresh = Readings(run, memory).at(now), Readings(Run(writer.path)).at(now)
            for limit in (0.02, 0.5, 1.0):
                assert since(readings, limit) == since(fresh, limit) == since_by_hand(values, now, limit)
            steps, table = expected(values, now)
            at, layers, rows = readings.recent_layers("x", 5)
            assert at.tolist() == steps[-5:]
            np.testing.assert_array_equal(rows[:, layers.index("a")], table[-5:, 0])
            if "c" in layers:
                np.testing.assert_array_equal(rows[:, layers.index("c")], table[-5:, 2])
    writer.close()


def test_a_value_that_comes_late_is_seen(tmp_path):
    writer, memory = RunWriter(tmp_path / "run.cockpit"), {}
    run = Run(writer.path)
    for step in range(0, 60, 2):
        writer.frame(step, (Column("x", ("b",)),), np.array([0.0, 1.0]))
    writer.commit()
    assert since(Readings(run, memory), 0.5) == 0
    writer.frame(45, (Column("x", ("b",)),), np.array([0.0, 0.0]))
    writer.frame(60, (Column("x", ("b",)),), np.array([0.0, 1.0]))
    writer.commit()
    assert since(Readings(run, memory), 0.5) == 46
    writer.close()


def test_a_long_run_is_not_read_whole(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path / "run.cockpit")
    for step in range(1000):
        writer.frame(step, (Column("x", ("b",)),), np.array([0.0, float(step != 700)]))
    writer.commit()
    writer.close()
    read, layers = [], Run.layers

    def counted(self, *args, **options):
        found = layers(self, *args, **options)
        read.append(len(found[0]))
        return found

    monkeypatch.setattr(Run, "layers", counted)
    memory: dict[str, Any] = {}
    assert since(Readings(load(writer.path), memory), 0.5) == 701
    assert max(read) <= BLOCK and sum(read) < 320
    assert memory["blocks"].size <= 6 * BLOCK
    read.clear()
    assert since(Readings(load(writer.path), memory), 0.5) == 701
    assert sum(read) < 50  # what has held for long is not read again
