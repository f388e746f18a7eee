"""Charts of runs that are too long to be read whole: nothing that matters is lost, and a zoom shows every step."""

import math

import numpy as np
import pytest

from cockpitlite import Panel
from cockpitlite.dashboard import figures, gauge, readings
from cockpitlite.dashboard.readings import RunReader
from cockpitlite.store import Column, Run, RunWriter, pyramid

STEPS = 20_000
COLUMNS = (Column("loss"), Column("alpha"), Column("above"), Column("below"), Column("norm", ("a", "b")))
LOSS = Panel("Loss", "performance").named("loss")
ALPHA = Panel("Step length", "step size", kind="parabola").named("alpha")
RATIO = Panel("Ratio", "step size", ratio=("above", "below")).named("alpha")
NORM = Panel("Norm", "gradients", layered=True).named("norm")
SPIKE, GAP, BELOW = 7_654, 12_345, 15_001


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Take runs for long that have more than some hundred rows."""
    monkeypatch.setattr(pyramid, "MOST_ROWS", 600)
    monkeypatch.setattr(pyramid, "MOST_STRETCHES", 300)


def rows(start: int, stop: int) -> np.ndarray:
    numbers = np.random.default_rng(start).normal(size=(stop - start, 7))
    numbers[:, 0] = 1.0 + 0.01 * np.abs(numbers[:, 0])
    numbers[:, 2], numbers[:, 3] = 3.0 * np.arange(start, stop), np.arange(start, stop)
    for step, value in ((SPIKE, 99.0), (GAP, math.nan), (BELOW, -1.0)):
        if start <= step < stop:
            numbers[step - start, 0] = value
    return numbers


def write(writer: RunWriter, start: int, stop: int) -> None:
    for step, row in enumerate(rows(start, stop), start):
        writer.frame(step, COLUMNS, row)
    writer.commit()


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    write(writer, 0, STEPS)
    yield writer
    writer.close()


def test_one_spike_one_gap_and_their_counts_are_shown_at_full_zoom_out(writer):
    [read] = RunReader(Run(writer.path)).read([LOSS])
    assert len(read.of("loss")) < STEPS / 5
    figure = figures.figure(LOSS, read, columns=100)
    shown = next(dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data if trace.name == "loss")
    assert shown[SPIKE] == 99.0
    marks = next(trace for trace in figure.data if trace.name == "non-finite")
    assert GAP in marks.x
    words = figures.caption(LOSS, read, columns=100)
    assert f"of {STEPS:,} points shown" in words
    assert "1 non-finite step" in words
    assert f"highest 99 at step {SPIKE:,}" in figures.description(LOSS, read)


def test_between_extremes_no_pause_is_drawn(writer):
    [read] = RunReader(Run(writer.path)).read([LOSS])
    assert sum(curve.pauses for curve in figures.curves(LOSS, read)) == 0


def test_a_zoom_shows_every_step_and_counts_as_before(writer):
    reader = RunReader(Run(writer.path))
    [read] = reader.read([LOSS], [(BELOW - 100.0, BELOW + 99.5)])
    series = read.of("loss")
    inside = (series.steps >= BELOW - 100) & (series.steps <= BELOW + 100)
    np.testing.assert_array_equal(series.steps[inside], np.arange(BELOW - 100, BELOW + 101))
    np.testing.assert_array_equal(series.values[inside], rows(0, STEPS)[BELOW - 100 : BELOW + 101, 0])
    assert (series.points, series.broken, series.nonpositive) == (STEPS, 1, 1)
    [out] = reader.read([LOSS], [None])
    assert (out.of("loss").points, out.of("loss").broken, out.of("loss").nonpositive) == (STEPS, 1, 1)
    assert len(out.of("loss")) < len(series)


def test_a_run_that_goes_on_is_followed_step_by_step_and_outlined_anew(writer, monkeypatch):
    monkeypatch.setattr(readings, "APPENDED", 500)
    reader = RunReader(Run(writer.path))
    before = len(reader.read([LOSS])[0].of("loss"))
    for start in range(STEPS, STEPS + 2000, 100):
        write(writer, start, start + 100)
        series = reader.read([LOSS])[0].of("loss")
        assert series.points == start + 100
        assert (series.steps[-1], series.values[-1]) == (start + 99, rows(start, start + 100)[-1, 0])
    assert len(series) < before + 1200


def test_a_distribution_is_made_from_all_parts_of_the_run_alike(writer):
    reader = RunReader(Run(writer.path))
    reader.read([ALPHA])
    write(writer, STEPS, STEPS + 300)
    [read] = reader.read([ALPHA])
    shown = gauge.dial(ALPHA, read)
    assert 10 < shown.count < STEPS / 10
    assert shown.beyond < 0.2 * shown.count  # of extremes nearly all would be
    assert f"{shown.count:,} of {STEPS + 300:,} values" in gauge.caption(ALPHA, read)


def test_a_ratio_is_one_of_sums_over_points_taken_regardless_of_their_size(writer):
    [read] = RunReader(Run(writer.path)).read([RATIO])
    main = next(curve for curve in figures.curves(RATIO, read) if curve.role == "main")
    np.testing.assert_allclose(main.values[10:], 3.0)


def test_layers_keep_their_extremes(writer):
    [read] = RunReader(Run(writer.path)).read([NORM])
    assert len(read.layers.steps) < STEPS / 5
    everything = rows(0, STEPS)[:, 5:]
    np.testing.assert_array_equal(np.nanmax(read.layers.values, axis=0), everything.max(axis=0))
    np.testing.assert_array_equal(np.nanmin(read.layers.values, axis=0), everything.min(axis=0))
