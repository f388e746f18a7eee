"""A step of plain momentum is a combination of the one before and the gradient; others are not taken for one."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from cockpitlite.statistics import samples


@pytest.fixture
def mixed(watch, monkeypatch):
    """Train a few steps with an optimizer; return the coefficients that were found in each, None for none."""
    found = []

    def combination(step):
        found.append(real(step))
        return found[-1]

    real = samples.combination
    monkeypatch.setattr(samples, "combination", combination)

    def trained(make, between=lambda model: None, dtype=torch.float32, after=lambda optimizer: None):
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
        optimizer = watch(make(model.parameters()), model)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(5, 6, dtype=dtype)), torch.randint(3, (5,))).backward()
            between(model)
            optimizer.step()
            after(optimizer)
        assert len(found) == 3  # the first step has none before it
        return found

    return trained


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_momentum_is_a_combination(mixed, dtype):
    for a, b in mixed(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), dtype=dtype):
        assert math.isclose(a, 0.9, rel_tol=1e-3)
        assert math.isclose(b, -0.05, rel_tol=1e-3)


def test_the_rate_may_change_on_the_way(mixed):
    def halve(optimizer):
        optimizer.param_groups[0]["lr"] /= 2

    for a, b in mixed(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), after=halve):
        assert math.isclose(a, 0.45, rel_tol=1e-3)
        assert b < 0


def clip(model):
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)


@pytest.mark.parametrize(
    ("make", "between"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), None),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), None),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), None),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), clip),
        (lambda p: torch.optim.Adam(p, lr=0.01), None),
        (lambda p: torch.optim.SGD([{"params": [q], "lr": 0.1 / n} for n, q in enumerate(p, 1)], momentum=0.9), None),
    ],
    ids=["no momentum", "nesterov", "weight decay", "clipped", "adam", "rates of their own"],
)
def test_another_step_is_not_taken_for_one(mixed, make, between):
    assert set(mixed(make, between or (lambda model: None))) == {None}
