"""The table of runs: what it reads and when, and how it and the comparison behave in a real browser."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from page_server import page_server
from plotly.io.json import to_json_plotly
from synthetic_runs import FULL_PANELS, PANELS, FullRun, SyntheticRun, write_run
from test_browser import trainer
from visiting import visit

from cockpitlite.dashboard import compared, comparison, labels, listing, table, verdict
from cockpitlite.dashboard.app import create_app
from cockpitlite.dashboard.comparison import Chosen, Shelf
from cockpitlite.dashboard.listing import Listing
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.smoothing import exponential_mean
from cockpitlite.dashboard.unopened import Unopened
from cockpitlite.dashboard.updates import View
from cockpitlite.dashboard.verdict import Judge
from cockpitlite.diagnosis.kept import last_kept
from cockpitlite.panel import Panel
from cockpitlite.store import RunWriter, describe_further, load, log_of


def listed(folder, judge=None):
    return Listing(Runs(folder), judge or Judge())


def swept(folder, rates=(0.01, 0.1, 1.0)):
    for rate in rates:
        with_rate = {"class": "SGD", "groups": [{"lr": rate, "momentum": 0.9}]}
        run = SyntheticRun(folder / f"rate-{rate}.cockpit")
        run.writer.meta(optimizer=with_rate)
        run.write(40)
        run.finish()
    return folder


def test_the_newest_values_are_those_of_the_last_steps(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=30)
    run = load(tmp_path / "run.cockpit")
    run_names = run.names()
    newest = run.newest()
    assert "loss" in newest
    for name in newest:
        steps, values = run.series(name)
        assert newest[name][0] == steps[-1]
        assert newest[name][1] == values[-1] or (math.isnan(newest[name][1]) and math.isnan(values[-1]))
    assert set(newest) <= set(run_names)


def test_a_row_says_how_a_run_stands(tmp_path):
    swept(tmp_path)
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert set(rows) == {"rate-0.01", "rate-0.1", "rate-1.0"}
    row = rows["rate-0.1"]
    assert (row["state"], row["steps"], row["rate"], row["optimizer"]) == ("✓ Finished", 40, 0.1, "SGD")
    assert row["last loss"] > 0 and row["finding"] == listing.NOT_JUDGED


def test_a_value_that_is_no_number_is_shown_and_a_damaged_file_has_a_row(tmp_path):
    writer = RunWriter(tmp_path / "nan.cockpit")
    writer.reading("loss", 3, math.nan)
    writer.close()
    (tmp_path / "damaged.cockpit").write_bytes(b"no run")
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert rows["nan"]["last loss"] == "NaN" and rows["nan"]["steps"] == 4
    assert rows["damaged"]["state"] == "✕ Unreadable"


def test_only_what_has_changed_is_read_and_told(tmp_path, monkeypatch):
    swept(tmp_path)
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(5)
    read = []
    facts = listing._facts
    monkeypatch.setattr(listing, "_facts", lambda path: read.append(path.name) or facts(path))
    rows = listed(tmp_path)
    stand = rows.news(None).stand
    assert len(read) == 4
    assert rows.news(stand).stand == stand and len(read) == 4
    run.write(5)
    (tmp_path / "rate-1.0.cockpit").unlink()
    write_run(tmp_path / "later.cockpit", steps=3)
    news = rows.news(stand)
    assert read[4:] == ["live.cockpit", "later.cockpit"] or read[4:] == ["later.cockpit", "live.cockpit"]
    assert [row["key"] for row in news.added] == ["later.cockpit"]
    assert [(row["key"], row["steps"]) for row in news.changed] == [("live.cockpit", 10)]
    assert news.gone == ["rate-1.0.cockpit"] and not news.whole
    run.finish()


def test_a_page_of_another_server_gets_all_rows(tmp_path):
    swept(tmp_path)
    stand = listed(tmp_path).news(None).stand
    assert listed(tmp_path).news(stand).whole


def test_a_judged_run_shows_its_worst_finding(tmp_path):
    write_run(tmp_path / "run.cockpit", "small", steps=620)
    judge, runs = Judge(), Runs(tmp_path)
    judge.findings(runs.open("run.cockpit"))
    assert Listing(runs, judge).news(None).added[0]["finding"].startswith("! Warning: ")


FOUND = {
    "blew-up": [("R0", "error", "The loss is NaN"), ("R1", "warning", "Learning rate too large")],
    "slow": [("R2", "warning", "Learning rate too small")],
    "in-range-but": [("R4", "info", "Learning rate in range"), ("F9d", "info", "Parts are frozen")],
    "noted": [("R7", "info", "At the edge of stability")],
    "quiet": [],
    "good": [("R4", "info", "Learning rate in range, towards its lower end")],
    "unjudged": None,
}
SAID = {
    "blew-up": "✕ Error: The loss is NaN · 1 more",
    "slow": "! Warning: Learning rate too small",
    "noted": "i Note: At the edge of stability",
    "in-range-but": "i Note: Parts are frozen · 1 more",
    "quiet": "○ Nothing found",
    "good": "✓ All well: Learning rate in range, towards its lower end",
    "unjudged": "not judged yet",
}


def judged_by_themselves(folder):
    """Write runs whose trainings left in their files what they found."""
    for name, found in FOUND.items():
        run = SyntheticRun(folder / f"{name}.cockpit")
        run.write(60)
        if found is not None:
            run.writer.meta(findings=[{"code": c, "severity": s, "title": t, "since": 3} for c, s, t in found])
        run.finish()


def test_a_run_that_judged_itself_shows_what_it_found_and_no_run_is_judged(tmp_path, monkeypatch):
    judged_by_themselves(tmp_path)
    monkeypatch.setattr(verdict, "_diagnosed", lambda opened: pytest.fail("a run was judged for the table"))
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert {name: row["finding"] for name, row in rows.items()} == SAID
    assert [rows[name]["rank"] for name in FOUND] == [5, 4, 3, 3, 2, 1, 0]
    assert not any("finding" in name for row in rows.values() for name in row if name.startswith("set "))


@pytest.fixture
def unopened(monkeypatch):
    monkeypatch.setattr("cockpitlite.dashboard.unopened.REST", 0)
    return Unopened()


def until_judged(listing_):
    """Look at the table again until no run waits; return its rows by their names."""
    end = time.monotonic() + 90
    while True:
        rows = {row["run"]: row for row in listing_.news(None).added}
        if all(row["finding"] != listing.NOT_JUDGED for row in rows.values()):
            return rows
        assert time.monotonic() < end, rows
        time.sleep(0.05)


def test_runs_that_nobody_opens_are_judged_meanwhile_and_keep_it(tmp_path, unopened):
    before = {}
    for name, kind in (("fine", "good"), ("broken", "nonfinite")):
        path = write_run(tmp_path / f"{name}.cockpit", kind, 300)
        os.utime(path, (1e9, 1e9))
        before[path] = path.stat().st_mtime_ns
    found = Listing(Runs(tmp_path), Judge(), unopened)
    rows = until_judged(found)
    assert rows["broken"]["finding"].startswith("✕ Error: ") and rows["broken"]["rank"] == listing.RANKS["error"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert last_kept(load(tmp_path / "broken.cockpit").meta)[0].severity == "error"
    again = {row["run"]: row["finding"] for row in listed(tmp_path).news(None).added}  # after a new start of the server
    assert again == {name: row["finding"] for name, row in rows.items()}


def test_the_file_of_a_run_that_has_not_finished_is_left_as_it_is(tmp_path, unopened):
    run = SyntheticRun(tmp_path / "live.cockpit", "nonfinite")
    run.write(300)
    contents = [path.read_bytes() for path in (run.path, log_of(run.path))]
    rows = until_judged(Listing(Runs(tmp_path), Judge(), unopened))
    assert rows["live"]["finding"].startswith("✕ Error: ")
    assert [path.read_bytes() for path in (run.path, log_of(run.path))] == contents
    assert not describe_further(run.path, findings=[])
    run.finish()
    assert describe_further(run.path, findings=[]) and last_kept(load(run.path).meta) == []


def test_a_run_that_cannot_be_judged_keeps_no_other_waiting(tmp_path, unopened):
    names = []
    for name in ("one", "two"):
        path = write_run(tmp_path / f"{name}.cockpit", "nonfinite", 300)
        names.append(((name, "ended"), path))
    names[0][1].write_bytes(b"damaged")
    unopened.want(names)
    end = time.monotonic() + 90
    while unopened.known(("two", "ended")) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert unopened.known(("one", "ended")) is None
    assert unopened.known(("two", "ended"))[0].severity == "error"


@pytest.mark.parametrize("opened", [False, True])
def test_a_live_run_is_judged_again_as_it_grows(tmp_path, unopened, opened):
    run, judge, runs = SyntheticRun(tmp_path / "live.cockpit", "nonfinite"), Judge(), Runs(tmp_path)
    run.write(5)
    if opened:
        judge.findings(runs.open("live.cockpit"))  # and then nobody looked any more
    found = Listing(runs, judge, unopened)
    assert until_judged(found)["live"]["finding"] == "… No verdict yet"
    run.write(300)
    words = [row["finding"] for row in found.news(None).added]
    assert words == [listing.NOT_JUDGED]
    assert until_judged(found)["live"]["finding"].startswith("✕ Error: ")
    run.finish()


def test_what_the_page_has_found_counts_before_what_the_training_left(tmp_path):
    judged_by_themselves(tmp_path)
    judge, runs = Judge(), Runs(tmp_path)
    judge.findings(runs.open("blew-up.cockpit"))
    rows = {row["run"]: row for row in Listing(runs, judge).news(None).added}
    assert "NaN" not in rows["blew-up"]["finding"]


@pytest.mark.parametrize(
    "entry", [3, "R0", [3], [{"code": "R0"}], [{"code": "R0", "severity": "grave", "title": "x", "since": 0}], {}]
)
def test_findings_that_no_training_wrote_are_none(tmp_path, entry):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(60)
    run.writer.meta(findings=entry)
    run.finish()
    assert listed(tmp_path).news(None).added[0]["finding"] == listing.NOT_JUDGED


def test_nothing_is_all_well_after_a_few_steps(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(3)
    run.writer.meta(findings=[])
    run.finish()
    assert listed(tmp_path).news(None).added[0]["finding"] == "… No verdict yet"


def test_only_settings_that_differ_have_columns(tmp_path):
    swept(tmp_path)
    news = listed(tmp_path).news(None)
    fields = table._fields(table._columns(news.added, news.titles))
    assert "rate" in fields and "last loss" in fields
    assert "set optimizer.groups.0.momentum" not in fields


def measured(path):
    """Write a run as a training does that logs values of its own."""
    instruments = [panel.name for panel in FULL_PANELS]
    logged = {"valid_loss": "Valid loss", "val_f1": "Val f1", "perplexity": "Perplexity", "epoch": "Epoch"}
    own = tuple(Panel(title, "performance").named(name) for name, title in logged.items())
    run = FullRun(path, panels=(*FULL_PANELS, *own))
    run.writer.meta(panel=instruments, started=1_000.0)
    run.write(5)
    for step, value in enumerate((0.5, 0.25, math.nan, 0.75)):
        for name in logged:
            run.writer.reading(name, step, value)
        for name in ("grad_hist_1d_error", "memory"):
            run.writer.reading(name, step, value)
    run.finish()
    with contextlib.closing(RunWriter(path, resume=True)) as writer:
        writer.meta(status="finished", ended=1_000.0 + 3_725.4)


def test_columns_of_results_have_titles_and_those_come_first_that_a_person_wants(tmp_path):
    measured(tmp_path / "run.cockpit")
    news = listed(tmp_path).news(None)
    columns = {column["field"]: column["headerName"] for column in table._columns(news.added, news.titles)}
    results = {field: name for field, name in columns.items() if field.startswith(("last ", "best "))}
    assert list(results.items()) == [
        ("last loss", "Last loss"),
        ("last valid_loss", "Last valid loss"),
        ("best valid_loss", "Best valid loss"),
        ("last val_f1", "Last val f1"),
        ("last accuracy", "Last accuracy"),
        ("last alpha", "Last α"),
        ("last balanced_accuracy", "Last balanced accuracy"),
        ("last perplexity", "Last perplexity"),
    ]
    [row] = news.added
    assert (row["last valid_loss"], row["best valid_loss"], row["duration"]) == (0.75, 0.25, 3725)


@pytest.mark.parametrize(
    "meta", [{"started": 9.0, "ended": 3.0}, {"started": "x"}, {"started": 1.0, "ended": 1e999}, {}]
)
def test_a_run_whose_times_make_no_sense_has_no_duration(meta):
    assert listing._duration(meta) is None


def test_runs_are_told_apart_by_colour_and_dashes():
    looks = {(compared.colour(place), compared.dash(place)) for place in range(24)}
    assert len(looks) == 24


# Runs laid over each other ----------------------------------------------------------------------------------------


def shelved(folder):
    shelf = Shelf(Runs(folder))
    return shelf, sorted(Runs(folder).paths())


def asked_of(shelf, keys, readings=(), board=None, charts=None):
    """What the server says of a comparison, as a page gets it."""
    answer = comparison.answered(shelf, Chosen(tuple(keys), tuple(readings)), board, charts or {})
    return json.loads(to_json_plotly(answer))


def drawn(shelf, keys, readings=(), view=None, count=4):
    """Return the board and the charts of a comparison, as they are sent at first."""
    board = asked_of(shelf, keys, readings)
    asked = {place: (view or View(), None) for place in range(count)}
    return board, asked_of(shelf, keys, readings, board["identity"], asked)["charts"]


def said(change):
    return " ".join(part["props"]["children"] for part in change["words"])


def test_a_comparison_names_runs_as_text_and_says_what_differs(tmp_path):
    swept(tmp_path)
    for place, path in enumerate(sorted(tmp_path.iterdir())):
        path.rename(tmp_path / f"<b>{place}<b>%{{x}}.cockpit")
    board, charts = drawn(*shelved(tmp_path), ["loss"], count=3)
    words = json.dumps(board)
    assert "Last loss against the learning rate" in words and "optimizer.groups.0.lr" in words
    lines = charts["0"]["chart"]["data"]
    assert len(lines) == 3
    assert all("<b>0" not in line["name"] and "<b>%{x}" not in line["hovertemplate"] for line in lines)
    assert said(charts["0"]).startswith("Loss, newest: <b>0<b>%{x} ")  # a text, of no HTML


def test_a_comparison_is_sent_whole_and_then_only_the_lines_that_have_grown(tmp_path):
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(5)
    write_run(tmp_path / "done.cockpit", steps=5)
    shelf, keys = shelved(tmp_path)
    board, charts = drawn(shelf, keys, ["loss"], count=1)
    assert [line["name"] for line in charts["0"]["chart"]["data"]] == ["done", "live"]
    assert board["steps"] == [0, 4]
    again = {0: (View(), charts["0"]["shown"])}
    assert asked_of(shelf, keys, ["loss"], board["identity"], again)["charts"] == {}
    run.write(5)
    answer = asked_of(shelf, keys, ["loss"], board["identity"], again)
    assert answer["steps"] == [0, 9]  # of both runs together
    change = answer["charts"]["0"]
    places = {tuple(each["location"][:2]) for each in change["chart"]["operations"]}
    assert ("data", 1) in places and ("data", 0) not in places
    longer = next(each for each in change["chart"]["operations"] if each["location"] == ["data", 1, "x"])
    assert longer["params"]["value"] == list(range(10))
    run.finish()


def test_a_run_that_cannot_be_read_is_left_out_of_a_comparison(tmp_path):
    swept(tmp_path)
    shelf, keys = shelved(tmp_path)
    first = asked_of(shelf, keys)["identity"]
    (tmp_path / "rate-1.0.cockpit").write_bytes(b"no run")
    assert asked_of(shelf, keys)["identity"] != first
    assert len(shelf.members([*keys, "../rate-0.1.cockpit", "none"])) == 2


def test_a_comparison_is_smoothed_before_it_is_reduced_with_the_single_values_behind(tmp_path):
    write_run(tmp_path / "long.cockpit", steps=2000)
    write_run(tmp_path / "short.cockpit", steps=50)
    shelf, keys = shelved(tmp_path)
    _, charts = drawn(shelf, keys, ["loss"], View(smoothing=0.9), count=1)
    behind, smooth, *short = charts["0"]["chart"]["data"]
    steps, values = load(tmp_path / "long.cockpit").series("loss")
    mean = dict(zip(steps.tolist(), exponential_mean(values, 0.9).tolist(), strict=True))
    assert len(smooth["x"]) < 2000 and len(behind["x"]) < len(smooth["x"])
    np.testing.assert_allclose(smooth["y"], [mean[step] for step in smooth["x"]], rtol=1e-6)
    assert min(values) == pytest.approx(min(behind["y"]))
    assert len({behind["legendgroup"], smooth["legendgroup"]}) == 1  # one name hides both
    assert behind["legendgroup"] != short[0]["legendgroup"] and not behind["showlegend"]


def test_a_comparison_gets_another_scale_and_its_window_in_full(tmp_path):
    write_run(tmp_path / "long.cockpit", steps=5000)
    shelf, keys = shelved(tmp_path)
    board, charts = drawn(shelf, keys, ["loss"], count=1)
    assert len(charts["0"]["chart"]["data"][0]["x"]) < 700
    zoomed = {0: (View(window=(1000.0, 1200.0), scale="log"), charts["0"]["shown"])}
    change = asked_of(shelf, keys, ["loss"], board["identity"], zoomed)["charts"]["0"]["chart"]["operations"]
    found = {tuple(each["location"]): each["params"]["value"] for each in change}
    assert found["layout", "yaxis", "type"] == "log"
    assert set(range(1000, 1201)) <= set(found[("data",)][0]["x"])


def timed(folder, pace, steps=100):
    run = SyntheticRun(folder / f"pace-{pace}.cockpit")
    run.write(steps)
    for step in range(0, steps, 10):
        run.writer.clock(step, pace * float(step))
    for epoch in range(2):
        run.writer.reading("epoch", 50 * epoch + 49, epoch)
    run.finish()


def test_runs_are_compared_over_the_time_and_the_epochs_of_each(tmp_path):
    for pace in (1, 3):
        timed(tmp_path, pace)
    write_run(tmp_path / "z-epochless.cockpit", steps=100)
    shelf, keys = shelved(tmp_path)
    _, charts = drawn(shelf, keys, ["loss"], View(axis="time"), count=1)
    slow, fast, _ = (line["x"] for line in charts["0"]["chart"]["data"])
    assert (slow[-1], fast[-1]) == (99, 297)  # the last step, at the pace of those before it
    assert charts["0"]["chart"]["layout"]["xaxis"]["ticktext"][-1].endswith("min")
    board, charts = drawn(shelf, keys, ["loss"], View(axis="epoch"), count=1)
    one, _, none = (line["x"] for line in charts["0"]["chart"]["data"])
    assert (one[49], one[99]) == (0, 1) and none == []
    assert "1 run has no record of the epoch" in said(charts["0"])
    turned = {0: (View(window=(0.2, 0.6)), charts["0"]["shown"])}  # epochs, and no steps
    change = asked_of(shelf, keys, ["loss"], board["identity"], turned)["charts"]["0"]
    assert change["shown"]["window"] is None
    assert {"operation": "Assign", "location": ["layout", "xaxis", "autorange"], "params": {"value": True}} in change[
        "chart"
    ]["operations"]


def test_the_best_run_of_a_sweep_is_marked_and_named_and_the_others_as_there_is_room(tmp_path):
    swept(tmp_path, rates=(0.01, 0.1, 1.0))
    held = {0.01: 0.5, 0.1: 0.25, 1.0: math.nan}
    for rate, loss in held.items():
        with contextlib.closing(RunWriter(tmp_path / f"rate-{rate}.cockpit", resume=True)) as writer:
            writer.reading("valid_loss", 39, loss)
            writer.reading("valid_loss", 41, 0.75)
    shelf, keys = shelved(tmp_path)
    _, charts = drawn(shelf, keys, ["loss"], count=3)
    *points, ring = charts["1"]["chart"]["data"]
    assert [point["y"] for point in points] == [[0.5], [0.25], [0.75]]
    assert [point["text"] for point in points if point["mode"] == "markers+text"] == [["rate-0.01"], ["rate-1.0"]]
    assert (ring["x"], ring["y"], ring["text"]) == ([0.1], [0.25], ["<b>best: rate-0.1</b>"])
    assert said(charts["1"]).startswith("Best: rate-0.1 with 0.25 at learning rate 0.1 ")
    assert "rate-0.01 with 0.5 at learning rate 0.01" in said(charts["1"])


def ended(folder, **losses):
    """Write a sweep whose runs had these losses, the learning rates of which rise."""
    for place, (name, values) in enumerate(losses.items()):
        with contextlib.closing(RunWriter(folder / f"{name}.cockpit")) as writer:
            writer.meta(optimizer={"groups": [{"lr": 10.0**place}]}, status="finished")
            for panel in PANELS:
                writer.panel(panel)
            for step, value in enumerate(values):
                writer.reading("loss", step, value)
                writer.reading("alpha", step, 0.01 * 1000.0**place)


BLOWN_UP = {"a": [2.0] * 20, "b": [0.5] * 20, "c": [3.0] * 10 + [400.0] * 8 + [math.inf, math.nan]}


@pytest.mark.parametrize(
    ("c", "overlaid", "scattered"),
    [
        (BLOWN_UP["c"], "log", "linear"),  # how it ended is no number: it has no point
        ([3.0] * 10 + [400.0] * 10, "log", "log"),
        ([400.0] * 10 + [14.0] * 10, "linear", "linear"),  # it came back
        ([3.0] * 10 + [0.0] + [400.0] * 9, "linear", "log"),
        ([-1.0] * 20, "linear", "linear"),
    ],
)
def test_a_run_that_has_gone_far_away_leaves_the_others_room(tmp_path, c, overlaid, scattered):
    ended(tmp_path, **(BLOWN_UP | {"c": c}))
    shelf, keys = shelved(tmp_path)
    _, charts = drawn(shelf, keys, ["loss", "alpha"], count=3)
    assert [charts[place]["scale"] for place in "012"] == [overlaid, "linear", scattered]
    assert [charts[place]["chart"]["layout"]["yaxis"]["type"] for place in "012"] == [overlaid, "linear", scattered]
    _, charts = drawn(shelf, keys, ["loss"], View(scale="linear"), count=2)  # as the person has chosen
    assert [charts[place]["chart"]["layout"]["yaxis"]["type"] for place in "01"] == ["linear", "linear"]


def test_the_scale_that_a_comparison_begins_with_stays_as_its_runs_go_on(tmp_path):
    ended(tmp_path, a=[2.0] * 20, b=[0.5] * 20, c=[3.0] * 20)
    shelf, keys = shelved(tmp_path)
    board, charts = drawn(shelf, keys, ["loss"], count=2)
    assert charts["0"]["scale"] == charts["1"]["scale"] == "linear"
    with contextlib.closing(RunWriter(tmp_path / "c.cockpit", resume=True)) as writer:
        for step in range(20, 80):
            writer.reading("loss", step, 400.0)
    asked = {place: (View(), charts[str(place)]["shown"]) for place in (0, 1)}
    changes = asked_of(shelf, keys, ["loss"], board["identity"], asked)["charts"]
    for place in "01":
        [scale] = [
            each for each in changes[place]["chart"]["operations"] if each["location"] == ["layout", "yaxis", "type"]
        ]
        assert scale["params"]["value"] == changes[place]["scale"] == "linear"


def test_the_words_of_a_step_length_stay_on_its_gauge(tmp_path):
    swept(tmp_path)
    _, charts = drawn(*shelved(tmp_path), ["alpha"], count=1)
    shapes = charts["0"]["chart"]["layout"]["shapes"]
    assert len(shapes) > 1 and not any(shape.get("label", {}).get("text") for shape in shapes)


def test_settings_that_steer_the_training_come_first_and_long_ones_are_cut(tmp_path):
    for place, name in enumerate("ab"):
        run = SyntheticRun(tmp_path / f"{name}.cockpit")
        groups = [{"weight_decay": 0.1 * place, "lr": 0.1 + place}]
        command = ["python", "train.py", "--" + name * 200]
        run.writer.meta(optimizer={"class": "SGD", "groups": groups}, command=command, seed=place, amp=place)
        run.write(2)
        run.finish()
    board = asked_of(*shelved(tmp_path))["board"]
    rows = board["props"]["children"][-1]["props"]["children"]["props"]["children"][-1]["props"]["children"]
    cells = [[cell["props"] for cell in row["props"]["children"]] for row in rows]
    assert [row[0]["children"] for row in cells] == [
        "optimizer.groups.0.lr",
        "optimizer.groups.0.weight_decay",
        "amp",
        "seed",
        "command",
    ]
    assert len(cells[-1][1]["children"]) <= 48 and cells[-1][1]["title"].endswith("a" * 200)
    assert "title" not in cells[0][1]


def test_of_many_runs_of_a_sweep_only_the_best_is_named(tmp_path):
    swept(tmp_path, rates=tuple(range(1, 15)))
    shelf, keys = shelved(tmp_path)
    *points, ring = drawn(shelf, keys, ["loss"], count=2)[1]["1"]["chart"]["data"]
    assert {point["mode"] for point in points} == {"markers"} and len(points) == 14
    assert ring["text"][0].startswith("<b>best: rate-")


def test_names_of_points_never_meet():
    random = np.random.default_rng(0)
    size = 400.0, 220.0
    for _ in range(50):
        places = [(x, y) for x, y in (random.random((12, 2)) * size).tolist()] + [(math.nan, 3.0)]
        names = ["a-name-of-a-run"] * 12 + ["not drawn"]
        sides = labels.sides(places, names, size, first=3)
        assert sides[3] and not sides[12] and any(sides)
        kept = [place for place, side in enumerate(sides) if side and place != 3]
        boxes = [labels._box(places[place], names[place], sides[place], labels.APART) for place in kept]
        for place, box in zip(kept, boxes, strict=True):
            assert not any(labels._meet(box, other) for other in boxes if other is not box)
            points = [point for at, point in enumerate(places[:12]) if at != place]
            assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)
            own = labels._distance(places[place], box)
            assert all(labels._distance(point, box) > own for point in points)  # whose name it is, is seen


def test_the_values_of_compared_runs_are_offered_as_csv(tmp_path):
    swept(tmp_path)
    (tmp_path / "rate-1.0.cockpit").rename(tmp_path / "=rate.cockpit")
    client = create_app(tmp_path).server.test_client()

    def rows(panel, **asked):
        query = {"run": ["=rate.cockpit", "rate-0.1.cockpit", "rate-0.01.cockpit"], "by": "loss", "panel": panel}
        answer = client.get("/csv", query_string=query | asked)
        return list(csv.reader(io.StringIO(answer.data.decode())))

    head, *found = rows("compared loss")
    assert head == ["run", "step", "reading", "value"] and len(found) == 3 * 40
    _, values = load(tmp_path / "=rate.cockpit").series("loss")
    assert [row[0] for row in found[::40]] == ["'=rate", "rate-0.1", "rate-0.01"]
    assert [float(row[3]) for row in found[:40]] == values.tolist()
    assert [row[1] for row in rows("compared loss", **{"from": 38, "to": 50})[1:]] == ["38", "39"] * 3
    head, *found = rows("compared by learning rate")
    assert head == ["run", "learning rate", "Last loss"] and [row[1] for row in found] == ["1.0", "0.1", "0.01"]
    assert found[0][0] == "'=rate" and float(found[0][2]) > 0
    assert rows("compared alpha") == [["There is no such chart."]]


ROWS = "document.querySelectorAll('.runs-table .ag-pinned-left-cols-container .ag-row').length"
NAMES = (
    "[...document.querySelectorAll('.runs-table .ag-pinned-left-cols-container .ag-row')]"
    ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
    ".map((row) => row.querySelector('[col-id=run]').textContent)"
)
CHECKED = "[...document.querySelectorAll('.runs-table .ag-row-selected')].map((row) => row.getAttribute('row-id'))"


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_sorting_filters_and_selection_survive_updates_and_a_click_opens_a_run(browser, tmp_path, scheme, width):
    swept(tmp_path)
    live = SyntheticRun(tmp_path / "other.cockpit")
    live.write(5)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs", **options) as seen:
        seen.until(f"{ROWS} === 4")
        field = seen.page.locator(".runs-table .ag-floating-filter input").first
        field.fill("rate")
        seen.until(f"{ROWS} === 3")
        durations = seen.page.locator(".runs-table .ag-cell[col-id=duration]").all_inner_texts()
        assert all(re.fullmatch(r"\d+:\d\d", text) for text in durations) and (durations or width < 1440)
        header = seen.page.locator(".runs-table .ag-header-cell[col-id=run] .ag-header-cell-label")
        header.click()
        seen.until(f"{NAMES}.join() === 'rate-0.01,rate-0.1,rate-1.0'")
        header.click()
        seen.until(f"{NAMES}.join() === 'rate-1.0,rate-0.1,rate-0.01'")
        for place in range(3):
            seen.tick(seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place))
        seen.until("document.querySelectorAll('#comparison .chart-plot .scatterlayer').length === 4")
        assert seen.page.locator(".differences th[scope=row]").all_inner_texts() == ["optimizer.groups.0.lr"]
        legend = seen.page.locator("#comparison .chart-plot .legendtext").all_text_contents()
        assert {"rate-0.01", "rate-0.1", "rate-1.0"} <= set(legend)
        before = sorted(set(seen.page.evaluate(CHECKED)))
        swept(tmp_path, rates=(0.5,))
        live.write(5)
        seen.until(f"{NAMES}.join() === 'rate-1.0,rate-0.5,rate-0.1,rate-0.01'")  # in its place, as sorted
        assert sorted(set(seen.page.evaluate(CHECKED))) == before and len(before) == 3
        assert field.input_value() == "rate"
        background = "getComputedStyle(document.querySelector('.runs-table .ag-root-wrapper')).backgroundColor"
        assert seen.page.evaluate(background) == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 27, 35)"}[scheme]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        seen.page.locator(".runs-table [col-id=run].ag-cell", has_text="rate-0.1").click()
        seen.page.locator("#step", has_text="step 39").wait_for()
        seen.until("document.documentElement.dataset.page === 'overview'")
        assert "run=rate-0.1.cockpit" in seen.page.url and "page=" not in seen.page.url
        seen.page.go_back()
        seen.until("document.documentElement.dataset.page === 'runs'")
        assert sorted(set(seen.page.evaluate(CHECKED))) == before
    live.finish()


HEADER = ".runs-table .ag-header-cell[col-id={}] .ag-header-cell-label"


@pytest.mark.browser
def test_findings_sort_by_how_grave_they_are_and_are_filtered_by_their_words(browser, tmp_path):
    judged_by_themselves(tmp_path)
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 7")
        seen.page.locator(HEADER.format("finding")).click()
        gravest_first = "blew-up,slow,in-range-but,noted,quiet,good,unjudged"  # the page has judged the run it shows
        seen.until(f"{NAMES}.join() === '{gravest_first}'")
        seen.page.locator(HEADER.format("finding")).click()
        seen.until(f"{NAMES}.join() === '{','.join(gravest_first.split(',')[::-1])}'")
        for light in ("good", "quiet", "info"):
            seen.page.locator(f".runs-table .{light}-cell").first.wait_for()
        seen.page.locator(".runs-table .ag-floating-filter[col-id=finding] input").first.fill("warning")
        seen.until(f"{NAMES}.join() === 'slow'")
        assert seen.page.locator(".runs-table .warning-cell").count() == 1


FILTERS = "[...document.querySelectorAll('.runs-table .ag-floating-filter input')].map((field) => field.value).join('')"


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_the_address_restores_how_the_table_is_sorted_and_filtered(browser, tmp_path, scheme, width):
    swept(tmp_path, rates=(0.01, 0.1, 1.0, 10.0))
    write_run(tmp_path / "a%2C:b,c.cockpit", steps=3)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs", **options) as seen:
        seen.until(f"{ROWS} === 5")
        assert "sort=" not in seen.page.url and "filter=" not in seen.page.url  # it is as it comes
        field = seen.page.locator(".runs-table .ag-floating-filter input").first
        seen.page.locator(HEADER.format("run")).click()
        seen.until("location.search.includes('sort=run')")
        seen.page.locator(HEADER.format("run")).click()
        seen.until("location.search.includes('sort=-run')")
        field.fill("%2C:b,")
        seen.until(f"{NAMES}.join('; ') === 'a%2C:b,c' && location.search.includes('filter=')")
        with visit(browser, seen.page.url, **options) as again:
            again.until(f"{NAMES}.join('; ') === 'a%2C:b,c' && {FILTERS} === '%2C:b,'")
            assert again.page.url == seen.page.url
        field.fill("rate-")
        seen.until(f"{NAMES}.join() === 'rate-10.0,rate-1.0,rate-0.1,rate-0.01'")
        seen.until("location.search.endsWith('filter=run:contains:rate-')")
        seen.page.locator(".runs-table [col-id=run].ag-cell", has_text="rate-1.0").click()
        seen.until("document.documentElement.dataset.page === 'overview'")
        seen.page.reload()
        seen.page.go_back()  # to an address that names what the table of a fresh page does not show yet
        seen.until(f"{NAMES}.join() === 'rate-10.0,rate-1.0,rate-0.1,rate-0.01' && {FILTERS} === 'rate-'")
        seen.page.evaluate("history.pushState(null, '', '?page=runs&sort=run')")
        seen.page.evaluate("history.pushState(null, '', '?page=runs')")
        seen.page.go_back()
        seen.until(f"{NAMES}.join('; ') === 'a%2C:b,c; rate-0.01; rate-0.1; rate-1.0; rate-10.0' && {FILTERS} === ''")


@pytest.mark.browser
def test_an_address_sorts_and_filters_by_numbers_and_nonsense_in_it_is_passed_over(browser, tmp_path):
    swept(tmp_path, rates=(0.01, 0.1, 1.0, 10.0))
    addresses = {
        "sort=rate&filter=rate:greaterThan:0.05;lessThan:5": ["rate-0.1", "rate-1.0"],
        "sort=-steps,-rate&filter=run:equals:rate-0.1|endsWith:0.0": ["rate-10.0", "rate-0.1"],
        "sort=none,colour,-&filter=rate:inRange:1,rate:above:1,rate:greaterThan:x,:::,run,%25": None,
        "sort=&filter=rate:greaterThan:,run:contains:,ag-Grid-SelectionColumn:blank": None,
        "sort=ag-Grid-SelectionColumn&filter=rate:equals:1;equals:1;equals:1": None,
    }
    with page_server(tmp_path) as server:
        for address, names in addresses.items():
            with visit(browser, f"{server.url}?page=runs&{address}") as seen:
                seen.until(f"{ROWS} === {len(names or '....')}")
                if names is None:
                    seen.until("!/sort=|filter=/.test(location.search)")
                    assert seen.page.evaluate(f"{NAMES}.length") == 4
                else:
                    seen.until(f"{NAMES}.join() === '{','.join(names)}'")


@pytest.mark.browser
def test_names_from_files_are_text_in_the_table_the_findings_and_the_comparison(browser, tmp_path):
    markup = "<img src=x onerror=window.hurt=1>"
    for place in range(3):
        panel = Panel(markup, "gradients", layered=True).named(markup)
        run = SyntheticRun(tmp_path / f"{place}{markup}.cockpit", panels=(*PANELS, panel), layers=(markup, "b"))
        run.writer.meta(
            findings=[{"code": markup, "severity": "error", "title": markup, "since": 0}],
            model={"class": markup},
            device=markup,
            optimizer={"class": markup, "groups": [{"lr": 10.0**-place, markup: markup * (place + 1)}]},
            seed=f"{markup}{place}",
        )
        for step in range(40):
            run.writer.reading(markup, step, math.nan if step > 20 else 1.0)
            run.writer.layers(markup, step, [markup, "b"], np.array([math.nan, 1.0]))
        run.write(40)
        run.writer.event(20, "nonfinite", {"what": "gradient", "layer": markup, "sample": 1})
        run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 3")
        for place in range(3):
            seen.tick(seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place))
        seen.until("document.querySelectorAll('#comparison .chart-plot .scatterlayer').length === 4")
        seen.page.locator(".instruments button").first.click()
        seen.page.get_by_role("option", name=markup).click()
        seen.page.keyboard.press("Escape")
        seen.until("document.querySelectorAll('#comparison .chart-plot .scatterlayer').length === 5")
        seen.page.locator("#comparison .chart-plot").first.hover()
        seen.page.locator(".runs-table [col-id=finding].ag-cell").last.hover()
        seen.page.locator(".ag-tooltip, .ag-tooltip-custom").first.wait_for()
        assert markup in seen.page.locator(".runs-table [col-id=finding].ag-cell").last.inner_text()
        assert markup in seen.page.locator(".differences").inner_text()
        unhurt(seen)
        seen.page.locator(".runs-table [col-id=run].ag-cell").first.click()
        seen.until("document.querySelectorAll('.finding').length > 0")
        seen.page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        seen.until_charts(2)
        unhurt(seen)


def unhurt(seen):
    assert seen.page.locator("img[src=x]").count() == 0
    assert seen.page.evaluate("window.hurt") is None


OVERLAY = "document.querySelector('#comparison .chart-plot .js-plotly-plot')"
ENDS = f"{OVERLAY}._fullData.map((trace) => Number(trace.x.at(-1)))"
KEPT = f"[{OVERLAY}.layout.xaxis.range, {OVERLAY}._fullData.map((trace) => trace.visible), window.scrollY]"


@pytest.mark.browser
def test_a_comparison_grows_with_its_live_runs_and_stays_as_the_person_left_it(browser, tmp_path):
    write_run(tmp_path / "done.cockpit", steps=50)
    with (
        trainer(tmp_path / "live.cockpit", rate=40, head=100),
        page_server(tmp_path, wait=True) as server,
        visit(browser, server.url + "?page=runs") as seen,
    ):
        seen.until(f"{ROWS} === 2")
        for place in range(2):
            seen.tick(seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place))
        seen.until(f"{OVERLAY} && {OVERLAY}.data.length === 2")
        seen.page.locator("#comparison .chart-plot").first.scroll_into_view_if_needed()
        box = seen.page.locator("#comparison .chart-plot .nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=6)
        seen.page.mouse.up()
        seen.until(f"!{OVERLAY}._fullLayout.xaxis.autorange")
        seen.page.locator("#comparison .chart-plot .legendtoggle").first.click(force=True)
        seen.until(f"{OVERLAY}._fullData.some((trace) => trace.visible === 'legendonly')")
        before, ends = seen.page.evaluate(KEPT), seen.page.evaluate(ENDS)
        for _ in range(3):
            seen.until(f"Math.max(...{ENDS}) > {max(ends)}")
            ends = seen.page.evaluate(ENDS)
        assert min(ends) == 49  # of the run that is done
        assert seen.page.evaluate(KEPT) == before


@pytest.mark.browser
def test_a_comparison_over_the_time_shows_no_range_of_steps(browser, tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path / f"{name}.cockpit", steps=300)
    longest = f"Math.max(...{OVERLAY}.data.flatMap((line) => [...line.x]))"
    end = f"{OVERLAY}._fullLayout.xaxis.range[1]"
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 2")
        for place in range(2):
            seen.tick(seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place))
        seen.until(f"{OVERLAY} && {OVERLAY}.data.length === 2 && {end} === 299")
        for axis in ("Time", "Steps", "Time"):
            seen.page.get_by_role("button", name=axis, exact=True).click()
            seen.until(f"{longest} {'<' if axis == 'Time' else '>'} 200 && {end} < 1.2 * {longest}")
        assert seen.page.evaluate(f"{OVERLAY}._fullLayout.margin.t") < 40  # its legend is below


CHARTS = "document.querySelectorAll('#comparison .chart-plot .scatterlayer').length"
TITLES = "[...document.querySelectorAll('#comparison h3')].map((head) => head.textContent)"
LINES = f"{OVERLAY}.data.map((line) => [line.name, line.line.color, line.line.width])"
CHOSEN = "JSON.stringify(window.cockpit.compared.chosen())"


def overlay(seen, title):
    return seen.page.locator("#comparison .card", has=seen.page.get_by_role("heading", name=title, exact=True))


def select(seen, *names):
    for name in names:
        seen.tick(seen.page.locator(f".runs-table .ag-row[row-id='{name}.cockpit'] .ag-checkbox-input").first)


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_the_address_restores_a_comparison_and_how_it_is_drawn(browser, tmp_path, scheme, width):
    for pace in (3, 1, 2):
        timed(tmp_path, pace)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 1200}}
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs", **options) as seen:
        seen.until(f"{ROWS} === 3")
        assert not seen.page.locator("#tools").is_visible()  # there is nothing to act on
        select(seen, "pace-2", "pace-1")
        seen.until(f"{CHARTS} === 2")
        seen.page.locator(".instruments button").first.click()
        seen.page.get_by_role("option", name="Gradient norm", exact=True).click()
        seen.page.keyboard.press("Escape")
        seen.until(f"{TITLES}.includes('Gradient norm')")
        seen.page.locator("#tools").get_by_role("button", name="Time", exact=True).click()
        seen.page.locator("#smoothing").focus()
        for _ in range(3):
            seen.page.keyboard.press("ArrowRight")
        overlay(seen, "Loss").get_by_role("button", name="log axis").click()
        seen.until(f"{OVERLAY}.layout.yaxis.type === 'log' && {OVERLAY}.data.length === 4")
        seen.until(f"({OVERLAY}.layout.xaxis.ticktext || []).some((word) => word.endsWith('min'))")
        overlay(seen, "Loss").locator(".legendtoggle").first.click()
        seen.until("location.search.includes('hidden=')")
        lines, chosen, titles = seen.page.evaluate(LINES), seen.page.evaluate(CHOSEN), seen.page.evaluate(TITLES)
        assert json.loads(chosen)["runs"] == ["pace-2.cockpit", "pace-1.cockpit"]
        assert [line[0] for line in lines] == ["pace-2", "pace-2", "pace-1", "pace-1"]
        assert "compare=pace-2,pace-1&" in seen.page.url
        with visit(browser, seen.page.url, **options) as again:
            again.until(f"{CHARTS} === 3 && {OVERLAY}.data.length === 4")
            assert [again.page.evaluate(part) for part in (LINES, CHOSEN, TITLES)] == [lines, chosen, titles]
            assert again.page.evaluate(f"{OVERLAY}.layout.yaxis.type") == "log"
            assert again.page.evaluate(f"{OVERLAY}.data.map((line) => line.visible)").count("legendonly") == 2
            assert sorted(set(again.page.evaluate(CHECKED))) == ["pace-1.cockpit", "pace-2.cockpit"]
            assert again.page.locator("#smoothing").input_value() == "0.03"
            again.until(f"({OVERLAY}.layout.xaxis.ticktext || []).some((word) => word.endsWith('min'))")
            assert again.page.url == seen.page.url


@pytest.mark.browser
def test_a_scale_that_a_person_chooses_wins_over_the_one_that_fits_and_is_in_the_address(browser, tmp_path):
    ended(tmp_path, **BLOWN_UP)
    address, scale = "?page=runs&compare=a,b,c&by=loss", f"{OVERLAY}?.layout.yaxis.type"
    with page_server(tmp_path) as server, visit(browser, server.url + address) as seen:
        seen.until(f"{CHARTS} === 3 && {scale} === 'log'")
        button = overlay(seen, "Loss").get_by_role("button", name="log axis")
        seen.until("document.querySelector('#comparison [data-do=scale]').ariaPressed === 'true'")
        button.click()
        seen.until(
            f"{scale} === 'linear' && document.querySelector('#comparison [data-do=scale]').ariaPressed === 'false'"
        )
        assert "linear" in seen.page.url
        with visit(browser, seen.page.url) as again:
            again.until(f"{CHARTS} === 3 && {scale} === 'linear'")
        button.click()
        seen.until(f"{scale} === 'log'")
        assert "scale=" not in seen.page.url


@pytest.mark.browser
def test_the_address_of_many_runs_is_short_and_restores_them(browser, tmp_path):
    for place in range(45):
        run = SyntheticRun(tmp_path / f"a-rather-long-name-of-a-run-{place}.cockpit", panels=PANELS[:1])
        run.write(3)
        run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} > 5")
        seen.page.locator(".runs-table .ag-header .ag-checkbox-input").first.click()
        seen.until(f"{CHARTS} === 1 && location.search.includes('compare=')")
        assert len(seen.page.url) < 400
        select(seen, "a-rather-long-name-of-a-run-44")  # not this one
        seen.until(f"{OVERLAY}?.data.length === 44")
        chosen = json.loads(seen.page.evaluate(CHOSEN))
        with visit(browser, seen.page.url) as again:
            again.until(f"{OVERLAY} && {OVERLAY}.data.length === 44")
            assert json.loads(again.page.evaluate(CHOSEN)) == chosen


@pytest.mark.browser
def test_an_address_of_runs_with_odd_names_restores_them(browser, tmp_path):
    names = ("~aaaab", "a,b", "ü x%2C")
    for name in names:
        run = SyntheticRun(tmp_path / f"{name}.cockpit", panels=PANELS[:1])
        run.write(3)
        run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 3")
        for count, name in enumerate(names, 1):
            select(seen, name)
            seen.until(f"{OVERLAY}?.data.length === {count}")
            with visit(browser, seen.page.url) as again:
                again.until(f"{CHARTS} === 1 && {OVERLAY}?.data.length === {count}")
                assert json.loads(again.page.evaluate(CHOSEN))["runs"] == [f"{each}.cockpit" for each in names[:count]]


@pytest.mark.browser
def test_the_address_of_runs_in_folders_can_be_read_and_old_ones_are_understood(browser, tmp_path):
    for name in ("a", "b (2)"):
        write_run(tmp_path / "lr" / f"{name}.cockpit", steps=3)
    old = "?page=runs&compare=lr%252Fb%2520(2)%2Clr%252Fa&by=loss%2Calpha_curvature"
    with page_server(tmp_path) as server, visit(browser, server.url + old) as seen:
        seen.until(f"{CHARTS} === 2")
        assert json.loads(seen.page.evaluate(CHOSEN))["runs"] == ["lr/b (2).cockpit", "lr/a.cockpit"]
        seen.until("location.search.includes('&compare=lr/b+%282%29,lr/a&by=loss,alpha_curvature')")
        assert "%25" not in seen.page.url
        with visit(browser, seen.page.url) as again:
            again.until(f"{CHARTS} === 2")
            assert again.page.evaluate(CHOSEN) == seen.page.evaluate(CHOSEN)


SEEN = """(() => {
    const cell = document.querySelector(".runs-table .ag-row [col-id=run].ag-cell");
    const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
    const [range, box] = [document.createRange(), cell.getBoundingClientRect()];
    const end = text.data.lastIndexOf("large!");
    range.setStart(text, end);
    range.setEnd(text, end + 6);
    const drawn = range.getBoundingClientRect();
    return drawn.left >= box.left && drawn.right <= box.right + 1 && drawn.width > 20;
})()"""


@pytest.mark.browser
def test_the_end_of_a_long_name_is_seen_in_the_table(browser, tmp_path):
    (tmp_path / "20261130-040902-and-more").mkdir()
    run = SyntheticRun(tmp_path / "20261130-040902-and-more" / "too-large!.cockpit", panels=PANELS[:1])
    run.write(3)
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 1")
        assert seen.page.evaluate(SEEN)


@pytest.mark.browser
def test_an_address_of_runs_that_are_gone_says_so(browser, tmp_path):
    timed(tmp_path, 1)
    with (
        page_server(tmp_path) as server,
        visit(browser, server.url + "?page=runs&compare=a,pace-1,%25&by=x,<b>") as seen,
    ):
        seen.until(f"{CHARTS} === 2")
        assert seen.page.locator("#astray").inner_text() == "2 runs that the address compares are not here."
        seen.until("location.search.includes('compare=pace-1&by=loss')")


@pytest.mark.browser
def test_a_compared_chart_gives_a_picture_and_the_values_in_view(browser, tmp_path):
    swept(tmp_path)
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs&steps=5~20") as seen:
        seen.until(f"{ROWS} === 3")
        seen.page.locator(".runs-table .ag-header .ag-checkbox-input").first.click()
        seen.until(f"{CHARTS} === 4 && {OVERLAY}.layout.xaxis.range && {OVERLAY}.layout.xaxis.range[0] === 5")
        for title, name, columns in (
            ("Loss", "3_runs-compared_loss", ["run", "step", "reading", "value"]),
            ("Last loss against α", "3_runs-compared_by_α", ["run", "α", "Last loss"]),
        ):
            card = overlay(seen, title)
            card.locator(".menu summary").click()
            with seen.page.expect_download() as downloading:
                card.get_by_role("button", name="CSV").click()
            head, *rows = list(csv.reader(Path(downloading.value.path()).read_text().splitlines()))
            assert head == columns and {row[0] for row in rows} == {"rate-0.01", "rate-0.1", "rate-1.0"}
            assert downloading.value.suggested_filename == f"{name}.csv"
            assert title != "Loss" or {int(row[1]) for row in rows} == set(range(5, 21))
            card.locator(".menu summary").click()
            with seen.page.expect_download() as downloading:
                card.get_by_role("button", name="PNG").click()
            assert Path(downloading.value.path()).read_bytes()[:4] == b"\x89PNG"
