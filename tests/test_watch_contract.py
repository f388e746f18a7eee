"""What `watch` promises its caller: one line that changes nothing, breaks nothing and loses nothing."""

import copy
import gc
import io
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import MLP, RESIDUAL, TRANSFORMER, VIEWS, Raises, vectors
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR
from twins import PER_SAMPLE, READINGS, Setting

import cockpitlite
from cockpitlite import attach
from cockpitlite.diagnosis import diagnose
from cockpitlite.diagnosis.kept import Kept, last_kept
from cockpitlite.instrument import Instrument
from cockpitlite.records import Call, Wish
from cockpitlite.statistics import MeanGradient, PerSampleNorms
from cockpitlite.store import load

ROOT = Path(__file__).parent.parent
PAIRED = ("alpha_same", "alpha_next")


def network() -> nn.Module:
    return Setting(MLP).make_model().float()


def batch(size: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, y = vectors(5, 4)(size, torch.Generator().manual_seed(seed))
    return x.float(), y


def step(model: nn.Module, optimizer: Optimizer, size: int = 6, seed: int = 0) -> None:
    x, y = batch(size, seed)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def steps(model: nn.Module, optimizer: Optimizer, count: int) -> None:
    for seed in range(count):
        step(model, optimizer, seed=seed)


def start(watch, model: nn.Module | None = None, lr: float = 0.1, **options) -> tuple[nn.Module, Optimizer]:
    model = network() if model is None else model
    return model, watch(SGD(model.parameters(), lr=lr, momentum=0.9), model, **options)


def land(optimizer: Optimizer) -> cockpitlite.Run:
    optimizer.cockpit.close()
    return cockpitlite.load(optimizer.cockpit.run)


def at(run: cockpitlite.Run, name: str) -> list[int]:
    return run.series(name)[0].tolist()


def hooks_of(model: nn.Module, optimizer: Optimizer) -> int:
    """Count every hook on the optimizer, the modules and the parameters."""
    found = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    found += len(optimizer._optimizer_state_dict_pre_hooks) + len(optimizer._optimizer_load_state_dict_post_hooks)
    for module in model.modules():
        found += sum(len(getattr(module, name)) for name in vars(module) if name.endswith("_hooks"))
    for parameter in model.parameters():
        found += len(parameter._backward_hooks or ()) + len(
            getattr(parameter, "_post_accumulate_grad_hooks", None) or ()
        )
    return found


# The same optimizer ---------------------------------------------------------------------------------------------------


def test_the_same_object_comes_back(watch):
    model = network()
    plain = SGD(model.parameters(), lr=0.1)
    optimizer = watch(plain, model)
    assert optimizer is plain
    assert type(optimizer) is SGD
    assert isinstance(optimizer, Optimizer)


def test_state_is_saved_and_loaded_as_ever(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    saved = io.BytesIO()
    torch.save(state, saved)
    saved.seek(0)
    other = SGD(network().parameters(), lr=0.7, momentum=0.1)
    other.load_state_dict(torch.load(saved, weights_only=True))
    assert other.param_groups[0]["lr"] == 0.1
    optimizer.load_state_dict(state)
    steps(model, optimizer, 1)
    assert at(land(optimizer), "loss") == [0, 1, 2, 3]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copied_optimizer_is_not_watched(watch, copied):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    other = copied(optimizer)
    assert type(other) is SGD
    assert not other._optimizer_step_pre_hooks
    other.step()
    steps(model, optimizer, 1)
    assert at(land(optimizer), "loss") == [0, 1, 2]


@pytest.mark.parametrize("make", [network, lambda: Setting(TRANSFORMER).make_model()], ids=["mlp", "transformer"])
def test_a_copied_model_is_not_watched(watch, make):
    model, optimizer = start(watch, make())
    if isinstance(model, nn.Sequential):
        steps(model, optimizer, 2)
    other = copy.deepcopy(model)
    x = batch()[0] if isinstance(model, nn.Sequential) else torch.arange(10).view(2, 5) % 7
    assert torch.equal(other(x), model(x))
    before = {name: p.clone() for name, p in model.named_parameters()}
    other(x).sum().backward()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_model_is_saved_whole_while_it_is_watched(watch, tmp_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    torch.save(model, tmp_path / "model.pt")
    steps(model, optimizer, 1)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = torch.load(tmp_path / "model.pt", weights_only=False)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other(batch()[0]), model(batch()[0]))
    assert at(land(optimizer), "loss") == [0, 1, 2]


def test_a_moving_average_copied_during_training(watch):
    model, optimizer = start(watch)
    average = copy.deepcopy(model)
    for seed in range(4):
        step(model, optimizer, seed=seed)
        with torch.no_grad():
            for kept, parameter in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(parameter, 0.1)
            average(batch()[0])
    run = land(optimizer)
    assert at(run, "norm_test") == [0, 1, 2, 3]
    assert run.unavailable() == {}


def test_schedulers_work_and_the_rate_used_is_recorded(watch):
    model, optimizer = start(watch)
    scheduler = StepLR(optimizer, 2, 0.5)
    for seed in range(6):
        step(model, optimizer, seed=seed)
        scheduler.step()
    run = land(optimizer)
    assert run.series("learning_rate")[1].tolist() == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    assert run.events("settings") == []


def test_changed_settings_are_events(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    optimizer.param_groups[0]["weight_decay"] = 0.01
    steps(model, optimizer, 2)
    events = [(event.step, event.data) for event in land(optimizer).events("settings")]
    assert events == [(2, {"group": 0, "name": "weight_decay", "old": 0, "new": 0.01})]


def test_a_step_that_a_gradient_scaler_skips_is_an_event(watch):
    model, optimizer = start(watch)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(6):
        x, y = batch(seed=seed)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss * float("inf") if seed == 2 else loss).backward()
        scaler.step(optimizer)
        scaler.update()
    run = land(optimizer)
    assert at(run, "loss") == [0, 1, 2, 3, 4]
    assert np.isfinite(run.series("loss")[1]).all()
    assert np.isfinite(run.series("grad_norm")[1]).all()
    assert [event.step for event in run.events() if event.kind in ("skipped_step", "unused_backward")] == [2]


def left_to_the_kernel(optimizer: Optimizer, model: nn.Module, clip: float | None = None) -> cockpitlite.Run:
    """Train with a GradScaler and a fused optimizer, whose kernel unscales, and skips what is not finite: step 2."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(6):
        x, y = batch(seed=seed)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss * float("inf") if seed == 2 else loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return land(optimizer)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_what_a_fused_step_unscales_is_unscaled(watch, kind):
    model = network()
    run = left_to_the_kernel(watch(kind(model.parameters(), lr=0.1, fused=True), model), model)
    assert np.allclose(run.series("grad_norm_clipped")[1], run.series("grad_norm")[1], rtol=1e-5)
    assert np.allclose(run.layers("grad_norm_clipped")[2], run.layers("grad_norm")[2], rtol=1e-5)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_what_was_unscaled_before_a_fused_step_is_taken_as_it_is(watch, kind):
    model = network()
    run = left_to_the_kernel(watch(kind(model.parameters(), lr=0.1, fused=True), model), model, clip=0.01)
    assert np.allclose(run.series("grad_norm_clipped")[1], 0.01, rtol=1e-3)
    assert (run.series("grad_norm")[1] > 0.02).all()


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_step_that_a_fused_kernel_skips_is_an_event_and_leaves_no_reading(watch, tracked, clip):
    model = network()
    optimizer = watch(AdamW(model.parameters(), fused=True), model, every=lambda step: tracked)
    run = left_to_the_kernel(optimizer, model, clip)
    assert [(event.step, event.data) for event in run.events("skipped_step")] == [(2, {"count": 1})]
    assert at(run, "loss") == [0, 1, 3, 4, 5]
    assert {name for name in run.names() if 2 in run.series(name)[0]} == set()
    assert run.events("nonfinite") == []
    assert run.unavailable() == {}
    assert not tracked or at(run, "alpha") == [0, 3, 4]  # there is none on the way to, or from, what was skipped


def test_a_backward_pass_without_a_step_is_an_event(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    x, y = batch(seed=9)
    F.cross_entropy(model(x), y).backward()
    optimizer.zero_grad()
    steps(model, optimizer, 2)
    run = land(optimizer)
    assert len(run.events("unused_backward")) == 1
    assert at(run, "loss") == [0, 1, 2, 3]
    assert run.series("batch_size")[1].tolist() == [6, 6, 6, 6]


def test_one_step_of_an_optimizer_that_calls_back_is_one_step(watch):
    model = network()
    optimizer = watch(torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4), model)
    for seed in range(3):
        x, y = batch(seed=seed)

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    run = land(optimizer)
    assert at(run, "update_size") == [0, 1, 2]
    assert (run.series("update_size")[1] > 0).all()


# When ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1, [*range(12)]),
        (4, [0, 4, 8]),
        (lambda step: step in (1, 6), [1, 6]),
        (cockpitlite.every(5), [0, 5, 10]),
        (cockpitlite.every(5, 2), [2, 7]),
        (cockpitlite.every(4, offset=1), [1, 5, 9]),
    ],
    ids=["1", "4", "callable", "every", "offset", "named offset"],
)
def test_exactly_the_chosen_steps_are_tracked(watch, every, expected):
    model, optimizer = start(watch, every=every)
    steps(model, optimizer, 12)
    run = land(optimizer)
    for name in ("norm_test", "update_size", "distance", "noise_scale", "loss_std", "grad_norm"):
        assert at(run, name) == expected, name
    assert at(run, "alpha") == [step for step in expected if step < 11]
    assert at(run, "loss") == [*range(12)]
    assert at(run, "alpha_same") == at(run, "alpha_next") == [0, 5, 10]


def test_a_logarithmic_schedule_thins_out(watch):
    schedule = cockpitlite.logarithmic(per_decade=5)
    model, optimizer = start(watch, every=schedule)
    steps(model, optimizer, 60)
    tracked = at(land(optimizer), "norm_test")
    assert tracked == [step for step in range(60) if schedule(step)]
    assert tracked[0] == 0
    assert len([step for step in tracked if step < 10]) > len([step for step in tracked if 20 <= step < 30])


def test_without_limits_every_step_is_tracked(watch):
    model, optimizer = start(watch, overhead=None)
    steps(model, optimizer, 8)
    assert at(land(optimizer), "norm_test") == [*range(8)]


def test_the_budget_thins_out_but_never_the_first_steps_nor_the_diagnosis(watch):
    model, optimizer = start(watch, overhead=0.001)
    steps(model, optimizer, 120)
    run = land(optimizer)
    tracked = at(run, "norm_test")
    assert tracked[:2] == [0, 1]
    assert len(tracked) < 100
    assert at(run, "alpha_same") == [*range(0, 50, 5)]
    assert at(run, "loss") == [*range(120)]
    assert "cost_share" in run.names()
    assert "interval" in run.names()


def test_the_diagnosis_schedule_comes_again_every_five_hundred_steps(watch):
    model, optimizer = start(watch, nn.Linear(5, 4), every=lambda step: False)
    steps(model, optimizer, 520)
    assert at(land(optimizer), "alpha_next") == [*range(0, 50, 5), *range(500, 510)]


def test_the_learning_rate_is_known_wherever_the_diagnosis_measures(watch):
    model, optimizer = start(watch, lr=0.1, every=30)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=40)
    for seed in range(50):
        step(model, optimizer, seed=seed)
        warmup.step()
    run = land(optimizer)
    assert {*range(0, 50, 5), 30} <= set(at(run, "learning_rate"))
    assert set(at(run, "learning_rate")) <= {
        *range(0, 50, 5),
        30,
        *range(12),
    }  # it jumps by a tenth or more up to there
    rates = run.series("learning_rate")[1]
    assert (np.diff(rates[:8]) > 0).all()


def test_a_budget_that_cannot_pay_for_the_diagnosis_thins_it_after_the_start(watch):
    model, optimizer = start(watch, nn.Linear(5, 4), overhead=0.001)
    steps(model, optimizer, 1020)
    measured = at(land(optimizer), "alpha_next")
    assert measured[:10] == [*range(0, 50, 5)]
    assert len(measured) < 20


# Bad arguments --------------------------------------------------------------------------------------------------------


def test_an_optimizer_of_another_model(watch, run_path):
    model = network()
    with pytest.raises(ValueError, match="parameter"):
        watch(SGD(network().parameters(), lr=0.1), model)
    assert hooks_of(model, SGD(model.parameters(), lr=0.1)) == 0
    assert not run_path.exists()


@pytest.mark.parametrize("thing", [None, 3, "sgd", StepLR], ids=str)
def test_what_is_no_optimizer(watch, run_path, thing):
    with pytest.raises(TypeError, match="ptimizer"):
        watch(thing, network())
    assert not run_path.exists()


def test_a_model_in_place_of_the_optimizer(watch):
    model = network()
    with pytest.raises(TypeError, match="ptimizer"):
        watch(model, SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize("options", [{"every": 0}, {"every": -2}, {"samples": 0}, {"samples": -1}])
def test_numbers_that_make_no_sense(watch, run_path, options):
    (name,) = options
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=name):
        watch(optimizer, model, **options)
    assert hooks_of(model, optimizer) == 0
    assert not run_path.exists()


@pytest.mark.parametrize("panel", ["econmy", ["economy", "alphas"]])
def test_an_unknown_instrument_names_the_known_ones(watch, run_path, panel):
    with pytest.raises(ValueError, match=r"(?s)economy.*") as caught:
        start(watch, panel=panel)
    assert "norm_test" in str(caught.value)
    assert not run_path.exists()


def test_a_run_file_is_never_overwritten(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    land(optimizer)
    before = run_path.read_bytes()
    with pytest.raises(FileExistsError, match="resume=True"):
        start(watch)
    assert run_path.read_bytes() == before


def test_a_path_that_cannot_be_written(watch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    path = blocked / "run.cockpit"
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(OSError, match=r"run\.cockpit"):
        watch(optimizer, model, run=path)
    assert hooks_of(model, optimizer) == 0


def test_resuming_what_is_no_run_file(watch, run_path):
    run_path.write_text("something else entirely")
    with pytest.raises(cockpitlite.RunFileError, match=r"run\.cockpit"):
        start(watch, resume=True)
    assert run_path.read_text() == "something else entirely"


# The run file ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_counting(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 4)
    first = land(optimizer)
    losses = first.series("loss")[1]
    state, weights = optimizer.state_dict(), model.state_dict()

    model = network()
    model.load_state_dict(weights)
    plain = SGD(model.parameters(), lr=0.1, momentum=0.9)
    plain.load_state_dict(state)
    optimizer = watch(plain, model, resume=True)
    steps(model, optimizer, 3)
    optimizer.cockpit.log(valid_accuracy=0.5)
    run = land(optimizer)
    assert at(run, "loss") == [*range(7)]
    assert run.series("loss")[1][:4].tolist() == losses.tolist()
    assert at(run, "norm_test") == [*range(7)]
    assert 3 not in at(run, "alpha")  # its following step was not seen
    assert at(run, "valid_accuracy") == [6]
    (event,) = run.events("resume")
    assert event.data["from"] in (3, 4)
    assert len(run.events("start")) == 1


def test_resuming_a_run_that_is_not_there_starts_it(watch):
    model, optimizer = start(watch, resume=True)
    steps(model, optimizer, 2)
    assert at(land(optimizer), "loss") == [0, 1]


def test_the_run_is_described(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    deadline = time.monotonic() + 20
    during = cockpitlite.load(optimizer.cockpit.run)
    while "status" not in during.meta and time.monotonic() < deadline:
        time.sleep(0.05)
    assert during.meta["status"] == "running"
    run = land(optimizer)
    meta = run.meta
    assert meta["status"] == "finished"
    assert meta["pid"] == os.getpid()
    assert meta["model"]["class"] == "Sequential"
    assert meta["model"]["parameters"] == meta["model"]["trainable"] == sum(p.numel() for p in model.parameters())
    assert [layer["name"] for layer in meta["model"]["layers"] if layer["parameters"]] == ["0", "2", "4"]
    assert meta["optimizer"]["class"] == "SGD"
    assert meta["optimizer"]["family"] == "momentum"
    assert meta["optimizer"]["groups"][0]["lr"] == 0.1
    assert meta["versions"]["torch"] == torch.__version__
    assert "alpha" in meta["panel"]
    assert [event.kind for event in run.events() if event.kind in ("start", "finish")] == ["start", "finish"]


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (lambda parameters: SGD(parameters, lr=0.1), "sgd"),
        (lambda parameters: SGD(parameters, lr=0.1, momentum=0.9), "momentum"),
        (lambda parameters: AdamW(parameters), "adam"),
        (lambda parameters: torch.optim.Adam(parameters), "adam"),
        (lambda parameters: torch.optim.Rprop(parameters), "other"),
    ],
)
def test_the_family_of_the_optimizer_is_known(watch, make, family):
    model = network()
    optimizer = watch(make(model.parameters()), model)
    steps(model, optimizer, 1)
    assert land(optimizer).meta["optimizer"]["family"] == family


def test_every_reading_of_the_panel_is_there_with_its_layers(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 7)
    run = land(optimizer)
    assert set(READINGS) <= set(run.names())
    assert run.unavailable() == {}
    for name in ("update_size", "distance", "update_ratio", "grad_norm", "grad_norm_clipped"):
        assert run.layers(name)[1] == [name for name, _ in model.named_parameters()]
    drawn = {reading for panel in run.panels() for reading in panel.readings}
    assert {"loss", "alpha", "alpha_same", "alpha_next", "norm_test", "noise_scale", "grad_norm"} <= drawn
    assert {panel.group for panel in run.panels()} == {"step size", "gradients", "curvature", "performance"}


def test_the_default_path_is_below_runs_and_unique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(3):
        model = network()
        optimizer = cockpitlite.watch(SGD(model.parameters(), lr=0.1), model, every=1)
        step(model, optimizer)
        optimizer.cockpit.close()
        found.append(Path(optimizer.cockpit.run))
    assert len(set(found)) == 3
    for path in found:
        assert path.resolve().parent == (tmp_path / "runs").resolve()
        assert path.suffix == ".cockpit"
        assert at(cockpitlite.load(path), "loss") == [0]


def test_a_live_run_can_be_read(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 5)
    deadline = time.monotonic() + 20
    run = cockpitlite.load(optimizer.cockpit.run)
    while run.last_step != 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert at(run, "loss") == [*range(5)]
    assert run.live
    optimizer.cockpit.close()
    assert not run.live


TRAINER = """
    import sys, time
    import torch, torch.nn.functional as F
    import cockpitlite

    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer = cockpitlite.watch(optimizer, model, every=1, run=sys.argv[1])
    x, y = torch.randn(16, 5), torch.randint(3, (16,))
    for step in range(int(sys.argv[2])):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        print(step, time.time(), flush=True)
        {body}
"""


def trainer(run_path: Path, count: int, body: str = "pass") -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(TRAINER).format(body=body), str(run_path), str(count)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no signal that cannot be caught")
def test_a_killed_run_misses_at_most_its_last_second(run_path):
    process = subprocess.Popen(
        trainer(run_path, 100_000, "time.sleep(0.005)"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    printed: list[tuple[int, float]] = []
    began = None
    for line in process.stdout:
        number, when = line.split()
        printed.append((int(number), float(when)))
        began = began or float(when)
        if float(when) - began > 3.0:
            break
    killed = time.time()
    process.kill()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    due = [number for number, when in printed if when < killed - 1.0]
    assert len(due) > 20
    run = cockpitlite.load(run_path)
    assert set(due) <= set(at(run, "loss"))
    assert set(due) <= set(at(run, "norm_test"))
    assert run.meta["status"] == "running"  # nobody was left to say otherwise


def test_a_run_that_just_ends_is_finished(run_path):
    subprocess.run(trainer(run_path, 5), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    run = cockpitlite.load(run_path)
    assert at(run, "loss") == [*range(5)]
    assert run.meta["status"] == "finished"
    assert not run_path.with_name(run_path.name + "-wal").exists()


def test_a_run_that_an_exception_ends_is_stopped(run_path):
    command = trainer(run_path, 5, "assert step < 3, 'enough'")
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("AssertionError: enough")
    run = cockpitlite.load(run_path)
    assert at(run, "loss") == [*range(4)]
    assert run.meta["status"] == "stopped"


def test_a_run_file_that_vanishes_does_not_stop_training(watch, tmp_path):
    path = tmp_path / "folder" / "run.cockpit"
    model, optimizer = start(watch, run=path)
    steps(model, optimizer, 2)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it says so is right, whenever it notices
        steps(model, optimizer, 20)
        optimizer.cockpit.close()
    assert torch.isfinite(next(model.parameters())).all()


# The handle -----------------------------------------------------------------------------------------------------------


def test_logged_values_stand_under_the_last_step(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    optimizer.cockpit.log(valid_accuracy=0.93, epoch=1)
    steps(model, optimizer, 2)
    optimizer.cockpit.log(valid_accuracy=torch.tensor(0.5))
    run = land(optimizer)
    assert at(run, "valid_accuracy") == [2, 4]
    assert run.series("valid_accuracy")[1].tolist() == [0.93, 0.5]
    assert at(run, "epoch") == [2]


def test_what_is_logged_under_a_measured_name_is_kept_beside_it(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    with pytest.warns(UserWarning, match="valid_accuracy"):
        optimizer.cockpit.log(accuracy=0.25)
    optimizer.cockpit.log(accuracy=0.5)  # it is said once
    run = land(optimizer)
    assert run.series("logged_accuracy")[1].tolist() == [0.5]
    assert len(run.series("accuracy")[1]) == 2


def test_logging_before_the_first_step_does_not_stop_training(watch):
    model, optimizer = start(watch)
    optimizer.cockpit.log(epoch=0)
    steps(model, optimizer, 2)
    run = land(optimizer)
    assert run.series("epoch")[1].tolist() == [0.0]


def test_the_handle_knows_its_run_and_findings(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    assert Path(optimizer.cockpit.run) == run_path
    found = optimizer.cockpit.findings()
    assert isinstance(found, list)
    assert all(isinstance(finding, cockpitlite.Finding) for finding in found)
    optimizer.cockpit.close()


def test_findings_of_a_run_that_blows_up(watch):
    told = []
    model, optimizer = start(watch, lr=50.0, on_finding=told.append)
    steps(model, optimizer, 60)
    found = optimizer.cockpit.findings()
    optimizer.cockpit.close()
    assert any(finding.severity in ("warning", "error") for finding in found)
    assert told
    assert all(isinstance(finding, cockpitlite.Finding) for finding in told)
    assert {finding.code for finding in found} <= {finding.code for finding in told}
    assert len({finding.code for finding in told}) == len(told)  # each is told once


@pytest.mark.parametrize("asked", [False, True])
def test_the_file_keeps_what_a_training_found_of_itself_until_it_is_resumed(watch, run_path, asked):
    model, optimizer = start(watch, lr=50.0, on_finding=None if asked else lambda finding: None)
    steps(model, optimizer, 60)
    if asked:
        optimizer.cockpit.findings()
    run = land(optimizer)
    found = diagnose(run)
    assert last_kept(run.meta) == [Kept(each.code, each.severity, each.title, each.since) for each in found] != []
    land(watch(SGD(model.parameters(), lr=0.1), model, run=run_path, resume=True))
    assert last_kept(load(run_path).meta) is None


def test_a_training_that_was_not_judged_keeps_no_findings(watch):
    model, optimizer = start(watch, lr=50.0)
    steps(model, optimizer, 60)
    assert last_kept(land(optimizer).meta) is None


def test_a_listener_that_raises_does_not_stop_training(watch):
    def listener(finding):
        raise RuntimeError("the listener is broken")

    model, optimizer = start(watch, lr=50.0, on_finding=listener)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it says so is right
        steps(model, optimizer, 60)
        run = land(optimizer)
    assert at(run, "loss") == [*range(60)]


@pytest.mark.parametrize(("resting", "diagnoses"), [(0.0, 11), (1e9, 1)])
def test_the_diagnosis_rests_in_proportion_to_what_it_takes(watch, monkeypatch, resting, diagnoses):
    made = []
    monkeypatch.setattr(attach, "RESTING", resting)
    monkeypatch.setattr(attach, "diagnose", lambda run: made.append(run) or [])
    model, optimizer = start(watch, on_finding=print)
    for _ in range(120):
        steps(model, optimizer, 1)
        optimizer.cockpit._recorder.flush()
    assert len(made) == diagnoses


def test_a_pause_leaves_a_gap_and_no_bridge_over_it(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    optimizer.cockpit.pause()
    steps(model, optimizer, 2)
    optimizer.cockpit.resume()
    steps(model, optimizer, 3)
    run = land(optimizer)
    for name in ("loss", "norm_test", "update_size"):
        assert at(run, name) == [0, 1, 2, 5, 6, 7], name
    assert at(run, "alpha") == [0, 1, 5, 6]  # step 2 was followed by a step nobody saw
    assert [event.kind for event in run.events() if "pause" in event.kind] == ["pause", "unpause"]


def test_closing_removes_every_trace(watch):
    backward = torch.autograd.backward
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)
    watch(optimizer, model)
    steps(model, optimizer, 2)
    assert hooks_of(model, optimizer) > before
    optimizer.cockpit.close()
    assert hooks_of(model, optimizer) == before
    assert torch.autograd.backward is backward
    steps(model, optimizer, 2)
    optimizer.cockpit.close()  # once more does no harm
    assert at(cockpitlite.load(optimizer.cockpit.run), "loss") == [0, 1]


def test_a_forgotten_watch_can_be_collected(run_path):
    model, optimizer = start(cockpitlite.watch, run=run_path, every=1)
    steps(model, optimizer, 3)
    optimizer.cockpit.close()
    gone = weakref.ref(model)
    del model, optimizer
    gc.collect()
    assert gone() is None


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("every", [1, 5, 100])
@pytest.mark.parametrize("problem", [MLP, RESIDUAL, TRANSFORMER, VIEWS], ids=str)
def test_memory_does_not_grow(watch, problem, every):
    setting = Setting(problem, sizes=(6,) * 41)
    model = setting.make_model()
    optimizer = watch(setting.make_optimizer(model), model, every=every)
    alive = {}
    for number, (x, y) in enumerate(setting.batches()):
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        optimizer.step()
        if number in (18, 20, 38, 40):
            alive[number] = tensors_alive()
    for early, late in ((18, 38), (20, 40)):  # alike under every schedule: between two diagnosed steps, and on one
        assert alive[late] <= alive[early] + 4


def test_a_run_that_is_being_written_is_not_resumed(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    other = network()
    another = SGD(other.parameters(), lr=0.1)
    with pytest.raises(FileExistsError, match="still being written"):
        cockpitlite.watch(another, other, run=run_path, resume=True)
    optimizer.cockpit.close()
    cockpitlite.watch(another, other, run=run_path, resume=True).cockpit.close()


def test_watching_twice_replaces_the_first(watch, tmp_path):
    backward = torch.autograd.backward
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    hooks = hooks_of(model, optimizer)
    first = optimizer.cockpit
    for number in range(3):
        with pytest.warns(UserWarning, match=r"(?i)watch") as caught:
            watch(optimizer, model, run=tmp_path / f"{number}.cockpit")
        assert len(caught) == 1
        steps(model, optimizer, 1)
        assert hooks_of(model, optimizer) == hooks
    assert optimizer.cockpit is not first
    optimizer.cockpit.close()
    assert hooks_of(model, optimizer) == 0
    assert torch.autograd.backward is backward
    assert at(cockpitlite.load(first.run), "loss") == [0, 1]
    assert cockpitlite.load(first.run).meta["status"] == "finished"
    for number in range(3):
        assert at(cockpitlite.load(tmp_path / f"{number}.cockpit"), "loss") == [0]


# What is watched ------------------------------------------------------------------------------------------------------


def test_a_model_in_eval_mode_is_warned_of_once(watch):
    model, optimizer = start(watch)
    model.eval()
    with pytest.warns(UserWarning, match="eval") as caught:
        steps(model, optimizer, 4)
        run = land(optimizer)
    assert len(caught) == 1
    assert len(run.events("eval_mode")) == 1
    assert at(run, "norm_test") == [*range(4)]


def test_without_a_model_what_needs_only_parameters_is_there(watch):
    model = network()
    optimizer = watch(SGD(model.parameters(), lr=0.1, momentum=0.9))
    steps(model, optimizer, 7)
    run = land(optimizer)
    for name in ("update_size", "distance", "update_ratio", "grad_norm", "learning_rate"):
        assert at(run, name) == [*range(7)]
        assert np.isfinite(run.series(name)[1]).all()
    reasons = run.unavailable()
    for name in ("norm_test", "inner_test", "ortho_test", "noise_scale", *PAIRED):
        assert "model" in reasons[name]
        assert name not in run.names()
    instruments = set(run.meta["panel"])
    assert instruments - set(run.names()) - set(reasons) <= {"vitals"}  # no silent gap


def test_an_optimizer_of_a_part_of_the_model(watch):
    model = network()
    foreign = nn.Parameter(torch.ones(3))
    optimizer = watch(SGD([*model[2].parameters(), *model[4].parameters(), foreign], lr=0.1), model)
    before = model[0].weight.clone()
    steps(model, optimizer, 4)
    run = land(optimizer)
    assert torch.equal(model[0].weight, before)
    data = run.events("parameters")[0].data
    assert data["foreign"] == 1
    assert data["not_in_optimizer"] == ["0.weight", "0.bias"]
    assert np.isfinite(run.series("grad_norm")[1]).all()
    assert (run.series("update_size")[1] > 0).all()


def test_frozen_and_idle_parameters_are_named(watch):
    model = nn.ModuleDict({"body": network(), "idle": nn.Linear(2, 2)})
    model["body"][0].requires_grad_(False)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    for seed in range(4):
        if seed == 2:
            model["body"][0].requires_grad_(True)
        x, y = batch(seed=seed)
        optimizer.zero_grad()
        F.cross_entropy(model["body"](x), y).backward()
        optimizer.step()
    run = land(optimizer)
    events = run.events("parameters")
    assert [event.step for event in events] == [0, 2]
    assert events[0].data["frozen"] == ["body.0.weight", "body.0.bias"]
    assert {"idle.weight", "idle.bias"} <= set(events[0].data["no_gradient"])
    assert events[1].data["frozen"] == []
    assert events[1].data["no_gradient"] == ["idle.weight", "idle.bias"]
    _, layers, values = run.layers("grad_norm")
    assert np.isnan(values[:, layers.index("idle.weight")]).all()
    if "body.0.weight" in layers:
        column = values[:, layers.index("body.0.weight")]
        assert np.isnan(column).tolist() == [True, True, False, False]
    assert np.isfinite(run.series("grad_norm")[1]).all()


@pytest.mark.parametrize("size", [1, 2, 7])
def test_any_batch_size(watch, size):
    model, optimizer = start(watch)
    for seed in range(4):
        step(model, optimizer, size=size if seed == 3 else 6, seed=seed)
    run = land(optimizer)
    assert run.series("batch_size")[1].tolist() == [6, 6, 6, size]
    assert at(run, "loss") == [*range(4)]


def test_an_empty_batch_does_not_stop_training(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    optimizer.zero_grad()
    (model(torch.zeros(0, 5)).sum() * 0.0).backward()
    optimizer.step()
    steps(model, optimizer, 2)
    assert at(land(optimizer), "update_size") == [*range(5)]


def test_a_step_without_a_backward_pass(watch):
    model, optimizer = start(watch)
    optimizer.step()
    steps(model, optimizer, 2)
    optimizer.zero_grad()
    optimizer.step()
    run = land(optimizer)
    assert at(run, "update_size") == [0, 1, 2, 3]
    assert run.series("update_size")[1][0] == 0.0
    assert {1, 2} <= set(at(run, "norm_test"))


def test_a_rate_of_zero(watch):
    for make in (lambda p: SGD(p, lr=0.0), lambda p: AdamW(p, lr=0.0, weight_decay=0.0)):
        model = network()
        optimizer = watch(make(model.parameters()), model, resume=True)
        steps(model, optimizer, 3)
        optimizer.cockpit.close()
    run = cockpitlite.load(optimizer.cockpit.run)
    assert (run.series("update_size")[1] == 0).all()
    assert np.isnan(run.series("alpha")[1]).all()


# What goes wrong ------------------------------------------------------------------------------------------------------


class Second(Instrument):
    """Reads a constant, and remembers what it was given."""

    panel = cockpitlite.Panel(title="Two and a half", group="gradients", unit="samples")
    given: ClassVar[list[tuple[type, type]]] = []

    def read(self, mean: MeanGradient, norms: PerSampleNorms) -> Tensor:
        self.given.append((type(mean), type(norms)))
        return torch.tensor(2.5)


class Broken(Instrument):
    """Fails on its third reading."""

    panel = cockpitlite.Panel(title="Broken", group="curvature")
    calls: ClassVar[list[int]] = []

    def read(self, mean: MeanGradient) -> Tensor:
        self.calls.append(1)
        if len(self.calls) == 3:
            raise RuntimeError("the needle is stuck")
        return torch.tensor(1.0)


class Several(Instrument):
    """Reads more than one number."""

    panel = cockpitlite.Panel(title="Several", group="performance", readings=("several_a", "several_b"))

    def read(self, mean: MeanGradient) -> dict[str, Tensor | float]:
        return {"several_a": torch.tensor(1.0), "several_b": 2.0}


@pytest.mark.parametrize("panel", [["economy", Second, Several()], [Second, "several", "norm_test"]])
def test_an_instrument_of_the_user_s_own(watch, panel):
    Second.given.clear()
    panel = [Several if item == "several" else item for item in panel]
    model, optimizer = start(watch, panel=panel)
    steps(model, optimizer, 4)
    run = land(optimizer)
    assert run.series("second")[1].tolist() == [2.5] * 4
    assert run.series("several_a")[1].tolist() == [1.0] * 4
    assert run.series("several_b")[1].tolist() == [2.0] * 4
    drawn = {panel.name: panel for panel in run.panels()}
    assert drawn["second"].title == "Two and a half"
    assert drawn["second"].unit == "samples"
    assert set(Second.given) == {(MeanGradient, PerSampleNorms)}
    assert len(Second.given) == 4
    assert ("alpha" in run.names()) == ("economy" in panel)
    assert at(run, "norm_test") == [*range(4)]


def test_an_instrument_that_fails_is_switched_off(watch):
    Broken.calls.clear()
    model, optimizer = start(watch, panel=["economy", Broken])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps(model, optimizer, 7)
        run = land(optimizer)
    assert at(run, "broken") == [0, 1]
    assert len(Broken.calls) == 3
    assert "the needle is stuck" in run.unavailable()["broken"]
    assert [event.step for event in run.events("unavailable")] == [2]
    assert at(run, "norm_test") == at(run, "loss") == [*range(7)]


def poisoned(model, optimizer, when: int, count: int = 8) -> None:
    for seed in range(count):
        x, y = batch(seed=seed)
        if seed == when:
            x[2, 1] = math.nan
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def test_a_nan_in_the_data_is_named_and_training_goes_on(watch):
    model, optimizer = start(watch)
    poisoned(model, optimizer, when=3)
    run = land(optimizer)
    first = run.events("nonfinite")[0]
    assert first.step == 3
    assert first.data["what"] == "input"
    assert first.data["sample"] == 2
    assert at(run, "loss") == [*range(8)]
    losses = run.series("loss")[1]
    assert np.isfinite(losses[:3]).all()
    assert np.isnan(losses[3:]).all()
    assert len(run.events("nonfinite")) == 1


def test_a_nan_between_tracked_steps_is_seen(watch):
    model, optimizer = start(watch, every=100)
    poisoned(model, optimizer, when=3)
    run = land(optimizer)
    first, second = run.events("nonfinite")
    assert (first.step, first.data["what"], first.data["searched"]) == (3, "loss", False)
    assert (second.step, second.data["what"]) == (4, "parameter")  # of which the next step, looked at closely, tells
    assert np.isnan(run.series("loss")[1][3:]).all()
    found = cockpitlite.diagnose(run)[0]
    assert (found.code, found.since) == ("R0", 3)
    assert "The step itself was not searched; in step 4 the first such value was in the parameter" in found.explanation
    assert "was finite" not in found.explanation + found.suggestion


def test_the_layer_that_makes_the_first_nan_is_named(watch):
    model = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 4), Raises(), nn.Linear(4, 4))
    nn.init.constant_(model[2].bias, 20.0)
    optimizer = watch(SGD(model.parameters(), lr=0.01), model)
    for seed in range(6):
        if seed == 4:
            nn.init.constant_(model[2].bias, -20.0)
        step(model, optimizer, seed=seed)
    run = land(optimizer)
    first = run.events("nonfinite")[0]
    assert (first.step, first.data["what"], first.data["layer"]) == (4, "forward", "3")
    assert at(run, "loss") == [*range(6)]


def test_an_infinite_parameter_is_named(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    with torch.no_grad():
        model[2].weight[0, 0] = math.inf
    steps(model, optimizer, 3)
    first = land(optimizer).events("nonfinite")[0]
    assert first.step == 3
    assert first.data["what"] == "parameter"
    assert first.data["layer"] in ("2", "2.weight")


def test_a_gradient_that_overflows_is_named(watch):
    """The square root of zero has a finite value and an infinite slope."""
    model = nn.Sequential(nn.Linear(5, 4), Raises(), nn.Linear(4, 4))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    optimizer = watch(SGD(model.parameters(), lr=0.01), model)
    steps(model, optimizer, 3)
    assert not torch.isfinite(model[0].weight).all()
    run = land(optimizer)
    first = run.events("nonfinite")[0]
    assert first.step == 0
    assert first.data["what"] == "gradient"
    assert first.data["layer"] in ("0", "0.weight", "0.bias")
    assert math.isfinite(run.series("loss")[1][0])


def test_an_exception_in_the_forward_pass_is_the_user_s_own(watch):
    model, optimizer = start(watch)
    steps(model, optimizer, 2)
    with pytest.raises(RuntimeError, match="shape"):
        model(torch.zeros(2, 9))
    steps(model, optimizer, 2)
    run = land(optimizer)
    assert at(run, "norm_test") == [*range(4)]
    assert run.unavailable() == {}


def test_training_in_threads_of_two_models(watch, tmp_path):
    runs = [start(watch, run=tmp_path / f"{number}.cockpit") for number in range(2)]
    threads = [Thread(target=steps, args=(model, optimizer, 10)) for model, optimizer in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (land(optimizer) for _, optimizer in runs)
    assert first.series("loss")[1].tolist() == second.series("loss")[1].tolist()
    assert first.series("norm_test")[1].tolist() == second.series("norm_test")[1].tolist()
    assert at(first, "loss") == [*range(10)]


def test_a_compiled_model_is_trained_and_read(watch):
    """The compiled code runs eagerly here; hooks and graph breaks are what is at stake."""
    model = network()
    compiled = torch.compile(model, backend="eager")
    optimizer = watch(SGD(model.parameters(), lr=0.1), compiled)
    steps(compiled, optimizer, 4)
    run = land(optimizer)
    assert at(run, "loss") == at(run, "update_size") == [*range(4)]
    assert run.unavailable() == {}
    assert set(run.meta["panel"]) - {"vitals", "throughput"} <= set(run.names())


VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount"}


def read_values(profile: torch.profiler.profile) -> Counter[str]:
    """Count the operations that the host has to know values for before it goes on."""
    return Counter(name for event in profile.events() if (name := event.name.removeprefix("aten::")) in VALUES)


def waits(watching: bool, watch, make, setting: Setting, run_path: Path) -> Counter[str]:
    """Count how often values of tensors are read in six steps, of which two are on the diagnosis schedule."""
    model = setting.make_model()
    optimizer = make(model.parameters())
    if watching:
        optimizer = watch(optimizer, model, run=run_path)
    batches = setting.batches()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for x, y in batches:
            optimizer.zero_grad()
            setting.problem.loss(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return read_values(profile)


@pytest.mark.parametrize("problem", [MLP, RESIDUAL, TRANSFORMER], ids=str)
@pytest.mark.parametrize(
    "make", [lambda p: SGD(p, lr=0.1, momentum=0.9), lambda p: AdamW(p)], ids=["momentum", "adamw"]
)
def test_a_tracked_step_never_waits_for_a_value(watch, tmp_path, problem, make):
    setting = Setting(problem, sizes=(6,) * 6)
    plain = waits(False, watch, make, setting, tmp_path / "a.cockpit")
    assert waits(True, watch, make, setting, tmp_path / "b.cockpit") == plain


def test_reading_a_value_would_be_counted():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.ones(1).item()
        torch.ones(3)[torch.ones(3) > 0]
    assert read_values(profile) == {"_local_scalar_dense": 1, "nonzero": 1}


def test_samples_need_not_be_on_the_first_axis(watch, tmp_path):
    """Time-first batches read as the same batches with their samples first, once `batch_dim` says so."""
    series = []
    for flipped in (False, True):
        torch.manual_seed(0)
        lstm = nn.LSTM(3, 4, batch_first=not flipped)
        path = tmp_path / f"{flipped}.cockpit"
        optimizer = watch(SGD(lstm.parameters(), lr=0.1), lstm, run=path, batch_dim=1 if flipped else 0)
        for seed in range(4):
            x = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            output = lstm(x.transpose(0, 1))[0].transpose(0, 1) if flipped else lstm(x)[0]
            F.mse_loss(output, torch.zeros_like(output)).backward()
            optimizer.step()
        run = land(optimizer)
        series.append(np.stack([run.series(name)[1] for name in PER_SAMPLE]))
    assert np.allclose(series[0], series[1], rtol=1e-4)


def test_a_run_file_that_is_deleted_is_told_and_training_goes_on(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    optimizer.cockpit._recorder.flush()
    run_path.unlink()
    with pytest.warns(UserWarning, match="was deleted or replaced while it was written"):
        steps(model, optimizer, 3)
        optimizer.cockpit.close()


def test_what_cannot_be_recorded_is_not_measured(watch, run_path):
    model, optimizer = start(watch, every=1)
    steps(model, optimizer, 3)
    recorder = optimizer.cockpit._recorder
    recorder.flush()
    run_path.unlink()
    with pytest.warns(UserWarning, match="has stopped"):
        while recorder.working:
            step(model, optimizer)
        steps(model, optimizer, 2)
    assert optimizer.cockpit._tracker.capture.wish == Wish()
    steps(model, optimizer, 2)
    assert optimizer.cockpit._tracker.step > 5


def test_findings_of_a_file_that_is_gone_are_the_last_known(watch, run_path):
    model, optimizer = start(watch, every=1)
    steps(model, optimizer, 30)
    known = optimizer.cockpit.findings()
    run_path.unlink()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert optimizer.cockpit.findings() == known
        optimizer.cockpit.close()
    assert any("these are the last findings known" in str(each.message) for each in told)


def test_a_run_file_that_is_cut_off_is_told_and_training_goes_on(watch, run_path):
    model, optimizer = start(watch)
    steps(model, optimizer, 3)
    optimizer.cockpit._recorder.flush()
    os.truncate(run_path, 5000)
    with pytest.warns(UserWarning, match=r"was cut off by another program .*; watch with another path as run="):
        steps(model, optimizer, 3)
        optimizer.cockpit.close()


def test_the_folder_may_change_while_a_run_is_written(watch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, optimizer = start(watch, run=Path("run.cockpit"))
    steps(model, optimizer, 3)
    monkeypatch.chdir("/")
    assert isinstance(optimizer.cockpit.findings(), list)
    assert at(land(optimizer), "loss") == [0, 1, 2]


def test_a_watch_that_is_let_go_of_frees_its_model_and_ends_its_file(tmp_path):
    threads, path = threading.active_count(), tmp_path / "run.cockpit"
    model = network()
    optimizer = cockpitlite.watch(SGD(model.parameters(), lr=0.1), model, run=path, every=1)
    steps(model, optimizer, 3)
    alive = weakref.ref(model)
    del model, optimizer
    gc.collect()
    assert alive() is None
    for _ in range(600):  # the file's thread ends by itself
        if threading.active_count() <= threads:
            break
        time.sleep(0.1)
    run = cockpitlite.load(path)
    assert run.meta["status"] == "finished"
    assert at(run, "loss") == [0, 1, 2]


def test_a_watch_ends_with_its_optimizer_and_the_model_goes_on_unwatched(tmp_path):
    model = network()
    optimizer = cockpitlite.watch(SGD(model.parameters(), lr=0.1), model, run=tmp_path / "run.cockpit", every=1)
    steps(model, optimizer, 3)
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
    assert type(model(batch()[0])) is Tensor
    assert hooks_of(model, SGD(model.parameters(), lr=0.1)) == 0


def test_a_loss_that_is_kept_keeps_nothing_of_ours(watch):
    model, optimizer = start(watch, every=1)
    kept = []
    for seed in range(4):
        x, y = batch(seed=seed)
        optimizer.zero_grad()
        kept.append(F.cross_entropy(model(x), y))
        kept[-1].backward()
        optimizer.step()
    gc.collect()
    assert not any(thing.module in set(model.modules()) for thing in gc.get_objects() if type(thing) is Call)


@pytest.mark.parametrize("spec", ["", ".4f", ".3e", "10.2f"])
def test_a_loss_is_formatted_as_a_number(watch, spec):
    told = []
    model, optimizer = start(watch, every=1)
    model.register_forward_hook(lambda module, args, output: told.append(format(output.mean(), spec)))
    step(model, optimizer)
    loss = model(batch()[0]).square().mean()
    assert format(loss, spec) == format(loss.detach().as_subclass(Tensor), spec)
    assert format(loss.detach(), spec) == format(loss.item(), spec)
    assert told


def test_an_output_of_somebodys_own_class_stays_what_it_is(watch):
    class Scaled(Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            result = super().__torch_function__(function, types, args, kwargs or {})
            return 2 * result if function is F.mse_loss else result

    class Model(nn.Linear):
        def forward(self, x):
            return super().forward(x).as_subclass(Scaled)

    losses = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Model(4, 2)
        optimizer = SGD(model.parameters(), lr=0.1)
        optimizer = watch(optimizer, model, every=1) if watched else optimizer
        for seed in range(3):
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), torch.zeros(6, 2))
            loss.backward()
            optimizer.step()
            assert type(model(x)) is Scaled
        losses.append(loss.item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("overhead", "error"), [(True, TypeError), (10, ValueError), (float("inf"), ValueError)])
def test_an_overhead_that_is_no_share_is_refused(watch, overhead, error):
    with pytest.raises(error, match=r"overhead is a share of the training time"):
        start(watch, overhead=overhead)


def test_numbers_of_numpy_are_numbers(watch, tmp_path):
    model, optimizer = start(watch, every=np.int64(2))
    steps(model, optimizer, 4)
    assert at(land(optimizer), "grad_norm") == [0, 2]
    start(watch, overhead=np.float32(0.1), run=tmp_path / "other.cockpit")


def _halve(parameter: nn.Parameter) -> None:
    parameter.grad.mul_(0.5)


HOOKS = {
    "of a parameter": lambda model: [p.register_hook(lambda g: g.clamp(-0.01, 0.01)) for p in model.parameters()],
    "after accumulation": lambda model: [p.register_post_accumulate_grad_hook(_halve) for p in model.parameters()],
    "of a module": lambda model: [
        [part for part in model.modules() if isinstance(part, nn.Linear)][-1].register_full_backward_hook(
            lambda module, inputs, outputs: tuple(g if g is None else 10 * g for g in inputs)
        )
    ],
}


@pytest.mark.parametrize("hook", HOOKS)
def test_step_lengths_are_of_the_loss_whatever_hooks_do_to_its_gradient(watch, hook):
    model = network()
    HOOKS[hook](model)
    model, optimizer = start(watch, model, panel=["alpha_same"], every=1)
    twin, expected = network(), []
    for seed in range(4):
        x, y = batch(seed=seed)
        ends = [[p.detach().clone() for p in model.parameters()]]
        step(model, optimizer, seed=seed)
        ends.append([p.detach().clone() for p in model.parameters()])
        slopes = []
        for values in ends:
            torch._foreach_copy_([p.detach() for p in twin.parameters()], values)
            gradient = torch.autograd.grad(F.cross_entropy(twin(x), y), list(twin.parameters()))
            slopes.append(sum(float((g * (b - a)).sum()) for g, a, b in zip(gradient, *ends, strict=True)))
        expected.append(-slopes[1] / slopes[0])
    run = land(optimizer)
    assert at(run, "alpha_same") == [0]
    assert run.series("alpha_same")[1][0] == pytest.approx(expected[0], rel=1e-3)


def test_what_is_compiled_inside_of_a_forward_is_left_alone(watch):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = network(), nn.Linear(4, 4)

        @torch.compile(backend="aot_eager", fullgraph=True)
        def compiled(self, x: Tensor) -> Tensor:
            return self.body(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.compiled(x))

    model, optimizer = start(watch, Model(), every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it compiles
        steps(model, optimizer, 4)
    assert at(land(optimizer), "grad_norm") == [0, 2]


def test_a_batch_axis_is_a_number(watch):
    with pytest.raises(TypeError, match="batch_dim is the axis that counts samples"):
        start(watch, batch_dim=True)
