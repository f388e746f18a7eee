"""The README's code runs, its commands exist, its pictures are there."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # as the README has it

import cockpitlite
from cockpitlite import notebook
from cockpitlite.cli import _parser

HOUSE = Path(__file__).parents[1]
README = (HOUSE / "README.md").read_text(encoding="utf-8")
LOOP, NOTEBOOK, FILE, INSTRUMENT = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(4, 3)
    loader = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(4)]
    return {"torch": torch, "F": F, "model": model, "loader": loader, "cockpitlite": cockpitlite}


def run_loop(scene):
    body = LOOP[LOOP.index("for x, y") :]
    exec(body, scene)
    scene["optimizer"].cockpit.close()
    return scene["optimizer"].cockpit.run


def test_the_one_line_and_the_file(scene, tmp_path):
    exec(LOOP, scene)
    scene["optimizer"].cockpit.close()
    (path,) = tmp_path.glob("runs/*.cockpit")
    exec(FILE.replace('"runs/x.cockpit"', repr(str(path))), scene)
    assert (tmp_path / "cockpit.png").stat().st_size > 0
    assert scene["steps"].tolist()[:1] == [0]


def test_the_page_in_a_notebook(scene, monkeypatch, capsys):
    for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(screen, raising=False)
    exec(LOOP, scene)
    try:
        exec(NOTEBOOK, scene)
        said = capsys.readouterr().out.splitlines()
        assert [line.split()[2] for line in said] == [str(scene["optimizer"].cockpit.run), "runs"]
    finally:
        notebook._end_all()
        notebook._servers.clear()
        scene["optimizer"].cockpit.close()


def test_an_instrument_of_your_own(scene):
    scene["optimizer"] = torch.optim.SGD(scene["model"].parameters(), lr=0.1)
    exec(INSTRUMENT, scene)
    run = cockpitlite.load(run_loop(scene))
    _, values = run.series("sample_ratio")
    assert (values >= 1).all()  # a mean of norms is no smaller than the norm of the mean
    assert "sample_ratio" in {panel.name for panel in run.panels()}


def test_every_command_is_understood():
    lines = [line for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.S) for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if "cockpitlite " in line]
    assert len(commands) >= 6
    for command in commands:
        _parser().parse_args(command[1:])


def test_every_picture_and_page_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (HOUSE / target).is_file(), target
