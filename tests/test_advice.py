"""The learning rate that a diagnosis suggests, on the gauge of the step length it was judged by."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from synthetic_runs import PANELS, write_run

from cockpitlite import diagnose
from cockpitlite.dashboard import gauge, live
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.readings import Readings, Series
from cockpitlite.dashboard.runs import Runs, panels
from cockpitlite.dashboard.updates import Shown, View
from cockpitlite.diagnosis.advice import advice
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.panel import Panel
from cockpitlite.store import load

SMALL = Finding("R3", "warning", 0.84, "Learning rate too small", "", lr_factor=5.0, lr_range=(2.0, 10.0))
SAME = Panel("α", "step size", kind="parabola").named("alpha_same")


def read(*values):
    return Readings({"alpha_same": Series(np.arange(len(values)), np.array(values))})


def goal(figure):
    return {trace.mode: trace for trace in figure.data if trace.type == "scatter"}


def test_advice_says_what_to_try_with_the_odds():
    said = advice([SMALL], 0.1)
    assert said.label == "try 0.5"
    assert said.words == (
        "Learning rate too small (84 % sure): try 0.5 instead of 0.1 (×5). In eight of ten calibration runs that read "
        "like this the best was 0.2 to 1."
    )
    assert advice([SMALL], math.nan).label == "try ×5"
    assert advice([SMALL], math.nan).words.endswith("the best was 2 to 10 times that.")


def test_only_a_finding_that_stands_and_names_a_rate_advises():
    silent = dataclasses.replace(SMALL, lr_factor=None)
    cleared = dataclasses.replace(SMALL, until=90)
    assert advice([silent, cleared], 0.1) is None
    assert advice(None, 0.1) is None
    assert advice([silent, SMALL], 0.1).factor == 5


def test_the_gauge_shows_where_steps_would_end_and_where_the_best_lay():
    figure = gauge.figure(SAME, read(*[-0.9] * 20), advice([SMALL], 0.1))
    ring = goal(figure)["markers+text"]
    assert ring.x[0] == pytest.approx(-0.5) and ring.y[0] == pytest.approx(0.25)
    assert ring.text[0].strip() == "try 0.5"
    band = next(
        trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines" and trace.line.width > 5
    )
    assert (band.x[0], band.x[-1]) == pytest.approx((-0.8, 0.0))
    assert figure.data[-1].x[0] == pytest.approx(-0.9)


def test_a_gauge_shows_no_goal_where_none_is_known():
    assert "markers+text" not in goal(gauge.figure(SAME, read(-1.2, -1.3), advice([SMALL], 0.1)))  # no step downhill
    assert "markers+text" not in goal(gauge.figure(SAME, read(), advice([SMALL], 0.1)))
    other = dataclasses.replace(SAME, readings=("alpha",))
    assert gauge.advised(other, advice([SMALL], 0.1)) is None
    assert "try 0.5" in gauge.caption(SAME, read(), advice([SMALL], 0.1))


def test_the_diagnosis_gives_the_range_of_the_best_rate(tmp_path):
    (found,) = [each for each in diagnose(load(write_run(tmp_path / "a.cockpit", "small", 60))) if each.code == "R3"]
    low, high = found.lr_range
    assert 1 < low <= found.lr_factor <= high
    assert "lr_range" in found.to_dict()


def told(changes):
    return {int(place): Asked(View(), Shown.from_dict(change["shown"])) for place, change in changes.items()}


def words(change):
    return json.dumps(change["words"], default=lambda part: part.to_plotly_json())


def test_advice_reaches_a_page_that_was_drawn_before_the_judgement_and_is_sent_once(tmp_path):
    write_run(tmp_path / "small.cockpit", "small", 60)
    opened = Runs(tmp_path).open("small.cockpit")
    place = [panel.name for panel in panels(opened.run)].index("alpha_same")
    begun = live.news(opened, {index: Asked(View()) for index in range(len(PANELS))})
    assert "try" not in words(begun[place])
    findings = diagnose(opened.run)
    changes = live.news(opened, told(begun), findings)
    assert list(changes) == [place] and set(changes[place]) == {"gauge", "words", "shown"}
    assert "try 0.0001 instead of 1e-5" in words(changes[place])
    assert live.news(opened, told(begun) | told(changes), findings) == {}


def test_a_gauge_that_is_drawn_after_the_judgement_has_it_at_once(tmp_path):
    write_run(tmp_path / "small.cockpit", "small", 60)
    opened = Runs(tmp_path).open("small.cockpit")
    begun = live.news(opened, {index: Asked(View()) for index in range(len(PANELS))}, diagnose(opened.run))
    (found,) = [change for change in begun.values() if "try 0.0001 instead" in words(change)]
    assert "markers+text" in goal(found["gauge"])
