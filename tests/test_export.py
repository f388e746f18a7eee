"""What is exported is what was measured, to the last digit."""

import csv
import io
import json
import math

import numpy as np
import pytest
from synthetic_runs import write_run

from cockpitlite.export import plain, write_csv, write_json
from cockpitlite.panel import Panel
from cockpitlite.store import Histogram, RunWriter, load

NAMES = ["a,b", 'with "quotes"', "line\nbreak", "$x_1$ <b>", "\\back", "=1+1", "重み α", " padded "]


def exported(run, write):
    out = io.StringIO()
    write(run, out)
    return out.getvalue()


def strict_json(text):
    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def odd(tmp_path):
    """A run with everything that is hard to write down: names, non-finite values, layers that come and go."""
    writer = RunWriter(tmp_path / "odd.cockpit")
    values = [0.1 + 0.2, math.nan, math.inf, -math.inf, 5e-324, -1.7976931348623157e308, -0.0, 1e16]
    for name in NAMES:
        writer.readings(name, enumerate(values))
    writer.layers(NAMES[0], 0, ["first", NAMES[1]], np.array([math.nan, math.inf]))
    writer.layers(NAMES[0], 1, [NAMES[1], NAMES[2]], np.array([0.5, 1 / 3]))
    writer.layers("only layers", 9, ["w"], np.array([2.5]))
    writer.histogram("hist", 3, Histogram(np.array([1, 2, 2**53 + 1]), (np.array([-math.inf, 0.0, 1.0, math.inf]),)))
    joint = Histogram(np.arange(6).reshape(2, 3), (np.array([0.0, 1, 2]), np.array([0.0, 1, 2, 3])))
    writer.histogram("hist", 3, joint, "first")
    writer.panel(Panel("Odd", "gradients", readings=tuple(NAMES), healthy=(None, math.inf)).named("odd"))
    writer.event(1, "nonfinite", {"what": "loss", "value": math.nan, "worst": [math.inf, -math.inf]})
    writer.meta(model={"class": "Net"}, bad=math.nan)
    writer.close()
    return load(writer.path)


def read_back(text):
    """Return the series and the values per layer of an exported CSV."""
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["step", "reading", "layer", "value"]
    series, layers = {}, {}
    for step, name, layer, value in rows[1:]:
        place = series.setdefault(name, []) if layer == "" else layers.setdefault((name, layer), [])
        place.append((int(step), float(value)))
    return series, layers


def check_csv(run):
    series, layers = read_back(exported(run, write_csv))
    for name in run.names():
        steps, values = run.series(name)
        points = series.pop(name, [])
        assert [step for step, _ in points] == steps.tolist()
        assert np.array([value for _, value in points]).tobytes() == values.tobytes()
        try:
            steps, names, values = run.layers(name)
        except KeyError:
            continue
        for column, layer in enumerate(names):
            points = layers.pop((name, layer))
            assert [step for step, _ in points] == steps.tolist()
            assert np.array_equal([value for _, value in points], values[:, column], equal_nan=True)
    assert not series and not layers


def number(value):
    return math.nan if value is None else float(value)


def check_json(run):
    data = strict_json(exported(run, write_json))
    assert list(data) == ["meta", "events", "panels", "series", "layers", "histograms"]
    for name in run.names():
        steps, values = run.series(name)
        entry = data["series"].pop(name, {"steps": [], "values": []})
        assert entry["steps"] == steps.tolist()
        assert np.array([number(value) for value in entry["values"]]).tobytes() == values.tobytes()
        try:
            steps, names, values = run.layers(name)
        except KeyError:
            assert name not in data["layers"]
            continue
        entry = data["layers"].pop(name)
        assert (entry["steps"], entry["layers"]) == (steps.tolist(), names)
        again = [[number(value) for value in row] for row in entry["values"]]
        assert np.array_equal(again, values, equal_nan=True)
    assert not data["series"] and not data["layers"]
    return data


@pytest.mark.parametrize("kind", ["good", "nonfinite"])
def test_a_training_reads_back_as_it_was(tmp_path, kind):
    run = load(write_run(tmp_path / "a.cockpit", kind, 200))
    check_csv(run)
    data = check_json(run)
    assert data["meta"] == run.meta
    assert [Panel.from_dict(panel) for panel in data["panels"]] == run.panels()
    assert [(event["step"], event["kind"], event["data"]) for event in data["events"]] == [
        (event.step, event.kind, event.data) for event in run.events()
    ]


def test_odd_names_and_numbers_read_back_as_they_were(odd):
    check_csv(odd)
    data = check_json(odd)
    assert data["meta"]["bad"] is None
    assert data["events"][0]["data"] == {"what": "loss", "value": None, "worst": ["Infinity", "-Infinity"]}
    assert data["panels"][0]["healthy"] == [None, "Infinity"]


def test_nonfinite_values_are_words_in_csv_and_never_bare_in_json(odd):
    lines = exported(odd, write_csv).splitlines()
    assert {"1,$x_1$ <b>,,nan", "2,$x_1$ <b>,,inf", "3,$x_1$ <b>,,-inf"} <= set(lines)
    assert strict_json(exported(odd, write_json))["series"]["\\back"]["values"][:4] == [
        0.1 + 0.2,
        None,
        "Infinity",
        "-Infinity",
    ]


def test_histograms_are_exported_with_their_edges(odd):
    assert strict_json(exported(odd, write_json))["histograms"] == {
        "hist": [
            {"step": 3, "layer": None, "edges": [["-Infinity", 0.0, 1.0, "Infinity"]], "counts": [1, 2, 2**53 + 1]},
            {"step": 3, "layer": "first", "edges": [[0, 1, 2], [0, 1, 2, 3]], "counts": [[0, 1, 2], [3, 4, 5]]},
        ]
    }


def test_every_histogram_of_a_training_is_exported(tmp_path):
    run = load(write_run(tmp_path / "a.cockpit", "good", 5, full=True))
    data = check_json(run)["histograms"]
    assert list(data) == ["grad_hist_1d", "grad_hist_2d"]
    assert [entry["step"] for entry in data["grad_hist_1d"]] == [step for step in range(5) for _ in range(9)]
    assert [entry["layer"] for entry in data["grad_hist_1d"][:9]] == [None, *run.histograms("grad_hist_1d")[1]]
    for name, entries in data.items():
        for entry in entries:
            counts, edges = run.histogram(name, entry["step"], entry["layer"])
            assert entry["counts"] == counts.tolist()
            axes = edges if isinstance(edges, tuple) else (edges,)
            assert entry["edges"] == [axis.tolist() for axis in axes]


def test_a_reading_may_have_histograms_beside_its_values(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.reading("both", 1, 0.5)
    writer.histogram("both", 2, Histogram(np.array([1]), (np.array([0.0, 1.0]),)))
    writer.close()
    data = check_json(load(writer.path))
    assert data["histograms"] == {"both": [{"step": 2, "layer": None, "edges": [[0, 1]], "counts": [1]}]}


def test_an_empty_run_is_an_empty_export(tmp_path):
    RunWriter(tmp_path / "a.cockpit").close()
    run = load(tmp_path / "a.cockpit")
    assert exported(run, write_csv) == "step,reading,layer,value\n"
    data = strict_json(exported(run, write_json))
    assert (data["series"], data["layers"], data["histograms"], data["events"]) == ({}, {}, {}, [])


def test_plain_data_keeps_what_json_knows():
    assert plain({"a": (1, 2.5, None, True, "x"), 3: math.inf}) == {"a": [1, 2.5, None, True, "x"], "3": "Infinity"}
