"""Where a batch is evaluated again for its curvature, what a backward may call of the model sees what it should."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

import cockpitlite
from cockpitlite.hooks import CallRecorder
from cockpitlite.replay import Replay

PANEL = ["hess_trace", "hess_max_ev", "tic_trace"]
STEPS = 3


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


class Checkpointed(Plain):
    """Its first part is made again in the backward, from whatever parameters it then has."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(lambda given: self.first(given).tanh(), x, use_reentrant=False)
        return self.second(hidden)


class Keeping(Plain):
    """It keeps a gradient that passes, as pictures of what a network looks at are made."""

    kept: Tensor | None = None

    def keep(self, gradient: Tensor) -> None:
        self.kept = gradient.detach()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        if hidden.requires_grad:
            hidden.register_hook(self.keep)
        return self.second(hidden)


class Tanh(Function):
    """A user's own operation, which can be differentiated as often as one likes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.tanh() ** 2)


class Own(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(Tanh.apply(self.first(x)))


def trained(kind: type[Plain], path, panel=PANEL, after=lambda model: None) -> cockpitlite.Run:
    torch.manual_seed(0)
    model = kind().double()
    optimizer = cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=0.1), model, panel=panel, every=1, run=path)
    for _ in range(STEPS):
        x, y = torch.randn(8, 4).double(), torch.randint(3, (8,))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        after(model)
    optimizer.cockpit.close()
    return cockpitlite.load(path)


@pytest.mark.parametrize("kind", [Checkpointed, Keeping, Own])
def test_curvature_is_that_of_the_plain_model(kind, tmp_path):
    right, found = trained(Plain, tmp_path / "plain.cockpit"), trained(kind, tmp_path / "other.cockpit")
    for name in ("hess_trace", "hess_max_ev"):
        assert found.series(name)[1].tolist() == pytest.approx(right.series(name)[1].tolist(), rel=1e-9)


@pytest.mark.parametrize("kind", [Plain, Checkpointed, Keeping, Own])
def test_drawn_labels_reach_every_layer(kind, tmp_path):
    run = trained(kind, tmp_path / "run.cockpit")
    assert all(math.isfinite(value) and value > 0 for value in run.series("tic_trace")[1])


def test_what_a_hook_of_the_model_keeps_is_the_trainings_own(tmp_path):
    kept: dict[str, list[Tensor]] = {}
    for name, panel in (("plain", ["loss"]), ("curved", PANEL)):
        kept[name] = []
        trained(Keeping, tmp_path / f"{name}.cockpit", panel, lambda model, to=kept[name]: to.append(model.kept))
    assert all(torch.equal(one, other) for one, other in zip(kept["plain"], kept["curved"], strict=True))


@pytest.mark.parametrize(("kind", "calls"), [(Plain, False), (Checkpointed, True), (Keeping, True), (Own, True)])
def test_only_a_backward_that_calls_python_needs_the_model(kind, calls, tmp_path, monkeypatch):
    made: list[Replay] = []
    plain = Replay.__init__

    def noted(self: Replay, *args, **kwargs) -> None:
        plain(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(Replay, "__init__", noted)
    trained(kind, tmp_path / "run.cockpit")
    assert made
    assert {replay.calls_python for replay in made} == {calls}


def test_nothing_is_left_behind(tmp_path):
    before = torch.Tensor.register_hook, torch.autograd.graph.saved_tensors_hooks.__enter__
    trained(Checkpointed, tmp_path / "run.cockpit")
    assert (torch.Tensor.register_hook, torch.autograd.graph.saved_tensors_hooks.__enter__) == before


def test_a_batch_is_evaluated_once_for_all_curvature(tmp_path, monkeypatch):
    """From the second tracked step on, when it is known that the calls of the modules are wanted too."""
    made: list[bool] = []
    plain, recording = Replay.__init__, CallRecorder.over

    def noted(self: Replay, *args, **kwargs) -> None:
        made.append(False)
        plain(self, *args, **kwargs)

    def recorded(self: CallRecorder, *args, **kwargs):
        made[-1] = True
        return recording(self, *args, **kwargs)

    monkeypatch.setattr(Replay, "__init__", noted)
    monkeypatch.setattr(CallRecorder, "over", recorded)
    trained(Plain, tmp_path / "run.cockpit")
    assert made[-(STEPS - 1) :] == [True] * (STEPS - 1)


class Synchronized(nn.SyncBatchNorm):
    """Forwards as where nobody else trains: there is no group of processes here."""

    def forward(self, x):
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


def test_a_model_that_waits_for_other_processes_is_not_evaluated_again(tmp_path, monkeypatch):
    calls: list[bool] = []
    model = nn.Sequential(nn.Linear(3, 4), Synchronized(4), nn.Linear(4, 2))
    model[0].register_forward_pre_hook(lambda *_: calls.append(True))
    heard = model[1].forward
    monkeypatch.setattr(model[1], "forward", lambda x: (calls.append(False), heard(x))[1])
    monkeypatch.setattr("cockpitlite.replay._processes", lambda: 2)
    optimizer = cockpitlite.watch(
        torch.optim.SGD(model.parameters(), 0.1), model, every=1, panel="full", run=tmp_path / "run.cockpit"
    )
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
    optimizer.cockpit.close()
    assert calls == [True, False] * 3  # never but by the training itself
    run = cockpitlite.load(tmp_path / "run.cockpit")
    assert "SyncBatchNorm" in run.unavailable()["hess_trace"]
    assert "SyncBatchNorm" in run.unavailable()["alpha_same"]
    assert len(run.series("grad_norm")[0]) == 3
