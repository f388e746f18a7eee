"""How the charts of a run are drawn: smoothing, scales, labels of the steps, and their values as CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import HISTOGRAM, JOINT, FullRun, SyntheticRun

from cockpitlite.dashboard import create_app, download, figures, layout, live, rulers, updates
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.readings import Readings, RunReader, Series
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.smoothing import exponential_mean, smoothed
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.instruments.alpha_same import AlphaSame
from cockpitlite.instruments.batch_size import BatchSize
from cockpitlite.instruments.learning_rate import LearningRate
from cockpitlite.instruments.vitals import Interval
from cockpitlite.panel import Panel
from cockpitlite.store import RunWriter, load

LOSS = Panel("Loss", "performance", readings=("loss",)).named("loss")


def readings(**series):
    return Readings({name: Series(np.arange(len(values)), np.asarray(values)) for name, values in series.items()})


def tensorboard(values, factor):
    """The loop of TensorBoard's own chart."""
    last, count, found = 0.0, 0, []
    for value in values:
        if not np.isfinite(value):
            found.append(np.nan)
            continue
        last, count = last * factor + (1 - factor) * value, count + 1
        found.append(last / (1 - factor**count))
    return np.array(found)


# Smoothing --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf")), max_size=200),
    st.sampled_from([0.0, 0.3, 0.9, 0.99]),
)
def test_a_series_is_smoothed_as_tensorboard_does(values, factor):
    found = exponential_mean(np.array(values, dtype=float), factor)
    np.testing.assert_allclose(found, tensorboard(values, factor), rtol=1e-9, atol=1e-6)


def test_a_value_that_stands_for_several_counts_as_that_many():
    values = np.random.default_rng(0).normal(size=40)
    spelled = exponential_mean(np.repeat(values, 8), 0.9)[7::8]
    weights = 0.9 ** (8.0 * np.arange(40))
    expected = [(values[: end + 1][::-1] * weights[: end + 1]).sum() / weights[: end + 1].sum() for end in range(40)]
    found = exponential_mean(values, 0.9, np.full(40, 8.0))
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, spelled)


def test_a_long_run_is_smoothed_over_its_samples_and_never_read_whole(tmp_path):
    writer = RunWriter(tmp_path / "long.cockpit")
    writer.panel(LOSS)
    losses = np.random.default_rng(0).exponential(size=200_000)  # lopsided: its extremes are far above its mean
    writer.readings("loss", enumerate(losses.tolist()))
    writer.close()
    reader = RunReader(load(tmp_path / "long.cockpit"))
    series = reader.read([LOSS])[0].of("loss")
    assert len(series.sample) < 20_000
    line = smoothed(series, 0.99).values
    assert abs(np.mean(line) - 1) < 0.05  # that of the extremes would be near 2
    assert np.std(line) < 0.2
    window = (100_000.0, 100_400.0)
    closer = smoothed(reader.read([LOSS], [window])[0].of("loss"), 0.9, window)
    inside = (closer.steps >= 100_200) & (closer.steps < 100_400)
    assert inside.sum() == 200
    np.testing.assert_allclose(closer.values[inside], tensorboard(losses[:100_400], 0.9)[100_200:], rtol=1e-3)


def test_the_single_values_stay_behind_the_smoothed_line_with_every_spike():
    values = np.ones(5000)
    values[1234] = 100.0
    curves = {curve.role: curve.reduced(300) for curve in figures.curves(LOSS, readings(loss=values), 0.9)}
    assert curves["behind"].values.max() == 100
    assert curves["main"].values.max() < 11
    roles = [curve.role for curve in figures.curves(LOSS, readings(loss=values), 0.9)]
    assert roles.index("behind") < roles.index("main")


def test_settings_and_counts_are_not_smoothed():
    rate = replace(LOSS, steady=True)
    halved = readings(loss=[1.0] * 20 + [0.5] * 20)
    [line] = [curve for curve in figures.curves(rate, halved, 0.9) if curve.role in ("main", "behind")]
    assert line.values.tolist() == [1.0] * 20 + [0.5] * 20
    assert LearningRate.panel.steady and BatchSize.panel.steady and Interval.panel.steady and not AlphaSame.panel.steady


def test_a_mean_does_not_fade_below_what_a_log_axis_shows():
    zeros = readings(loss=[1.0] * 20 + [0.0] * 500 + [1.0])
    main = next(curve for curve in figures.curves(replace(LOSS, scale="log"), zeros, 0.9) if curve.role == "main")
    assert np.nanmin(main.values) > 0.05 and np.isnan(main.values[20:520]).all()


def test_a_ratio_is_smoothed_as_the_ratio_of_smoothed_parts():
    panel = Panel("Noise", "gradients", ratio=("above", "below")).named("noise")
    above, below = np.array([1.0, 9.0, 2.0]), np.array([1.0, -0.25, 4.0])
    read = readings(noise=above / below, above=above, below=below)
    main = next(curve for curve in figures.curves(panel, read, 0.5) if curve.role == "main")
    np.testing.assert_allclose(main.values, exponential_mean(above, 0.5) / exponential_mean(below, 0.5))


def operations(patch):
    return json.loads(json.dumps(patch.to_plotly_json()["operations"], default=str))


def test_a_chart_is_drawn_anew_when_smoothing_or_scale_change_and_then_followed():
    read = readings(loss=np.linspace(1, 2, 100))
    before = updates.shown(LOSS, read)
    view = View(smoothing=0.9, scale="log")
    panel = figures.scaled(LOSS, "log")
    patch, shown = updates.update(panel, read, before, view)
    found = {tuple(each["location"]): each["params"] for each in operations(patch)}
    assert found["layout", "yaxis", "type"] == {"value": "log"}
    assert [trace["name"] for trace in found[("data",)]["value"]] == ["single values", "smoothed"]
    assert updates.update(panel, read, shown, view)[0] is None
    kept = Shown.from_dict(json.loads(json.dumps(shown.to_dict())))
    patch, _ = updates.update(panel, readings(loss=np.linspace(1, 2.02, 102)), kept, view)
    assert {each["operation"] for each in operations(patch)} == {"Extend"}


# Scales -----------------------------------------------------------------------------------------------------------


def test_what_has_no_place_on_a_log_axis_is_left_out():
    panel = Panel("x", "gradients", healthy=(-1.0, 2.0), marks=((0.0, "zero"), (1.0, "one"))).named("x")
    log = figures.scaled(panel, "log")
    assert (log.scale, log.healthy, log.marks) == ("log", (None, 2.0), ((1.0, "one"),))
    assert figures.scaled(panel, None) is panel
    assert figures.scaled(log, "linear").scale == "linear"
    below = Panel("x", "gradients", healthy=(None, 0.0)).named("x")
    assert figures.scaled(below, "log").healthy is None


def test_a_log_axis_says_what_it_cannot_show():
    words = layout.words(figures.scaled(LOSS, "log"), readings(loss=[1.0, -1.0, 0.0]), {}, View(scale="log"))
    assert "2 at or below 0, under the log axis" in json.dumps(words, default=lambda part: part.to_plotly_json())


# Labels of the steps ----------------------------------------------------------------------------------------------


@pytest.fixture
def timed(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(600)
    for step in range(0, 600, 10):
        run.writer.clock(step, step if step < 300 else 300 + (step - 300) * 3)
    for epoch in range(6):
        run.writer.reading("epoch", 99 + 100 * epoch, epoch)
    run.finish()
    return run.path


def test_steps_are_labelled_with_equal_times(timed):
    clock = rulers.clock(load(timed))
    found = rulers.ticks(clock, "time", None, 599)
    assert found["ticktext"] == ["0", "5 min", "10 min", "15 min"]
    np.testing.assert_allclose(found["tickvals"], [0, 300, 400, 500])  # steps had become slower
    closer = rulers.ticks(clock, "time", (300.0, 320.0), 599)
    assert closer["ticktext"][:2] == ["5 min", "5 min 15 s"]


def test_steps_are_labelled_with_epochs(timed):
    found = rulers.ticks(rulers.epochs(load(timed)), "epoch", None, 599)
    assert found["ticktext"] == ["epoch 0", "1", "2", "3", "4", "5"]
    assert found["tickvals"] == [99, 199, 299, 399, 499, 599]


def test_a_run_without_epochs_or_with_a_clock_that_was_set_back_is_labelled_soberly(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(5)
    for step, seconds in ((0, 0.0), (1, 10.0), (2, 3.0), (3, float("inf")), (4, 20.0)):
        run.writer.clock(step, seconds)
    run.finish()
    found = load(run.path)
    assert rulers.epochs(found) is None
    assert rulers.ticks(None, "epoch", None, 4) == rulers.ticks(None, "step", None, 4)
    assert rulers.clock(found).steps.tolist() == [0, 1, 4]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0"), (59.7, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h"), (2.2, "2 s")]
)
def test_times_are_written_for_people(seconds, words):
    assert rulers.duration(seconds) == words


def test_a_run_of_a_second_has_labels_of_tenths():
    clock = rulers.Ruler(np.array([0, 599]), np.array([0.0, 0.93]))
    found = rulers.ticks(clock, "time", None, 599)
    assert found["ticktext"] == ["0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s"]
    assert found["tickvals"] == pytest.approx([0, 129, 258, 386, 515], abs=1)


def test_the_words_for_those_who_do_not_see_a_chart_follow_its_zoom(timed):
    opened = Runs(timed).open(timed.name)
    begun = live.news(opened, {0: Asked(View())})
    shown = Shown.from_dict(json.loads(json.dumps(begun[0]["shown"])))
    zoomed = live.news(opened, {0: Asked(View(window=(100.0, 110.0)), shown)})[0]
    assert "steps 100 to 110 of a longer run" in json.dumps(zoomed["words"], default=lambda part: part.to_plotly_json())
    after = Shown.from_dict(json.loads(json.dumps(zoomed["shown"])))
    assert live.news(opened, {0: Asked(View(window=(100.0, 110.0)), after)}) == {}
    assert "no values there" in figures.description(LOSS, readings(loss=[1.0, 2.0]), (5.0, 9.0))


def test_labels_follow_the_zoom_and_return_to_steps(timed):
    opened = Runs(timed).open(timed.name)
    begun = live.news(opened, {0: Asked(View())})
    shown = Shown.from_dict(json.loads(json.dumps(begun[0]["shown"])))
    for view, mode in ((View(axis="time"), "array"), (View(axis="time", window=(1.0, 9.0)), "array"), (View(), "auto")):
        [change] = live.news(opened, {0: Asked(view, shown)}).values()
        found = {tuple(each["location"]): each["params"] for each in operations(change["chart"])}
        assert found["layout", "xaxis", "tickmode"] == {"value": mode}
        shown = Shown.from_dict(json.loads(json.dumps(change["shown"])))
        assert live.news(opened, {0: Asked(view, shown)}) == {}


# CSV --------------------------------------------------------------------------------------------------------------


def table(text):
    return list(csv.reader(io.StringIO(text)))


def ask(path, **query):
    return create_app(path).server.test_client().get("/csv", query_string=query)


def test_the_csv_of_a_chart_has_every_value_in_its_range(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(40)
    run.finish()
    answer = ask(tmp_path, run="run.cockpit", panel="grad_norm", **{"from": 10, "to": 12})
    assert answer.status_code == 200 and answer.mimetype == "text/csv"
    head, *rows = table(answer.text)
    assert head == ["step", "reading", "layer", "value"]
    steps, values = load(run.path).series("grad_norm")
    total = [(int(step), float(value)) for step, name, layer, value in rows if name == "grad_norm" and not layer]
    assert total == list(zip(steps[10:13].tolist(), values[10:13].tolist(), strict=True))
    assert {layer for _, _, layer, _ in rows} >= {"", "fc1.weight"}
    assert {name for _, name, _, _ in rows} == {"grad_norm", "grad_norm_clipped"}


def test_a_long_csv_is_written_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROWS", 7)
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.readings("loss", [(3 * step, step / 3) for step in range(50)])
    writer.close()
    parts = list(download.lines(load(tmp_path / "run.cockpit"), LOSS))
    assert len(parts) > 5
    assert [int(row[0]) for row in table("".join(parts))[1:]] == list(range(0, 150, 3))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t"])
def test_no_name_becomes_a_formula(tmp_path, sign):
    name = f'{sign}cmd|" /C calc"!A0,\n<b>'
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.panel(Panel(name, "gradients", layered=True).named(name))
    writer.reading(name, 0, -1.5)
    writer.layers(name, 0, [name, "b"], np.array([1.0, 2.0]))
    writer.close()
    rows = table(ask(tmp_path, run="run.cockpit", panel=name).text)[1:]
    assert rows == [["0", f"'{name}", "", "-1.5"], ["0", f"'{name}", f"'{name}", "1.0"], ["0", f"'{name}", "b", "2.0"]]


def test_the_csv_of_histograms_has_their_bins(tmp_path):
    run = FullRun(tmp_path / "run.cockpit")
    run.write(4)
    run.finish()
    read = load(run.path)
    head, *rows = table("".join(download.lines(read, HISTOGRAM, 2, 2)))
    assert head == ["step", "low", "high", "count"]
    counts, edges = read.histogram("grad_hist_1d", 2)
    assert [int(row[3]) for row in rows] == counts[counts > 0].tolist()
    assert float(rows[0][1]) in edges
    head, *rows = table("".join(download.lines(read, JOINT)))
    assert len(head) == 6 and {row[0] for row in rows} == {"3"}


@pytest.mark.parametrize(
    "query", [{}, {"run": "../x.cockpit", "panel": "loss"}, {"run": "run.cockpit", "panel": "x"}, {"from": "x"}]
)
def test_what_is_no_chart_has_no_csv(tmp_path, query):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(2)
    run.finish()
    complete = {"run": "run.cockpit", "panel": "loss"} | query if "from" in query else query
    assert ask(tmp_path, **complete).status_code == 404


def test_a_long_answer_is_sent_compressed_to_those_who_read_it(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(2)
    run.finish()
    client = create_app(tmp_path).server.test_client()
    whole = client.get("/_dash-layout")
    packed = client.get("/_dash-layout", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in whole.headers and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == whole.data
    assert len(packed.data) < len(whole.data) / 2


def test_files_of_the_page_are_kept_by_browsers_until_they_change(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.finish()
    client = create_app(tmp_path).server.test_client()
    page = client.get("/").get_data(as_text=True)
    scripts = re.findall(r'(?:src|meta id="plotly" content)="([^"]+)"', page)
    assert any("/assets/charts.js?m=" in script for script in scripts) and any(
        "plotly-cart" in each for each in scripts
    )
    assert not any("polyfill" in script or "dash_table" in script for script in scripts)  # nothing here needs them
    for script in scripts:
        with client.get(script) as answer:
            assert answer.status_code == 200 and "max-age=31536000" in answer.headers["Cache-Control"], script
    with client.get("/assets/charts.js") as answer:
        assert "immutable" not in answer.headers["Cache-Control"]
