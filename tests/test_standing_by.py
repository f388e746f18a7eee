"""What goes on between and beside tracked steps: nothing is kept, nothing is patched, nothing waits to be wrong."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
import torch.utils.checkpoint
from torch import nn
from torch.optim import SGD

import cockpitlite
from cockpitlite import tracker
from cockpitlite.replay import _checkpoints_open
from cockpitlite.statistics.samples import accounted


class Tied(nn.Module):
    """A decoder that uses the encoder's weight behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 3)

    def forward(self, x):
        return torch.tanh(self.encoder(x)) @ self.encoder.weight


def train(model, optimizer, count=4, between=lambda: None, like=(8, 6)):
    seen = []
    for _ in range(count):
        x = torch.randn(like)
        seen.append(weakref.ref(x))
        optimizer.zero_grad()
        F.mse_loss(model(x), x).backward()
        between()
        optimizer.step()
        del x
    return seen


def land(optimizer):
    optimizer.cockpit.close()
    return cockpitlite.load(optimizer.cockpit.run)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_no_batch_outlives_its_step(watch, compiled):
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))
    called = torch.compile(model, backend="eager") if compiled else model
    optimizer = watch(SGD(model.parameters(), lr=0.1), called, panel="full")
    seen = train(called, optimizer, count=6)
    optimizer.zero_grad()
    gc.collect()
    assert [reference() for reference in seen] == [None] * 6


def test_threads_that_replay_at_the_same_time_leave_checkpoints_as_they_were():
    ours = torch.utils.checkpoint.CheckpointFunction
    entered, left = threading.Event(), threading.Event()

    def first():
        with _checkpoints_open():
            entered.wait(5)
        left.set()

    thread = threading.Thread(target=first)
    thread.start()
    with _checkpoints_open():
        entered.set()
        left.wait(5)
        assert torch.utils.checkpoint.CheckpointFunction is not ours
    thread.join()
    assert torch.utils.checkpoint.CheckpointFunction is ours


def test_a_parameter_of_no_elements_is_no_obstacle(watch):
    model = nn.Sequential(nn.Linear(6, 6))
    model.register_parameter("nothing", nn.Parameter(torch.zeros(0)))
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel="full")
    train(model, optimizer)
    run = land(optimizer)
    assert {"loss", "norm_test", "grad_norm", "hess_trace", "mean_gsnr"} <= set(run.names())


def test_a_bfloat16_model_has_its_loss_on_every_step(watch):
    model = nn.Linear(6, 6).to(torch.bfloat16)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, every=3)
    for _ in range(7):
        optimizer.zero_grad()
        x = torch.randn(8, 6, dtype=torch.bfloat16)
        F.mse_loss(model(x), x).backward()
        optimizer.step()
    assert land(optimizer).series("loss")[0].tolist() == [*range(7)]


def test_the_mode_is_that_of_the_forward(tmp_path):
    """Somebody who evaluates between backward and step gets the readings of somebody who does not."""
    runs = []
    for switched in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 6)).double()
        path = tmp_path / f"{switched}.cockpit"
        optimizer = cockpitlite.watch(SGD(model.parameters(), lr=0.1), model, every=1, panel="full", run=path)
        for _ in range(4):
            model.train()
            x = torch.randn(8, 6, dtype=torch.float64)
            optimizer.zero_grad()
            F.mse_loss(model(x), x).backward()
            if switched:
                model.eval()
            optimizer.step()
        runs.append(land(optimizer))
    straight, switched = runs
    assert not switched.unavailable().keys() - straight.unavailable().keys()
    for name in ("norm_test", "alpha", "alpha_same", "mean_gsnr", "step_curvature", "hess_max_ev", "tic_trace"):
        np.testing.assert_allclose(switched.series(name)[1], straight.series(name)[1], rtol=1e-9, err_msg=name)


def test_where_the_host_learns_late_of_a_failed_check_the_next_steps_are_measured_another_way(watch, monkeypatch):
    """As on a GPU: the first steps lack what rests on the check, and nothing says that it stays so."""
    monkeypatch.setattr(tracker.Tracker, "_accounted", lambda self, step: accounted(step) <= 1)
    model = Tied()
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer, count=2)
    optimizer.cockpit._recorder.flush()
    train(model, optimizer, count=4)
    run = land(optimizer)
    steps, values = run.series("norm_test")
    assert steps.tolist()[-4:] == [2, 3, 4, 5]
    assert np.isfinite(values).all()
    assert "norm_test" not in run.unavailable()


def test_steps_taken_before_the_host_has_learnt_of_a_failed_check_leave_no_value(watch, monkeypatch):
    heed = tracker.Tracker._heed_verdicts
    monkeypatch.setattr(tracker.Tracker, "_accounted", lambda self, step: accounted(step) <= 1)
    monkeypatch.setattr(tracker.Tracker, "_heed_verdicts", lambda self: heed(self) if self.step >= 2 else None)
    model = Tied()
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer, count=2)
    optimizer.cockpit._recorder.flush()
    train(model, optimizer, count=4)
    steps, values = land(optimizer).series("norm_test")
    assert steps.tolist() == [2, 3, 4, 5]
    assert np.isfinite(values).all()


def test_histograms_give_every_tensor_its_share_of_the_total(watch):
    """Many tensors so small that none of their elements is due in most steps."""
    small = [layer for _ in range(30) for layer in (nn.LayerNorm(6),)]
    model = nn.Sequential(*small, nn.Linear(6, 3000), nn.Linear(3000, 6))
    optimizer = watch(SGD(model.parameters(), lr=0.0), model, panel="grad_hist_1d")
    train(model, optimizer, count=6, like=(64, 6))
    run = land(optimizer)
    names = [name for name, parameter in model.named_parameters() if parameter.numel() == 6]
    numbers = sum(parameter.numel() for parameter in model.parameters())
    for step in range(6):
        total, _ = run.histogram("grad_hist_1d", step)
        assert 2**14 * 0.9 < total.sum() < 2**14 * 1.1
        of_each = {name: run.histogram("grad_hist_1d", step, name)[0].sum() for name, _ in model.named_parameters()}
        assert all(count > 0 for count in of_each.values())
        extra = sum(of_each.values()) - total.sum()
        assert extra > 0.9 * 64 * (len(names) - 60 * 6 * 2**14 / (64 * numbers) - 2)  # counted for themselves alone
