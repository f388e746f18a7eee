"""Runs that hardly are any, recorded for real: every view of them works, and what is said is true of them."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_runs import MadeRun, diagnosed
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

import cockpitlite
from cockpitlite.cli import main
from cockpitlite.diagnosis import diagnose, unjudged
from cockpitlite.diagnosis.engine import past
from cockpitlite.diagnosis.words import QUIET
from cockpitlite.store import RunFileError, RunWriter, load

HOUSE = Path(__file__).parents[1]
EARLY = "Too early to tell"

DIES = """
import os, sys, torch, cockpitlite
from torch import nn
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=0.1), model, run=sys.argv[1])
for step in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(3, (32,)))
    loss.backward()
    if step == 1:
        DEATH
    optimizer.step()
"""


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 8, generator=generator)
    for _ in range(count):
        labels = torch.randint(3, (32,), generator=generator)
        yield centres[labels] + 0.7 * torch.randn(32, 8, generator=generator), labels


def train(optimizer, model, steps, loss=F.cross_entropy, seed=0, step=True):
    for x, y in batches(steps, seed):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        if step:
            optimizer.step()
    optimizer.cockpit.close()


def watched(path, model, lr=0.1, named=True, **options):
    torch.manual_seed(0)
    return cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=lr), model if named else None, run=path, **options)


def of_no_step(path):
    watched(path, network()).cockpit.close()


def of_three_steps(path):
    model = network()
    train(watched(path, model), model, 3)


def with_only_a_loss(path):
    model = network()
    train(watched(path, model, panel=["loss"]), model, 60)


def with_only_nan(path):
    model = network()
    train(watched(path, model), model, 30, lambda out, y: F.cross_entropy(out, y) * torch.nan)


def that_never_stepped(path):
    model = network()
    train(watched(path, model), model, 30, step=False)


def without_its_model(path):
    model = network()
    train(watched(path, model, named=False), model, 60)


def resumed(path):
    model = network()
    train(watched(path, model), model, 40)
    train(watched(path, model, resume=True), model, 40, seed=1)


def resumed_elsewhere(path):
    model = network()
    train(watched(path.with_name("before.cockpit"), model), model, 40)
    path.with_name("before.cockpit").unlink()
    train(watched(path, model), model, 3, seed=1)


def killed(path):
    _die(path, "os.kill(os.getpid(), 9)", status=-9)


def stopped_by_an_exception(path):
    _die(path, "raise RuntimeError('out of memory')", status=1)


def _die(path, death, status):
    program = DIES.replace("DEATH", death)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, cwd=HOUSE)
    assert done.returncode == status, done.stderr


MAKERS = (
    of_no_step,
    of_three_steps,
    killed,
    stopped_by_an_exception,
    resumed,
    resumed_elsewhere,
    with_only_a_loss,
    with_only_nan,
    that_never_stepped,
    without_its_model,
)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def path(request, tmp_path):
    found = tmp_path / f"{request.param.__name__}.cockpit"
    request.param(found)
    return found


def made(maker, tmp_path):
    maker(tmp_path / "run.cockpit")
    return tmp_path / "run.cockpit"


def said(capsys, *arguments):
    """Call the command line; return its status and all that it printed."""
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def page(path):
    """Return the title of a run's page; the board and all its charts are sent without an error."""
    from cockpitlite.dashboard import create_app

    client = create_app(path).server.test_client()
    assert client.get("/").status_code == 200
    asked = {"run": path.name, "page": "overview", "layer": {"layer": None, "step": None}, "marks": None, "board": None}
    asked |= {"cards": 0, "charts": {}, "smoothing": 0, "axis": "step"}
    board = _posted(client, "/tick", asked)["identity"]
    charts = {str(place): [300, None, None, None] for place in range(60)}
    assert "charts" in _posted(client, "/tick", asked | {"board": board, "charts": charts})
    return _verdict(client, path)["title"]["data-title"]


def _verdict(client, path):
    outputs = {"verdict": "children", "findings": "children", "title": "data-title", "judged": "data", "blamed": "data"}
    inputs = [("look", "data", 1), ("picker", "value", path.name)]
    body = {
        "output": f"..{'...'.join(f'{name}.{prop}' for name, prop in outputs.items())}..",
        "outputs": [{"id": name, "property": prop} for name, prop in outputs.items()],
        "inputs": [{"id": name, "property": prop, "value": value} for name, prop, value in inputs],
        "state": [{"id": "judged", "property": "data", "value": None}],
        "changedPropIds": ["picker.value"],
    }
    return _posted(client, "/_dash-update-component", body)["response"]


def _posted(client, address, body):
    answer = client.post(address, json=body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return json.loads(answer.data)


def test_every_view_of_it_works(path, tmp_path, capsys):
    run = load(path)
    standing = diagnose(run)
    everything = diagnose(run, history=True)
    assert repr(everything[: len(standing)]) == repr(standing)  # NaN is not equal to itself
    assert repr(past(run, seconds=60)) == repr((everything[len(standing) :], True))
    fault = any(finding.severity == "error" for finding in standing)
    for options in ((), ("--history",), ("--json",)):
        status, out = said(capsys, "diagnose", path, *options)
        assert status == int(fault)
        assert out.strip()
    for form, out in (("--csv", tmp_path / "out.csv"), ("--json", tmp_path / "out.json")):
        assert said(capsys, "export", path, form, "-o", out)[0] == 0
        assert out.stat().st_size > 0
    assert said(capsys, "compare", path, path)[0] == 0
    assert path.name in said(capsys, "list", tmp_path)[1]
    title = page(path)
    assert title and "failed" not in title
    assert said(capsys, "plot", path, "-o", tmp_path / "page.png")[0] == 0


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if maker is not resumed])
def test_no_verdict_rests_on_steps_that_were_not_measured(maker, tmp_path):
    codes = {finding.code for finding in diagnose(made(maker, tmp_path), history=True)}
    assert not codes & {"R2", "R2b", "R3", "R3b", "R4", "R6"}


@pytest.mark.parametrize("maker", [of_three_steps, resumed_elsewhere, killed, stopped_by_an_exception, of_no_step])
def test_after_a_few_steps_it_is_too_early_to_tell(maker, tmp_path, capsys):
    path = made(maker, tmp_path)
    assert diagnose(path) == []
    status, out = said(capsys, "diagnose", path)
    assert status == 0
    assert "in range" not in out
    assert out.startswith(EARLY)
    title = page(path)
    assert EARLY in title and "✓" not in title
    assert EARLY in said(capsys, "list", tmp_path)[1]
    reasons = unjudged(path)
    assert {"R3", "R4"} <= set(reasons)
    assert all(
        "needed" in reasons[code] or "no step" in reasons[code] or "not recorded" in reasons[code]
        for code in ("R3", "R4")
    )


def test_of_a_loss_alone_it_is_said_what_lacks(tmp_path, capsys):
    path = made(with_only_a_loss, tmp_path)
    _, out = said(capsys, "diagnose", path)
    assert out.startswith(QUIET)
    assert "alpha_same was not recorded" in out
    assert "R3" in out.partition("Not judged:")[2]
    assert QUIET in page(path)


def test_a_loss_that_was_never_a_number_is_the_fault(tmp_path, capsys):
    path = made(with_only_nan, tmp_path)
    assert diagnose(path)[0].code == "R0"
    assert "step 0" in diagnose(path)[0].title
    assert "in range" not in said(capsys, "diagnose", path)[1]


def test_of_an_optimizer_that_never_stepped_nothing_good_is_said(tmp_path, capsys):
    path = made(that_never_stepped, tmp_path)
    assert load(path).last_step is None
    main(["diagnose", str(path)])
    out = capsys.readouterr().out
    assert QUIET not in out and "in range" not in out
    assert "optimizer.step() is never called" in out
    assert "✓" not in page(path)


def test_a_resumed_run_is_judged_as_one(tmp_path):
    path = made(resumed, tmp_path)
    run = load(path)
    assert [event.kind for event in run.events()].count("resume") == 1
    assert run.last_step == 79
    assert not [finding for finding in diagnose(run) if finding.severity == "error"]


def test_a_reader_that_was_there_before_a_resume_forgets_what_was_replaced(tmp_path):
    path = MadeRun(steps=1700, same=-0.999, after=-0.999, noise=0.0).write(tmp_path / "run.cockpit")
    reader = load(path)
    assert "R3" in [finding.code for finding in diagnose(reader, history=True)]
    with contextlib.closing(RunWriter(path, resume=True)) as writer:
        writer.event(0, "resume", {"from": 0})
        for step in filter(diagnosed, range(1700)):
            for name in ("slope_same_end", "slope_next_end"):
                writer.reading(name, step, -0.2)
    assert diagnose(reader, history=True) == diagnose(load(path), history=True)


def test_an_empty_file_is_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "run.cockpit"
    path.touch()
    for call in (("diagnose", path), ("export", path, "--csv"), ("plot", path, "-o", tmp_path / "page.png")):
        assert main([str(argument) for argument in call]) == 2
        assert "is empty" in capsys.readouterr().err
    with pytest.raises(RunFileError, match="is empty"):
        diagnose(path)
