"""The live page without a browser: figures as pure functions, what is sent to it, and who may open what."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from dash import Patch, html
from hypothesis import given
from hypothesis import strategies as st
from made_runs import MadeRun
from page_server import page_server
from plotly.utils import PlotlyJSONEncoder
from synthetic_runs import FULL_PANELS, HISTOGRAM, JOINT, NONFINITE_STEP, PANELS, FullRun, SyntheticRun, write_run

import cockpitlite.diagnosis
from cockpitlite import heat
from cockpitlite.dashboard import access, create_app, figures, gauge, heatmaps, layout, live, reduce, ticks, updates
from cockpitlite.dashboard.findings import findings
from cockpitlite.dashboard.listing import RANKS
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.readings import Layers, Readings, RunReader, Series
from cockpitlite.dashboard.runs import Runs, check, panels
from cockpitlite.dashboard.text import number, plain, shortened
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.dashboard.verdict import ICONS, DiagnosisError, Judge, not_judged, verdict
from cockpitlite.diagnosis import engine
from cockpitlite.diagnosis.engine import Judgement
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.light import WORDS
from cockpitlite.marks import Mark, marks
from cockpitlite.panel import Panel
from cockpitlite.store import Event, Histogram, Run, RunFileError, RunWriter, load

MARKUP = "<img src=x onerror='window.hurt=1'>"


def series(values, start=0):
    values = np.asarray(values, dtype=np.float64)
    return Series(np.arange(start, start + len(values)), values)


def readings(marks=(), layers=None, **named):
    return Readings({name: series(values) for name, values in named.items()}, layers or Layers(*EMPTY), tuple(marks))


EMPTY = (np.empty(0, np.int64), (), np.empty((0, 0)))
LOSS = Panel("Loss", "performance").named("loss")


def trace_of(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def words_of(component):
    """All text below a component."""
    if isinstance(component, (list, tuple)):
        return " ".join(filter(None, map(words_of, component)))
    if hasattr(component, "children"):
        return words_of(component.children)
    return "" if component is None else str(component)


def parts_of(component):
    """All components below a component, and itself."""
    if isinstance(component, (list, tuple)):
        return [part for child in component for part in parts_of(child)]
    return (
        [component, *parts_of(getattr(component, "children", None) or [])]
        if hasattr(component, "to_plotly_json")
        else []
    )


def as_json(component):
    return json.dumps(component, cls=PlotlyJSONEncoder)


# Reduction --------------------------------------------------------------------------------------------------------

finite_or_not = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.lists(finite_or_not, min_size=1, max_size=300), st.integers(1, 40))
def test_reduction_keeps_every_extreme_and_both_ends(values, columns):
    data = series(values)
    kept = reduce.extremes(data.steps, data.values, columns)
    assert len(kept) <= max(2 * columns + 2, len(values) if len(values) <= 2 * columns else 0)
    assert list(kept) == sorted(set(kept))
    assert kept[0] == 0 and kept[-1] == len(values) - 1
    finite = data.values[np.isfinite(data.values)]
    if len(finite):
        assert data.values[kept][np.isfinite(data.values[kept])].max() == finite.max()
        assert data.values[kept][np.isfinite(data.values[kept])].min() == finite.min()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=300), st.integers(1, 40))
def test_reduction_keeps_the_extremes_of_each_column(values, columns):
    data = series(values)
    kept = reduce.extremes(data.steps, data.values, columns)
    edges = np.linspace(0, len(values) - 1, columns + 1)
    for low, high in zip(edges[:-1] + 1e-6, edges[1:] - 1e-6, strict=True):  # columns without their edges
        inside = (data.steps > low) & (data.steps < high)
        chosen = kept[(data.steps[kept] >= low - 1e-5) & (data.steps[kept] <= high + 1e-5)]
        if inside.any():
            assert data.values[chosen].max() >= data.values[inside].max()
            assert data.values[chosen].min() <= data.values[inside].min()


def test_reduction_keeps_a_single_spike_in_a_million_steps():
    values = np.zeros(1_000_000)
    values[654_321] = 1.0
    data = series(values)
    kept = reduce.extremes(data.steps, data.values, 400)
    assert 654_321 in kept
    assert len(kept) <= 802


def test_reduction_shows_a_gap_where_nothing_is_finite():
    values = np.ones(1000)
    values[400:600] = np.nan
    kept = reduce.extremes(np.arange(1000), values, 20)
    assert np.isnan(values[kept]).any()


def test_a_window_has_columns_of_its_own():
    data = series(np.random.default_rng(0).normal(size=100_000))
    kept = reduce.extremes(data.steps, data.values, 100, (5000.0, 5100.0))
    assert set(range(5000, 5101)) <= set(kept.tolist())
    assert 0 in kept and 99_999 in kept


def test_marks_keep_one_of_each_column():
    steps = np.sort(np.random.default_rng(0).choice(100_000, 5000, replace=False))
    kept = reduce.firsts(steps, 50)
    assert len(kept) == 50
    assert kept[0] == 0
    closer = reduce.firsts(steps, 50, (5000.0, 5300.0))
    inside = (steps >= 5000) & (steps <= 5300)
    assert set(kept) | set(np.flatnonzero(inside)) == set(closer.tolist())


@given(st.lists(st.tuples(finite_or_not, finite_or_not), max_size=60), st.integers(1, 10))
def test_a_ratio_is_smoothed_as_sums(parts, window):
    above = np.array([part[0] for part in parts], dtype=np.float64)
    below = np.array([part[1] for part in parts], dtype=np.float64)
    ratio = reduce.windowed_ratio(above, below, window)
    for place in range(len(parts)):
        recent = [part for part in parts[max(place - window + 1, 0) : place + 1] if all(map(math.isfinite, part))]
        numerator, denominator = sum(part[0] for part in recent), sum(part[1] for part in recent)
        if abs(denominator) > 1e-6 * sum(abs(part[1]) for part in recent) and abs(denominator) > 1e-9:
            assert ratio[place] == pytest.approx(numerator / denominator, rel=1e-6, abs=1e-6)


def test_a_spike_leaves_no_trace_in_a_smoothed_ratio():
    above, below = np.ones(100), np.full(100, 2.0)
    above[10] = 1e20
    assert reduce.windowed_ratio(above, below, 5)[20] == 0.5


# Figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_every_panel_draws_from_a_run_and_from_nothing(panel, tmp_path):
    run = load(write_run(tmp_path / "run.cockpit", steps=120))
    [read] = RunReader(run).read([panel])
    full = figures.figure(panel, read)
    assert any(len(trace.x) > 1 for trace in full.data)
    assert figures.figure(panel, Readings()).data is not None
    assert "no values yet" in figures.description(panel, Readings())
    assert figures.headline(panel, Readings()) is None
    assert panel.title in figures.description(panel, read)


def test_figures_are_pure():
    read = readings(loss=[3, 2, 1])
    before = read.of("loss").values.copy()
    first, second = figures.figure(LOSS, read), figures.figure(LOSS, read)
    assert first == second
    assert np.array_equal(read.of("loss").values, before)


def test_values_and_steps_are_drawn_as_they_are():
    drawn = trace_of(figures.figure(LOSS, readings(loss=[3.25, 2.5, 1.125])), "loss")
    assert list(drawn.x) == [0, 1, 2]
    assert list(drawn.y) == [3.25, 2.5, 1.125]


def test_non_finite_steps_are_marks_of_their_own():
    figure = figures.figure(LOSS, readings(loss=[1, math.nan, 2, math.inf, 3]))
    marks = trace_of(figure, "non-finite")
    assert list(marks.x) == [1, 3]
    assert list(marks.hovertext) == ["loss: NaN", "loss: ∞"]
    assert list(trace_of(figure, "loss").y) == [1, None, 2, None, 3]
    assert "2 non-finite steps" in figures.caption(LOSS, readings(loss=[1, math.nan, 2, math.inf, 3]))


def test_points_between_gaps_are_marked_because_a_line_would_not_show_them():
    values = np.full(400, np.nan)
    values[::2] = 1.0
    assert "markers" in trace_of(figures.figure(LOSS, readings(loss=values)), "loss").mode
    assert trace_of(figures.figure(LOSS, readings(loss=np.ones(400))), "loss").mode == "lines"
    bursts = np.where(np.arange(3000) % 100 < 2, 1.0, np.nan)  # two values side by side are no wider than a pixel
    assert "markers" in trace_of(figures.figure(LOSS, readings(loss=bursts)), "loss").mode


def test_values_a_log_axis_cannot_show_are_marked():
    panel = dataclasses.replace(LOSS, scale="log")
    read = readings(loss=[1, 0, -2, 4])
    marks = trace_of(figures.figure(panel, read), "at or below 0")
    assert list(marks.x) == [1, 2]
    assert "−2" in marks.hovertext[1]
    assert "2 at or below 0" in figures.caption(panel, read)


BURSTS = np.array([*range(0, 50, 5), *range(500, 510), *range(1000, 1010)])


def test_no_line_is_drawn_where_nothing_was_measured():
    read = Readings({"loss": Series(BURSTS, np.ones(30))})
    drawn = trace_of(figures.figure(LOSS, read), "loss")
    assert [step for step, value in zip(drawn.x, drawn.y, strict=True) if value is None] == [46, 510]
    assert figures.caption(LOSS, read) == ""
    assert "non-finite" not in {trace.name for trace in figures.figure(LOSS, read).data}


def test_a_schedule_that_becomes_slower_is_one_line():
    steps = np.array([*range(20), *range(50, 900, 30)])
    drawn = trace_of(figures.figure(LOSS, Readings({"loss": Series(steps, np.ones(len(steps)))})), "loss")
    assert None not in drawn.y


def test_layers_that_reach_zero_on_a_log_axis_are_counted():
    layers = layered(3)
    layers.values[-1, 1] = 0.0
    panel = dataclasses.replace(LOSS, scale="log", layered=True)
    assert "1 of 3 layers at 0 now" in figures.caption(panel, readings(loss=[1, 2, 3], layers=layers))


def test_events_are_marked():
    events = [Event(5, 0.0, "resume", {"from": 5}), Event(7, 0.0, "nonfinite", {}), Event(8, 0.0, "other", {})]
    figure = figures.figure(LOSS, readings(loss=np.ones(10), marks=marks(events, (np.arange(10), np.ones(10)))))
    assert sum(trace.yaxis == "y2" and trace.mode == "lines" for trace in figure.data) == 2
    assert list(trace_of(figure, "resume").x)[:2] == [5, 5]
    assert list(trace_of(figure, "nonfinite").x)[:2] == [7, 7]
    assert "resumed at step 5" in trace_of(figure, "resume").hovertext


def layered(count, steps=3):
    names = tuple(f"layer{index}" for index in range(count))
    values = np.arange(1, steps * count + 1, dtype=np.float64).reshape(steps, count)
    return Layers(np.arange(steps), names, values)


def test_few_layers_are_lines_and_many_are_their_range():
    panel = dataclasses.replace(LOSS, layered=True)
    few = figures.figure(panel, readings(loss=[6, 15, 24], layers=layered(3)))
    assert list(trace_of(few, "layer1").y) == [2, 5, 8]
    many = figures.figure(panel, readings(loss=[1, 2, 3], layers=layered(20)))
    assert list(trace_of(many, "least layer").y) == [1, 21, 41]
    assert list(trace_of(many, "greatest layer").y) == [20, 40, 60]
    assert trace_of(many, "greatest layer").hovertext[0] == "layer19"
    assert not any(trace.name == "layer1" for trace in many.data)
    assert "20 layers" in figures.caption(panel, readings(loss=[1, 2, 3], layers=layered(20)))


def test_a_layer_without_a_gradient_leaves_the_others():
    layers = layered(20)
    layers.values[1, :] = np.nan
    layers.values[2, 0] = np.nan
    panel = dataclasses.replace(LOSS, layered=True)
    figure = figures.figure(panel, readings(loss=[1, 2, 3], layers=layers))
    assert list(trace_of(figure, "least layer").x) == [0, 2]
    assert list(trace_of(figure, "least layer").y) == [1, 42]


def test_a_ratio_is_drawn_from_its_parts():
    panel = Panel("Noise", "gradients", ratio=("above", "below")).named("noise")
    figure = figures.figure(panel, readings(noise=[2, -8], above=[2, 4], below=[1, 1]))
    assert list(trace_of(figure, "over 50 points").y) == [2, 3]
    assert list(trace_of(figure, "single steps").y) == [2, -8]
    assert figures.headline(panel, readings(noise=[2, -8], above=[2, 4], below=[1, 1])) == 3


def test_a_ratio_lost_in_noise_is_unclear_and_not_a_negative_size():
    panel = Panel("Noise", "gradients", unit="samples", scale="log", ratio=("above", "below")).named("noise")
    said = words_of(layout.value(panel, readings(noise=[-3], above=[3], below=[-1])))
    assert "unclear" in said and "samples" not in said


def test_the_caption_says_how_many_points_are_shown():
    assert figures.caption(LOSS, readings(loss=np.ones(100))) == ""
    assert figures.caption(LOSS, readings(loss=np.arange(10_000.0)), 300).startswith("600 of 10,000 points shown")


HEALTHY = {
    (0.0, 1.0): [("rect", None, "")],
    (None, 1.0): [("path", 1.0, ""), ("line", None, "healthy below")],
    (0.0, None): [("path", 0.0, ""), ("line", None, "healthy above")],
    None: [],
}


@pytest.mark.parametrize(("healthy", "shapes"), HEALTHY.items())
def test_the_healthy_range_is_shaded_and_an_open_one_beyond_the_edge_of_any_chart(healthy, shapes):
    figure = figures.figure(dataclasses.replace(LOSS, healthy=healthy), readings(loss=[1, 2]))
    drawn = figure.layout.shapes
    assert [(shape.type, shape.yanchor, shape.label.text or "") for shape in drawn] == shapes
    ends = {shape.yanchor: float(shape.path.split("V")[1].split("H")[0]) for shape in drawn if shape.path}
    assert all(end == (-4000 if bound == 1.0 else 4000) for bound, end in ends.items())


def test_a_mark_on_the_bound_of_the_healthy_range_names_it_and_is_no_second_line():
    panel = dataclasses.replace(LOSS, healthy=(None, 1.0), marks=((1.0, "edge"), (2.0, "far")))
    drawn = figures.figure(panel, readings(loss=[1, 2])).layout.shapes
    assert [(shape.y0, shape.label.text) for shape in drawn if shape.type == "line"] == [(1.0, "edge"), (2.0, "far")]


def test_marks_are_labelled_lines():
    figure = figures.figure(dataclasses.replace(LOSS, marks=((1.5, "goal"),)), readings(loss=[1, 2]))
    [shape] = figure.layout.shapes
    assert (shape.y0, shape.y1, shape.label.text) == (1.5, 1.5, "goal")


def test_names_are_text_and_never_markup():
    panel = Panel(MARKUP, "gradients", layered=True, marks=((1.0, MARKUP),), readings=(MARKUP, MARKUP + "2"))
    layers = Layers(np.arange(2), (MARKUP, "b"), np.ones((2, 2)))
    named = {MARKUP: series([1, math.nan]), MARKUP + "2": series([1, 2])}
    for count in (2, 20):
        names = (MARKUP, *(f"{MARKUP}{index}" for index in range(count - 1)))
        layers = Layers(np.arange(2), names, np.ones((2, count)))
        assert "<img" not in figures.figure(panel, Readings(named, layers)).to_json()
    gauge_panel = dataclasses.replace(panel, kind="parabola")
    assert "<img" not in gauge.figure(gauge_panel, Readings(named, layers)).to_json()


def test_the_description_tells_what_a_chart_shows():
    said = figures.description(dataclasses.replace(LOSS, unit="nats"), readings(loss=[3, 1, math.nan, 2]))
    assert said == "Loss, steps 0 to 3: newest 2 nats, lowest 1 at step 1, highest 3 at step 0. 1 non-finite value."


# The gauge --------------------------------------------------------------------------------------------------------

ALPHA = Panel("α", "step size", kind="parabola", healthy=(-0.9, 0.5)).named("alpha")


def test_the_gauge_shows_all_values_and_the_newest_tenth():
    shown = gauge.dial(ALPHA, readings(alpha=[*[-1.0] * 90, *[0.2] * 10]))
    assert (shown.count, shown.newest_count, shown.median) == (100, 10, 0.2)
    assert shown.everything.max() == 1
    assert np.count_nonzero(shown.newest) == 1


def test_the_gauge_loses_no_value_beyond_its_ends():
    read = readings(alpha=[-50.0, 70.0, math.nan, 0.0])
    shown = gauge.dial(ALPHA, read)
    assert (shown.count, shown.beyond) == (3, 2)
    assert np.count_nonzero(shown.everything) == 3
    assert "2 beyond" in gauge.caption(ALPHA, read)


@pytest.mark.parametrize(("value", "zone"), [(-0.95, "too small"), (0.0, "good"), (0.6, "too large"), (math.nan, "")])
def test_the_gauge_names_the_zone(value, zone):
    assert gauge.zone(ALPHA, value) == zone


def test_a_gauge_without_a_healthy_range_names_only_what_the_parabola_says():
    panel = dataclasses.replace(ALPHA, healthy=None)
    assert [gauge.zone(panel, value) for value in (-0.95, -0.8, 0.9, 1.1)] == ["too small", "", "", "too large"]
    figure = gauge.figure(panel, readings(alpha=[0.0]))
    assert [shape.label.text for shape in figure.layout.shapes] == ["too small", "too large"]


def age_of(panel, read):
    """The step that a newest value is said to be of."""
    return [vars(part)["data-step"] for part in parts_of(layout.value(panel, read)) if "data-step" in vars(part)]


def test_a_newest_value_brings_its_step():
    late = Readings({"loss": Series(np.array([3, 1500]), np.array([2.0, 1.0]))})
    assert age_of(LOSS, late) == ["1500"]
    assert age_of(ALPHA, Readings({"alpha": Series(np.array([7]), np.array([0.5]))})) == ["7"]
    assert age_of(LOSS, Readings()) == []


def test_a_gauge_leaves_the_verdict_to_the_diagnosis():
    assert words_of(layout.value(ALPHA, readings(alpha=[1.1]))) == "1.10"


def test_the_gauge_labels_its_zones_and_marks_with_words():
    figure = gauge.figure(dataclasses.replace(ALPHA, marks=((0.0, "minimum"),)), readings(alpha=[0.1]))
    assert [shape.label.text for shape in figure.layout.shapes] == ["too small", "good", "too large"]
    assert "minimum" in figure.layout.xaxis.ticktext[0]
    ball = figure.data[-1]
    assert list(ball.x) == [0.1] and ball.y[0] == pytest.approx(0.01)


@pytest.mark.parametrize("count", [1, 10, 11])
def test_a_single_newest_value_gets_no_colour_of_a_verdict(count):
    read = readings(alpha=[0.9] * count)
    ball, caption = gauge.figure(ALPHA, read).data[-1].marker.color, gauge.caption(ALPHA, read)
    assert ball == (gauge.FAULT if count == 11 else gauge.MUTED)
    later = "a ball is coloured by where it lies from 11 values on"
    said = {1: f"1 value · {later}", 10: f"10 values, the newest in colour · {later}"}
    assert caption == said.get(count, "11 values, the newest 2 in colour")


def test_an_empty_gauge_has_no_ball():
    assert len(gauge.figure(ALPHA, Readings()).data[-1].x) == 0
    assert gauge.caption(ALPHA, Readings()) == ""


# Heat maps ---------------------------------------------------------------------------------------------------------


def counted(*found, marks=(), **named):
    """Readings of histograms, each given as (step, counts, edges)."""
    histograms = [(step, Histogram(np.array(counts), (np.array(edges, float),))) for step, counts, edges in found]
    return Readings(
        {name: series(values) for name, values in named.items()},
        marks=tuple(marks),
        columns=heat.grown(heat.Columns(), histograms),
        newest=histograms[-1] if histograms else None,
    )


def joined(step, counts, *edges):
    histogram = Histogram(np.array(counts), tuple(np.array(axis, float) for axis in edges))
    return Readings(newest=(step, histogram))


def test_a_heat_map_shows_the_share_of_each_bin_at_each_step():
    read = counted((0, [1, 3], [-1, 0, 1]), (1, [4, 0], [-1, 0, 1]))
    shown = heatmaps.figure(HISTOGRAM, read).data[0]
    assert shown.type == "heatmap"
    assert list(shown.x) == [-0.5, 0.5, 1.5]
    assert list(shown.y) == ["−1 to 0", "0 to 1"]
    assert [list(row) for row in shown.z] == [[0.25, 1.0], [0.75, 0.0]]


def test_a_heat_map_has_its_edges_on_the_axis():
    axis = heatmaps.figure(HISTOGRAM, counted((0, [1, 5, 1], [-0.1, -0.001, 0.001, 0.1]))).layout.yaxis
    assert list(axis.tickvals) == [-0.5, 0.5, 1.0, 1.5, 2.5]
    assert list(axis.ticktext) == ["−0.1", "−0.001", "0", "0.001", "0.1"]


def test_bins_are_told_apart_however_close_they_are():
    edges = 1 + 1e-9 * np.arange(4)
    assert len(set(heatmaps.figure(HISTOGRAM, counted((0, [1, 1, 1], edges))).data[0].y)) == 3


def test_a_rare_value_is_seen_and_an_empty_bin_is_not():
    shown = heatmaps.figure(HISTOGRAM, counted((0, [10**9, 1, 0], [0, 1, 2, 3]))).data[0]
    assert shown.z[1][0] == pytest.approx(1e-9) and shown.z[2][0] == 0
    scale = [(stop, float(colour.rstrip(")").split(",")[-1])) for stop, colour in shown.colorscale]
    stops, opacities = zip(*scale, strict=True)
    assert stops[0] == 0 and stops[-1] == 1 and list(stops) == sorted(stops)
    assert np.interp(0, stops, opacities) == 0
    assert np.interp(1e-9, stops, opacities) > 0.14


def test_a_heat_map_marks_the_events_of_the_run():
    read = counted((0, [1], [0, 1]), marks=[Mark(5, "nonfinite", "first non-finite value")])
    assert list(trace_of(heatmaps.figure(HISTOGRAM, read), "nonfinite").x)[:2] == [5, 5]


def test_a_heat_map_is_put_into_words():
    read = counted((7, [1, 98, 1], [-8, -1, 1, 8]), (9, [0, 50, 50], [-8, -1, 1, 8]), grad_hist_1d_error=[0.25])
    panel = dataclasses.replace(HISTOGRAM, readings=("grad_hist_1d", "grad_hist_1d_error"))
    said = heatmaps.description(panel, read)
    assert said == (
        "Gradient elements, steps 7 to 9: 100 values at step 9, half of the values at most 1 in size, 99% at most 8."
    )
    assert heatmaps.headline(panel, read) == "99% ≤ 8"
    assert heatmaps.caption(panel, read).endswith("(faint) to 1 · error 0.25")
    many = counted(*[(step, [1], [0, 1]) for step in range(1000)])
    assert "each column adds up 8 steps" in heatmaps.caption(panel, many)


def test_a_joint_histogram_is_one_heat_map_of_its_newest_step():
    read = joined(120, [[1, 0, 3], [0, 4, 0]], [-1, 0, 1], [0, 1, 2, 3])
    figure = heatmaps.figure(JOINT, read)
    [shown] = figure.data
    assert [list(row) for row in shown.z] == [[0.125, 0, 0.375], [0, 0.5, 0]]
    assert (list(shown.y), list(shown.x)) == (["−1 to 0", "0 to 1"], ["0 to 1", "1 to 2", "2 to 3"])
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("gradient element", "parameter")
    assert words_of(layout.value(JOINT, read)) == "step 120"
    assert "8 values at step 120, half of the gradient element at most 1" in heatmaps.description(JOINT, read)
    assert "half of the parameter at most 2 in size" in heatmaps.description(JOINT, read)


@pytest.mark.parametrize("panel", [HISTOGRAM, JOINT])
def test_a_heat_map_of_nothing_says_so(panel):
    assert heatmaps.figure(panel, Readings()).data[0].type == "heatmap"
    assert heatmaps.headline(panel, Readings()) == heatmaps.caption(panel, Readings()) == ""
    assert "no values yet" in heatmaps.description(panel, Readings())
    assert "No value yet." in words_of(layout.words(panel, Readings(), {}))
    assert "Not available. grad_hist" in words_of(layout.words(panel, Readings(), {panel.name: "no model"}))


def test_names_of_quantities_are_text_and_never_markup():
    panel = dataclasses.replace(JOINT, axes=(MARKUP, "%{z}"), title=MARKUP)
    figure = heatmaps.figure(panel, joined(0, [[1]], [0, 1], [0, 1]))
    assert "<img" not in figure.to_json()
    assert figure.data[0].hovertemplate.count("%{z") == 1


def followed(panel, states):
    """What a browser shows that has followed a heat map, and what was sent to it."""
    figure = heatmaps.figure(panel, states[0]).to_dict()
    shown, sent = updates.shown(panel, states[0]), []
    for state in states[1:]:
        patch, shown = updates.update(panel, state, Shown.from_dict(as_plain(shown)), View())
        if patch is not None:
            figure = applied(patch, figure)
            sent.append(patch)
    return figure, sent


def test_a_followed_heat_map_is_the_one_drawn_at_once(tmp_path):
    run = FullRun(tmp_path / "run.cockpit")
    reader = RunReader(load(run.path))
    states = []
    for steps in (0, 1, 1, 40, 0, 200, 3):
        run.write(steps)
        states.append(reader.read([HISTOGRAM, JOINT]))
    run.finish()
    for panel, own in zip((HISTOGRAM, JOINT), zip(*states, strict=True), strict=True):
        figure, sent = followed(panel, own)
        whole = heatmaps.figure(panel, own[-1]).to_dict()
        assert figure["data"][0]["z"] == whole["data"][0]["z"]
        assert figure["data"][0]["x"] == whole["data"][0]["x"]
        assert figure["data"][0]["y"] == whole["data"][0]["y"]
        for axis in ("xaxis", "yaxis"):
            assert figure["layout"][axis].get("ticktext") == whole["layout"][axis].get("ticktext")
        assert len(sent) == 5  # nothing where nothing is new
        assert all(len(as_json(patch)) < 50_000 for patch in sent)


def test_an_update_of_a_heat_map_touches_no_layout_but_the_labels_of_bins():
    edges, wider = [-1.0, 1.0], [-2.0, -1.0, 1.0, 2.0]
    first, second = counted((0, [1], edges)), counted((0, [1], edges), (1, [2], edges))
    third = counted((0, [1], edges), (1, [2], edges), (2, [0, 1, 1], wider))
    _, [same, other] = followed(HISTOGRAM, [first, second, third])
    touched = [[o["location"][:2] for o in patch.to_plotly_json()["operations"]] for patch in (same, other)]
    assert all(place[0] == "data" for place in touched[0])
    assert {tuple(place) for place in touched[1] if place[0] == "layout"} == {("layout", "yaxis")}
    names = {o["location"][2] for o in other.to_plotly_json()["operations"] if o["location"][0] == "layout"}
    assert names == {"tickmode", "tickvals", "ticktext"}


def test_the_first_event_reaches_a_heat_map_that_gets_no_more_histograms():
    before = counted((0, [1], [0, 1]))
    figure, _ = followed(HISTOGRAM, [before, dataclasses.replace(before, marks=(Mark(1, "nonfinite", "first"),))])
    assert [trace["x"][:2] for trace in figure["data"][1:]] == [[1, 1]]


def test_a_heat_map_of_a_long_run_has_no_more_columns_than_that_of_a_short_one():
    read = counted(*[(step, [1, 2], [0, 1, 2]) for step in range(20_000)])
    shown = heatmaps.figure(HISTOGRAM, read).data[0]
    assert 50 < len(shown.x) < 200
    assert shown.x[-1] >= 19_999


def test_a_reader_passes_over_histograms_that_cannot_be_drawn(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    flat = Histogram(np.array([1]), (np.array([0.0, 1.0]),))
    joint = Histogram(np.array([[1]]), (np.array([0.0, 1.0]), np.array([0.0, math.inf])))
    for name, histogram in (("grad_hist_1d", joint), ("grad_hist_2d", flat)):
        writer.histogram(name, 0, histogram)
    writer.histogram("loss", 0, flat)
    writer.close()
    for panel, read in zip(
        (HISTOGRAM, JOINT, LOSS), RunReader(load(writer.path)).read([HISTOGRAM, JOINT, LOSS]), strict=True
    ):
        assert read.newest is None and not len(read.columns.places)
        assert "no values yet" in words_of(layout.words(panel, read, {}))


def test_a_reader_reads_histograms_again_after_a_resume(tmp_path):
    run = FullRun(tmp_path / "run.cockpit")
    run.write(4)
    reader = RunReader(load(run.path))
    reader.read([HISTOGRAM])
    run.writer.histogram("grad_hist_1d", 1, Histogram(np.array([10**6]), (np.array([100.0, 101.0]),)))
    run.writer.event(1, "resume", {"from": 1})
    run.writer.commit()
    [read] = reader.read([HISTOGRAM])
    assert read.columns.edges[-1] == 101 and read.columns.taken == 4
    run.finish()


@pytest.mark.parametrize("kind", ["good", "nonfinite"])
def test_every_panel_of_the_full_preset_has_its_card(tmp_path, kind):
    opened = opened_run(write_run(tmp_path / "run.cockpit", kind, NONFINITE_STEP + 20, full=True))
    board = words_of(layout.board(opened, panels(opened.run)))
    assert all(panel.title in board for panel in FULL_PANELS)
    told = live.news(opened, {place: Asked(View()) for place in range(len(FULL_PANELS))})
    assert len(told) == len(FULL_PANELS)
    text = words_of([change["words"] for change in told.values()])
    assert "no values yet" not in text and "No value yet." not in text


# Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.031239, "0.03124"),
        (-0.5, "−0.5"),
        (64.0, "64"),
        (12_340.0, "12,340"),
        (1.2e-5, "1.2e−5"),
        (3e9, "3e9"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_are_written_for_people(value, words):
    assert number(value) == words


def test_long_names_lose_their_middle():
    assert len(shortened("a" * 500)) <= 48
    assert plain("<b>") == "&lt;b&gt;"


# Updates ----------------------------------------------------------------------------------------------------------


def applied(patch, figure):
    """Do to a figure what the browser does with a patch."""
    for operation in patch.to_plotly_json()["operations"]:
        *path, last = operation["location"]
        target = figure
        for key in path:
            target = target[key]
        value = operation["params"]["value"]
        if operation["operation"] == "Assign":
            target[last] = value
        else:
            assert operation["operation"] == "Extend"
            target[last] = [*target.get(last, []), *value]
    return figure


def grown(panel, lengths, make):
    """Follow a chart while its readings grow to each of the lengths; return the figure the browser then has."""
    start = make(lengths[0])
    figure = figures.figure(panel, start, columns=50).to_dict()
    shown = updates.shown(panel, start, View(50))
    for length in lengths[1:]:
        patch, shown = updates.update(panel, make(length), Shown.from_dict(as_plain(shown)), View(50))
        if patch is not None:
            figure = applied(patch, figure)
    return figure, shown


def as_plain(shown):
    return json.loads(json.dumps(shown.to_dict()))


def points_of(figure, name):
    trace = next((trace for trace in figure["data"] if trace["name"] == name), {"x": [], "y": []})
    return dict(zip(trace["x"], trace["y"], strict=True))


@given(st.lists(st.integers(0, 400), min_size=2, max_size=8).map(sorted), st.integers(0, 5))
def test_a_followed_chart_ends_with_every_extreme_and_the_newest_point(lengths, seed):
    values = np.random.default_rng(seed).normal(size=400)
    values[::37] = math.nan
    figure, _ = grown(LOSS, lengths, lambda length: readings(loss=values[:length]))
    final = values[: lengths[-1]]
    points = points_of(figure, "loss")
    assert len(points) <= 3 * 50 + 45
    if np.isfinite(final).any():
        drawn = [value for value in points.values() if value is not None]
        assert max(drawn) == pytest.approx(np.nanmax(final), rel=1e-6)
        assert min(drawn) == pytest.approx(np.nanmin(final), rel=1e-6)
    if len(final):
        assert list(points)[-1] == len(final) - 1
    assert set(points_of(figure, "non-finite")) <= set(range(0, 400, 37))
    assert bool(points_of(figure, "non-finite")) == bool(len(final))


def test_new_points_are_appended_and_nothing_else_is_sent():
    before = readings(loss=np.ones(100))
    patch, shown = updates.update(LOSS, readings(loss=np.ones(103)), updates.shown(LOSS, before), View())
    operations = patch.to_plotly_json()["operations"]
    assert {operation["operation"] for operation in operations} == {"Extend"}
    assert [operation["params"]["value"] for operation in operations] == [[100, 101, 102], [1.0, 1.0, 1.0]]
    assert shown.added == 3


def test_a_pause_that_shows_itself_later_breaks_the_line():
    values = np.ones(30)
    figure, _ = grown(LOSS, [10, 11, 12, 30], lambda count: Readings({"loss": Series(BURSTS[:count], values[:count])}))
    assert [step for step, value in points_of(figure, "loss").items() if value is None] == [46, 510]


def test_nothing_is_sent_where_nothing_is_new():
    read = readings(loss=np.ones(100))
    patch, shown = updates.update(LOSS, read, updates.shown(LOSS, read), View())
    assert patch is None
    assert shown == updates.shown(LOSS, read)


def test_an_update_never_touches_the_layout():
    panel = dataclasses.replace(LOSS, layered=True)
    states = [readings(loss=np.ones(length), layers=layered(3, length)) for length in (1, 30, 60, 500, 2000)]
    shown = updates.shown(panel, Readings())
    for state in states:
        patch, shown = updates.update(panel, state, shown, View(50))
        assert all(operation["location"][0] == "data" for operation in patch.to_plotly_json()["operations"])


def test_a_reduced_chart_that_is_zoomed_gets_its_window_in_full():
    read = readings(loss=np.random.default_rng(0).normal(size=5000))
    patch, shown = updates.update(LOSS, read, updates.shown(LOSS, read, View(50)), View(50, (100.0, 190.0)))
    figure = applied(patch, figures.figure(LOSS, read, columns=50).to_dict())
    assert set(range(100, 191)) <= set(points_of(figure, "loss"))
    again, _ = updates.update(LOSS, read, shown, View(50, (100.0, 190.0)))
    assert again is None


def test_every_step_that_is_not_finite_is_marked_where_a_chart_is_zoomed():
    values = np.where(np.arange(600) < 300, 1.0, np.nan)
    read = readings(loss=values)
    figure = figures.figure(LOSS, read).to_dict()
    patch, _ = updates.update(LOSS, read, updates.shown(LOSS, read, View()), View(window=(290.0, 310.0)))
    assert set(range(300, 311)) <= set(points_of(applied(patch, figure), "non-finite"))


def test_a_reduced_chart_that_becomes_wider_gets_more_points():
    read = readings(loss=np.random.default_rng(0).normal(size=5000))
    patch, shown = updates.update(LOSS, read, updates.shown(LOSS, read, View(50)), View(200))
    figure = applied(patch, figures.figure(LOSS, read, columns=50).to_dict())
    assert len(points_of(figure, "loss")) > 300
    assert updates.update(LOSS, read, shown, View(210))[0] is None


def test_what_is_the_same_as_the_first_reading_is_drawn_once_it_differs():
    panel = dataclasses.replace(LOSS, readings=("loss", "loss_clipped"))
    states = [readings(loss=np.ones(9), loss_clipped=np.r_[np.ones(9 - cut), [0.5] * cut]) for cut in (0, 1)]
    assert {trace["name"] for trace in figures.figure(panel, states[0]).to_dict()["data"]} == {"loss"}
    patch, _ = updates.update(panel, states[1], updates.shown(panel, states[0]), View())
    after = applied(patch, figures.figure(panel, states[0]).to_dict())
    assert [trace["name"] for trace in after["data"]] == ["loss", "clipped"]


def test_a_gauge_is_updated_as_a_whole_but_its_layout():
    patch = updates.update_gauge(ALPHA, readings(alpha=[0.3]))
    assert isinstance(patch, Patch)
    [operation] = patch.to_plotly_json()["operations"]
    assert operation["location"] == ["data"]


# Reading ----------------------------------------------------------------------------------------------------------


def equal(first, second):
    same = all(
        np.array_equal(first.of(name).steps, second.of(name).steps)
        and np.array_equal(first.of(name).values, second.of(name).values, equal_nan=True)
        for name in {**first.series, **second.series}
    )
    return (
        same
        and first.layers.names == second.layers.names
        and np.array_equal(first.layers.values, second.layers.values, equal_nan=True)
    )


def test_a_reader_that_follows_a_run_knows_what_a_fresh_one_reads(tmp_path):
    writing = SyntheticRun(tmp_path / "run.cockpit")
    reader = RunReader(load(writing.path))
    for steps in (0, 3, 40, 1):
        writing.write(steps)
        for followed, fresh in zip(reader.read(PANELS), RunReader(load(writing.path)).read(PANELS), strict=True):
            assert equal(followed, fresh)
    writing.finish()


def test_a_reader_sees_a_replaced_newest_value_and_a_resumed_run(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.readings("loss", [(0, 1.0), (1, 2.0), (2, 3.0)])
    writer.commit()
    reader = RunReader(load(writer.path))
    reader.read([LOSS])
    writer.reading("loss", 2, 9.0)
    writer.commit()
    assert reader.read([LOSS])[0].of("loss").values.tolist() == [1, 2, 9]
    writer.reading("loss", 1, 7.0)
    writer.event(1, "resume", {"from": 1})
    writer.commit()
    assert reader.read([LOSS])[0].of("loss").values.tolist() == [1, 7, 9]
    writer.close()


def test_layers_that_come_later_are_joined(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    panel = dataclasses.replace(LOSS, layered=True)
    writer.reading("loss", 0, 1.0)
    writer.layers("loss", 0, ["a"], np.array([1.0]))
    writer.commit()
    reader = RunReader(load(writer.path))
    reader.read([panel])
    writer.layers("loss", 1, ["b", "a"], np.array([2.0, 3.0]))
    writer.commit()
    [read] = reader.read([panel])
    assert read.layers.names == ("a", "b")
    assert np.array_equal(read.layers.values, [[1, np.nan], [3, 2]], equal_nan=True)
    writer.close()


# Which files ------------------------------------------------------------------------------------------------------


def test_runs_are_offered_newest_first(tmp_path):
    old, new = write_run(tmp_path / "old.cockpit", steps=3), write_run(tmp_path / "below" / "new.cockpit", steps=3)
    os.utime(old, (1, 1))
    assert [entry.key for entry in Runs(tmp_path).entries()] == ["below/new.cockpit", "old.cockpit"]
    assert not any(entry.live for entry in Runs(tmp_path).entries())
    assert [entry.label for entry in Runs(new).entries()] == ["new"]


def test_a_run_that_is_being_written_is_live(tmp_path):
    writing = SyntheticRun(tmp_path / "run.cockpit")
    writing.write(1)
    assert [entry.live for entry in Runs(tmp_path).entries()] == [True]
    writing.finish()
    assert [entry.live for entry in Runs(tmp_path).entries()] == [False]


def test_of_several_live_runs_the_newest_is_the_one_that_was_started_last(tmp_path):
    for name, started in (("first", 100.0), ("second", 200.0)):
        run = SyntheticRun(tmp_path / f"{name}.cockpit")
        run.writer.meta(started=started)
        run.write(1)
    write_run(tmp_path / "over.cockpit", steps=3)
    for changed in ("first", "second"):
        os.utime(tmp_path / f"{changed}.cockpit")
        assert [entry.label for entry in Runs(tmp_path).entries()] == ["second", "first", "over"]


def test_the_newest_run_is_the_one_that_says_it_was_started_last_and_no_file_that_cannot_be_read(tmp_path, monkeypatch):
    for name, started in (("last", 300.0), ("first", 100.0), ("vague", "yesterday"), ("endless", math.inf)):
        run = SyntheticRun(tmp_path / f"{name}.cockpit")
        run.write(1)
        run.writer.meta(started=started)
        run.finish()
    shutil.copy(tmp_path / "first.cockpit", tmp_path / "first (2).cockpit")
    (tmp_path / "text.cockpit").write_text("no run")
    changed = ("last", "first", "vague", "endless", "first (2)", "text")
    for moment, name in enumerate(changed, 1):
        os.utime(tmp_path / f"{name}.cockpit", (moment, moment))
    runs = Runs(tmp_path)
    offered = ["last", "first (2)", "first", "endless", "vague", "text"]
    assert [entry.label for entry in runs.entries()] == offered
    read = []
    monkeypatch.setattr("cockpitlite.dashboard.runs.load", lambda path: read.append(path.name) or load(path))
    assert [entry.label for entry in runs.entries()] == offered and read == []
    write_run(tmp_path / "text.cockpit.new", steps=2).replace(tmp_path / "text.cockpit")
    assert runs.entries()[0].label == "text" and read == ["text.cockpit"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "text.cockpit").write_text("no run")
    assert [entry.label for entry in Runs(tmp_path / "alone").entries()] == ["text"]


@pytest.mark.parametrize("key", ["../secret.cockpit", "/etc/passwd", "", ".", "nothing.cockpit", "link.cockpit"])
def test_no_path_outside_the_folder_can_be_opened(key, tmp_path):
    folder = tmp_path / "runs"
    write_run(folder / "run.cockpit", steps=2)
    secret = write_run(tmp_path / "secret.cockpit", steps=2)
    (folder / "link.cockpit").symlink_to(secret)
    with pytest.raises(FileNotFoundError, match="there is no run"):
        Runs(folder).open(key)
    with pytest.raises(FileNotFoundError, match="there is no run"):
        Runs(folder).open(str(secret))


def test_a_link_inside_the_folder_does_not_lead_out_of_it_by_any_way(tmp_path):
    folder = tmp_path / "runs"
    write_run(folder / "run.cockpit", steps=2)
    write_run(tmp_path / "secret" / "secret.cockpit", steps=2)
    (folder / "file.cockpit").symlink_to(tmp_path / "secret" / "secret.cockpit")
    (folder / "inside").symlink_to(tmp_path / "secret")
    (folder / "own.cockpit").symlink_to(folder / "run.cockpit")  # one that stays inside is a run like any other
    client = create_app(folder).server.test_client()
    assert [entry.key for entry in sorted(Runs(folder).entries(), key=str)] == ["own.cockpit", "run.cockpit"]
    for key in ("file.cockpit", "inside/secret.cockpit", "../secret/secret.cockpit", "./run.cockpit/../file.cockpit"):
        assert "there is no run" in str(client.post("/tick", json=request_for(key)).json["frame"]["notice"])
        assert client.get("/csv", query_string={"run": key, "panel": "loss"}).status_code == 404
    assert client.get("/csv", query_string={"run": "run.cockpit", "panel": "loss"}).status_code == 200


def test_another_run_under_the_same_name_is_another_run(tmp_path):
    path = write_run(tmp_path / "run.cockpit", steps=2)
    runs = Runs(tmp_path)
    first = runs.open("run.cockpit")
    assert runs.open("run.cockpit") is first
    path.unlink()
    write_run(path, steps=4)
    assert runs.open("run.cockpit").identity != first.identity


def test_bad_paths_get_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give a run file"):
        check(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no run file"):
        check(tmp_path)
    other = tmp_path / "other.cockpit"
    other.write_text("no run")
    with pytest.raises(RunFileError, match="not a cockpitlite run file"):
        create_app(other)


@pytest.mark.parametrize(
    "damage",
    [
        {"marks": [["high", "label"]]},
        {"marks": [[1.0, 2.0]]},
        {"readings": [["nested"]]},
        {"scale": "cubic"},
        {"kind": "pie"},
        {"title": {"a": 1}},
        {"healthy": [0.0]},
        {"ratio": ["one"]},
        {"axes": ["one"]},
        {"axes": [1, 2]},
    ],
)
def test_a_made_up_panel_is_refused_with_a_sentence(damage, tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    panel = LOSS.to_dict() | damage
    writer._db.execute("INSERT INTO panel VALUES ('loss', 0, ?)", (json.dumps(panel),))
    writer.close()
    with pytest.raises(RunFileError, match="cannot be drawn"):
        panels(load(writer.path))


# The board --------------------------------------------------------------------------------------------------------


def opened_run(path):
    return Runs(path.parent).open(path.name)


def board_of(path):
    opened = opened_run(path)
    return layout.board(opened, panels(opened.run))


def test_the_board_has_the_three_columns_and_the_performance_row(tmp_path):
    path = write_run(tmp_path / "run.cockpit", steps=60)
    text = as_json(board_of(path))
    for group in ("step size", "gradients", "curvature", "performance"):
        assert f'"children": "{group}"' in text
    for panel in PANELS[1:]:
        assert json.dumps(panel.title) in text
    beside = as_json(layout.vital(opened_run(path), PANELS))  # the verdict
    assert '"Loss"' in beside and '"Loss"' not in text and beside.count("data-panel") == 1


def test_a_panel_nobody_knows_appears_in_its_group(tmp_path):
    own = Panel("My own reading", "curvature", unit="apples", help="Mine.").named("mine")
    run = SyntheticRun(tmp_path / "run.cockpit", panels=(*PANELS, own))
    run.writer.reading("mine", 0, 42.0)
    run.finish()
    columns = board_of(run.path).children[0].children
    assert "My own reading" in words_of(columns[2])
    assert "My own reading" not in words_of(columns[0])
    [change] = live.news(opened_run(run.path), {len(PANELS): Asked(View())}).values()
    assert words_of(change["value"]) == "42 apples"


def test_an_empty_group_says_so(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit", panels=(LOSS,))
    run.finish()
    assert words_of(board_of(run.path)).count("No instrument of this group") == 4  # shown only where there are no cards


def test_an_unavailable_reading_says_why_in_its_panel():
    said = words_of(layout.words(LOSS, Readings(), {"loss": "the loss was never seen"}))
    assert "Not available. loss: the loss was never seen" in said
    assert "No value yet." in words_of(layout.words(LOSS, Readings(), {}))


def test_a_reading_that_some_steps_lack_is_not_called_unavailable():
    known = Readings({"loss": Series(np.array([0, 1]), np.array([0.5, 0.4]))})
    said = words_of(layout.words(LOSS, known, {"loss": "the batch was empty"}))
    assert "Not on every step. loss: the batch was empty" in said
    assert "Not available" not in said


def test_the_newest_value_stands_on_the_card_even_if_it_is_not_finite():
    assert "NaN" in words_of(layout.value(LOSS, readings(loss=[1, math.nan])))
    assert "0.10" in words_of(layout.value(ALPHA, readings(alpha=[0.1])))


@given(st.lists(st.integers(0, 30), min_size=3, max_size=3), st.integers(3, 6))
def test_columns_of_cards_are_shared_so_that_the_tallest_group_is_lowest(counts, total):
    widths = layout.slots(counts, total)
    assert sum(widths) == total and min(widths) >= 1
    tallest = max(-(-count // width) for count, width in zip(counts, widths, strict=True))
    best = min(
        max(-(-counts[0] // a), -(-counts[1] // b), -(-counts[2] // (total - a - b)))
        for a in range(1, total - 1)
        for b in range(1, total - a)
    )
    assert tallest == best


def test_a_description_made_up_by_somebody_breaks_nothing():
    assert words_of(layout.facts({"model": ["x"], "optimizer": {"groups": 3, "class": MARKUP}, "started": "x"}))
    assert layout.facts({}) == []
    assert "Ended" in words_of(layout.standing({"status": 7, "heartbeat": "x"}, False, None)["state"])


# Ticks ------------------------------------------------------------------------------------------------------------


def asked_again(changes, view):
    """Charts as a page asks for them that was told the changes."""
    told = json.loads(as_json({place: change["shown"] for place, change in changes.items()}))
    return {int(place): Asked(view, Shown.from_dict(shown)) for place, shown in told.items()}


def test_a_chart_comes_whole_as_it_is_asked_for_and_then_only_its_new_points(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(60)
    opened = opened_run(run.path)
    view = View(300, smoothing=0.5, scale="linear", axis="time")
    run.writer.clock(0, 0.0)
    run.writer.clock(59, 59.0)
    run.writer.commit()
    begun = live.news(opened, {0: Asked(view), 3: Asked(View())})
    assert isinstance(begun[0]["chart"], go.Figure) and isinstance(begun[3]["gauge"], go.Figure)
    assert "single values" in {trace.name for trace in begun[0]["chart"].data}
    assert "s" in begun[0]["chart"].layout.xaxis.ticktext[1]
    first, third = asked_again(begun, view)[0], asked_again(begun, View())[3]
    assert live.news(opened, {0: first, 3: third}) == {}
    run.write(5)
    changes = live.news(opened, {0: first, 3: third})
    assert isinstance(changes[0]["chart"], Patch) and isinstance(changes[3]["gauge"], Patch)
    assert len(as_json(changes)) < 20_000
    later = {0: asked_again(changes, view)[0], 3: asked_again(changes, View())[3]}
    assert live.news(opened, later) == {}
    assert set(live.news(opened, {1: Asked(View())})) == {1}
    run.finish()


def test_marks_that_come_later_bring_the_axis_they_stand_on():
    before, after = readings(loss=[1.0, 2.0]), readings(loss=[1.0, 2.0, math.nan])
    figure, shown = updates.whole(LOSS, before, View())
    assert {trace.yaxis for trace in figure.data} == {None}
    patch, _ = updates.update(LOSS, after, shown, View())
    assert points_of(applied(patch, figure.to_dict()), "non-finite") == {2: 0.95}


def request_for(key, **more):
    asked = {
        "run": key,
        "page": "overview",
        "board": None,
        "cards": 0,
        "marks": None,
        "charts": {},
        "smoothing": 0,
        "axis": "step",
    }
    return asked | {"layer": {"layer": None, "step": None}} | more


def test_a_page_is_told_which_board_it_lacks_and_then_of_its_cards(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(3)
    runs = Runs(tmp_path)
    first = ticks.answered(runs, Judge(), request_for("run.cockpit"))
    assert "Gradient noise scale" in words_of(first["board"]) and "charts" not in first
    known = {"board": first["identity"], "cards": len(PANELS)}
    again = ticks.answered(runs, Judge(), request_for("run.cockpit", **known, charts={"1": [300, None, None, None]}))
    assert "board" not in again and set(again["charts"]) == {1} and again["more"] == {}
    run.writer.panel(Panel("Validation accuracy", "performance").named("valid_accuracy"))
    run.writer.reading("valid_accuracy", 2, 0.93)
    run.writer.commit()
    more = ticks.answered(runs, Judge(), request_for("run.cockpit", **known))["more"]
    assert list(more) == ["performance"] and "Validation accuracy" in words_of(more["performance"])
    assert again["steps"] == (0, 2)
    elsewhere = ticks.answered(runs, Judge(), request_for("run.cockpit", page="runs"))
    assert set(elsewhere) == {"frame"} and elsewhere["frame"]["step"] == "step 2"
    run.finish()


def test_what_a_page_asks_for_is_checked(tmp_path):
    charts = {"3": [10_000_000, None, None, None], "1": [-5, [1, 2], "log", None]}
    found = live.asked({"charts": charts, "smoothing": 0.5, "axis": "time"})
    assert {place: each.view for place, each in found.items()} == {
        3: View(2000, None, None, 0.5, "time"),
        1: View(50, (1.0, 2.0), "log", 0.5, "time"),
    }
    write_run(tmp_path / "run.cockpit", steps=3)
    client = client_of(create_app(tmp_path))
    for wrong, words in (
        ({"charts": {"__proto__": [1, None, None, None]}}, "invalid literal"),
        ({"charts": {"1": [1, None, "<b>", None]}}, "scale"),
        ({"smoothing": 1.0}, "smoothed"),
        ({"smoothing": float("nan")}, "smoothed"),
        ({"axis": "<b>"}, "labelled"),
    ):
        asked = request_for("run.cockpit", **wrong)
        with pytest.raises(ValueError, match=words):
            live.asked(asked)
        assert client.post("/tick", json=asked).status_code == 400
    for wrong in (None, [], {"run": "run.cockpit"}, request_for("run.cockpit", charts={"1": [1, None, None, {}]})):
        assert client.post("/tick", json=wrong).status_code == 400


# The verdict ------------------------------------------------------------------------------------------------------

TOO_LARGE = Finding(
    "R1",
    "error",
    0.97,
    "The learning rate is too large",
    "The loss rose.",
    (Evidence("loss", tuple(range(40)), tuple(float(value) for value in range(40))),),
    "Divide it by 10.",
)


NOTE = dataclasses.replace(TOO_LARGE, code="R3b", severity="info", title="The learning rate could be larger")
IN_RANGE = dataclasses.replace(NOTE, code="R4", title="Learning rate in range, towards its lower end", suggestion="")


def test_the_verdict_is_the_first_finding():
    said = verdict([TOO_LARGE, dataclasses.replace(TOO_LARGE, title="second")], 2, {})
    assert (said.light, said.sentence, said.remedy) == ("error", TOO_LARGE.title, TOO_LARGE.suggestion)
    assert verdict([], 2, {}).light == verdict([NOTE], 22, {}).light == verdict([IN_RANGE], 22, {}).light == "unknown"
    assert verdict([], None, {}).sentence == "Too early to tell: no step has been recorded yet."
    assert not_judged("why").light == "unknown"


def test_all_is_well_only_where_nothing_stands_but_that_the_learning_rate_is_in_range():
    said = verdict([IN_RANGE], 24, {})
    assert (said.light, said.word, said.icon, said.sentence) == ("good", "All well", "✓", IN_RANGE.title)
    unclear = dataclasses.replace(IN_RANGE, title="No clear verdict on the learning rate")
    for found in ([NOTE], [NOTE, IN_RANGE], [IN_RANGE, NOTE], [unclear, NOTE]):
        said = verdict(found, 24, {})
        told = next(finding for finding in found if finding is not IN_RANGE)
        assert (said.light, said.word, said.icon, said.sentence) == ("info", "Note", "i", told.title)


def test_where_the_learning_rate_was_not_judged_the_page_says_why():
    said = verdict([], 24, {"R4": "alpha_same was not recorded", "R3": "another reason"})
    assert (said.light, said.word, said.icon) == ("quiet", "Nothing found", "○")
    assert said.sentence == "No fault found so far."
    assert said.remedy == "The learning rate was not judged: alpha_same was not recorded."
    assert "not judged" not in verdict([], 2, {"R4": "5 are needed"}).remedy


def test_each_light_has_a_sign_and_a_word_of_its_own():
    assert len(set(ICONS.values())) == len(set(WORDS.values())) == len(ICONS)
    assert set(ICONS) == set(WORDS) == set(RANKS)
    css = (Path(layout.__file__).parent / "assets" / "style.css").read_text()
    assert all(f".verdict.{light}" in css for light in ICONS)
    assert all(f".runs-table .{light}-cell" in css for light in ICONS)


@pytest.mark.parametrize(("severity", "word"), [("error", "Error"), ("warning", "Warning"), ("info", "Note")])
def test_a_finding_is_shown_with_icon_word_confidence_and_evidence(severity, word):
    [shown] = findings([dataclasses.replace(TOO_LARGE, severity=severity)], [], [LOSS])
    said = words_of(shown)
    for expected in (word, "97% sure", "The loss rose.", "Divide it by 10.", "steps 0 to 39 (40 of them)", "30 more"):
        assert expected in said
    assert '"data-shown-by": "0"' in as_json(shown)
    assert severity in shown.className


def test_evidence_links_to_its_chart_with_what_is_to_be_marked_there():
    dead = Panel("Dead units", "gradients", layered=True).named("dead_units")
    joint = Panel("Joint", "gradients", kind="joint").named("grad_hist_2d")
    evidence = (
        Evidence.of("dead_units", (5, 6, 9), (0.97, math.nan, 1.0), "fc1"),
        Evidence.of("loss", range(41), range(41)),
        Evidence.of("grad_hist_2d", (3,), (1.0,)),
        Evidence.of("input_std", (3,), (255.0,)),
    )
    [shown] = findings([dataclasses.replace(TOO_LARGE, evidence=evidence)], [], [LOSS, dead, joint])
    links = [part for part in parts_of(shown) if isinstance(part, html.Button) and part.className == "show"]
    marked = [[getattr(link, f"data-{name}") for name in ("shown-by", "steps", "points")] for link in links]
    assert marked == [["1", "[5, 9]", "[[5, 0.97], [9, 1.0]]"], ["0", "[0, 40]", "[]"], ["2", "[]", "[]"]]
    assert "dead_units of layer fc1" in words_of(links[0]) and "Dead units" in words_of(links[0])
    assert len({getattr(link, "data-evidence") for link in links}) == 3
    assert "input_std at step 3" in " ".join(words_of(shown).split())  # it has no chart: its values stand there
    assert "255" in words_of(shown)
    [way] = [part for part in parts_of(shown) if isinstance(part, html.Button) and part.className == "to-layer"]
    where = [getattr(way, f"data-{name}") for name in ("to-layer", "quantity", "step")]
    assert where == ["fc1", "dead_units", "5"] and " ".join(words_of(way).split()) == "Show layer fc1"


def test_findings_that_have_cleared_are_folded_away():
    gone = dataclasses.replace(TOO_LARGE, since=3, until=9)
    first, past = findings([], [gone, dataclasses.replace(gone, since=20, until=30)], [LOSS])
    assert "None now" in words_of(first)
    assert isinstance(past, html.Details) and not getattr(past, "open", False)
    assert "2 earlier findings" in words_of(past.children[0])
    assert "From step 3; cleared by step 9." in words_of(past)
    standing, past = findings([TOO_LARGE], [gone], [LOSS])
    keys = [getattr(part, "data-key") for part in parts_of([standing, past]) if isinstance(part, html.Details)]
    assert len(set(keys)) == len(keys) == 3


def test_a_judge_looks_back_until_it_has_seen_all(tmp_path, monkeypatch):
    monkeypatch.setattr("cockpitlite.dashboard.verdict.LOOKING_BACK", 0.0)
    lengths = {
        "same": lambda step: -0.999 if step < 700 else -0.2,
        "after": lambda step: -0.999 if step < 700 else -0.2,
    }
    path = MadeRun(steps=2700, noise=0.0, **lengths).write(tmp_path / "run.cockpit")
    opened, judge = Runs(tmp_path).open("run.cockpit"), Judge()
    judge.findings(opened)
    seen = [judge.cleared(opened) for _ in range(40)]
    assert seen[0] == []
    assert seen[-1] == seen[-2] == cockpitlite.diagnose(path, history=True)[len(judge.findings(opened)) :] != []


def test_a_run_is_judged_again_only_when_it_has_grown(tmp_path, monkeypatch):
    calls = []
    judgement = Judgement([TOO_LARGE], {"R4": "why"})
    monkeypatch.setattr(engine, "judged", lambda run: calls.append(run) or judgement)
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(2)
    runs, judge = Runs(tmp_path), Judge()
    assert judge.findings(runs.open("run.cockpit")) == [TOO_LARGE]
    judge.findings(runs.open("run.cockpit"))
    assert len(calls) == 1 and judge.unjudged(runs.open("run.cockpit")) == {"R4": "why"}
    run.write(1)
    judge.findings(runs.open("run.cockpit"))
    assert len(calls) == 2
    run.finish()


def test_a_rule_that_fails_is_told_and_not_hidden(tmp_path, monkeypatch):
    def fail(run: Run) -> list[Finding]:
        raise ZeroDivisionError("in rule R9")

    monkeypatch.setattr(engine, "judged", fail)
    write_run(tmp_path / "run.cockpit", steps=2)
    with pytest.raises(DiagnosisError, match="ZeroDivisionError: in rule R9"):
        Judge().findings(Runs(tmp_path).open("run.cockpit"))


@pytest.mark.parametrize("kind", ["small", "good", "large", "nonfinite"])
def test_the_findings_of_a_run_can_be_shown(kind, tmp_path):
    write_run(tmp_path / "run.cockpit", kind, steps=NONFINITE_STEP + 30)
    opened = Runs(tmp_path).open("run.cockpit")
    judge = Judge()
    found = judge.findings(opened)
    assert verdict(found, opened.run.last_step, judge.unjudged(opened)).sentence
    assert "<" not in words_of(findings(found, judge.cleared(opened), panels(opened.run)))


def judgement_of(client, key, before=None):
    """Ask for the verdict on a run as a page does that was told ``before``; return what changes on it."""
    outputs = {"verdict": "children", "findings": "children", "title": "data-title", "judged": "data", "blamed": "data"}
    inputs = [{"id": "look", "property": "data", "value": 1}, {"id": "picker", "property": "value", "value": key}]
    body = {
        "output": f"..{'...'.join(f'{name}.{prop}' for name, prop in outputs.items())}..",
        "outputs": [{"id": name, "property": prop} for name, prop in outputs.items()],
        "inputs": inputs,
        "state": [{"id": "judged", "property": "data", "value": before}],
        "changedPropIds": ["look.data"],
    }
    answer = client.post("/_dash-update-component", json=body)
    assert answer.status_code in (200, 204)
    return {name: said[outputs[name]] for name, said in answer.get_json()["response"].items()} if answer.data else {}


def cut_off(path):
    path.write_bytes(path.read_bytes()[:3000])


def overwritten(path):
    path.write_bytes(b"no run file" * 1000)


@pytest.mark.parametrize("damage", [cut_off, overwritten, Path.unlink])
def test_a_run_that_cannot_be_read_any_more_keeps_its_findings_but_no_green_light(damage, tmp_path):
    path = write_run(tmp_path / "run.cockpit", steps=300)
    whole = path.read_bytes()
    client = client_of(create_app(tmp_path))
    first = judgement_of(client, "run.cockpit")
    assert "verdict good" in json.dumps(first["verdict"]) and first["title"].startswith("✓")
    damage(path)
    then = judgement_of(client, "run.cockpit", first["judged"])
    assert set(then) == {"verdict", "title", "judged"}  # the findings and the layers they name are left as they are
    words = json.dumps(then["verdict"], ensure_ascii=False)
    assert "verdict unknown" in words and "No verdict" in words and "can no longer be read" in words
    assert then["title"].startswith("…") and "No fault" not in then["title"]
    assert judgement_of(client, "run.cockpit", then["judged"]) == {}
    afresh = judgement_of(client, "run.cockpit")
    assert afresh["findings"] == [] and "cannot be judged" in json.dumps(afresh["verdict"])
    assert judgement_of(client, "run.cockpit", afresh["judged"]) == {}
    path.write_bytes(whole)
    again = judgement_of(client, "run.cockpit", then["judged"])
    assert "verdict good" in json.dumps(again["verdict"]) and again["findings"] == first["findings"]


def test_what_is_said_of_an_unreadable_run_is_true_of_what_the_page_shows(tmp_path):
    for name in ("run", "other"):
        write_run(tmp_path / f"{name}.cockpit", steps=30)
    client = client_of(create_app(tmp_path))
    boards = {name: ask(client, f"{name}.cockpit").get_json()["identity"] for name in ("run", "other")}
    overwritten(tmp_path / "run.cockpit")

    def told(**more):
        return client.post("/tick", json=request_for("run.cockpit", **more)).get_json()

    shown = told(board=boards["run"])
    assert "The page shows what it had read" in shown["frame"]["notice"]
    assert set(shown) == {"frame"} and "step" not in shown["frame"]
    opened_later = told()
    assert "shows" not in opened_later["frame"]["notice"] and set(opened_later) == {"frame"}
    from_another = told(board=boards["other"])
    assert "shows" not in from_another["frame"]["notice"]
    assert (from_another["board"], from_another["vital"]) == ([], [])
    assert (from_another["frame"]["step"], from_another["frame"]["facts"]) == (None, [])


# The app ----------------------------------------------------------------------------------------------------------


def client_of(app):
    return app.server.test_client()


def ask(client, key):
    """Ask what a page lacks that shows nothing yet."""
    answer = client.post("/tick", json=request_for(key))
    assert answer.status_code == 200
    return answer


def test_the_app_serves_its_page_and_draws_a_run(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=30)
    client = client_of(create_app(tmp_path))
    assert client.get("/").status_code == 200
    assert b"run.cockpit" in client.get("/_dash-layout").data
    assert "Gradient noise scale" in ask(client, "run.cockpit").get_data(as_text=True)


@pytest.mark.parametrize("key", ["../secret.cockpit", "/etc/passwd", 7, ["run.cockpit"], {"a": 1}])
def test_the_page_opens_no_path_that_is_not_offered(key, tmp_path):
    write_run(tmp_path / "runs" / "run.cockpit", steps=3)
    write_run(tmp_path / "secret.cockpit", steps=3)
    answer = ask(client_of(create_app(tmp_path / "runs")), key)
    assert set(answer.get_json()) == {"frame"} and "cannot be read" in answer.get_json()["frame"]["notice"]


def test_a_waiting_app_needs_no_folder(tmp_path):
    client = client_of(create_app(tmp_path / "later", wait=True))
    assert "Waiting for the first run" in ask(client, None).get_data(as_text=True)
    write_run(tmp_path / "later" / "run.cockpit", steps=3)
    assert "Gradient noise scale" in ask(client, "run.cockpit").get_data(as_text=True)


def test_everything_the_page_loads_is_local(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=3)
    page = client_of(create_app(tmp_path)).get("/").get_data(as_text=True)
    loaded = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]
    assert loaded and all(address.startswith("/") for address in loaded)
    client = client_of(create_app(tmp_path))
    for address in loaded:
        with client.get(address) as answer:
            assert answer.status_code == 200


def test_the_page_may_run_no_script_but_its_own(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=3)
    policy = client_of(create_app(tmp_path)).get("/").headers["Content-Security-Policy"]
    scripts = next(rule for rule in policy.split("; ") if rule.startswith("script-src"))
    assert "unsafe" not in scripts and "http" not in scripts


# Access -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:8050", "127.0.0.1", "[::1]:8050", "localhost"])
def test_this_machine_is_served_under_its_own_names(host, tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    assert client_of(create_app(tmp_path)).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example:8050", "localhost.evil"])
def test_a_foreign_name_is_refused(host, tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    answer = client_of(create_app(tmp_path)).get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert client_of(create_app(tmp_path)).post("/_dash-update-component", headers={"Host": host}).status_code == 403


def test_elsewhere_the_page_demands_its_token(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    client = client_of(create_app(tmp_path, host="0.0.0.0", token="right"))
    assert client.get("/", headers={"Host": "192.168.1.7:8050"}).status_code == 403
    assert client.get("/?token=wrong").status_code == 403
    assert client.get("/_dash-layout").status_code == 403
    answer = client.get("/?token=right")
    assert answer.status_code == 302 and "token" not in answer.headers["Location"]
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("prefix", ["/panel/", "panel", "/panel", "panel/"])
@pytest.mark.parametrize("asked", ["/", "/panel/"])
def test_below_a_prefix_everything_is_found_whether_a_proxy_takes_it_off_or_not(prefix, asked, tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    client = client_of(create_app(tmp_path, prefix=prefix))
    page = client.get(asked).get_data(as_text=True)
    loaded = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]
    assert loaded and all(address.startswith("/panel/") for address in loaded)
    for address in loaded:
        with client.get(address) as whole, client.get(address.removeprefix("/panel")) as stripped:
            assert (whole.status_code, whole.data) == (200, stripped.data)
    answer = client.get("/panel")
    assert answer.status_code == 302 and answer.headers["Location"].endswith("/panel/")


@pytest.mark.parametrize("prefix", ["http://proxy/panel/", "/a b/", "/panel?x", "/a//b"])
def test_a_prefix_that_is_no_path_is_refused(prefix, tmp_path):
    with pytest.raises(ValueError, match="a prefix is a path such as /panel/, not"):
        create_app(tmp_path, wait=True, prefix=prefix)


def test_with_its_token_the_page_is_reached_by_any_name_and_only_below_its_prefix(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    client = client_of(create_app(tmp_path, token="right", prefix="/hub/"))
    name = {"base_url": "http://hub.example"}
    assert client.get("/hub/", **name).status_code == 403
    answer = client.get("/hub/?token=right", **name)
    assert answer.status_code == 302 and "Path=/hub/" in answer.headers["Set-Cookie"]
    assert client.get("/hub/", **name).status_code == 200


def test_tokens_differ_and_are_long():
    assert access.new_token() != access.new_token()
    assert len(access.new_token()) >= 30


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback_is_told_from_the_rest(host, loopback):
    assert access.is_loopback(host) is loopback


# The server -------------------------------------------------------------------------------------------------------


def test_serve_prints_one_line_takes_the_next_free_port_and_ends_quietly(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    with page_server(tmp_path, port=18_650) as first, page_server(tmp_path, port=first.port) as second:
        assert second.port > first.port
        assert first.end() == (0, "", "")
        assert second.end() == (0, "", "")


def test_serve_elsewhere_prints_its_token(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=2)
    with page_server(tmp_path, host="0.0.0.0", port=18_750) as server:
        assert "/?token=" in server.line
        assert server.end()[0] == 0


def test_serve_refuses_a_folder_without_runs(tmp_path):
    with page_server(tmp_path) as server:
        status, _, errors = server.end()
    assert (server.line, status) == ("", 1)
    assert "holds no run file" in errors.splitlines()[-1]


def test_the_page_and_every_figure_are_built_without_torch(tmp_path):
    path = write_run(tmp_path / "run.cockpit", steps=60)
    script = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from cockpitlite.dashboard import create_app, figures, gauge
from cockpitlite.dashboard.runs import Runs, panels
path = Path(sys.argv[1])
create_app(path)
opened = Runs(path).open(path.name)
drawn = panels(opened.run)
for panel, read in zip(drawn, opened.reader.read(drawn), strict=True):
    figures.figure(panel, read)
    if panel.kind == "parabola":
        gauge.figure(panel, read)
print(len(drawn))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(len(PANELS))), done.stderr


def test_the_figures_are_plotly_figures():
    assert isinstance(figures.figure(LOSS, readings(loss=[1])), go.Figure)
    assert isinstance(gauge.figure(ALPHA, readings(alpha=[1])), go.Figure)


def test_the_live_state_is_told_by_a_word(tmp_path):
    meta = {"status": "running", "heartbeat": time.time()}
    assert words_of(layout.standing(meta, True, 12)["state"]).strip().endswith("Live")
    assert layout.standing(meta, True, 1234)["step"] == "step 1,234"
    assert words_of(layout.standing({"status": "finished"}, False, 3)["state"]).strip().endswith("Finished")
