"""What is marked on the charts of a run: jumps of the learning rate, changed settings, resumes and pauses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic_runs import PANELS, SyntheticRun

from cockpitlite.dashboard import figures, ticks, updates
from cockpitlite.dashboard.legend import legend
from cockpitlite.dashboard.readings import Readings, RunReader, Series
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.dashboard.verdict import Judge
from cockpitlite.marks import Mark, marks, thinned
from cockpitlite.panel import Panel
from cockpitlite.store import Event, RunWriter, load

LOSS = Panel("Loss", "performance").named("loss")
T = 2000
STEPS = np.arange(T)
BURSTS = np.array([*range(0, 50, 5), *(start + step for start in range(500, T, 500) for step in range(10))])
COSINE = 0.05 * (1 + np.cos(np.pi * STEPS / T))
RESTARTS = 0.05 * (1 + np.cos(np.pi * (STEPS % 700) / 700))
SMOOTH = {
    "constant": np.full(T, 0.1),
    "cosine": COSINE,
    "warm-up": np.minimum(STEPS / 300, 1) * 0.1,
    "one cycle": np.interp(STEPS, [0, 600, 1800, T], [0.004, 0.1, 0.004, 4e-5]),
    "exponential": 0.1 * 0.997**STEPS,
    "inverse root": 0.1 / np.sqrt(STEPS + 1),
    "small steps": 0.1 * 0.95 ** (STEPS // 100),
}


def rates(values, steps=STEPS):
    return marks([], (steps, values[steps]))


def at(found):
    return [mark.step for mark in found]


# Jumps of the learning rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SMOOTH)
@pytest.mark.parametrize("steps", [STEPS, STEPS[::37], BURSTS], ids=["every step", "every 37th", "bursts"])
def test_a_smooth_schedule_has_no_marks_at_any_time(schedule, steps):
    for now in (2, 3, 5, 11, len(steps) // 2, len(steps)):
        assert rates(SMOOTH[schedule], steps[:now]) == ()


def test_steps_of_a_schedule_are_marked_where_they_are_and_say_what_changed():
    found = rates(0.1 * 0.1 ** (STEPS // 600))
    assert at(found) == [600, 1200, 1800]
    assert found[0].words == "learning rate 0.1 → 0.01"


def test_a_warm_restart_is_marked_and_the_cosine_is_not():
    assert at(rates(RESTARTS)) == [700, 1400]
    assert at(rates(RESTARTS, STEPS[::37])) == [703, 1406]


def test_a_rate_set_to_zero_and_one_that_is_not_finite():
    values = np.full(T, 0.1)
    values[500:600] = 0.0
    values[1000:1010] = np.nan
    assert at(rates(values)) == [500, 600]


def test_a_jump_in_a_million_steps_is_marked_at_its_step(tmp_path):
    writer = RunWriter(tmp_path / "long.cockpit")
    writer.panel(LOSS)
    steps = np.arange(1_000_000)
    rate = 0.05 * (1 + np.cos(np.pi * steps / 1e6)) * np.where(steps < 654_321, 1.0, 0.1)
    writer.readings("learning_rate", zip(steps.tolist(), rate.tolist(), strict=True))
    writer.close()
    reader = RunReader(load(tmp_path / "long.cockpit"))
    (read,) = reader.read([LOSS])
    (found,) = read.marks
    assert 654_321 <= found.step < 654_321 + 1000  # less than a pixel of the whole run
    assert reader.marks == read.marks


# Events -----------------------------------------------------------------------------------------------------------


def settings(step, name, old, new, group=0):
    return Event(step, 0.0, "settings", {"group": group, "name": name, "old": old, "new": new})


def words(*events):
    return [(mark.step, mark.kind, mark.words) for mark in marks(events, (np.empty(0, np.int64), np.empty(0)))]


def test_resumes_pauses_and_faults_are_marked_in_the_order_of_the_steps():
    kinds = {"unpause": 9, "pause": 5, "resume": 3, "nonfinite": 7, "dropped": 8, "start": 0, "warning": 1}
    assert words(*(Event(step, 0.0, kind, {}) for kind, step in kinds.items())) == [
        (3, "resume", "resumed"),
        (5, "pause", "watching paused"),
        (7, "nonfinite", "first non-finite value"),
        (8, "dropped", "steps left out"),
        (9, "pause", "watching goes on"),
    ]


def test_one_setting_of_several_groups_is_one_mark():
    events = [settings(4, "momentum", 0.9, 0.95, group) for group in range(3)]
    assert words(*events) == [(4, "settings", "momentum 0.9 → 0.95 in 3 groups")]


def test_a_setting_that_follows_a_schedule_has_no_marks():
    assert len(words(*[settings(step, "betas", [0.9], [0.8]) for step in range(20)])) == 20
    assert words(*[settings(step, "betas", [0.9], [0.8]) for step in range(21)]) == []


def test_layers_that_are_frozen_later_on_are_marked():
    structures = [[], ["a", "b"], ["b", "c"], ["b", "c"]]
    events = [Event(step, 0.0, "parameters", {"frozen": frozen}) for step, frozen in enumerate(structures)]
    assert words(*events) == [(1, "frozen", "2 tensors frozen"), (2, "frozen", "1 tensor frozen, 1 tensor freed")]


# On the charts ----------------------------------------------------------------------------------------------------


def many(count, distance=10):
    return [Mark(distance * place, "resume", "resumed") for place in range(count)]


def test_thinned_marks_say_how_many_they_stand_for_and_lose_none():
    found = thinned(many(100), 60)
    assert len(found) == 16
    assert found[0].words == "resumed at step 0; 6 more up to step 60"
    assert thinned(many(3), 1)[1].words == "resumed at step 10"
    assert {mark.step for mark in thinned(many(50), 60)} <= {mark.step for mark in found}  # they stay where they are


def read(steps=400, found=()):
    return Readings({"loss": Series(np.arange(steps), np.ones(steps))}, marks=tuple(found))


def lines(readings, view):
    drawn = [curve.reduced(view.columns, view.window) for curve in figures.curves(LOSS, readings)]
    return [curve for curve in drawn if curve.role == "event"]


def test_hundreds_of_marks_stay_apart_are_short_and_come_apart_in_a_zoom():
    readings = read(100_000, many(500, 200))
    (whole,) = lines(readings, View(columns=300))
    steps = np.unique(whole.steps)
    assert 10 < len(steps) <= 60
    assert np.diff(steps).min() >= 5 * 100_000 / 300
    assert np.nanmax(whole.values) < 0.2
    (zoomed,) = lines(readings, View(columns=300, window=(50_000.0, 52_000.0)))
    inside = zoomed.steps[(zoomed.steps >= 50_000) & (zoomed.steps <= 52_000)]
    assert len(np.unique(inside)) == 11
    assert np.nanmax(zoomed.values) == 1


def sent(readings, shown, view=None):
    patch, after = updates.update(LOSS, readings, shown, view or View())
    operations = [] if patch is None else json.loads(json.dumps(patch.to_plotly_json()["operations"], default=str))
    return operations, Shown.from_dict(json.loads(json.dumps(after.to_dict())))


def test_marks_are_sent_once_and_not_with_every_tick():
    found = many(3, 100)
    shown = updates.shown(LOSS, read(400, found))
    operations, shown = sent(read(410, found), shown)
    assert {tuple(each["location"]) for each in operations} == {("data", 1, "x"), ("data", 1, "y")}
    later = [*found, Mark(405, "resume", "resumed")]
    operations, shown = sent(read(410, later), shown)
    assert {each["location"][1] for each in operations} == {0}  # the marks alone
    assert sent(read(410, later), shown)[0] == []
    operations, shown = sent(read(410, [Mark(50, "rate", "learning rate 1 → 2"), *later]), shown)
    assert operations[0]["location"] == ["data"]  # a kind came: the chart gets all curves
    assert sent(read(410, [Mark(50, "rate", "learning rate 1 → 2"), *later]), shown)[0] == []


def test_a_chart_without_values_has_no_lines():
    assert lines(read(0, many(3)), View()) == []


def test_the_legend_names_each_kind_counts_it_and_lists_its_steps():
    text = json.dumps(legend([*many(40), Mark(7, "rate", "learning rate 1 → 2")]), default=lambda c: c.to_plotly_json())
    assert "learning rate jumped" in text and "\\u00d740" in text
    assert "24 more lines" in text and "step 390: resumed" in text
    assert legend([]) == []


def test_the_legend_is_sent_when_a_mark_came_and_not_with_every_tick(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit", panels=PANELS[:1])
    run.write(50)
    runs = Runs(tmp_path)
    asked = {"run": "run.cockpit", "page": "overview", "board": None, "cards": 1, "smoothing": 0, "axis": "step"}
    asked |= {"layer": {"layer": None, "step": None}, "marks": None, "charts": {"0": [300, None, None, None]}}
    asked["board"] = ticks.answered(runs, Judge(), asked)["identity"]
    first = ticks.answered(runs, Judge(), asked)
    assert first["legend"] == []
    asked["marks"] = first["marks"]
    run.write(1)
    assert "legend" not in ticks.answered(runs, Judge(), asked)
    run.writer.event(50, "resume", {})
    run.write(1)
    answer = ticks.answered(runs, Judge(), asked)
    assert "resumed" in json.dumps(answer["legend"], default=lambda part: part.to_plotly_json())
    assert "legend" not in ticks.answered(runs, Judge(), asked | {"marks": answer["marks"]})
    run.finish()
