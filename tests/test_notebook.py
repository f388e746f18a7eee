"""``show``: the live page below a notebook's cell, or in a browser, from a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from reverse_proxy import reverse_proxy
from synthetic_runs import write_run

import cockpitlite
from cockpitlite import notebook

PATIENCE = 60


class Notebook:
    """A stand-in for IPython: the cell that is executed, and what was displayed below it."""

    def __init__(self, monkeypatch) -> None:
        self.shell = SimpleNamespace(kernel=object(), execution_count=1)
        self.shown: list[dict[str, str]] = []
        ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
        ipython.get_ipython = lambda: self.shell
        ipython.display = display
        display.display = lambda thing: self.shown.append(thing._repr_mimebundle_())
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def value(self, thing: object) -> dict[str, str]:
        """Return what stands below a cell with this value, which then is over."""
        bundle = thing._repr_mimebundle_(include=None, exclude=None)
        self.shell.execution_count += 1
        return bundle


@pytest.fixture
def cells(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    notebook._end_all()
    notebook._servers.clear()


def answer(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until_refused(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.connect()
        except ConnectionError:
            return
        finally:
            connection.close()
        assert time.monotonic() < end, "the server was left behind"
        time.sleep(0.05)


def test_a_page_stands_below_its_cell_once_and_below_later_ones_that_ask_for_it(cells, tmp_path):
    run_path = write_run(tmp_path / 'a">.cockpit', steps=2)
    page = cockpitlite.show(run_path, height=321)
    (shown,) = cells.shown
    frame = f'<iframe src="{page.url}" title="Cockpitlite: a&quot;&gt;.cockpit" width="100%" height="321" '
    assert shown["text/html"].startswith(frame)
    assert answer(page.url)[0] == 200
    assert cells.value(page) == {"text/plain": f"Cockpitlite shows {run_path} at {page.url}"}
    assert cells.value(page) == shown
    page.close()
    page.close()
    assert cells.value(page) == {"text/plain": f"Cockpitlite shows {run_path} no more (closed)"}


def test_the_same_is_shown_by_the_server_that_runs_and_another_by_another(cells, tmp_path):
    one, other = write_run(tmp_path / "a.cockpit", steps=2), write_run(tmp_path / "b.cockpit", steps=2)
    first, again = cockpitlite.show(one), cockpitlite.show(cockpitlite.load(one), height=400)
    assert first.url == again.url and again.height == 400
    second = cockpitlite.show(other)
    assert second.url != first.url
    assert len(cells.shown) == 3
    again.close()
    until_refused(int(first.url.split(":")[2].split("/")[0]))
    third = cockpitlite.show(one)
    assert third.url != first.url and answer(third.url)[0] == answer(second.url)[0] == 200


def test_a_server_that_was_killed_is_replaced(cells, run_path):
    write_run(run_path, steps=2)
    page = cockpitlite.show(run_path)
    os.kill(page._server._process.pid, signal.SIGKILL)
    until_refused(page._server.port)
    assert answer(cockpitlite.show(run_path).url)[0] == 200


def test_in_a_folder_that_is_not_there_yet_runs_are_waited_for(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = cockpitlite.show()
    assert page.path == Path("runs") and answer(page.url)[0] == 200
    assert cockpitlite.show("others", wait=True).url != page.url


def test_only_who_knows_its_address_sees_it(cells, run_path):
    write_run(run_path, steps=2)
    page = cockpitlite.show(run_path)
    home = f"http://127.0.0.1:{page._server.port}/"
    assert [answer(f"{home}{path}")[0] for path in ("", "_dash-layout", "x/_dash-layout", "%FF/")] == [403] * 4
    assert answer(page.url, Host="any.example")[0] == 200
    assert answer(page.url.rstrip("/"))[0] == 200
    secret = page.url.rstrip("/").rpartition("/")[2]
    assert len(secret) >= 30
    process = page._server._process
    assert not any(secret in word for word in process.args)  # other users may read them


def test_outside_of_a_notebook_it_says_where_and_opens_a_browser(run_path, tmp_path, monkeypatch, capsys):
    write_run(run_path, steps=2)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    page = cockpitlite.show(run_path)
    assert capsys.readouterr() == (f"Cockpitlite shows {run_path} at {page.url}\n", "")
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "opened").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (tmp_path / "opened").read_text() == f"{page.url}\n"


# A process that shows a page and tells where; then it ends by being killed, by itself, or by an error.
SHOWS = """
import os, sys, threading, time
sys.modules["torch"] = None
import cockpitlite
page = cockpitlite.show(sys.argv[1])
assert not {"dash", "flask", "plotly"} & set(sys.modules)
if sys.argv[2] == "forks" and not os.fork():
    os.close(1), os.close(2)
    time.sleep(30)
    os._exit(0)
try:
    sys.stdin.readline()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()
if sys.argv[2] == "fails":
    sys.exit(5)
"""


def showing(path: Path, way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHOWS, path, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("way", ["alone", "forks"])
def test_the_server_ends_with_a_process_that_is_killed_whatever_that_had_forked(run_path, way):
    write_run(run_path, steps=2)
    with showing(run_path, way) as process:
        url = process.stdout.readline().split()[-1]
        assert answer(url)[0] == 200
        os.kill(process.pid, signal.SIGKILL)
        until_refused(int(url.split(":")[2].split("/")[0]))
        if way == "forks":
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("way", "status"), [("ends", 0), ("fails", 5)])
def test_the_server_ends_with_a_process_that_ends(run_path, way, status):
    write_run(run_path, steps=2)
    with showing(run_path, way) as process:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        assert process.communicate("\n", timeout=PATIENCE) == ("", "")
        assert process.returncode == status
    until_refused(port)


def test_what_interrupts_a_cell_leaves_the_page_alone(run_path):
    write_run(run_path, steps=2)
    with showing(run_path, "ends") as process:
        url = process.stdout.readline().split()[-1]
        os.killpg(process.pid, signal.SIGINT)  # as Jupyter does it
        assert process.stdout.readline() == "interrupted\n"
        assert answer(url)[0] == 200
        assert process.communicate("\n", timeout=PATIENCE) == ("", "")


@pytest.mark.parametrize("strips", [True, False])
def test_on_a_hub_the_page_is_where_the_proxy_shows_it(cells, run_path, monkeypatch, strips):
    write_run(run_path, steps=2)
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    page = cockpitlite.show(run_path)
    below = f"/user/me/proxy/{page._server.port}/"
    assert page.url.startswith(below) and page.url.count("/") == 6
    assert f'src="{page.url}"' in cells.shown[0]["text/html"]
    with reverse_proxy(below, page._server.port, strips=strips) as url:
        there = url.removesuffix(below) + page.url
        status, text = answer(there)
        assert status == 200 and f'src="{page.url}_dash-component-suites/' in text
        assert answer(there + "_dash-layout")[0] == 200
        assert answer(url)[0] == 403
    elsewhere = cockpitlite.show(run_path, prefix="/proxy/{port}")
    assert elsewhere.url.startswith(f"/proxy/{elsewhere._server.port}/")


def test_in_colab_its_own_frame_shows_the_port(cells, run_path, monkeypatch):
    write_run(run_path, steps=2)
    asked = []
    output = SimpleNamespace(serve_kernel_port_as_iframe=lambda port, **options: asked.append((port, options)))
    colab = ModuleType("google.colab")
    colab.output = output
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    page = cockpitlite.show(run_path, height=500)
    path = page.url.removeprefix(f"http://127.0.0.1:{page._server.port}")
    assert asked == [(page._server.port, {"path": path, "height": "500"})]
    assert cells.shown == [] and list(cells.value(page)) == ["text/plain"]
    with urllib.request.urlopen(page.url, timeout=PATIENCE) as answered:
        assert "https://colab.research.google.com" in answered.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gone.cockpit", FileNotFoundError, "does not exist; give a run file"),
        ("empty", ValueError, "holds no run file"),
        ("bad.cockpit", cockpitlite.RunFileError, "is not a cockpitlite run file"),
    ],
)
def test_what_cannot_be_shown_is_named(cells, tmp_path, name, error, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.cockpit").write_text("hello")
    with pytest.raises(error, match=words) as raised:
        cockpitlite.show(tmp_path / name)
    assert type(raised.value) is error
    assert cells.shown == [] and not notebook._servers


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"port": 70_000}, ValueError, "port is a number from 0 to 65535; got 70000"),
        ({"port": "8050"}, TypeError, "port is a whole number; got '8050'"),
        ({"height": 0}, ValueError, "height is a number of 1 or more; got 0"),
        ({"height": "100%"}, TypeError, "height is a whole number"),
        ({"prefix": "http://hub/"}, ValueError, "a prefix is a path such as /panel/"),
    ],
)
def test_arguments_that_make_no_sense_are_named(cells, run_path, options, error, words):
    write_run(run_path, steps=2)
    with pytest.raises(error, match=words):
        cockpitlite.show(run_path, **options)


def test_an_optimizer_is_shown_by_its_handle():
    with pytest.raises(TypeError, match=r"got SimpleNamespace \(what watch\(\) returned shows itself by optimizer.co"):
        cockpitlite.show(SimpleNamespace())


@pytest.mark.parametrize(
    ("dash", "error", "words"),
    [
        ("raise ModuleNotFoundError(\"No module named 'dash'\")", ImportError, "No module named 'dash'.*pip install"),
        ("import os; os._exit(3)", RuntimeError, "ended with status 3 before it could show it"),
    ],
)
def test_a_page_that_cannot_be_made_says_why(cells, run_path, tmp_path, monkeypatch, dash, error, words):
    write_run(run_path, steps=2)
    (tmp_path / "dash.py").write_text(dash)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(error, match=words):
        cockpitlite.show(run_path)


def test_a_training_shows_its_page_or_goes_on_without_one(cells, watch, tmp_path, monkeypatch):
    import torch

    model = torch.nn.Linear(2, 1)
    watch(torch.optim.SGD(model.parameters(), lr=0.1), model, dashboard=True, run=tmp_path / "a.cockpit")
    (shown,) = cells.shown
    assert answer(shown["text/plain"].split()[-1])[0] == 200
    (tmp_path / "dash.py").write_text("raise ModuleNotFoundError(\"No module named 'dash'\")")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.warns(UserWarning, match="the live page is not shown: .*No module named 'dash'"):
        watch(torch.optim.SGD(model.parameters(), lr=0.1), model, dashboard=True, run=tmp_path / "b.cockpit")


def test_the_handle_shows_its_own_run_also_when_it_is_closed(cells, watch, run_path):
    import torch

    model = torch.nn.Linear(2, 1)
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1), model)
    model(torch.ones(3, 2)).square().mean().backward()
    optimizer.step()
    page = optimizer.cockpit.show(height=300)
    assert page.path == run_path and answer(page.url)[0] == 200
    optimizer.cockpit.close()
    assert optimizer.cockpit.show().url == page.url
    assert len(cells.shown) == 2
