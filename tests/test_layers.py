"""The map of layers: what it holds, what of it is sent, and what is shown of one layer."""

from __future__ import annotations

import base64
import csv
import io
import math

import numpy as np
import pytest
from synthetic_runs import LAYERS, FullRun, SyntheticRun, write_run

from cockpitlite import Panel
from cockpitlite.dashboard import download, layer_map, layers, live
from cockpitlite.dashboard.app import create_app
from cockpitlite.dashboard.layer_map import LayerMap
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.store import Column, RunWriter, load

ASKED = {"quantity": "grad_norm", "cells": "greatest", "window": None, "stand": None, "tail": {"start": -1, "crc": 0}}


def opened_run(path):
    return Runs(path).open(path.name)


def values_of(news):
    packed = np.frombuffer(base64.b64decode(news["values"]), "<f4")
    return packed.reshape(len(news["starts"]), -1)


def following(news, **changes):
    """What a page asks that has been sent some news."""
    return ASKED | {"stand": news["stand"], "tail": news["tail"]} | changes


# The map ----------------------------------------------------------------------------------------------------------


def written(path, numbers, steps=None, names=("a", "b")):
    writer = RunWriter(path)
    writer.panel(Panel("Norm", "gradients", scale="log", layered=True).named("norm"))
    for step, row in zip(range(len(numbers)) if steps is None else steps, numbers, strict=True):
        writer.frame(step, (Column("norm", names),), np.append(np.nansum(row), row))
    writer.commit()
    return writer


@pytest.mark.parametrize("count", [1, 40, 700, 9000])
def test_a_map_has_every_extreme_and_every_odd_value_in_its_column(tmp_path, count):
    numbers = np.random.default_rng(0).standard_normal((count, 2))
    numbers[count // 2, 1], numbers[-1, 0] = 1e9, math.nan
    written(tmp_path / "run.cockpit", numbers)
    found = layer_map.read(load(tmp_path / "run.cockpit"), "norm", (0, count))
    assert found.names == ("a", "b") and len(found.starts) <= layer_map.COLUMNS[1]
    for place, start in enumerate(found.starts.tolist()):
        inside = numbers[start : start + found.stretch]
        finite = np.where(np.isfinite(inside), inside, math.nan)
        np.testing.assert_array_equal(found.high[place], np.fmax.reduce(finite))
        np.testing.assert_array_equal(found.low[place], np.fmin.reduce(finite))
        np.testing.assert_array_equal(found.broken[place], np.isnan(inside).sum(axis=0))


@pytest.mark.parametrize("pieces", [(3, 5, 1), (200, 100, 300), (30, 3000, 5000)])
def test_a_map_that_follows_a_run_is_the_one_of_the_whole_run(tmp_path, pieces):
    numbers = np.random.default_rng(0).standard_normal((sum(pieces), 2))
    writer, known, done = RunWriter(tmp_path / "run.cockpit"), None, 0
    run = load(tmp_path / "run.cockpit")
    for count in pieces:
        for step in range(done, done + count):
            writer.frame(step, (Column("norm", ("a", "b")),), np.append(0.0, numbers[step]))
        writer.commit()
        done += count
        known = layer_map.read(run, "norm", (0, done), known)
    fresh = layer_map.read(run, "norm", (0, done))
    assert (known.stretch, known.names) == (fresh.stretch, fresh.names)
    for part in ("starts", "low", "high", "broken"):
        np.testing.assert_array_equal(getattr(known, part), getattr(fresh, part))


def test_many_layers_have_fewer_columns_and_a_window_has_finer_ones(tmp_path):
    assert layer_map.columns_of(8) == layer_map.COLUMNS[1] > layer_map.columns_of(300) > layer_map.columns_of(10**6)
    write_run(tmp_path / "run.cockpit", steps=1500)
    reader = opened_run(tmp_path / "run.cockpit").reader
    assert reader.layer_map("grad_norm").stretch == 8
    near = reader.layer_map("grad_norm", (100.0, 200.0))
    assert near.stretch == 1 and near.starts[0] == 100 and near.starts[-1] == 200
    assert len(reader.layer_map("grad_norm", (5000.0, 6000.0)).starts) <= 1


def test_layers_that_come_later_are_blank_before(tmp_path):
    writer = written(tmp_path / "run.cockpit", np.ones((10, 2)))
    for step in range(10, 20):
        writer.frame(step, (Column("norm", ("b", "c")),), np.array([0.0, 2.0, 3.0]))
    writer.commit()
    found = layer_map.read(load(tmp_path / "run.cockpit"), "norm", (0, 20))
    assert found.names == ("a", "b", "c")
    assert np.isnan(found.high[:10, 2]).all() and np.isnan(found.high[10:, 0]).all()
    assert found.broken.sum() == 0  # nothing was measured: that is not a value that is not finite


def test_a_resumed_run_is_mapped_anew(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(20)
    opened = opened_run(tmp_path / "run.cockpit")
    before = layers.news(opened, ASKED)
    run.writer.event(10, "resume", {"from": 10})
    run.step = 10
    run.write(10)
    after = layers.news(opened, following(before))
    assert after["names"] and after["stand"] != before["stand"]
    np.testing.assert_allclose(
        values_of(after), load(tmp_path / "run.cockpit").layers("grad_norm")[2].astype(np.float32)
    )


# What is sent -----------------------------------------------------------------------------------------------------


def test_a_page_is_sent_the_map_and_then_only_what_it_lacks(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(200)
    opened = opened_run(tmp_path / "run.cockpit")
    whole = layers.news(opened, ASKED)
    assert (whole["names"], whole["title"], whole["scale"]) == (LAYERS, "Gradient norm", "log")
    np.testing.assert_allclose(values_of(whole), opened.run.layers("grad_norm")[2], rtol=1e-6)
    assert layers.news(opened, following(whole)) is None
    run.write(3)
    more = layers.news(opened, following(whole))
    assert "names" not in more and more["starts"] == [199, 200, 201, 202]  # the last column once more
    assert layers.news(opened, following(more)) is None
    run.write(60)
    assert layers.news(opened, following(more))["stretch"] == 2  # columns are wider now: all of them are sent


def test_another_quantity_end_or_window_is_sent_whole(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=600)
    opened = opened_run(tmp_path / "run.cockpit")
    whole = layers.news(opened, ASKED)
    high, low = values_of(whole), values_of(layers.news(opened, following(whole, cells="least")))
    assert (low <= high).all() and (low < high).any()
    assert layers.news(opened, following(whole, quantity="update_size"))["title"] == "Update size"
    assert layers.news(opened, following(whole, window=[10, 20]))["starts"] == list(range(10, 21))
    assert layers.news(opened, ASKED | {"quantity": "nothing"})["quantity"] == "update_ratio"


@pytest.mark.parametrize(
    "asked", [{"cells": "middle"}, {"window": [3, 1]}, {"window": [0, math.inf]}, {"window": "ab"}]
)
def test_what_a_page_may_not_ask_is_refused(tmp_path, asked):
    write_run(tmp_path / "run.cockpit", steps=5)
    with pytest.raises(ValueError):
        layers.news(opened_run(tmp_path / "run.cockpit"), ASKED | asked)


def test_values_that_are_not_finite_or_too_large_to_send_are_told_apart(tmp_path):
    written(tmp_path / "run.cockpit", np.array([[1e300, -1e-300], [math.nan, -math.inf], [0.0, 2.0]]))
    sent = values_of(layers.news(opened_run(tmp_path / "run.cockpit"), ASKED | {"quantity": "norm"}))
    assert np.isfinite(sent[0]).all() and sent[0, 0] > 1e38 and sent[0, 1] < 0
    assert np.isposinf(sent[1]).all()
    assert sent[2].tolist() == [0.0, 2.0]


def test_only_what_is_measured_of_layers_is_offered(tmp_path):
    run = FullRun(tmp_path / "run.cockpit")
    run.write(3)
    offered = {panel.name for panel in layers.quantities(opened_run(tmp_path / "run.cockpit"))}
    assert {"update_ratio", "grad_norm", "dead_units", "hess_trace", "activation_std"} <= offered
    assert not offered & {"learning_rate", "class_loss", "loss", "grad_hist_1d"}


def test_a_reading_without_a_panel_is_drawn_under_its_own_name(tmp_path):
    writer = written(tmp_path / "run.cockpit", np.ones((3, 2)))
    writer.layers("other_norm", 2, ("a", "b"), np.ones(2))
    writer.reading("other_norm", 2, 1.0)
    writer.commit()
    assert [panel.title for panel in layers.quantities(opened_run(tmp_path / "run.cockpit"))] == ["Norm", "Other norm"]


def test_a_run_without_readings_by_layer_says_why_and_what_to_switch_on(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.commit()
    opened = opened_run(tmp_path / "run.cockpit")
    assert "no step yet" in layers.news(opened, ASKED)["empty"]
    writer.reading("loss", 0, 1.0)
    writer.event(0, "unavailable", {"reading": "grad_norm", "reason": "no parameter is trained"})
    writer.commit()
    said = layers.news(opened, ASKED)
    assert "no parameter is trained" in said["empty"] and "update_ratio" in said["empty"]
    assert layers.news(opened, ASKED | {"stand": ""}) is None


# One layer --------------------------------------------------------------------------------------------------------


def test_a_layer_has_a_card_for_each_reading_and_for_its_module(tmp_path):
    FullRun(tmp_path / "run.cockpit").write(10)
    opened = opened_run(tmp_path / "run.cockpit")
    parts = {panel.name: (panel, own) for panel, own in layers.parts(opened, "conv2.weight")}
    assert parts["grad_norm"][1] == "conv2.weight" and parts["grad_norm"][0].title == "Gradient norm"
    assert parts["dead_units"][1] == "conv2" and parts["dead_units"][0].title.endswith("· conv2")
    assert parts["grad_hist_1d"][0].kind == "histogram"
    assert {panel.name for panel, _ in layers.parts(opened, "conv2")} >= {"dead_units", "grad_norm"}
    assert layers.parts(opened, "nothing") == []
    assert "no layer of that name" in str(layers.board("nothing", [], ""))


def test_a_layer_is_read_as_it_was_measured_and_the_chosen_step_is_marked(tmp_path):
    run = FullRun(tmp_path / "run.cockpit")
    run.write(30)
    opened = opened_run(tmp_path / "run.cockpit")
    parts = layers.parts(opened, "fc1.weight")
    for (panel, own), readings in zip(parts, layers.read(opened, parts, 7), strict=True):
        assert [mark.step for mark in readings.marks if mark.kind == "chosen"] == [7]
        if panel.kind == "curve":
            _, names, values = opened.run.layers(panel.name)
            np.testing.assert_array_equal(readings.of(panel.name).values, values[:, names.index(own)])
        else:
            step, newest = readings.newest
            np.testing.assert_array_equal(newest.counts, opened.run.histogram(panel.name, step, own)[0])


def test_a_layers_charts_follow_the_run_and_the_chosen_step(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(50)
    opened = opened_run(tmp_path / "run.cockpit")
    parts = layers.parts(opened, "fc1.weight")
    begun = live.layer_news(opened, parts, 20, {place: Asked(View()) for place in range(len(parts))})
    assert set(begun) == set(range(len(parts)))
    asked = {place: Asked(View(), Shown.from_dict(change["shown"])) for place, change in begun.items()}
    assert live.layer_news(opened, parts, 20, asked) == {}
    moved = live.layer_news(opened, parts, 10, asked)
    assert all("chart" in moved[place] for place in asked)  # back as well as forth
    run.write(2)
    assert set(live.layer_news(opened, parts, 20, {0: asked[0]})) == {0}


def test_a_board_of_a_layer_has_no_name_in_common_with_the_overview(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=10)
    opened = opened_run(tmp_path / "run.cockpit")
    parts = layers.parts(opened, "fc1.weight")
    board = layers.board_of(opened, "fc1.weight", parts)
    assert board not in {opened.identity, layers.board_of(opened, "fc1.bias", layers.parts(opened, "fc1.bias"))}
    drawn = str(layers.board("fc1.weight", parts, board))
    assert "id='panel-" not in drawn and "id='layer-panel-0'" in drawn


def test_many_layers_may_be_looked_at_and_few_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("cockpitlite.dashboard.readings.KEPT", 5)
    FullRun(tmp_path / "run.cockpit").write(10)
    opened = opened_run(tmp_path / "run.cockpit")
    for layer in LAYERS * 2:
        parts = layers.parts(opened, layer)
        for (panel, own), readings in zip(parts, layers.read(opened, parts, None), strict=True):
            if panel.kind == "curve":
                _, names, values = opened.run.layers(panel.name)
                np.testing.assert_array_equal(readings.of(panel.name).values, values[:, names.index(own)])
    assert len(opened.reader._series) <= 5 and len(opened.reader._columns) <= 5


def test_a_layers_values_are_offered_as_csv(tmp_path):
    FullRun(tmp_path / "run.cockpit").write(10)
    opened = opened_run(tmp_path / "run.cockpit")
    for name in ("grad_norm", "grad_hist_1d"):
        panel, own = next(part for part in layers.parts(opened, "fc1.weight") if part[0].name == name)
        rows = list(csv.DictReader(io.StringIO("".join(download.lines(opened.run, panel, 2, 4, own)))))
        assert {row["step"] for row in rows} == {"2", "3", "4"}
        if name == "grad_norm":
            _, names, values = opened.run.layers(name)
            assert [float(row["value"]) for row in rows] == values[2:5, names.index(own)].tolist()
            assert {row["layer"] for row in rows} == {own}
        else:
            counts = opened.run.histogram(name, 3, own)[0]
            assert sum(int(row["count"]) for row in rows if row["step"] == "3") == counts.sum()
    client = create_app(tmp_path).server.test_client()
    asked = {"run": "run.cockpit", "panel": "dead_units", "layer": "conv1.weight"}
    assert client.get("/csv", query_string=asked).data.count(b"conv1\n") == 0
    assert client.get("/csv", query_string=asked).data.count(b",conv1,") == 10
    assert client.get("/csv", query_string=asked | {"layer": "none"}).status_code == 404


def test_the_maps_values_are_offered_as_csv(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit", layers=("=a.weight", "b.weight", "b.bias"))
    run.write(12)
    run.finish()
    client = create_app(tmp_path).server.test_client()

    def rows(**asked):
        answer = client.get("/csv", query_string={"run": "run.cockpit", "map": "grad_norm"} | asked)
        return list(csv.DictReader(io.StringIO(answer.data.decode())))

    _, names, values = load(tmp_path / "run.cockpit").layers("grad_norm")
    found = rows()
    assert len(found) == 36 and {row["reading"] for row in found} == {"grad_norm"}
    assert [row["layer"] for row in found[:3]] == ["'=a.weight", "b.weight", "b.bias"]
    assert [float(row["value"]) for row in found] == values.ravel().tolist()
    part = rows(**{"from": 3, "to": 5, "find": " B*T"})
    assert [(row["step"], row["layer"]) for row in part] == [(step, "b.weight") for step in "345"]
    assert [float(row["value"]) for row in part] == values[3:6, names.index("b.weight")].tolist()
    assert rows(find="none") == []
    assert client.get("/csv", query_string={"run": "run.cockpit", "map": "loss"}).status_code == 404


def test_layers_that_findings_name_are_marked_by_the_first():
    def finding(code, severity, *named):
        evidence = tuple(Evidence.of("grad_norm", [1], [0.0], layer) for layer in named)
        return Finding(code, severity, 0.9, f"title {code}", "why", evidence)

    found = layers.blamed([finding("A", "error", "fc1.weight", None), finding("B", "info", "fc1.weight", "fc2.weight")])
    assert found == {"fc1.weight": ["error", "title A"], "fc2.weight": ["info", "title B"]}


@pytest.mark.parametrize("data", [None, {}, {"layer": None}, {"layer": ""}])
def test_no_layer_is_chosen_by_nothing(data):
    assert layers.Chosen.of(data) is None


def test_an_empty_map_is_empty():
    assert layer_map.joined(1, []).names == () and len(LayerMap().starts) == 0
