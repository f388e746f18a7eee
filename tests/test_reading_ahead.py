"""While the browser starts the page's scripts, the server reads the run that it will show."""

import threading

import pytest
from synthetic_runs import PANELS, write_run

from cockpitlite.dashboard import ahead, app, live


@pytest.fixture
def read(monkeypatch):
    """What was read, by the names of runs: the places of panels."""
    found = {}
    news = live.news

    def noted(opened, asked, findings=None):
        found.setdefault(opened.run.path.stem, []).extend(asked)
        return news(opened, asked, findings)

    monkeypatch.setattr(ahead.live, "news", noted)
    return found


def visited(client, address="/"):
    answer = client.get(address)
    for thread in threading.enumerate():
        if thread.name == ahead.NAME:
            thread.join()
    return answer


def test_the_first_panels_of_the_newest_run_are_read_once(tmp_path, read):
    write_run(tmp_path / "older.cockpit", steps=5)
    write_run(tmp_path / "newer.cockpit", steps=5)
    client = app.create_app(tmp_path).server.test_client()
    visited(client)
    counts = {}
    for place in read["newer"]:
        counts[PANELS[place].group] = counts.get(PANELS[place].group, 0) + 1
    assert set(counts) == {panel.group for panel in PANELS} and max(counts.values()) <= ahead.FIRST
    before = len(read["newer"])
    visited(client)
    assert list(read) == ["newer"] and len(read["newer"]) == before


def test_the_run_that_the_address_names_is_read(tmp_path, read):
    for name in ("one", "two"):
        write_run(tmp_path / f"{name}.cockpit", steps=5)
    visited(app.create_app(tmp_path).server.test_client(), "/?run=one.cockpit&page=overview")
    assert list(read) == ["one"]


@pytest.mark.parametrize("address", ["/?run=nothing.cockpit", "/?run=..%2Fsecret.cockpit", "/_dash-layout"])
def test_nothing_else_is_read(tmp_path, read, address):
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "secret.cockpit", steps=5)
    write_run(tmp_path / "runs" / "run.cockpit", steps=5)
    assert visited(app.create_app(tmp_path / "runs").server.test_client(), address).status_code == 200
    assert read == {}


def test_a_visitor_without_the_token_has_nothing_read(tmp_path, read):
    write_run(tmp_path / "run.cockpit", steps=5)
    client = app.create_app(tmp_path, host="0.0.0.0", token="secret").server.test_client()
    assert visited(client).status_code != 200
    assert read == {}
