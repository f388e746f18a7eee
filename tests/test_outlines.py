"""Outlines of long runs: whatever is written, and however, they hold every extreme and every odd value."""

import math

import numpy as np
import pytest

from cockpitlite.store import Column, Histogram, Run, RunWriter, pyramid

COLUMNS = (Column("loss"), Column("norm", ("a", "b")))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Read rows as they are only in very short runs, so that small files have every level."""
    monkeypatch.setattr(pyramid, "MOST_ROWS", 64)
    monkeypatch.setattr(pyramid, "MOST_STRETCHES", 64)


def values(count: int, seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed).standard_normal((count, 4)) + 1.0
    numbers[count // 3, 0] = 1e6
    numbers[count // 2, 0] = math.nan
    numbers[count * 2 // 3, 1] = -math.inf
    return numbers


def write(path, numbers: np.ndarray, steps=None, *, resume: bool = False, every: int = 97) -> RunWriter:
    writer = RunWriter(path, resume=resume)
    for index, (step, row) in enumerate(zip(range(len(numbers)) if steps is None else steps, numbers, strict=True)):
        writer.frame(step, COLUMNS, row)
        if index % every == 0:
            writer.commit()
    writer.commit()
    return writer


def assert_outlined(outline, steps, series) -> None:
    """Hold an outline against all that it stands for."""
    finite = np.isfinite(series)
    assert outline.points == len(series)
    assert outline.broken == np.sum(~finite)
    assert outline.nonpositive == np.sum(series <= 0)
    kept = np.isfinite(outline.values)
    assert set(zip(outline.steps[kept], outline.values[kept], strict=True)) <= set(zip(steps, series, strict=True))
    for extreme in (np.argmin, np.argmax):
        place = extreme(np.where(finite, series, np.nanmean(series[finite])))
        assert (steps[place], series[place]) in zip(outline.steps, outline.values, strict=True)
    broken = set(steps[~finite])
    assert not broken or broken & set(outline.steps[~kept])
    assert set(outline.steps[~kept]) <= broken
    sampled = dict(zip(steps.tolist(), series.tolist(), strict=True))
    for step, value in zip(outline.sample_steps.tolist(), outline.sample_values.tolist(), strict=True):
        assert sampled[step] == pytest.approx(value, nan_ok=True)
    assert (np.diff(outline.steps) > 0).all()
    assert (np.diff(outline.sample_steps) > 0).all()


@pytest.mark.parametrize("count", [2, 63, 64, 65, 1000, 2000, 5000, 70_000])
def test_an_outline_holds_every_extreme_and_every_odd_value(tmp_path, count):
    numbers = values(count)
    write(tmp_path / "run.cockpit", numbers, every=1000).close()
    run = Run(tmp_path / "run.cockpit")
    for name, column in (("loss", 0), ("norm", 1)):
        outline = run.outline(name)
        assert_outlined(outline, np.arange(count), numbers[:, column])
        assert count < 2000 or len(outline.steps) < 0.5 * count
    steps, names, layers = run.outlined_layers("norm")
    assert names == ["a", "b"]
    assert np.nanmin(layers) == numbers[:, 2:].min()
    assert np.nanmax(layers) == numbers[:, 2:].max()
    assert (np.diff(steps) > 0).all()


def test_a_short_run_is_read_as_it_is(tmp_path):
    numbers = values(40)
    write(tmp_path / "run.cockpit", numbers).close()
    outline = Run(tmp_path / "run.cockpit").outline("loss")
    np.testing.assert_array_equal(outline.values, numbers[:, 0])
    np.testing.assert_array_equal(outline.sample_values, numbers[:, 0])


@pytest.mark.parametrize("gap", [1, 2, 3, 7, 40, 1500])
def test_steps_may_be_far_apart(tmp_path, gap):
    numbers = values(3000)
    steps = np.arange(3000) * gap
    write(tmp_path / "run.cockpit", numbers, steps.tolist()).close()
    assert_outlined(Run(tmp_path / "run.cockpit").outline("loss"), steps, numbers[:, 0])


@pytest.mark.parametrize("level", range(3))
def test_a_zoom_reads_the_window_with_its_ends_exact(tmp_path, level):
    numbers = values(40_000)
    write(tmp_path / "run.cockpit", numbers, every=1000).close()
    low, high = 13_001, 13_001 + 20 * 29**level
    outline = Run(tmp_path / "run.cockpit").outline("loss", (low, high))
    assert_outlined(outline, np.arange(low, high), numbers[low:high, 0])


def test_of_wide_rows_fewer_are_read(tmp_path, monkeypatch):
    """A limit that holds for narrow rows leaves a series of a wide layout with summaries in their place."""
    monkeypatch.setattr(pyramid, "MOST_ROWS", 32_768)
    monkeypatch.setattr(pyramid, "MOST_STRETCHES", 16_384)
    monkeypatch.setattr(pyramid, "MOST_BYTES", 2**20)  # 326 rows of 401 numbers, or the summaries of 72 stretches
    numbers, names = values(5000), tuple(f"layer{index}" for index in range(400))
    write(tmp_path / "narrow.cockpit", numbers).close()
    wide = RunWriter(tmp_path / "wide.cockpit")
    for step, row in enumerate(numbers[:, :1] + np.arange(401)):
        wide.frame(step, (Column("norm", names[:200]), Column("other", names[:199])), row)
    wide.close()
    assert len(Run(tmp_path / "narrow.cockpit").outline("loss").steps) == 5000
    run = Run(tmp_path / "wide.cockpit")
    for window, level in ((None, 1), ((0, 2048), 0), ((1024, 1200), -1)):
        outline, (low, high) = run.outline("norm", window), window or (0, 5000)
        assert_outlined(outline, np.arange(low, high), numbers[low:high, 0])
        assert outline.spans.max() == (1, *pyramid.STRETCHES)[level + 1]


def test_a_value_that_replaces_another_is_in_the_summaries(tmp_path):
    numbers = values(5000)
    writer = write(tmp_path / "run.cockpit", numbers)
    numbers[100, 0], numbers[5000 // 3, 0] = -1e9, 0.0
    for step in (100, 5000 // 3):
        writer.frame(step, COLUMNS, numbers[step])
    writer.close()
    assert_outlined(Run(tmp_path / "run.cockpit").outline("loss"), np.arange(5000), numbers[:, 0])


def test_a_resumed_run_and_one_whose_writer_was_killed_go_on(tmp_path):
    numbers, path = values(6000), tmp_path / "run.cockpit"
    write(path, numbers[:2345])._db.close()  # without a last word
    write(path, numbers[2345:5000], range(2345, 5000), resume=True)._db.close()
    write(path, numbers[5000:], range(5000, 6000), resume=True).close()
    outline = Run(path).outline("loss")
    assert_outlined(outline, np.arange(6000), numbers[:, 0])
    assert len(outline.steps) < 600


def test_what_was_not_committed_leaves_no_trace(tmp_path):
    numbers, path = values(3000), tmp_path / "run.cockpit"
    writer = write(path, numbers[:2000])
    for step in range(2000, 3000):
        writer.frame(step, COLUMNS, np.full(4, -1e9))
    writer.rollback()
    for step in range(2000, 3000):
        writer.frame(step, COLUMNS, numbers[step])
    writer.close()
    assert_outlined(Run(path).outline("loss"), np.arange(3000), numbers[:, 0])


def test_a_reading_in_frames_and_in_rows_of_its_own_is_one_series(tmp_path):
    series = values(4000)[:, 0]
    writer = RunWriter(tmp_path / "run.cockpit")
    for begin in range(0, 4000, 10):
        writer.frame(begin, COLUMNS, np.array([series[begin], 1.0, 1.0, 1.0]))
        writer.readings("loss", [(step, series[step]) for step in range(begin + 1, begin + 10)])
        writer.commit()
    writer.close()
    assert_outlined(Run(tmp_path / "run.cockpit").outline("loss"), np.arange(4000), series)


def test_a_file_of_an_earlier_version_is_read_row_by_row(tmp_path):
    numbers, path = values(3000), tmp_path / "run.cockpit"
    writer = write(path, numbers)
    writer._db.execute("DROP TABLE stretch")
    writer._db.execute("PRAGMA user_version = 3")
    writer._db.commit()
    writer._db.close()
    outline = Run(path).outline("loss")
    np.testing.assert_array_equal(outline.values, numbers[:, 0])
    write(path, numbers[-1:], [3000], resume=True).close()
    assert len(Run(path).outline("loss").steps) < 600


def test_one_layer_has_a_series_and_an_outline_of_its_own(tmp_path):
    numbers = values(5000)
    write(tmp_path / "run.cockpit", numbers)
    run = Run(tmp_path / "run.cockpit")
    for place, layer in enumerate(("a", "b"), 2):
        steps, series = run.series("norm", layer=layer)
        np.testing.assert_array_equal(series, numbers[:, place])
        assert_outlined(run.outline("norm", layer=layer), steps, numbers[:, place])
    assert len(run.series("norm", layer="none")[0]) == len(run.outline("norm", layer="none").steps) == 0
    np.testing.assert_array_equal(run.series("norm", 4990, most=3, layer="b")[0], [4990, 4991, 4992])


def test_a_layer_with_rows_of_its_own_is_read_with_the_others(tmp_path):
    writer = write(tmp_path / "run.cockpit", values(100))
    writer.reading("norm", 100, 9.0)
    writer.layers("norm", 100, ("b", "c"), np.array([7.0, math.nan]))
    writer.commit()
    run = Run(tmp_path / "run.cockpit")
    assert run.series("norm", 99, layer="b")[0].tolist() == [99, 100]
    assert run.outline("norm", layer="b").points == 101
    assert run.outline("norm", (0, 100), layer="b").points == 100
    assert run.outline("norm", layer="c").broken == 1
    assert run.layer_names() == {"norm": ["a", "b", "c"]}


def test_layers_with_histograms_are_told_from_layers_with_values(tmp_path):
    writer = write(tmp_path / "run.cockpit", values(3))
    counts = Histogram(np.array([1, 2]), (np.array([0.0, 1.0, 2.0]),))
    for layer in ("first", "last", None):
        writer.histogram("elements", 1, counts, layer)
    writer.commit()
    run = Run(tmp_path / "run.cockpit")
    assert run.layer_names() == {"norm": ["a", "b"]}
    assert run.histogram_layers() == {"elements": ["first", "last"]}


@pytest.mark.parametrize("stretch", [1, 16, 32, 256, 1024, 4096])
@pytest.mark.parametrize("every", [1, 50])
def test_stretches_of_layers_hold_the_extremes_of_each(tmp_path, stretch, every):
    steps = np.arange(0, 9000, every)
    numbers = values(len(steps))
    numbers[len(steps) // 2, 2] = math.inf
    write(tmp_path / "run.cockpit", numbers, steps)
    start = 4096
    low, high, broken = {}, {}, {}
    for part in Run(tmp_path / "run.cockpit").layer_stretches("norm", stretch, start):
        assert part.names == ("a", "b")
        for row, first in enumerate((part.starts // stretch).tolist()):
            low[first] = np.fmin(low.get(first, math.nan), part.low[row])
            high[first] = np.fmax(high.get(first, math.nan), part.high[row])
            broken[first] = broken.get(first, 0) + part.broken[row]
    for first in low:
        inside = numbers[(steps >= start) & (steps // stretch == first), 2:]
        finite = np.where(np.isfinite(inside), inside, math.nan)
        np.testing.assert_array_equal(low[first], np.fmin.reduce(finite))
        np.testing.assert_array_equal(high[first], np.fmax.reduce(finite))
        np.testing.assert_array_equal(broken[first], (~np.isfinite(inside)).sum(axis=0))
    assert set(low) == set((steps[steps >= start] // stretch).tolist())
