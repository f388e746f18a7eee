"""The examples run as they stand, and leave what they promise."""

import runpy
from pathlib import Path

import pytest

import cockpitlite
from cockpitlite.cli import main

HOUSE = Path(__file__).parents[1]


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_instrument_of_ones_own_is_shown_everywhere(at_home, capsys):
    runpy.run_path(str(HOUSE / "examples" / "own_instrument.py"), run_name="__main__")
    (path,) = at_home.glob("runs/*.cockpit")
    assert (at_home / "own_instrument.png").stat().st_size > 10_000
    run = cockpitlite.load(path)
    assert {"agreement", "newton_decrease"} <= {panel.name for panel in run.panels()}
    _, layers, values = run.layers("newton_decrease")
    assert layers == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert values.shape[1] == 4
    _, agreement = run.series("agreement")
    assert ((agreement > 0) & (agreement <= 1)).all()  # a mean of squares is no smaller than the square of the mean
    capsys.readouterr()
    assert main(["export", str(path), "--csv"]) == 0
    assert "agreement" in capsys.readouterr().out
