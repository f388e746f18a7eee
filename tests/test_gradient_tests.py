"""The gauge of the gradient tests, on the page and in the plots."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from dash import Patch
from synthetic_runs import SyntheticRun

import cockpitlite
from cockpitlite import noise
from cockpitlite.dashboard import comparison, figures, gauges, layout, live
from cockpitlite.dashboard import noise as gauge
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.readings import Readings, Series
from cockpitlite.dashboard.runs import Runs, panels
from cockpitlite.dashboard.updates import View
from cockpitlite.instruments.norm_test import TESTS
from cockpitlite.panel import Panel, joined
from cockpitlite.plots import plot
from cockpitlite.store import load

NAMES = ("norm_test", "inner_test", "ortho_test")
PANEL = dataclasses.replace(TESTS, readings=NAMES)


def read(**named):
    return Readings({name: Series(np.arange(len(values)), np.array(values, float)) for name, values in named.items()})


def words_of(component):
    if isinstance(component, (list, tuple)):
        return " ".join(filter(None, map(words_of, component)))
    return words_of(component.children) if hasattr(component, "children") else str(component or "")


# What it shows ----------------------------------------------------------------------------------------------------


def test_a_row_counts_all_values_and_the_newest_tenth_on_a_logarithmic_scale():
    (row, *_) = noise.rows(PANEL, lambda _: np.array([*[0.1] * 90, *[0.5] * 10]))
    assert (row.count, row.newest_count, row.median, row.beyond) == (100, 10, 0.5, 0)
    assert row.everything.max() == 1 and np.count_nonzero(row.everything) == 2
    (bin_of_newest,) = np.flatnonzero(row.newest)
    assert noise.EDGES[bin_of_newest] <= math.log10(0.5) <= noise.EDGES[bin_of_newest + 1]


def test_a_row_loses_no_value_beyond_its_ends_and_none_that_has_no_logarithm():
    (row, *_) = noise.rows(PANEL, lambda _: np.array([0.0, -1.0, 50.0, 1e-9, math.nan, math.inf, 0.3]))
    assert (row.count, row.beyond) == (5, 4)
    assert row.everything[[0, -1]].tolist() == [1, pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.5**0.5, "0.71 · 50 % noise"),
        (0.1, "0.10 · 1 % noise"),
        (0.02, "0.02 · under 1 % noise"),
        (0.0, "0.00 · 0 % noise"),
        (1.3, "1.30 · 100 % noise"),
    ],
)
def test_the_square_of_an_error_is_the_share_that_is_noise(value, said):
    (row, *_) = noise.rows(PANEL, lambda _: np.array([value]))
    assert noise.words(row) == said


def test_half_noise_is_a_batch_as_large_as_the_noise_scale(tmp_path):
    run = watched(tmp_path / "run.cockpit", ["norm_test", "noise_scale", "batch_size"])
    error, scale = run.series("norm_test")[1], run.series("noise_scale")[1]
    np.testing.assert_allclose(scale, 16 * error**2 / (1 - error**2), rtol=1e-4)


# On the page ------------------------------------------------------------------------------------------------------


def test_every_test_has_a_row_with_a_ball_on_the_side_of_the_bound_where_its_newest_median_lies():
    values = {"norm_test": (0.5, 1.2), "inner_test": (0.2, 0.3), "ortho_test": (0.4, 1.1)}
    figure = gauge.figure(PANEL, read(**{name: [old] * 9 + [new] * 2 for name, (old, new) in values.items()}))
    everything, newest, balls, said = figure.data
    assert list(balls.y) == [2, 1, 0] == sorted(set(everything.base), reverse=True)
    bound = next(shape.x0 for shape in figure.layout.shapes if shape.type == "line" and shape.x0 == shape.x1)
    assert bound == pytest.approx(math.log10(0.95))
    assert [x > bound for x in balls.x] == [True, False, True]
    assert [colour == gauge.FAULT for colour in balls.marker.color] == [True, False, True]
    assert [text.split("  ")[0].strip(" <b>/") for text in said.text] == ["norm test", "inner test", "ortho test"]
    assert "1.20 · 100 % noise" in said.text[0] and len(newest.x) == 3
    assert balls.marker.color[1] == gauge.MUTED  # of a gradient that is noise the part along it says nothing
    heard, single = (
        gauge.figure(PANEL, read(norm_test=[0.5] * count, inner_test=[0.2] * count, ortho_test=[0.4] * count)).data[2]
        for count in (11, 10)
    )
    assert set(heard.marker.color) == {gauge.GOOD}
    assert set(single.marker.color) == {gauge.MUTED}  # a single newest value is no verdict


def test_the_side_where_the_batch_is_large_enough_is_shaded_and_named():
    shapes = gauge.figure(PANEL, Readings()).layout.shapes
    (good,) = [shape for shape in shapes if shape.label.text == "the batch tells the direction"]
    assert (good.x0, good.x1) == (noise.EDGES[0], noise.place(0.95)) and "0,158,115" in good.fillcolor


def test_the_chart_below_shows_all_tests_each_with_a_look_of_its_own_and_shades_what_is_healthy():
    figure = figures.figure(PANEL, read(norm_test=[0.5, 0.6], inner_test=[0.2, 0.3], ortho_test=[0.4, 0.5]))
    lines = [trace for trace in figure.data if trace.mode and "lines" in trace.mode]
    assert [trace.name for trace in lines] == ["norm", "inner", "ortho"]
    assert len({(trace.line.color, trace.line.dash) for trace in lines}) == 3
    assert [shape.type for shape in figure.layout.shapes] == ["path", "line"]


def test_those_who_do_not_see_it_are_told_the_same():
    said = words_of(layout.words(PANEL, read(norm_test=[0.5], inner_test=[0.3], ortho_test=[1.2]), {}))
    assert (
        "Median of the newest tenth: norm test 0.50 · 25 % noise, below 0.95; "
        "inner test 0.30, below 0.95; ortho test 1.20, not below 0.95." in said
    )
    assert "1 value of each test" in said
    assert words_of(layout.value(PANEL, read(norm_test=[0.5]))) == "0.50"


def test_without_values_it_says_why():
    drawn = gauge.figure(PANEL, Readings())
    assert not len(drawn.data[2].x) and all("no value" in text for text in drawn.data[3].text)
    said = words_of(layout.words(PANEL, Readings(), dict.fromkeys(NAMES, "the model is compiled")))
    assert "Not available. norm_test: the model is compiled" in said


def test_names_are_text():
    markup = "<img src=x onerror=alert(1)>"
    figure = gauge.figure(dataclasses.replace(PANEL, readings=(markup,)), read(**{markup: [0.5]}))
    assert "<img" not in figure.to_json() and "&lt;img" in figure.to_json()


def test_a_tick_moves_the_gauge_and_leaves_its_layout(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(20)
    opened = Runs(tmp_path).open("run.cockpit")
    place = [panel.name for panel in panels(opened.run)].index("gradient_tests")
    first = live.news(opened, {place: Asked(View())})[place]
    assert len(first["gauge"].data) == 4
    shown = live.Shown.from_dict(first["shown"])
    assert live.news(opened, {place: Asked(View(), shown)}) == {}
    run.write(20)
    change = live.news(opened, {place: Asked(View(), shown)})[place]
    assert isinstance(change["gauge"], Patch)
    assert {step["location"][0] for step in change["gauge"].to_plotly_json()["operations"]} == {"data"}


def test_runs_can_be_compared_by_each_test(tmp_path):
    SyntheticRun(tmp_path / "run.cockpit").write(5)
    members = comparison.Shelf(Runs(tmp_path)).members(["run.cockpit"])
    offered = {each["value"]: each["label"] for each in comparison.instruments(members)}
    assert {name: offered[name] for name in NAMES} == {
        "norm_test": "Gradient tests: norm",
        "inner_test": "Gradient tests: inner",
        "ortho_test": "Gradient tests: ortho",
    }


# In the file and in print -----------------------------------------------------------------------------------------


def watched(path, panel):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    optimizer = cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=0.1), model, panel=panel, every=1, run=path)
    for _ in range(4):
        optimizer.zero_grad()
        inputs, targets = torch.randn(16, 4).double(), torch.randint(3, (16,))
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    optimizer.cockpit.close()
    return load(path)


@pytest.mark.parametrize("names", [NAMES, ("inner_test",), ("ortho_test", "inner_test")])
def test_the_tests_that_are_watched_share_one_panel(tmp_path, names):
    (panel,) = watched(tmp_path / "run.cockpit", list(names)).panels()
    assert (panel.name, panel.kind, panel.readings) == ("gradient_tests", "tests", names)


def test_panels_of_other_names_stay_apart():
    alone, shared = Panel("A", "gradients").named("a"), Panel("B", "gradients", name="both")
    found = joined([shared.named("x"), alone, shared.named("y")])
    assert [(panel.name, panel.readings) for panel in found] == [("both", ("x", "y")), ("a", ("a",))]


def test_the_plots_say_what_the_page_says(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(200)
    run.finish()
    figure = plot(run.path)
    said = {text.get_text() for axes in figure.axes for text in axes.texts}
    rows = noise.rows(PANEL, lambda name: load(run.path).series(name)[1])
    assert {f"{noise.label(row.name)} {noise.words(row)}" for row in rows} <= said
    opened = Runs(tmp_path).open("run.cockpit")
    (shown,) = opened.reader.read([PANEL])
    assert all(noise.words(row) in gauges.description(PANEL, shown) for row in rows)
