"""The learning rate is known where it jumps, also on steps of which nothing else is measured."""

import pytest
import torch
from torch import nn

import cockpitlite
from cockpitlite.marks import marks
from cockpitlite.rates import Rates


def trained(path, steps, schedule, *, rate=0.2, every=None, panel="economy", pauses=()):
    """Train a small network whose rate a schedule sets, and return its run."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    cockpitlite.watch(optimizer, model, run=path, every=every, panel=panel)
    scheduler = schedule(optimizer)
    for step in range(steps):
        if step in pauses:
            optimizer.cockpit.pause()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(3, (16,))).backward()
        optimizer.step()
        scheduler.step()
    optimizer.cockpit.close()
    return cockpitlite.load(path)


def halved_every(steps):
    return lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, steps, 0.5)


def rate_of(run):
    steps, values = run.series("learning_rate")
    return dict(zip(steps.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("every", [None, 17, 30])  # 30: some jumps are on steps that are measured, and some after them
def test_a_jump_between_measured_steps_is_at_its_step(tmp_path, every):
    run = trained(tmp_path / "run.cockpit", 200, halved_every(60), every=every)
    rates = rate_of(run)
    assert [rates[step] for step in (59, 60, 119, 120, 179, 180)] == [0.2, 0.1, 0.1, 0.05, 0.05, 0.025]
    found = [mark for mark in marks(run.events(), run.series("learning_rate")) if mark.kind == "rate"]
    assert [(mark.step, mark.words) for mark in found] == [
        (60, "learning rate 0.2 → 0.1"),
        (120, "learning rate 0.1 → 0.05"),
        (180, "learning rate 0.05 → 0.025"),
    ]
    _, layers, values = run.layers("learning_rate")
    assert layers == ["0"] and set(values[:, 0].tolist()) == {0.2, 0.1, 0.05, 0.025}


def test_a_rate_that_is_warmed_up_and_decays_smoothly_adds_a_few_readings_and_no_mark(tmp_path):
    run = trained(
        tmp_path / "run.cockpit",
        600,
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=601),
        every=50,
    )
    assert (
        len(rate_of(run)) < 12 + 12 + 30
    )  # of the panel, of the first steps and of the last, where it falls to nothing
    assert not [mark for mark in marks(run.events(), run.series("learning_rate")) if mark.kind == "rate"]


def test_nothing_is_added_while_watching_is_paused_or_where_the_rate_is_not_on_the_panel(tmp_path):
    paused = trained(tmp_path / "paused.cockpit", 100, halved_every(60), pauses=[40])
    assert max(rate_of(paused)) < 40
    without = trained(tmp_path / "without.cockpit", 100, halved_every(60), panel=["loss"])
    assert "learning_rate" not in without.names()


def test_rates_on_a_device_are_left_to_be_measured():
    rates = Rates()
    kept = torch.tensor(0.1)
    assert rates.of(0, [{"lr": kept}], False) == rates.of(1, [{"lr": kept * 2}], False) == []
    assert rates.of(2, [{"lr": 0.1}], False) == []  # nothing to hold it against
    assert rates.of(3, [{"lr": 0.2}], False) == [(2, [0.1]), (3, [0.2])]
    assert rates.of(4, [{"lr": 0.3}], True) == []  # both are recorded
    assert rates.of(5, [{"lr": 0.31}], False) == []  # no jump
    assert rates.of(6, [{"lr": 0.31}, {"lr": 1.0}], False) == []  # another group has come
    assert rates.of(8, [{"lr": 0.9}, {"lr": 1.0}], False) == []  # it was paused meanwhile
