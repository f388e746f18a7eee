"""The run file: what is put is what is read, by anyone, at any time, whatever happens to the writer."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cockpitlite import Panel, RunFileError, load
from cockpitlite.store import LIVE_SECONDS, Column, Histogram, RunWriter, find_runs, schema
from cockpitlite.store.schema import VERSION

# A new file for each example, in the folder of the test.
many_files = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

any_float = st.floats(allow_nan=True, allow_infinity=True)
# Lone surrogates are no text: neither UTF-8 nor SQLite can hold them.
any_name = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
any_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | any_float | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.cockpit"


@pytest.fixture
def fresh(tmp_path):
    """A function that gives the path of a file that is not there yet."""
    numbers = iter(range(10**6))
    return lambda: tmp_path / f"{next(numbers)}.cockpit"


def write_losses(path, values, **meta):
    """Write a finished run whose loss at step n is the n-th value."""
    writer = RunWriter(path)
    writer.readings("loss", enumerate(values))
    writer.meta(**meta)
    writer.close()


def same(left, right):
    """Whether two pieces of plain data are equal, NaN counting as equal to NaN."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


class TestRoundTrips:
    @many_files
    @given(points=st.dictionaries(st.integers(0, 2**60), any_float), name=any_name)
    def test_a_series_comes_back_in_order_with_nan_and_inf(self, fresh, points, name):
        path = fresh()
        writer = RunWriter(path)
        writer.readings(name, points.items())
        writer.close()
        run = load(path)
        steps, values = run.series(name)
        assert steps.dtype == np.int64
        assert values.dtype == np.float64
        np.testing.assert_array_equal(steps, sorted(points))
        np.testing.assert_array_equal(values, [points[step] for step in sorted(points)])
        assert run.names() == ([name] if points else [])
        assert run.last_step == (max(points) if points else None)

    @many_files
    @given(
        rows=st.lists(st.dictionaries(any_name, any_float, min_size=1, max_size=4), min_size=1, max_size=6),
        since=st.none() | st.integers(0, 6),
    )
    def test_layers_may_come_go_and_change_places(self, fresh, rows, since):
        path = fresh()
        writer = RunWriter(path)
        for step, row in enumerate(rows):
            writer.layers("grad_norm", step, list(row), np.array(list(row.values())))
        writer.close()
        steps, names, values = load(path).layers("grad_norm", since=since)
        kept = list(enumerate(rows))[since or 0 :]
        np.testing.assert_array_equal(steps, [step for step, _ in kept])
        assert sorted(names) == sorted({name for _, row in kept for name in row})
        expected = [[row.get(name, math.nan) for name in names] for _, row in kept]
        np.testing.assert_array_equal(values, np.array(expected).reshape(len(kept), len(names)))

    @many_files
    @given(
        rows=st.lists(
            st.dictionaries(
                any_name, st.tuples(any_float, st.none() | st.dictionaries(any_name, any_float, max_size=3))
            ),
            max_size=5,
        ),
        since=st.none() | st.integers(0, 5),
    )
    def test_frames_come_back_as_the_readings_they_hold(self, fresh, rows, since):
        """Whatever readings a step has, as if each of them had been put by itself."""
        paths = fresh(), fresh()
        framed, single = map(RunWriter, paths)
        for step, row in enumerate(rows):
            columns = [Column(name, None if layers is None else tuple(layers)) for name, (_, layers) in row.items()]
            numbers = [[total, *(layers or {}).values()] for total, layers in row.values()]
            framed.frame(step, columns, np.array([number for part in numbers for number in part]))
            for name, (total, layers) in row.items():
                single.reading(name, step, total)
                if layers is not None:
                    single.layers(name, step, list(layers), np.array(list(layers.values())))
        assert framed.last_step == single.last_step
        framed.close()
        single.close()
        found, right = map(load, paths)
        assert found.names() == right.names()
        assert found.last_step == right.last_step
        for name in right.names():
            for one, other in zip(found.series(name, since), right.series(name, since), strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
            try:
                steps, layers, values = right.layers(name, since)
            except KeyError:
                with pytest.raises(KeyError):
                    found.layers(name, since)
                continue
            assert sorted(found.layers(name, since)[1]) == sorted(layers)
            np.testing.assert_array_equal(found.layers(name, since)[0], steps)
            order = [found.layers(name, since)[1].index(layer) for layer in layers]
            np.testing.assert_array_equal(found.layers(name, since)[2][:, order], values)

    def test_a_reading_may_stand_in_frames_and_by_itself(self, path):
        writer = RunWriter(path)
        writer.readings("loss", [(0, 1.0), (2, 3.0), (4, 5.0)])
        writer.frame(1, [Column("loss"), Column("norm", ("a",))], np.array([2.0, 7.0, 8.0]))
        writer.frame(3, [Column("norm", ("b",)), Column("loss")], np.array([9.0, 10.0, 4.0]))
        writer.close()
        run = load(path)
        assert [part.tolist() for part in run.series("loss")] == [[0, 1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0, 5.0]]
        assert [part.tolist() for part in run.series("loss", since=3)] == [[3, 4], [4.0, 5.0]]
        np.testing.assert_array_equal(run.layers("norm")[2], [[8.0, math.nan], [math.nan, 10.0]])

    def test_a_frame_must_have_a_number_for_every_place(self, path):
        writer = RunWriter(path)
        with pytest.raises(ValueError, match="step 3 has 2 numbers"):
            writer.frame(3, [Column("norm", ("a", "b"))], np.zeros(2))
        writer.close()

    def test_a_frame_that_was_rolled_back_leaves_no_trace(self, path):
        writer = RunWriter(path)
        writer.frame(0, [Column("loss")], np.zeros(1))
        writer.rollback()
        writer.frame(1, [Column("loss")], np.ones(1))
        writer.close()
        assert load(path).series("loss")[0].tolist() == [1]

    @pytest.mark.parametrize(
        "damage",
        [
            ("frame", '"values"', b"odd"),
            ("frame_layout", "columns", "[[1, 2"),
            ("frame_layout", "columns", "[[1, null, 5]]"),
            ("frame_layout", "columns", "[7]"),
        ],
    )
    def test_a_damaged_frame_is_named_as_such(self, path, damage):
        writer = RunWriter(path)
        writer.frame(0, [Column("norm", ("a", "b"))], np.zeros(3))
        writer.close()
        table, column, value = damage
        spoiled(path, f"UPDATE {table} SET {column} = ?", value)
        with pytest.raises(RunFileError, match="a damaged frame"):
            load(path).layers("norm")

    @many_files
    @given(data=st.data(), shape=st.lists(st.integers(1, 5), min_size=1, max_size=2), layer=st.none() | st.just("0.a"))
    def test_a_histogram_keeps_its_exact_counts(self, fresh, data, shape, layer):
        size = math.prod(shape)
        counts = np.array(data.draw(st.lists(st.integers(0, 2**62), min_size=size, max_size=size))).reshape(shape)
        edges = tuple(np.array(data.draw(st.lists(any_float, min_size=n + 1, max_size=n + 1))) for n in shape)
        path = fresh()
        writer = RunWriter(path)
        writer.histogram("grad_hist", 3, Histogram(counts, edges), layer)
        writer.close()
        read, read_edges = load(path).histogram("grad_hist", 3, layer)
        assert read.dtype == np.int64
        np.testing.assert_array_equal(read, counts)
        for axis, expected in zip((read_edges,) if len(shape) == 1 else read_edges, edges, strict=True):
            np.testing.assert_array_equal(axis, expected)

    @many_files
    @given(meta=st.dictionaries(any_name.filter(lambda key: key != "self"), any_data, max_size=4))
    def test_meta_holds_any_plain_data(self, fresh, meta):
        path = fresh()
        writer = RunWriter(path)
        writer.meta(**meta)
        writer.close()
        assert same(load(path).meta, load(path).meta | meta)

    @many_files
    @given(events=st.lists(st.tuples(st.integers(0, 2**60), any_name, st.dictionaries(any_name, any_data, max_size=2))))
    def test_events_come_back_in_the_order_they_happened(self, fresh, events):
        path = fresh()
        writer = RunWriter(path)
        for step, kind, data in events:
            writer.event(step, kind, data, when=12.5)
        writer.close()
        read = load(path).events()
        assert [(event.step, event.kind, event.time) for event in read] == [(s, k, 12.5) for s, k, _ in events]
        assert same([event.data for event in read], [data for _, _, data in events])
        for _, kind, _ in events:
            assert {event.kind for event in load(path).events(kind)} == {kind}


class TestReadings:
    def test_a_second_value_for_a_step_replaces_the_first(self, path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.reading("loss", 0, 2.0)
        writer.close()
        assert load(path).series("loss")[1].tolist() == [2.0]

    def test_numbers_of_numpy_are_numbers(self, path):
        writer = RunWriter(path)
        writer.reading("loss", np.int64(3), np.float32(0.5))
        writer.layers("grad_norm", np.int64(3), ["a"], np.array([1.0], dtype=np.float32))
        writer.histogram("hist", np.int64(3), Histogram(np.array([1]), (np.array([0.0, 1.0]),)))
        writer.event(np.int64(3), "settings", {"new": np.float64(0.1), "all": np.arange(3)[1], "betas": (0.9, 0.999)})
        writer.clock(np.int64(3), np.float64(1.5))
        writer.close()
        run = load(path)
        assert run.series("loss")[0].tolist() == [3]
        assert run.layers("grad_norm")[0].tolist() == [3]
        assert run.histogram("hist", 3)[0].tolist() == [1]
        assert run.events()[0].data == {"new": 0.1, "all": 1, "betas": [0.9, 0.999]}
        assert [axis.tolist() for axis in run.clock()] == [[3], [1.5]]

    def test_since_leaves_out_what_came_before(self, path):
        write_losses(path, [4.0, 3.0, 2.0, 1.0])
        steps, values = load(path).series("loss", since=2)
        assert steps.tolist() == [2, 3]
        assert values.tolist() == [2.0, 1.0]
        assert load(path).series("loss", since=9)[0].tolist() == []

    def test_an_unknown_name_lists_the_known_ones(self, path):
        write_losses(path, [1.0])
        with pytest.raises(KeyError, match=r"no reading 'los' in .*it has: loss"):
            load(path).series("los")
        with pytest.raises(KeyError, match=r"no reading 'grad_norm'"):
            load(path).layers("grad_norm")
        with pytest.raises(KeyError, match=r"'loss' has no values per layer"):
            load(path).layers("loss")

    def test_an_empty_run_says_that_it_has_nothing_yet(self, path):
        RunWriter(path).close()
        run = load(path)
        assert run.names() == []
        assert run.last_step is None
        assert run.panels() == []
        assert run.events() == []
        assert run.unavailable() == {}
        with pytest.raises(KeyError, match=r"nothing yet"):
            run.series("loss")

    def test_a_histogram_of_another_step_or_layer_is_named_as_missing(self, path):
        writer = RunWriter(path)
        writer.histogram("hist", 0, Histogram(np.array([1]), (np.array([0.0, 1.0]),)), "0.weight")
        writer.close()
        run = load(path)
        assert run.names() == ["hist"]
        with pytest.raises(KeyError, match=r"no histogram 'hist' at step 0"):
            run.histogram("hist", 0)
        with pytest.raises(KeyError, match=r"no histogram 'hist' of layer '0.weight' at step 1"):
            run.histogram("hist", 1, "0.weight")

    def test_layers_and_values_must_be_as_many(self, path):
        writer = RunWriter(path)
        with pytest.raises(ValueError, match=r"'grad_norm' has 1 values for 2 layers"):
            writer.layers("grad_norm", 0, ["a", "b"], np.array([1.0]))
        writer.close()

    @pytest.mark.parametrize("name", ["it's", '"; DROP TABLE reading; --', "λ_max (ü) 損失", "%s ?", "\x00", " "])
    def test_a_name_is_text_and_nothing_else(self, path, name):
        writer = RunWriter(path)
        writer.reading(name, 0, 1.0)
        writer.layers(name, 0, [name, "other"], np.array([1.0, 2.0]))
        writer.histogram(name, 0, Histogram(np.array([7]), (np.array([0.0, 1.0]),)), name)
        writer.event(0, name, {name: name})
        writer.panel(Panel(title=name, group="performance", name=name))
        writer.close()
        run = load(path)
        assert run.names() == [name]
        assert run.series(name)[1].tolist() == [1.0]
        assert run.layers(name)[1] == [name, "other"]
        assert run.histogram(name, 0, name)[0].tolist() == [7]
        assert run.events(name)[0].data == {name: name}
        assert run.panels()[0].name == name


def histogram(counts, *edges):
    """A stored histogram of plain numbers."""
    return Histogram(np.array(counts), tuple(np.array(axis, dtype=np.float64) for axis in edges))


def spoiled(path, statement, *values):
    """Do to a run file what no cockpitlite does."""
    db = sqlite3.connect(path)
    db.execute(statement, values)
    db.commit()
    db.close()


class TestHistograms:
    @pytest.fixture
    def several(self, path):
        """A run with a total and two layers, the second of which begins later; edges change once."""
        writer = RunWriter(path)
        for step in (2, 5, 7, 11):
            edges = [0.0, 1.0, 2.0] if step < 7 else [0.0, 2.0, 4.0]
            writer.histogram("hist", step, histogram([step, 1], edges))
            writer.histogram("hist", step, histogram([step, 2], edges), "b")
            if step > 5:
                writer.histogram("hist", step, histogram([step, 3], edges), "a")
        writer.reading("loss", 20, 1.0)
        writer.close()
        return load(path)

    def test_the_steps_and_layers_are_listed(self, several):
        steps, layers = several.histograms("hist")
        assert steps.dtype == np.int64
        assert (steps.tolist(), layers) == ([2, 5, 7, 11], ["b", "a"])
        with pytest.raises(KeyError, match=r"'loss' has no histograms"):
            several.histograms("loss")
        with pytest.raises(KeyError, match=r"no reading 'other'"):
            several.histograms("other")

    @pytest.mark.parametrize("rows", [1, 2, 1000])
    def test_all_of_them_are_read_in_order(self, several, rows, monkeypatch):
        monkeypatch.setattr("cockpitlite.store.run.ROWS", rows)
        for layer, steps, last in ((None, [2, 5, 7, 11], 1), ("b", [2, 5, 7, 11], 2), ("a", [7, 11], 3), ("c", [], 0)):
            found = list(several.each_histogram("hist", layer))
            assert [step for step, _ in found] == steps
            assert [each.counts.tolist() for _, each in found] == [[step, last] for step in steps]
        assert [step for step, _ in several.each_histogram("hist", since=5)] == [5, 7, 11]
        assert [step for step, _ in several.each_histogram("hist", "a", since=8)] == [11]
        assert list(several.each_histogram("hist", since=12)) == []
        with pytest.raises(KeyError, match=r"no reading 'other'"):
            next(several.each_histogram("other"))

    def test_the_newest_is_found(self, several):
        step, found = several.newest_histogram("hist", "a")
        assert (step, found.counts.tolist(), found.edges[0].tolist()) == (11, [11, 3], [0, 2, 4])
        assert several.newest_histogram("loss") is None

    def test_a_second_histogram_for_a_step_replaces_the_first(self, path):
        writer = RunWriter(path)
        writer.histogram("hist", 0, histogram([1], [0.0, 1.0]))
        writer.histogram("hist", 0, histogram([2, 3], [0.0, 1.0, 2.0]))
        writer.close()
        assert [each.counts.tolist() for _, each in load(path).each_histogram("hist")] == [[2, 3]]

    def test_edges_that_histograms_share_are_kept_once(self, path, monkeypatch):
        monkeypatch.setattr("cockpitlite.store.writer.KNOWN_AXES", 2)
        writer = RunWriter(path)
        for step in range(40):
            edges = np.arange(4.0) * 2.0 ** (step % 4)
            writer.histogram("hist", step, Histogram(np.array([step, 0, 1]), (edges,)))
        writer.close()
        db = sqlite3.connect(path)
        assert db.execute("SELECT count(*) FROM axis").fetchone()[0] == 4
        db.close()
        found = dict(load(path).each_histogram("hist"))
        assert found[1].edges[0] is found[5].edges[0]
        assert found[39].edges[0].tolist() == [0, 8, 16, 24]

    def test_a_histogram_is_small_on_the_disk(self, path):
        random = np.random.default_rng(0)
        positive = 2.0 ** np.arange(-29, 1)
        edges = np.concatenate([-positive[::-1], positive])
        empty = RunWriter(path.with_name("empty.cockpit"))
        empty.close()
        writer = RunWriter(path)
        for step in range(200):
            for layer in (None, "0.weight", "0.bias", "2.weight", "2.bias"):
                counts = np.histogram(np.clip(0.05 * random.standard_t(3, 20_000), -1, 1), edges)[0]
                writer.histogram("hist", step, Histogram(counts, (edges,)), layer)
        writer.close()
        each = (path.stat().st_size - empty.path.stat().st_size) / 1000
        assert each < 150

    def test_rollback_forgets_edges_and_layers_too(self, path):
        writer = RunWriter(path)
        writer.histogram("hist", 0, histogram([1], [0.0, 1.0]), "a")
        writer.rollback()
        writer.histogram("hist", 0, histogram([2], [5.0, 6.0]), "b")
        writer.histogram("hist", 0, histogram([3], [0.0, 1.0]), "a")
        writer.close()
        run = load(path)
        assert run.histogram("hist", 0, "a")[0].tolist() == [3]
        assert run.histogram("hist", 0, "a")[1].tolist() == [0, 1]
        assert run.histogram("hist", 0, "b")[1].tolist() == [5, 6]

    @pytest.mark.parametrize(
        "bad",
        [
            histogram([1, 2], [0.0, 1.0]),
            histogram([[1]], [0.0, 1.0]),
            histogram([[[1]]], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]),
            histogram(1),
        ],
    )
    def test_counts_and_edges_must_fit_together(self, path, bad):
        writer = RunWriter(path)
        with pytest.raises(ValueError, match=r"the histogram 'hist' has counts of shape"):
            writer.histogram("hist", 0, bad)
        writer.close()

    def test_more_bins_than_a_file_may_hold_are_refused(self, path, monkeypatch):
        monkeypatch.setattr("cockpitlite.store.writer.MOST_BINS", 8)
        writer = RunWriter(path)
        writer.histogram("hist", 0, Histogram(np.zeros(8, np.int64), (np.arange(9.0),)))
        with pytest.raises(ValueError, match=r"for \(9,\) bins"):
            writer.histogram("hist", 1, Histogram(np.zeros(9, np.int64), (np.arange(10.0),)))
        writer.close()

    @pytest.mark.parametrize(
        ("statement", "value", "words"),
        [
            ("UPDATE histogram SET counts = ?", zlib.compress(bytes(16)), "too many or too few"),
            ("UPDATE histogram SET counts = ?", zlib.compress(bytes(32)), "too many or too few"),
            ("UPDATE histogram SET counts = ?", b"", "too many or too few"),
            ("UPDATE histogram SET counts = ?", b"not compressed", "incorrect header"),
            ("UPDATE histogram SET counts = ?", "text", "bytes-like"),
            ("UPDATE histogram SET first = ?", 99, "it has no edges"),
            ("UPDATE axis SET edges = ?", bytes(31), "multiple of element size"),
            ("UPDATE axis SET edges = ?", b"", "non-negative"),
            ("UPDATE axis SET edges = ?", bytes(8 * (2**22 + 2)), "more than 4,194,304 bins"),
        ],
    )
    def test_a_damaged_histogram_is_named_as_such(self, path, statement, value, words):
        writer = RunWriter(path)
        writer.histogram("hist", 0, histogram([1, 2, 3], [0.0, 1.0, 2.0, 3.0]))
        writer.close()
        spoiled(path, statement, value)
        with pytest.raises(RunFileError, match=rf"has a damaged histogram: .*{words}"):
            load(path).histogram("hist", 0)

    def test_a_bomb_does_not_go_off(self, path):
        writer = RunWriter(path)
        writer.histogram("hist", 0, histogram([1, 2, 3], [0.0, 1.0, 2.0, 3.0]))
        writer.close()
        spoiled(path, "UPDATE histogram SET counts = ?", zlib.compress(bytes(100_000_000), 9))
        run = load(path)
        tracemalloc.start()
        try:
            with pytest.raises(RunFileError, match=r"too many or too few counts"):
                run.histogram("hist", 0)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


class TestDescription:
    def test_panels_keep_the_order_in_which_they_were_first_given(self, path):
        writer = RunWriter(path)
        for name in ("b", "a", "c"):
            writer.panel(Panel(title=name, group="performance", name=name))
        writer.panel(Panel(title="new", group="performance", name="a", healthy=(None, 1.0)))
        writer.close()
        panels = load(path).panels()
        assert [panel.name for panel in panels] == ["b", "a", "c"]
        assert panels[1] == Panel(title="new", group="performance", name="a", healthy=(None, 1.0))

    def test_unavailable_readings_carry_their_latest_reason(self, path):
        writer = RunWriter(path)
        writer.event(0, "unavailable", {"reading": "alpha", "reason": "first"})
        writer.event(1, "start", {})
        writer.event(2, "unavailable", {"reading": "alpha", "reason": "second"})
        writer.event(2, "unavailable", {"reading": "norm_test", "reason": "N = 1"})
        writer.close()
        assert load(path).unavailable() == {"alpha": "second", "norm_test": "N = 1"}

    def test_what_json_does_not_know_becomes_what_it_does(self, path):
        writer = RunWriter(path)
        writer.meta(command=Path("train.py"), panel={"loss"}, seed=np.int64(3), rate=float("nan"))
        writer.close()
        meta = load(path).meta
        assert meta["command"] == "train.py"
        assert meta["panel"] == ["loss"]
        assert meta["seed"] == 3
        assert math.isnan(meta["rate"])

    def test_a_run_is_live_while_its_writer_gives_signs_of_life(self, path, monkeypatch):
        writer = RunWriter(path)
        writer.meta(status="running")
        writer.commit()
        run = load(path)
        assert run.live
        now = time.time()
        monkeypatch.setattr("cockpitlite.store.liveness.time.time", lambda: now + LIVE_SECONDS + 1.0)
        assert not run.live
        monkeypatch.undo()
        writer.meta(status="finished")
        writer.close()
        assert not run.live

    def test_the_name_of_a_run_is_its_file_without_the_suffix(self, tmp_path):
        path = tmp_path / "train-v1.2.cockpit"
        RunWriter(path).close()
        assert load(path).name == "train-v1.2"

    def test_runs_are_found_in_all_folders_the_newest_first(self, tmp_path):
        paths = [tmp_path / "a.cockpit", tmp_path / "deep" / "er" / "b.cockpit", tmp_path / "c.cockpit"]
        for age, path in enumerate(paths):
            RunWriter(path).close()
            os.utime(path, (1000.0 - age, 1000.0 - age))
        (tmp_path / "notes.txt").write_text("no run")
        (tmp_path / "folder.cockpit").mkdir()
        assert find_runs(tmp_path) == paths
        writer = RunWriter(paths[2], resume=True)
        writer.reading("loss", 0, 1.0)
        writer.commit()
        assert find_runs(tmp_path)[0] == paths[2]
        writer.close()
        assert find_runs(tmp_path / "nowhere") == []


class TestWriting:
    def test_only_what_was_committed_can_be_read(self, path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        assert load(path).names() == []
        writer.commit()
        writer.reading("loss", 1, 1.0)
        assert load(path).last_step == 0
        writer.close()
        assert load(path).last_step == 1

    def test_rollback_forgets_names_and_layouts_too(self, path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.layers("grad_norm", 0, ["a"], np.array([1.0]))
        writer.rollback()
        writer.reading("alpha", 0, 2.0)
        writer.reading("loss", 0, 3.0)
        writer.layers("grad_norm", 0, ["b", "a"], np.array([1.0, 2.0]))
        writer.layers("grad_norm", 1, ["a"], np.array([3.0]))
        writer.close()
        run = load(path)
        assert run.series("loss")[1].tolist() == [3.0]
        assert run.series("alpha")[1].tolist() == [2.0]
        _, names, values = run.layers("grad_norm")
        assert names == ["b", "a"]
        np.testing.assert_array_equal(values, [[1.0, 2.0], [math.nan, 3.0]])

    def test_close_leaves_one_file(self, path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.commit()
        assert load(path).last_step == 0
        writer.close()
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert load(path).last_step == 0
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_the_folder_of_a_run_is_made(self, tmp_path):
        path = tmp_path / "runs" / "today" / "run.cockpit"
        RunWriter(path).close()
        assert load(path).names() == []

    def test_an_existing_file_is_never_overwritten(self, path):
        write_losses(path, [1.0])
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match=r"exists and is never overwritten; pass resume=True"):
            RunWriter(path)
        assert path.read_bytes() == before

    def test_resume_appends(self, path):
        write_losses(path, [3.0, 2.0])
        writer = RunWriter(path, resume=True)
        assert writer.last_step == 1
        writer.reading("loss", 2, 1.0)
        writer.layers("grad_norm", 2, ["a"], np.array([1.0]))
        writer.close()
        assert load(path).series("loss")[1].tolist() == [3.0, 2.0, 1.0]

    def test_resume_without_a_file_starts_one(self, path):
        writer = RunWriter(path, resume=True)
        assert writer.last_step is None
        writer.close()
        assert load(path).names() == []

    def test_resume_starts_over_in_a_file_that_stayed_empty(self, path):
        path.touch()
        with pytest.raises(RunFileError, match=r"is empty"):
            load(path)
        RunWriter(path, resume=True).close()
        assert load(path).names() == []

    def test_a_path_through_a_file_cannot_be_written(self, tmp_path):
        (tmp_path / "runs").write_text("a file, not a folder")
        with pytest.raises(OSError, match=r"cannot be written .*; give a path in a folder you may write to as run="):
            RunWriter(tmp_path / "runs" / "run.cockpit")

    def test_a_folder_in_place_of_the_file_is_refused(self, path):
        path.mkdir()
        with pytest.raises(FileExistsError):
            RunWriter(path)
        with pytest.raises(OSError, match=r"cannot be written"):
            RunWriter(path, resume=True)

    def test_nothing_is_left_where_the_database_cannot_be_made(self, path, monkeypatch):
        def fail(db):
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(schema, "MIGRATIONS", (fail,))
        with pytest.raises(OSError, match=r"cannot be written \(disk I/O error\)"):
            RunWriter(path)
        assert not path.exists()


def text_file(path):
    path.write_text("step,loss\n0,1.0\n" * 100)


def other_database(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE reading (name, step, value)")
    db.commit()
    db.close()


def overwritten(path):
    write_losses(path, [1.0] * 10_000)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(bytes(data))


class TestNotARunFile:
    @pytest.mark.parametrize("spoil", [text_file, other_database])
    def test_it_is_refused_by_reader_and_writer_and_left_alone(self, path, spoil):
        spoil(path)
        before = path.read_bytes()
        with pytest.raises(RunFileError, match=r"is not a cockpitlite run file.*; give a file that watch"):
            load(path)
        with pytest.raises(RunFileError, match=r"is not a cockpitlite run file"):
            RunWriter(path, resume=True)
        assert path.read_bytes() == before

    def test_a_damaged_run_file_is_named_as_such(self, path):
        overwritten(path)
        with pytest.raises(RunFileError, match=r"cannot be read \(.*malformed.*\); if it was copied from a live run"):
            load(path).series("loss")

    def test_a_missing_file_and_a_folder_are_told_apart(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"does not exist; give the path of a .cockpit file"):
            load(tmp_path / "none.cockpit")
        with pytest.raises(FileNotFoundError, match=r"is a folder; give the path of a .cockpit file"):
            load(tmp_path)

    def test_a_run_that_is_deleted_while_open_is_missing(self, path):
        write_losses(path, [1.0])
        run = load(path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"cannot be opened"):
            run.series("loss")


class TestCutOff:
    """A full disk, a broken copy or another program has taken the end of a file away."""

    @pytest.mark.parametrize("left", [1, 99, 4096, 0.5, -4096, -1])
    def test_it_is_told_by_every_reader_and_by_who_resumes(self, path, left):
        write_losses(path, [1.0] * 10_000)
        size = path.stat().st_size
        run = load(path)
        os.truncate(path, int(left * size) if isinstance(left, float) else left % size)
        before = path.read_bytes()
        for read in (lambda: load(path), lambda: run.series("loss"), lambda: RunWriter(path, resume=True)):
            with pytest.raises(RunFileError, match=r"is cut off: .* bytes are there; copy it again, or get what is"):
                read()
        assert path.read_bytes() == before

    @pytest.mark.parametrize("left", [0, 5000])
    def test_a_reader_and_the_end_of_a_writer_leave_all_that_is_left(self, path, left):
        writer = RunWriter(path)
        writer.readings("loss", enumerate([1.0] * 20_000))
        writer.commit()
        writer._db.execute("PRAGMA wal_checkpoint(RESTART)")
        writer.reading("loss", 20_000, 1.0)
        writer.commit()
        os.truncate(path, left)
        log = path.with_name(path.name + "-wal")
        before = log.read_bytes()
        with pytest.raises(RunFileError, match=r"is cut off"):
            load(path)
        with pytest.raises(RunFileError, match=r"was cut off by another program while it was written; watch"):
            writer.close()
        with pytest.raises(RunFileError, match=r"is cut off"):
            load(path)
        assert path.stat().st_size == left
        assert log.read_bytes() == before

    def test_a_log_that_is_being_moved_into_its_file_is_no_cut(self, path):
        """Killed between two writes of a checkpoint, a file names pages that only its log has."""
        writer = RunWriter(path)
        writer.readings("loss", enumerate([1.0] * 5000))
        writer.commit()
        copy = path.with_name("copy.cockpit")
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        shutil.copy(path, copy)
        short = copy.stat().st_size
        writer._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with copy.open("r+b") as file:  # the first page, which tells how many there are, goes first
            file.write(path.read_bytes()[:4096])
        assert copy.stat().st_size == short < path.stat().st_size
        assert len(load(copy).series("loss")[0]) == 5000
        writer.close()


class TestSchema:
    def test_a_newer_file_is_refused_and_left_alone(self, path, monkeypatch):
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, lambda db: None))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        write_losses(path, [1.0])
        monkeypatch.undo()
        before = path.read_bytes()
        with pytest.raises(
            RunFileError,
            match=rf"newer cockpitlite \(schema {VERSION + 1}, this one knows {VERSION}\); upgrade cockpitlite",
        ):
            load(path)
        with pytest.raises(RunFileError, match=r"newer cockpitlite"):
            RunWriter(path, resume=True)
        assert path.read_bytes() == before

    @pytest.fixture
    def next_version(self, monkeypatch):
        """A version that measures the loss in percent."""

        def to_percent(db):
            db.execute("ALTER TABLE clock ADD COLUMN epoch INTEGER")
            db.execute("UPDATE reading SET value = 100 * value")

        def enter():
            monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, to_percent))
            monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)

        return enter

    def test_an_older_file_is_read_as_the_present_version_and_left_alone(self, path, next_version):
        write_losses(path, [1.0, 0.5], status="finished")
        before = path.read_bytes()
        next_version()
        run = load(path)
        for _ in range(2):
            assert run.series("loss")[1].tolist() == [100.0, 50.0]
        assert run.meta["status"] == "finished"
        assert path.read_bytes() == before

    def test_resume_brings_an_older_file_up_to_date_once(self, path, next_version):
        write_losses(path, [1.0, 0.5])
        next_version()
        for _ in range(2):
            writer = RunWriter(path, resume=True)
            assert writer.last_step == 1
            writer.close()
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION + 1
        db.close()
        assert load(path).series("loss")[1].tolist() == [100.0, 50.0]

    def test_a_migration_that_fails_halfway_changes_nothing(self, path, next_version, monkeypatch):
        write_losses(path, [1.0, 0.5])
        next_version()

        def fail(db):
            if db.execute("PRAGMA database_list").fetchone()[2]:  # a file, not the reader's copy in memory
                raise sqlite3.OperationalError("disk full")

        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, fail))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(OSError, match=r"cannot be written \(disk full\)"):
            RunWriter(path, resume=True)
        monkeypatch.undo()
        assert load(path).series("loss")[1].tolist() == [1.0, 0.5]
        next_version()
        RunWriter(path, resume=True).close()
        assert load(path).series("loss")[1].tolist() == [100.0, 50.0]


class TestSpelledHistograms:
    """Version 1 spelled out the edges of each histogram and did not compress its counts."""

    @pytest.fixture
    def old(self, path):
        db = sqlite3.connect(path)
        schema._create(db)
        db.execute("INSERT INTO name VALUES (1, 'loss'), (7, 'hist')")
        db.execute("INSERT INTO reading VALUES (1, 3, 0.5)")
        one, two = json.dumps([[0.0, 1.0, math.inf]]), json.dumps([[0.0, 1.0], [-1.0, math.nan, 1.0]])
        for step, layer, edges, counts in (
            (3, "", one, [2**62, 1]),
            (3, "0.weight", one, [5, 0]),
            (4, "", two, [7, 8]),
        ):
            row = (7, step, layer, edges, np.array(counts, dtype="<i8").tobytes())
            db.execute("INSERT INTO histogram VALUES (?, ?, ?, ?, ?)", row)
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.commit()
        db.close()
        return path

    def check(self, run):
        assert run.series("loss")[1].tolist() == [0.5]
        assert run.names() == ["hist", "loss"]
        steps, layers = run.histograms("hist")
        assert (steps.tolist(), layers) == ([3, 4], ["0.weight"])
        counts, edges = run.histogram("hist", 3)
        assert (counts.tolist(), edges.tolist()) == ([2**62, 1], [0, 1, math.inf])
        assert run.histogram("hist", 3, "0.weight")[0].tolist() == [5, 0]
        counts, (first, second) = run.histogram("hist", 4)
        assert counts.tolist() == [[7, 8]]
        assert first.tolist() == [0, 1]
        np.testing.assert_array_equal(second, [-1, math.nan, 1])

    def test_they_are_read_and_the_file_is_left_alone(self, old):
        before = old.read_bytes()
        self.check(load(old))
        assert old.read_bytes() == before

    def test_resume_compacts_them(self, old):
        writer = RunWriter(old, resume=True)
        writer.histogram("hist", 5, histogram([1, 2], [0.0, 1.0, math.inf]), "0.weight")
        writer.rollback()
        writer.close()
        self.check(load(old))
        db = sqlite3.connect(old)
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert db.execute("SELECT count(*) FROM axis").fetchone()[0] == 3
        db.close()

    @pytest.mark.parametrize("damage", [("edges", "[[1, 2"), ("edges", '["a"]'), ("counts", b"odd"), ("edges", "[]")])
    def test_a_damaged_one_is_named_as_such(self, old, damage):
        spoiled(old, f"UPDATE histogram SET {damage[0]} = ?", damage[1])
        with pytest.raises(RunFileError, match=r"a damaged histogram"):
            load(old)


def test_a_file_from_before_the_frames_is_read_and_goes_on(path):
    db = sqlite3.connect(path)
    for migration in schema.MIGRATIONS[:2]:
        migration(db)
    db.execute("INSERT INTO name VALUES (1, 'loss')")
    db.execute("INSERT INTO reading VALUES (1, 0, 0.5)")
    db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    before = path.read_bytes()
    assert load(path).series("loss")[1].tolist() == [0.5]
    assert path.read_bytes() == before
    writer = RunWriter(path, resume=True)
    writer.frame(1, [Column("loss")], np.array([0.25]))
    writer.close()
    assert load(path).series("loss")[1].tolist() == [0.5, 0.25]


def test_one_process_at_a_time_writes(path):
    first = RunWriter(path)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    first._db.execute("PRAGMA busy_timeout = 1")
    assert not first.begin()
    other.rollback()
    assert first.begin()
    assert first.begin()  # it is already
    first.reading("loss", 0, 1.0)
    first.close()
    other.close()
    assert load(path).last_step == 0


KILLED = """
import sys
from cockpitlite.store import RunWriter
writer = RunWriter(sys.argv[1])
writer.meta(status="running")
for step in range(10**9):
    writer.reading("loss", step, 1.0)
    writer.layers("grad_norm", step, ["a", "b"], [1.0, 2.0])
    if step % 7 == 0:
        writer.commit()
        print(step, flush=True)
"""


class TestEndsOfTheWriter:
    @pytest.mark.parametrize("commits", [1, 30, 300])
    def test_kill_9_loses_at_most_what_was_not_committed(self, path, commits):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True)
        committed = [int(process.stdout.readline()) for _ in range(commits)]
        process.send_signal(signal.SIGKILL)
        committed += [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        run = load(path)
        last = run.last_step
        assert committed[-1] <= last <= committed[-1] + 7
        np.testing.assert_array_equal(run.series("loss")[0], np.arange(last + 1))
        assert run.layers("grad_norm")[2].shape == (last + 1, 2)
        assert run.meta["status"] == "running"
        writer = RunWriter(path, resume=True)
        assert writer.last_step == last
        writer.close()

    def test_a_copy_of_a_live_run_opens_with_its_log(self, path, tmp_path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.commit()
        copy = tmp_path / "copy" / "copied.cockpit"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        writer.close()
        assert load(copy).series("loss")[1].tolist() == [1.0]

    def test_a_full_disk_keeps_what_was_committed(self, path):
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.commit()
        pages = writer._db.execute("PRAGMA page_count").fetchone()[0]
        writer._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match=r"full"):
            writer.readings("loss", ((step, 1.0) for step in range(1, 10_000)))
        writer.rollback()
        writer.close()
        assert load(path).series("loss")[0].tolist() == [0]


class TestReaders:
    def test_readers_in_threads_and_processes_follow_a_writer(self, path):
        """Every read sees whole commits: each holds ten steps, whose values are the number of the commit."""
        writer = RunWriter(path)
        writer.commit()
        stop = threading.Event()

        def follow():
            """Return how many steps each read saw, until all are there."""
            run = load(path)
            seen = [0]
            while seen[-1] < 1000 and not stop.is_set():
                if "loss" in run.names():
                    values = run.series("loss")[1]
                    np.testing.assert_array_equal(values, np.repeat(np.arange(len(values) // 10), 10))
                    seen.append(len(values))
            return seen

        program = textwrap.dedent(
            """
            import sys
            from cockpitlite import load
            run = load(sys.argv[1])
            while True:
                size = len(run.series("loss")[0]) if "loss" in run.names() else 0
                assert size % 10 == 0
                if size >= 500:
                    break
            """
        )
        with subprocess.Popen([sys.executable, "-c", program, path]) as other, ThreadPoolExecutor(2) as threads:
            followers = [threads.submit(follow) for _ in range(2)]
            try:
                for number in range(100):
                    writer.readings("loss", ((10 * number + step, number) for step in range(10)))
                    writer.commit()
                for follower in followers:
                    seen = follower.result(timeout=60)
                    assert seen == sorted(seen)
                    assert seen[-1] == 1000
                assert other.wait(timeout=60) == 0
            finally:
                stop.set()
                other.kill()
        writer.close()
        assert load(path).last_step == 999

    @pytest.mark.parametrize("ended", ["closed", "killed"])
    def test_a_run_in_a_read_only_folder_can_be_read_but_not_written(self, ended):
        """In a process without root's rights, for which no permission counts, and below folders it may enter."""
        folder = Path(tempfile.mkdtemp())
        path = folder / "run.cockpit"
        writer = RunWriter(path)
        writer.reading("loss", 0, 1.0)
        writer.commit()
        if ended == "closed":
            writer.close()
        program = textwrap.dedent(
            """
            import os, sys
            from cockpitlite import load
            from cockpitlite.store import RunWriter
            os.chdir(sys.argv[1])
            if os.geteuid() == 0:
                os.setuid(65534)
            assert load("run.cockpit").series("loss")[1].tolist() == [1.0]
            for resume, path in ((False, "new.cockpit"), (True, "run.cockpit"), (True, "new.cockpit")):
                try:
                    RunWriter(path, resume=resume)
                except OSError as error:
                    assert "cannot be written" in str(error), error
                else:
                    raise AssertionError("it was written")
            """
        )
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
        try:
            done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
        finally:
            folder.chmod(0o755)
            if ended == "killed":
                path.chmod(0o644)
                writer.close()
            shutil.rmtree(folder)
        assert done.returncode == 0, done.stderr
