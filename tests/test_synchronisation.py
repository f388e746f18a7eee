"""A tracked step never waits for the device: proved where values cannot be had, on the path that a GPU takes."""

from pathlib import Path

import pytest
import torch
from models import CNN, MLP, RESIDUAL, TRANSFORMER, Problem
from stand_in import DEVICE, StandIn, moved, standing_in
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from twins import Setting

import cockpitlite
from cockpitlite import instruments
from cockpitlite.instrument import Instrument
from cockpitlite.recorder import Block, Recorder
from cockpitlite.statistics import BatchLoss, MeanGradient
from cockpitlite.store import RunWriter

ODD = {"vitals", "throughput", "activations"}  # instruments without a reading of their own name
LATER = {"data_wait"}  # instruments that have none in the first two steps
HISTOGRAMS = {"grad_hist_1d", "grad_hist_2d"}  # whose edges, of ones, are no edges


def momentum(parameters):
    return SGD(parameters, lr=0.1, momentum=0.9)


def train(
    watch, monkeypatch, problem: Problem, steps: int, make=momentum, **options
) -> tuple[StandIn, cockpitlite.Run]:
    """Train on the device that stands in for a GPU, and return what it saw."""
    setting = Setting(problem, sizes=(6,) * steps)
    model, batches = setting.make_model().to(DEVICE), moved(setting.batches())
    with standing_in(monkeypatch) as seen:
        optimizer = watch(make(model.parameters()), model, **options)
        for x, y in batches:
            optimizer.zero_grad()
            setting.problem.loss(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        optimizer.cockpit.close()
    return seen, cockpitlite.load(optimizer.cockpit.run)


def lacking(run: cockpitlite.Run) -> set[str]:
    return set(run.meta["panel"]) - set(run.names()) - ODD - LATER - HISTOGRAMS


@pytest.mark.parametrize("problem", [MLP, CNN, RESIDUAL, TRANSFORMER], ids=str)
@pytest.mark.parametrize("samples", [None, 3])
def test_a_tracked_economy_step_waits_for_nothing(watch, monkeypatch, problem, samples):
    """Two tracked steps, one that judges the second, and one of which only the loss is kept."""
    seen, run = train(watch, monkeypatch, problem, 4, samples=samples, every=lambda step: step < 2)
    assert dict(seen.waits) == {}
    assert dict(seen.mixed) == {}
    assert len(seen.to_host) == 4  # one buffer for each tracked step, and one for the losses of all others
    without = {"input_mean"} if problem is TRANSFORMER else set()  # it is given symbols
    assert set(run.unavailable()) == without
    assert lacking(run) == without


def test_adam_and_rates_on_the_host_are_not_waited_for(watch, monkeypatch):
    def make(parameters):
        first, *others = parameters
        return AdamW([{"params": [first], "lr": torch.full((), 0.01)}, {"params": others, "lr": 0.01}])

    seen, run = train(watch, monkeypatch, MLP, 2, make)
    assert dict(seen.waits) == dict(seen.mixed) == {}
    assert run.unavailable() == {}
    assert lacking(run) == set()


@pytest.mark.parametrize(("problem", "samples"), [(MLP, 3), (RESIDUAL, None)], ids=str)
def test_a_tracked_full_step_waits_for_its_eigenvalues_alone(watch, monkeypatch, problem, samples):
    """And once, on the first step, to know the form of the loss."""
    seen, run = train(watch, monkeypatch, problem, 2, panel="full", samples=samples)
    assert dict(seen.mixed) == {}
    assert seen.waits.keys() == {"aten._linalg_eigh.default", "aten._local_scalar_dense.default"}
    assert seen.waits["aten._local_scalar_dense.default"] == 2
    assert len(seen.to_host) == 2
    assert run.unavailable() == {}
    assert lacking(run) == set()


def test_histograms_of_everything_wait_for_nothing(watch, monkeypatch):
    panel = [instruments.GradHist1d(exact=True), instruments.GradHist2d(edges=([-1, 0, 1], [-2, 2]), exact=True)]
    seen, run = train(watch, monkeypatch, CNN, 2, panel=panel)
    assert dict(seen.waits) == dict(seen.mixed) == {}
    assert run.unavailable() == {}


# What would be noticed ------------------------------------------------------------------------------------------------


def waiting(ask) -> type[Instrument]:
    """Make an instrument that asks something of the device."""

    class Asking(Instrument):
        """Asks."""

        panel = instruments.Loss.panel
        name = "asking"

        def read(self, loss: BatchLoss, mean: MeanGradient) -> Tensor:
            ask(mean.each[0].flatten())
            return loss.value * 2

    return Asking


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: g[0].item(),
        lambda g: float(g.sum()),
        lambda g: bool((g > 0).any()),
        lambda g: g[g > 0],
        lambda g: g.nonzero(),
        lambda g: torch.where(g > 0),
        lambda g: g.masked_select(g > 0),
        lambda g: torch.equal(g, g),
        lambda g: g.unique(),
        lambda g: torch.repeat_interleave(g, torch.ones_like(g, dtype=torch.int64)),
        lambda g: torch.linalg.eigvalsh(g[:, None] * g),
        lambda g: g + torch.ones(len(g)).to(g.device),
        lambda g: g + torch.tensor(1.0, device=g.device),
        lambda g: torch.where(g > 0, g, torch.zeros(())),
        lambda g: g.fill_(0).copy_(torch.zeros(len(g))),
    ],
)
def test_what_waits_is_noticed(watch, monkeypatch, ask):
    seen, _ = train(watch, monkeypatch, MLP, 1, panel=[waiting(ask)])
    assert seen.waits


@pytest.mark.parametrize("ask", [lambda g: g.cpu(), lambda g: g.tolist(), lambda g: torch.empty(len(g)).copy_(g)])
def test_a_copy_to_the_host_is_noticed(watch, monkeypatch, ask):
    seen, _ = train(watch, monkeypatch, MLP, 1, panel=[waiting(ask)])
    assert len(seen.to_host) > 1 or seen.waits


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: g.index_select(0, torch.tensor([0])),
        lambda g: g[torch.tensor([0])],
        lambda g: g + torch.ones(len(g)),
        lambda g: torch.stack([g[0], torch.ones(())]),
        lambda g: torch.dot(g, torch.ones(len(g))),
    ],
)
def test_host_and_device_in_one_operation_are_refused(watch, monkeypatch, ask):
    seen, run = train(watch, monkeypatch, MLP, 1, panel=[waiting(ask)])
    assert seen.mixed
    assert "Mixed" in run.unavailable()["asking"]


def test_a_reading_of_the_host_beside_those_of_the_device(monkeypatch, tmp_path: Path):
    recorder = Recorder(RunWriter(tmp_path / "run.cockpit"))
    with standing_in(monkeypatch) as seen:
        readings = [("rate", 0, torch.ones(())), ("loss", 0, torch.ones((), device=DEVICE)), ("share", 0, 0.5)]
        recorder.block(Block(0, readings))
        recorder.skipped_where(1, torch.ones((), device=DEVICE))
        recorder.loss(1, torch.ones((), device=DEVICE))
        recorder.close()
    assert recorder.failure is None
    assert dict(seen.waits) == dict(seen.mixed) == {}
    assert len(seen.to_host) == 2
    run = cockpitlite.load(tmp_path / "run.cockpit")
    assert [run.series(name)[1].tolist() for name in ("rate", "loss", "share")] == [[1.0], [1.0], [0.5]]
    assert [event.step for event in run.events("skipped_step")] == [1]  # what comes from the device is 1
