import math
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import FULL_PANELS, HISTOGRAM, JOINT, NONFINITE_STEP, SyntheticRun, write_run

from cockpitlite.compare import glance
from cockpitlite.diagnosis.light import WORDS
from cockpitlite.panel import Panel
from cockpitlite.plots import plot
from cockpitlite.reduction import in_bursts, nonfinite_steps, reduce_min_max, smooth
from cockpitlite.store import Histogram, RunWriter, load

# Reduction


def series(values):
    return np.arange(len(values), dtype=np.int64), np.asarray(values, dtype=np.float64)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(width=32)), max_size=300, unique_by=lambda point: point[0]),
    st.integers(1, 20),
)
def test_each_column_keeps_its_first_last_lowest_and_highest_value(points, columns):
    points.sort(key=lambda point: point[0])
    steps = np.array([step for step, _ in points], dtype=np.int64)
    values = np.array([value for _, value in points], dtype=np.float64)
    kept_steps, kept = reduce_min_max(steps, values, columns)
    finite = np.isfinite(values)
    assert len(kept) <= max(4 * columns, 0) and np.isfinite(kept).all()
    assert (np.diff(kept_steps) > 0).all()
    assert np.array_equal(kept, values[np.isin(steps, kept_steps)])
    if not finite.any():
        assert len(kept) == 0
        return
    steps, values = steps[finite], values[finite]
    edges = np.linspace(steps[0], steps[-1], columns + 1)
    for left, right, last in zip(edges[:-1], edges[1:], [False] * (columns - 1) + [True], strict=True):
        inside = (steps >= left) & ((steps < right) | last)
        chosen = (kept_steps >= left) & ((kept_steps < right) | last)
        if inside.any():
            assert {values[inside].min(), values[inside].max()} <= set(kept[chosen])
            assert {values[inside][0], values[inside][-1]} <= set(kept[chosen])


def test_one_spike_in_a_million_steps_survives():
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[777_777], values[123_456] = 50.0, -40.0
    steps, kept = reduce_min_max(*series(values), 400)
    assert len(kept) <= 1600
    assert {777_777, 123_456, 0, 999_999} <= set(steps.tolist())
    assert (kept.max(), kept.min()) == (50.0, -40.0)


def test_a_reduction_to_no_column_is_refused():
    with pytest.raises(ValueError, match="at least one column; got 0"):
        reduce_min_max(*series([1.0]), 0)


def test_nonfinite_steps_are_named():
    assert nonfinite_steps(*series([1, math.nan, 2, math.inf, -math.inf])).tolist() == [1, 3, 4]


def test_a_smoothed_line_is_the_line_up_to_its_ends():
    steps, values = series(np.linspace(3.0, -5.0, 1000))
    at, mean = smooth(steps, values)
    assert len(at) == 400
    assert np.allclose(mean, np.interp(at, steps, values), atol=0.02)


def test_smoothing_takes_out_noise():
    steps, noise = series(np.random.default_rng(0).normal(size=2000))
    _, mean = smooth(steps, noise)
    assert np.std(mean) < 0.25 and abs(np.mean(mean)) < 0.1


def test_a_huge_spike_leaves_no_trace_outside_its_surroundings():
    steps, values = series(np.ones(1000))
    values[100] = 1e30
    at, mean = smooth(steps, values)
    far = np.abs(at - 100) > 65
    assert np.allclose(mean[far], 1.0) and mean.max() > 1e25


def test_a_ratio_is_the_ratio_of_the_smoothed_parts():
    rng = np.random.default_rng(1)
    steps, trace = series(8 + rng.normal(size=1000))
    signal = 2 + 3 * rng.normal(size=1000)  # often near zero or below: the ratio of single steps is useless
    _, ratio = smooth(steps, trace, signal, width=0.1)
    middle = ratio[100:300]
    assert np.median(middle) == pytest.approx(4.0, rel=0.2)
    assert np.ptp(trace / signal) > 50 * np.ptp(middle)


def test_smoothing_of_nothing_finite_is_nothing():
    at, mean = smooth(*series([math.nan, math.inf]))
    assert len(at) == len(mean) == 0


def test_smoothing_of_one_value_is_that_value():
    at, mean = smooth(np.array([7]), np.array([2.5]))
    assert (at.tolist(), mean.tolist()) == ([7], [2.5])


def test_bursts_are_told_from_any_even_schedule():
    burst = np.concatenate([np.arange(0, 50, 5), np.arange(500, 510), np.arange(1000, 1010)])
    assert in_bursts(burst)
    assert not in_bursts(np.arange(0, 5000, 16))
    assert not in_bursts(np.array([3]))


# The page


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def axes_under(figure, title):
    """The axes whose title begins so: a gauge and a curve for a step length."""
    return [axes for axes in figure.axes if any(text.get_text().startswith(title) for text in axes.texts)]


def curves(axes):
    """The drawn lines that have data along the steps."""
    return [line for line in axes.lines if len(line.get_xdata()) and line.get_transform() == axes.transData]


def signs(axes, marker):
    return [x for line in axes.lines if line.get_marker() == marker for x in line.get_xdata()]


def write(path, panels, readings, events=(), layers=()):
    writer = RunWriter(path)
    for panel in panels:
        writer.panel(panel)
    for name, values in readings.items():
        writer.readings(name, enumerate(values))
    for event in events:
        writer.event(*event)
    for name, names, values in layers:
        for step, row in enumerate(values):
            writer.layers(name, step, names, np.asarray(row, dtype=np.float64))
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["small", "good", "large", "nonfinite"])
def test_the_page_has_every_heading_every_panel_and_the_verdict(tmp_path, kind):
    run = load(write_run(tmp_path / "digits.cockpit", kind, 120))
    figure = plot(run)
    words = texts(figure)
    for heading in ("STEP SIZE", "GRADIENTS", "CURVATURE", "PERFORMANCE", "digits"):
        assert heading in words
    for panel in run.panels():
        assert any(text.startswith(panel.title) for text in words), panel.title
    assert any(text.startswith(glance(run).verdict) for text in words)
    assert any(text.endswith(f" {WORDS[glance(run).light].upper()}") for text in words)
    described = next(text for text in words if text.startswith("DigitsCNN"))
    assert "21,840 parameters" in described and "SGD (lr " in described and described.endswith("cpu")
    assert any(text.startswith("120 steps, finished, started 20") for text in words)


def test_the_gauge_names_its_zones_and_lays_the_newest_values_on_the_parabola(tmp_path):
    values = np.concatenate([np.full(180, -0.8), np.full(20, 0.25)])
    panel = Panel("Alpha", "step size", kind="parabola", healthy=(-0.9, 0.5)).named("alpha")
    figure = plot(write(tmp_path / "a.cockpit", [panel], {"alpha": values}))
    gauge, curve = axes_under(figure, "Alpha")
    words = {text.get_text() for text in gauge.texts}
    assert {"too small", "good", "too large", "median −0.80", "newest +0.25"} <= words
    balls = {
        (round(float(line.get_xdata()[0]), 4), round(float(line.get_ydata()[0]), 4))
        for line in gauge.lines
        if line.get_marker() == "o"
    }
    assert balls == {(-0.8, 0.64), (0.25, 0.0625)}
    assert curves(curve)


def test_the_gauge_counts_what_is_beyond_its_rim(tmp_path):
    values = np.concatenate([np.full(50, -0.1), [1e9, 7.0, -30.0]])
    panel = Panel("Alpha", "step size", kind="parabola").named("alpha")
    gauge, _ = axes_under(plot(write(tmp_path / "a.cockpit", [panel], {"alpha": values})), "Alpha")
    words = {text.get_text() for text in gauge.texts}
    assert {"◂ 1 beyond", "2 beyond ▸", "too small", "too large"} <= words
    assert "good" not in words  # the panel does not say what is


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_every_extreme_and_every_nonfinite_step_is_drawn(tmp_path, scale):
    values = np.exp(np.random.default_rng(0).normal(size=20_000))
    values[[4_321, 9_876]] = 1e6, 1e-7
    values[[5_000, 15_000]] = math.nan, math.inf
    panel = Panel("Reading", "gradients", scale=scale).named("reading")
    (axes,) = axes_under(plot(write(tmp_path / "a.cockpit", [panel], {"reading": values})), "Reading")
    drawn = {(int(x), float(y)) for line in curves(axes) for x, y in zip(*line.get_data(), strict=True)}
    assert {(4_321, 1e6), (9_876, 1e-7)} <= drawn
    assert sum(len(line.get_xdata()) for line in axes.lines) < 4_000
    assert signs(axes, "x") == [5_000, 15_000]
    low, high = axes.get_ylim()
    assert low <= 1e-7 and high >= 1e6


def test_zeros_and_negatives_on_a_log_axis_are_signs_below(tmp_path):
    values = np.full(100, 3.0)
    values[[10, 20, 30]] = 0.0, -5.0, 4.0
    panel = Panel("Reading", "gradients", scale="log").named("reading")
    (axes,) = axes_under(plot(write(tmp_path / "a.cockpit", [panel], {"reading": values})), "Reading")
    assert axes.get_yscale() == "log"
    assert signs(axes, "v") == [10, 20]
    assert all((line.get_ydata() > 0).all() for line in curves(axes))


def test_a_log_axis_without_any_positive_value_is_linear(tmp_path):
    panel = Panel("Reading", "gradients", scale="log").named("reading")
    (axes,) = axes_under(plot(write(tmp_path / "a.cockpit", [panel], {"reading": [-1.0, -2.0]})), "Reading")
    assert axes.get_yscale() == "linear"
    assert curves(axes)[0].get_ydata().tolist() == [-1.0, -2.0]


@pytest.mark.parametrize("largest", [sys.float_info.max, 1e30, 1.0, 0.0])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_largest_numbers_can_be_drawn(tmp_path, largest, scale):
    panel = Panel("Reading", "performance", scale=scale).named("reading")
    values = [1.0, 2.0, largest, -largest, 5e-324] * 10
    path = write(tmp_path / "a.cockpit", [panel], {"reading": values})
    (axes,) = axes_under(plot(path, tmp_path / "a.png"), "Reading")
    assert all(math.isfinite(limit) for limit in axes.get_ylim())


def test_a_ratio_is_smoothed_as_the_ratio_of_its_parts(tmp_path):
    rng = np.random.default_rng(0)
    trace, signal = 8 + rng.normal(size=500), 2 + 3 * rng.normal(size=500)
    panel = Panel("Noise", "gradients", scale="log", ratio=("trace", "signal")).named("noise")
    readings = {"noise": trace / signal, "trace": trace, "signal": signal}
    (axes,) = axes_under(plot(write(tmp_path / "a.cockpit", [panel], readings)), "Noise")
    smoothed = max(curves(axes), key=lambda line: line.get_linewidth())
    at, ratio = smooth(*series(trace), signal)
    assert np.array_equal(smoothed.get_xdata(), at[ratio > 0])
    assert np.array_equal(smoothed.get_ydata(), ratio[ratio > 0])


def test_healthy_range_marks_and_changed_settings_are_drawn(tmp_path):
    panel = Panel("Reading", "curvature", healthy=(0.2, None), marks=((0.5, "half $way_up$"), (1e9, "far"))).named("r")
    events = [(40, "settings", {"group": 0, "name": "momentum", "old": 0.9, "new": 0.8})]
    path = write(tmp_path / "a.cockpit", [panel], {"r": np.random.default_rng(0).random(100)}, events)
    (axes,) = axes_under(plot(path), "Reading")
    (healthy,) = axes.patches
    assert healthy.get_y() == 0.2 and healthy.get_y() + healthy.get_height() == axes.get_ylim()[1]
    assert "half $way_up$" in {text.get_text() for text in axes.texts}
    assert axes.get_ylim()[1] < 2  # the far mark does not flatten the curve
    assert any(set(line.get_xdata()) == {40} for line in axes.lines)


def test_layers_are_thin_lines_below_the_total(tmp_path):
    values = np.random.default_rng(0).random((200, 5)) + 1
    panel = Panel("Norm", "gradients", layered=True).named("norm")
    layers = [("norm", list("abcde"), values)]
    path = write(tmp_path / "a.cockpit", [panel], {"norm": np.linalg.norm(values, axis=1)}, layers=layers)
    (axes,) = axes_under(plot(path), "Norm")
    (bundle,) = axes.collections
    assert [segment[:, 1].max() for segment in bundle.get_segments()] == values.max(axis=0).tolist()
    assert any(text.get_text().startswith("5 layers, last ") for text in axes.texts)


def test_histograms_are_a_heat_map_over_the_steps(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.panel(HISTOGRAM)
    edges = np.array([-1.0, 0.0, 1.0])
    for step, counts in enumerate(([1, 3], [2, 2], [0, 8])):
        writer.histogram("grad_hist_1d", step, Histogram(np.array(counts), (edges,)))
    writer.reading("loss", 2, 1.0)
    writer.close()
    (axes,) = axes_under(plot(writer.path, tmp_path / "a.pdf"), "Gradient elements")
    (mesh,) = axes.collections
    shares = mesh.get_array()
    assert shares.filled(-1).tolist() == [[0.25, 0.5, -1], [0.75, 0.5, 1.0]]
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert corners[:, 0, 1].tolist() == axes.get_yticks().tolist() == [0, 1, 2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["−1", "0", "1"]
    assert "last 99 % ≤ 1" in {text.get_text() for text in axes.texts}
    assert axes.get_xlabel() == "step"


def test_a_joint_histogram_is_the_heat_map_of_its_newest_step(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.panel(JOINT)
    edges = (np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    writer.histogram("grad_hist_2d", 3, Histogram(np.ones((2, 3), dtype=np.int64), edges))
    writer.histogram("grad_hist_2d", 1_200, Histogram(np.array([[0, 1, 0], [0, 0, 3]]), edges))
    writer.close()
    (axes,) = axes_under(plot(writer.path, tmp_path / "a.png"), "Gradient elements")
    (mesh,) = axes.collections
    assert mesh.get_array().filled(-1).tolist() == [[-1, 0.25, -1], [-1, -1, 0.75]]
    words = {text.get_text() for text in axes.texts}
    assert {"step 1,200", "up: gradient element, right: parameter"} <= words
    assert axes.get_xlabel() == ""


@pytest.mark.parametrize("panel", [HISTOGRAM, JOINT])
def test_a_heat_map_of_nothing_says_so(tmp_path, panel):
    unavailable = [(0, "unavailable", {"reading": panel.name, "reason": "no model was given"})]
    flat = Histogram(np.array([1, 2]), (np.array([0.0, math.inf, math.nan]),))
    for name, events, values, words in (
        ("none", [], {}, "no value in this run"),
        ("reason", unavailable, {}, "unavailable: no model was given"),
        ("odd", [], {panel.name: [1.0]}, "no histogram to draw"),
    ):
        path = write(tmp_path / f"{name}.cockpit", [panel], values, events)
        writer = RunWriter(path, resume=True)
        if name == "odd":
            writer.histogram(panel.name, 0, flat)
        writer.close()
        (axes,) = axes_under(plot(path), panel.title[:8])
        assert words in {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("kind", ["good", "nonfinite"])
def test_a_page_of_the_full_preset_has_every_panel_and_stays_small(tmp_path, kind):
    path = write_run(tmp_path / "a.cockpit", kind, NONFINITE_STEP + 120, full=True)
    figure = plot(path, tmp_path / "a.pdf")
    for panel in FULL_PANELS:
        assert axes_under(figure, panel.title[:8]), panel.title
    width, height = figure.get_size_inches()
    assert 0.6 < height / width < 1.2
    assert (tmp_path / "a.pdf").stat().st_size < 1_000_000
    assert any(text.startswith("share of the values in a bin") for text in texts(figure))


def test_steps_that_nobody_measured_are_not_bridged_by_a_line(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.panel(Panel("Bursts", "curvature").named("bursts"))
    writer.panel(Panel("Even", "curvature").named("even"))
    writer.readings("bursts", ((step, float(step)) for step in (0, 1, 2, 500, 501, 502)))
    writer.readings("even", ((step, float(step)) for step in range(0, 502, 50)))
    writer.close()
    figure = plot(writer.path)
    for title, style in (("Bursts", "None"), ("Even", "-")):
        (axes,) = axes_under(figure, title)
        assert [line.get_linestyle() for line in curves(axes)] == [style]


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (5, (5, 1)), (6, (3, 2)), (9, (9, 1)), (12, (6, 2))])
def test_a_group_of_many_panels_gets_a_second_column(tmp_path, count, shape):
    panels = [Panel(f"Panel {number:02}", "gradients").named(f"r{number}") for number in range(count)]
    others = [Panel(f"Alpha {number}", "step size", kind="parabola").named(f"a{number}") for number in range(9)]
    figure = plot(write(tmp_path / "a.cockpit", panels + (others if count == 9 else []), {}))
    corners = [axes_under(figure, panel.title)[0].get_position() for panel in panels]
    rows, columns = {round(box.y0, 6) for box in corners}, {round(box.x0, 6) for box in corners}
    assert (len(rows), len(columns)) == shape


def test_an_unavailable_reading_has_its_reason_in_its_place(tmp_path):
    panels = [Panel("Gone", "curvature").named("gone"), Panel("Part", "curvature").named("part")]
    events = [
        (0, "unavailable", {"reading": "gone", "reason": "no model was given"}),
        (5, "unavailable", {"reading": "part", "reason": "the batch had one sample"}),
    ]
    figure = plot(write(tmp_path / "a.cockpit", panels, {"part": [1.0, 2.0]}, events))
    (gone,), (part,) = axes_under(figure, "Gone"), axes_under(figure, "Part")
    assert "unavailable: no model was given" in {text.get_text() for text in gone.texts}
    assert "in part unavailable: the batch had one sample" in {text.get_text() for text in part.texts}
    assert curves(part) and not curves(gone)


def test_an_empty_run_and_one_without_values_are_pages_too(tmp_path):
    words = texts(plot(write(tmp_path / "empty.cockpit", [], {}), tmp_path / "empty.pdf"))
    assert words.count("no instrument of this group in this run") == 4
    words = texts(plot(write(tmp_path / "early.cockpit", [Panel("Loss", "performance").named("loss")], {})))
    assert "no value in this run" in words
    run = write(tmp_path / "nan.cockpit", [Panel("Loss", "performance").named("loss")], {"loss": [math.nan] * 3})
    assert "every value is NaN or infinite" in texts(plot(run))


ODD = r"cost in $ of a_b^2 <i>&\alpha{x} $$ \frac{ 重み --"


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".SVG"])
def test_a_users_own_panel_with_any_name_is_drawn_as_it_is(tmp_path, suffix):
    panel = Panel(ODD, "gradients", unit=ODD, layered=True, readings=(ODD, "_$other$"), marks=((0.5, ODD),))
    writer = RunWriter(tmp_path / f"{ODD[:30].replace('/', '')}.cockpit")
    writer.panel(panel.named(ODD))
    writer.panel(Panel("Gone", "curvature").named("gone"))
    writer.event(0, "unavailable", {"reading": "gone", "reason": ODD})
    writer.event(1, "unavailable", {"reading": ODD, "reason": ODD})
    writer.meta(model={"class": ODD}, optimizer={"class": ODD, "groups": [{ODD: ODD, "lr": 0.1}]}, device="\x1b[31m")
    for step in range(40):
        writer.reading(ODD, step, step / 40)
        writer.reading("_$other$", step, 0.3)
        writer.layers(ODD, step, [f"{ODD} {layer}" for layer in range(3)], np.array([0.1, 0.2, 0.3]))
    writer.close()
    out = tmp_path / f"page{suffix}"
    words = texts(plot(writer.path, out))
    assert any(text.startswith("cost in $ of a_b^2") for text in words)
    assert "_$other$" in words
    assert not any("\x1b" in text for text in words)
    if suffix.lower() == ".svg":
        ET.parse(out)  # a stranger's names do not break out of their place


def test_a_pdf_embeds_its_fonts_as_truetype_and_stays_small(tmp_path):
    plot(write_run(tmp_path / "a.cockpit", "good", 3000), tmp_path / "a.pdf")
    page = (tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in page and b"/FontFile2" in page
    assert len(page) < 1_000_000


def test_settings_of_matplotlib_are_as_they_were(tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 30)
    before = dict(matplotlib.rcParams)
    plot(path, tmp_path / "a.pdf")
    assert dict(matplotlib.rcParams) == before


def test_pages_drawn_in_threads_are_the_pages_drawn_alone(tmp_path):
    paths = [write_run(tmp_path / f"{kind}.cockpit", kind, 60) for kind in ("small", "good", "large")]
    for path in paths:
        plot(path, path.with_suffix(".png"))
    threads = [threading.Thread(target=plot, args=(path, path.with_suffix(".again.png"))) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in paths:
        assert path.with_suffix(".again.png").read_bytes() == path.with_suffix(".png").read_bytes()


def test_a_live_run_is_drawn_while_it_grows(tmp_path):
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(1)
    assert any(text.startswith("1 steps, live") for text in texts(plot(run.path)))
    run.write(60)
    assert any(text.startswith("61 steps, live") for text in texts(plot(run.path)))
    run.finish()


@pytest.mark.parametrize("name", ["page.jpg", "page", "page.cockpit"])
def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path, name):
    with pytest.raises(ValueError, match=r"saved as \.png, \.pdf, \.svg, but .*page.* has "):
        plot(tmp_path / "missing.cockpit", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_page_is_drawn_without_torch_and_without_pyplot(tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 30)
    program = (
        "import sys; sys.modules['torch'] = None; import cockpitlite\n"
        f"cockpitlite.plot({str(path)!r}, {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules; print('drawn')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("drawn\n", "")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_no_text_of_the_page_runs_over_its_edge(tmp_path):
    path = write_run(tmp_path / f"{'a-very-long-name-' * 12}.cockpit", "good", 60)
    figure = plot(path)
    figure.canvas.draw()  # lays out the labels of the axes
    width, height = figure.bbox.width, figure.bbox.height
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text() and text.get_visible() and not re.fullmatch(r"[\d.−]*", text.get_text()):
            box = text.get_window_extent()
            assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text.get_text()


def test_the_folder_of_a_page_must_exist(tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 30)
    with pytest.raises(OSError, match="No such file or directory"):
        plot(path, tmp_path / "nowhere" / "a.png")


def test_a_page_written_over_another_replaces_it(tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 30)
    Path(tmp_path / "a.png").write_text("old")
    plot(path, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_gauge_shows_the_learning_rate_to_try(tmp_path):
    figure = plot(write_run(tmp_path / "small.cockpit", "small", steps=60))
    gauge = next(axes for axes in axes_under(figure, "α on the step's own batch") if axes.patches or axes.lines)
    words = {text.get_text() for text in gauge.texts}
    assert "try 0.0001" in words
    rings = [line for line in gauge.lines if line.get_markerfacecolor() == "none"]
    assert len(rings) == 1 and -1 < rings[0].get_xdata()[0] < -0.5


def test_jumps_of_the_learning_rate_are_marked_and_counted(tmp_path):
    panel = Panel("Reading", "gradients").named("reading")
    rate = 0.1 * 0.5 ** (np.arange(100) // 30)
    path = write(
        tmp_path / "a.cockpit", [panel], {"reading": np.random.default_rng(0).random(100), "learning_rate": rate}
    )
    figure = plot(path)
    (axes,) = axes_under(figure, "Reading")
    assert {30, 60, 90} <= {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata())}
    legends = [text.get_text() for each in figure.axes if each.get_legend() for text in each.get_legend().get_texts()]
    assert "learning rate jumped ×3" in legends
