"""Every instrument on every kind of model and training: exact, estimated, or unavailable with a reason; never a gap."""

import dataclasses
import functools
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from judging import (
    ESTIMATED,
    HISTOGRAMS,
    INSTRUMENTS,
    PLAUSIBLE,
    READINGS,
    Judge,
    Judged,
    Verdict,
    judge_diagonals,
    judge_row,
    truth_of,
    watched_in,
)
from matrix import ROWS, Row
from twins import Recorder

import cockpitlite
from cockpitlite.instruments import known

MOST_UNAVAILABLE = 0.05
MOST_ESTIMATED = 0.20
quiet = pytest.mark.filterwarnings(  # what torch says of these rows without a panel too
    "ignore:.*torch.jit.script.*:DeprecationWarning",
    "ignore:.*lr_scheduler.step.*:UserWarning",
)


def judged(row: Row) -> Judged:
    return judged_by_name(row.name)


@functools.cache
def judged_by_name(name: str) -> Judged:
    (row,) = (row for row in ROWS if row.name == name)
    with tempfile.TemporaryDirectory() as folder:
        return judge_row(row, Path(folder))


def test_every_instrument_has_a_column():
    assert set(known()) == set(INSTRUMENTS)


def test_there_are_rows_enough():
    assert len(ROWS) >= 30
    assert len({row.name for row in ROWS}) == len(ROWS)


@quiet
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_is_right_or_says_why_not(row):
    bad = {
        name: f"{verdict.kind}: {verdict.reason}"
        for name, verdict in judged(row).verdicts.items()
        if verdict.kind in ("wrong", "missing")
    }
    assert not bad, "\n".join(f"{name} {text}" for name, text in bad.items())


@quiet
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_trains_to_the_same_bits(row):
    assert judged(row).differences == []


@quiet
@pytest.mark.parametrize("curvature", ["ggn_exact", "diag_h"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.dtype is torch.float64], ids=str)
def test_a_diagonal_that_is_not_drawn_is_exact_or_unavailable(row, curvature, tmp_path):
    found = judge_diagonals(row, judged(row).right, tmp_path, curvature)
    assert not found, "\n".join(found)


@quiet
def test_few_cells_are_unavailable_or_estimated():
    kinds = Counter(verdict.kind for row in ROWS for verdict in judged(row).verdicts.values() if verdict.kind != "none")
    assert kinds["unavailable"] <= MOST_UNAVAILABLE * kinds.total(), kinds
    assert kinds["estimated"] <= MOST_ESTIMATED * kinds.total(), kinds


# The judge can find fault ---------------------------------------------------------------------------------------------


class Tampered:
    """A run whose readings have been changed."""

    def __init__(self, run: cockpitlite.Run, name: str, factor: float = 1.0, without: bool = False) -> None:
        self.run, self.name, self.factor, self.without = run, name, factor, without
        self.meta = run.meta

    def series(self, name):
        if name == self.name and self.without:
            raise KeyError(name)
        steps, values = self.run.series(name)
        return steps, values * self.factor if name == self.name else values

    def layers(self, name):
        return self.run.layers(name)

    def histogram(self, name, step, layer=None):
        if name == self.name and self.without:
            raise KeyError(name)
        counts, edges = self.run.histogram(name, step, layer)
        if name == self.name and layer is not None:
            counts = np.roll(counts, 1)
        return counts, edges

    def unavailable(self):
        return self.run.unavailable()


@pytest.fixture(scope="module")
def first_row(tmp_path_factory):
    folder = tmp_path_factory.mktemp("row")
    recorder = Recorder()
    ROWS[0].train(recorder.watch)
    for _, optimizer in ROWS[0].train(watched_in(folder)):
        optimizer.cockpit.close()
    return cockpitlite.load(folder / "run.cockpit"), truth_of(ROWS[0], recorder)


def verdict_on(first_row, name: str, **changes) -> Verdict:
    run, right = first_row
    reading = READINGS[name][0] if name in READINGS else name
    return Judge(ROWS[0], Tampered(run, reading, **changes), right).verdict(name)


JUDGED = [name for name in INSTRUMENTS if name not in (*PLAUSIBLE, *HISTOGRAMS)]


ZERO = ("uphill", "dead_units", "saturated_units", "zero_gradient", "stale_gradient", "probability_rows")


@pytest.mark.parametrize("name", [name for name in JUDGED if name not in ZERO])
def test_a_wrong_value_is_found(first_row, name):
    assert verdict_on(first_row, name, factor=1e6 if name in ESTIMATED else 1.5).kind == "wrong"


@pytest.mark.parametrize("name", [*JUDGED, *HISTOGRAMS])
def test_a_gap_is_found(first_row, name):
    assert verdict_on(first_row, name, without=True).kind == "missing"


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_wrong_count_is_found(first_row, name):
    assert verdict_on(first_row, name).kind == "wrong"


def test_an_untouched_run_is_right(first_row):
    run, right = first_row
    kinds = {verdict.kind for verdict in Judge(ROWS[0], run, right).verdicts().values()}
    assert kinds <= {"exact", "estimated"}


def test_a_reason_makes_a_gap_unavailable(first_row):
    run, right = first_row
    judge = Judge(ROWS[0], Tampered(run, "norm_test", without=True), right)
    judge.reasons = {"norm_test": "told"}
    assert judge.verdict("norm_test") == Verdict("unavailable", 0.0, "told")
    assert dataclasses.replace(judge.verdict("norm_test"), reason="").kind == "unavailable"
