"""Histograms on their way: from the device into the run file, and from there onto one grid of bounded size."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import write_run

import cockpitlite
from cockpitlite import Panel, heat, load
from cockpitlite.compare import comparison
from cockpitlite.heat import Columns, bound, grown, is_sound, picture, reduced, ticks
from cockpitlite.instrument import Histogram as Reading
from cockpitlite.instrument import Instrument
from cockpitlite.recorder import Block, Check, Recorder
from cockpitlite.statistics import MeanGradient
from cockpitlite.store import Histogram, RunWriter

# From the device to the file


def recorded(path, *blocks):
    """The run that a recorder makes of blocks."""
    recorder = Recorder(RunWriter(path))
    for block in blocks:
        recorder.block(block)
    recorder.close()
    assert recorder.failure is None
    return load(path)


def reading(counts, *edges, layers=("a", "b")):
    return Reading(layers, torch.tensor(counts), tuple(torch.tensor(axis) for axis in edges))


def test_a_histogram_is_written_per_layer_and_in_total(tmp_path):
    counts = [[1, 0, 2**40 + 1], [5, 2**52, 0]]
    block = Block(3, [("scalar", 3, torch.tensor(0.5)), ("hist", 3, reading(counts, [-1.0, 0.0, 1.0, 2.5]))])
    run = recorded(tmp_path / "run.cockpit", block)
    assert run.histograms("hist")[1] == ["a", "b"]
    for layer, expected in (("a", counts[0]), ("b", counts[1]), (None, [6, 2**52, 2**40 + 1])):
        found, edges = run.histogram("hist", 3, layer)
        assert found.tolist() == expected
        assert edges.tolist() == [-1.0, 0.0, 1.0, 2.5]
    assert run.series("scalar")[1].tolist() == [0.5]


def test_a_joint_histogram_keeps_its_two_axes(tmp_path):
    counts = np.arange(12).reshape(2, 3, 2)
    block = Block(0, [("hist", 0, reading(counts.tolist(), [0.0, 1.0, 2.0, 4.0], [-1.0, 0.0, 1.0]))])
    run = recorded(tmp_path / "run.cockpit", block)
    found, edges = run.histogram("hist", 0)
    assert np.array_equal(found, counts.sum(axis=0))
    assert [axis.tolist() for axis in edges] == [[0, 1, 2, 4], [-1, 0, 1]]
    assert np.array_equal(run.histogram("hist", 0, "b")[0], counts[1])


@pytest.mark.parametrize(
    "edges", [[math.nan, math.nan, math.nan], [0.0, 1.0, math.inf], [0.0, 1.0, 1.0], [1.0, 0.0, 2.0]]
)
def test_bins_without_meaning_are_left_out_and_nothing_else(tmp_path, edges):
    bad = Block(0, [("hist", 0, reading([[1, 2], [3, 4]], edges)), ("after", 0, torch.tensor(7.0))])
    good = Block(1, [("hist", 1, reading([[1, 2], [3, 4]], [0.0, 1.0, 2.0]))])
    run = recorded(tmp_path / "run.cockpit", bad, good)
    assert run.histograms("hist")[0].tolist() == [1]
    assert run.series("after")[1].tolist() == [7.0]


def test_a_histogram_whose_check_failed_is_left_out(tmp_path):
    check = Check("sum", torch.tensor(False), lambda places: "the sums differ", {"hist"})
    run = recorded(
        tmp_path / "run.cockpit", Block(0, [("hist", 0, reading([[1]], [0.0, 1.0], layers=["a"]))], checks=[check])
    )
    assert run.names() == []
    assert run.unavailable() == {"hist": "the sums differ"}


class Signs(Instrument):
    """How many elements of the gradient are negative, and how many are not."""

    panel = Panel("Signs", "gradients", kind="histogram")

    def read(self, gradient: MeanGradient) -> Reading:
        """Count by layer."""
        values = gradient.each
        negative = torch.stack([(value < 0).sum() for value in values])
        sizes = torch.tensor([value.numel() for value in values])
        edges = torch.tensor([-1.0, 0.0, 1.0]) * torch.stack([value.abs().amax() for value in values]).amax()
        return Reading(gradient.names, torch.stack([negative, sizes - negative], dim=1), (edges,))


def test_an_instrument_of_ones_own_may_count(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cockpitlite.watch(optimizer, model, panel=[Signs], every=1, run=tmp_path / "run.cockpit")
    for step in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 3)).square().mean()
        (loss * math.nan if step == 2 else loss).backward()
        optimizer.step()
        if step == 2:
            model.reset_parameters()
    optimizer.cockpit.close()
    run = load(tmp_path / "run.cockpit")
    steps, layers = run.histograms("signs")
    assert (steps.tolist(), layers) == ([0, 1, 3], ["weight", "bias"])
    assert [run.histogram("signs", 0, layer)[0].sum() for layer in (None, "weight", "bias")] == [8, 6, 2]
    assert "signs" not in run.unavailable()


def test_a_comparison_of_runs_passes_over_histograms_and_what_stands_beside_them(tmp_path):
    run = load(write_run(tmp_path / "run.cockpit", steps=4, full=True))
    assert {"grad_hist_1d", "grad_hist_1d_error"} <= set(run.names())
    labels = [label for label, _ in comparison([run, run])]
    assert "loss, lowest" in labels
    assert not any(label.startswith("grad_hist") for label in labels)


# Onto one grid


def histogram(values, edges):
    return Histogram(np.histogram(values, edges)[0], (np.asarray(edges, dtype=np.float64),))


def powers(top, bins=61):
    """Edges around zero, each a power of two, up to two to the power of ``top``."""
    positive = 2.0 ** np.arange(top - (bins - 1) // 2, top + 1)
    return np.concatenate([-positive[::-1], positive])


def covered(columns):
    """The counts of each step, where no step was added to another."""
    assert columns.stretch == 1
    return dict(zip(columns.places.tolist(), columns.counts, strict=True))


some_edges = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40, unique=True).map(sorted)
some_histograms = st.lists(
    st.tuples(st.integers(0, 10**6), some_edges, st.integers(0, 2**32 - 1)), max_size=12, unique_by=lambda item: item[0]
).map(sorted)


@given(some_histograms)
def test_no_count_is_lost_whatever_the_edges(drawn):
    found = []
    for step, edges, seed in drawn:
        counts = np.random.default_rng(seed).integers(0, 1000, len(edges) - 1)
        found.append((step, Histogram(counts, (np.array(edges),))))
    found = [(step, each) for step, each in found if is_sound(each, 1)]
    columns = grown(Columns(), found)
    assert columns.counts.sum() == pytest.approx(sum(each.counts.sum() for _, each in found))
    assert len(columns.edges) <= heat.MOST_BINS + 1
    assert columns.taken == len(found)


@given(st.lists(st.integers(-12, 12), min_size=1, max_size=30), st.integers(0, 99))
def test_edges_that_double_share_a_grid_on_which_every_count_is_exact(tops, seed):
    random = np.random.default_rng(seed)
    samples = [random.standard_t(2, 200).clip(-7, 7) * 2.0 ** (top - 3) for top in tops]
    columns = grown(
        Columns(), [(step, histogram(v, powers(top))) for step, (v, top) in enumerate(zip(samples, tops, strict=True))]
    )
    union = np.unique(np.concatenate([powers(top) for top in tops]))
    assert np.array_equal(columns.edges, union)
    wide = 2.0 ** (max(tops) - 30)
    outer = np.minimum(np.abs(union[:-1]), np.abs(union[1:])) >= wide  # beyond any middle bin
    for step, counts in covered(columns).items():
        assert np.array_equal(counts[outer], np.histogram(samples[step], union)[0][outer])


@given(some_histograms, st.integers(0, 12))
def test_columns_that_follow_a_run_are_those_of_the_whole_run(drawn, parts):
    found = [
        (step, histogram(np.random.default_rng(seed).normal(size=50), powers(seed % 9 - 4))) for step, _, seed in drawn
    ]
    cut = min(parts, len(found))
    followed, whole = grown(grown(Columns(), found[:cut]), found[cut:]), grown(Columns(), found)
    assert np.array_equal(followed.places, whole.places)
    assert np.array_equal(followed.edges, whole.edges)
    assert np.allclose(followed.counts, whole.counts)
    assert (followed.last, followed.taken, followed.stretch) == (whole.last, whole.taken, whole.stretch)


def test_a_single_outlier_in_ten_thousand_steps_is_drawn():
    edges = powers(0)
    usual = histogram(np.full(10_000, 1e-3), edges)
    odd = histogram(np.append(np.full(9_999, 1e-3), 0.9), edges)
    columns = grown(Columns(), [(step, odd if step == 7_777 else usual) for step in range(10_000)])
    shown = picture(columns)
    assert len(columns.places) <= heat.MOST_COLUMNS and columns.counts.sum() == 10**8
    row = np.searchsorted(shown.edges, 0.9) - 1
    (column,) = np.flatnonzero(shown.shares[row] > 0)
    assert shown.steps[column] <= 7_777 <= shown.steps[column + 1]


def test_edges_that_differ_by_rounding_are_the_same():
    edges = powers(0)
    near = edges * (1 + 1e-7)
    near[0], near[-1] = edges[0], edges[-1]
    values = np.full(100, 0.3)
    columns = grown(Columns(), [(0, histogram(values, edges)), (1, histogram(values, near))])
    assert np.array_equal(columns.edges, edges)
    assert [np.count_nonzero(counts) for counts in columns.counts] == [1, 1]


def test_zeros_stay_at_zero():
    """A step whose bins reach less far down does not smear its zeros over the small bins of the others."""
    columns = grown(Columns(), [(0, histogram(np.zeros(100), powers(8))), (1, histogram(np.full(9, 2e-9), powers(0)))])
    middle = np.searchsorted(columns.edges, 0.0) - 1
    assert columns.counts[0, middle] == 100
    assert np.count_nonzero(columns.counts[0]) == 1


def test_a_wide_bin_is_spread_over_finer_ones():
    found = [(0, Histogram(np.array([8]), (np.array([0.0, 4.0]),))), (1, histogram([0.5], [0.0, 1.0, 4.0]))]
    assert covered(grown(Columns(), found))[0].tolist() == [2.0, 6.0]


def test_edges_that_are_new_at_every_step_cost_no_more_and_smear_little():
    random = np.random.default_rng(0)
    found = []
    for step in range(300):
        edges = np.sort(random.uniform(-1, 1, 40)) * (1 + step / 300)
        found.append((step, histogram(np.full(50, 0.5), [-2.0, *edges[np.abs(edges) < 1.9], 2.0])))
    columns = grown(Columns(), found)
    assert columns.settled and len(columns.edges) <= heat.MOST_BINS + 1
    near = (columns.edges[:-1] > 0.2) & (columns.edges[1:] < 0.8)
    assert columns.counts[:, near].sum() > 0.9 * columns.counts.sum()


def test_a_pause_is_blank_and_a_slow_schedule_is_not():
    edges = [0.0, 1.0, 2.0]
    bursts = [*range(5), *range(500, 505)]
    shown = picture(grown(Columns(), [(step, histogram([0.5], edges)) for step in bursts]))
    assert shown.steps.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 499.5, 500.5, 501.5, 502.5, 503.5, 504.5]
    assert np.isnan(shown.shares[0]).tolist() == [False] * 5 + [True] + [False] * 5
    slow = picture(grown(Columns(), [(step, histogram([0.5], edges)) for step in range(0, 500, 50)]))
    assert not np.isnan(slow.shares).any()
    assert slow.steps.tolist() == [step - 0.5 for step in range(0, 501, 50)]


def test_shares_are_those_of_each_column():
    shown = picture(
        grown(Columns(), [(0, histogram([0.5, 1.5, 1.5, 1.5], [0.0, 1.0, 2.0])), (1, histogram([], [0.0, 1.0]))])
    )
    assert shown.shares.T.tolist() == [[0.25, 0.75], [0.0, 0.0]]


def test_bins_around_zero_that_hold_nothing_are_joined():
    values = np.random.default_rng(0).normal(size=100_000)
    shown = picture(grown(Columns(), [(0, histogram(values, powers(3)))]))
    assert len(shown.edges) - 1 < 30
    assert shown.shares.sum() == pytest.approx(1)
    inner = np.abs(shown.edges).min()
    assert np.mean(np.abs(values) < inner) <= heat.NEXT_TO_NOTHING
    small = picture(grown(Columns(), [(0, histogram(values, powers(3))), (1, histogram(1e-6 * values, powers(3)))]))
    assert np.abs(small.edges).min() < 1e-7  # there is a column for which these bins are all there is


@pytest.mark.parametrize(
    "bad",
    [
        Histogram(np.array([1]), (np.array([0.0, math.nan]),)),
        Histogram(np.array([1]), (np.array([0.0, math.inf]),)),
        Histogram(np.array([1]), (np.array([1.0, 0.0]),)),
        Histogram(np.array([-1]), (np.array([0.0, 1.0]),)),
        Histogram(np.array([1]), (np.array([-1.7e308, 1.7e308]),)),
        Histogram(np.zeros(0, np.int64), (np.array([0.0]),)),
        Histogram(np.ones((1, 1), np.int64), (np.array([0.0, 1.0]), np.array([0.0, 1.0]))),
    ],
)
def test_what_cannot_be_drawn_is_passed_over(bad):
    good = histogram([0.5], [0.0, 1.0])
    columns = grown(Columns(), [(0, bad), (1, good), (2, bad)])
    assert (columns.places.tolist(), columns.taken, columns.last) == ([1], 1, 2)


def test_nothing_is_a_picture_of_nothing():
    assert len(picture(Columns())) == 0
    assert ticks(np.empty(0)) == []


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=80), some_edges, st.floats(0.01, 1.0))
def test_a_bound_is_one(values, edges, share):
    counts = np.histogram(values, edges)[0]
    inside = np.array([value for value in values if edges[0] <= value <= edges[-1]])
    size = bound(counts, np.array(edges), share)
    if not len(inside):
        assert math.isnan(size)
    else:
        assert np.sum(np.abs(inside) <= size) >= share * len(inside) - 1e-9
        assert size in np.abs(edges)


@pytest.mark.parametrize(
    "edges", [powers(0), powers(-3, 31), np.arange(-5.0, 6.0), np.linspace(0, 5, 50), np.arange(2)]
)
def test_ticks_are_edges_and_zero(edges):
    found = ticks(edges, 7)
    assert 2 <= len(found) <= 8
    assert found == sorted(found)
    for height, value in found:
        assert value == 0 if height % 1 else value == edges[int(height)]
    assert {found[0][1], found[-1][1]} == {edges[0], edges[-1]}
    if edges[0] < 0:
        assert [value for _, value in found] == [-value for _, value in reversed(found)]


def test_a_joint_histogram_is_reduced_by_adding():
    counts = np.random.default_rng(0).integers(0, 9, (90, 33))
    edges = np.arange(1, 92) / 7, np.arange(1, 35) / 3
    small = reduced(Histogram(counts, edges), 32)
    assert small.counts.shape == (23, 17)
    assert [len(axis) - 1 for axis in small.edges] == [23, 17]
    assert small.counts.sum() == counts.sum()
    assert small.counts[0, 0] == counts[:4, :2].sum()
    for axis, ends in zip(small.edges, edges, strict=True):
        assert (axis[0], axis[-1]) == (ends[0], ends[-1])
        assert all(low < high for low, high in itertools.pairwise(axis))
