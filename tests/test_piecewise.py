"""Which networks are taken for linear in each tensor, and that the trace of their Hessian is that of the GGN."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import cockpitlite
from cockpitlite.instruments import HessTrace
from cockpitlite.statistics.piecewise import depends_only_on, is_linear_in_each


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x):
        return x + self.second(self.first(x).relu())


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(self.layer(x).relu())


class Gated(nn.Module):
    """A product of two layers, and behind an own layer of it, a product of that with itself."""

    def __init__(self, curved):
        super().__init__()
        self.first, self.left, self.right = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.curved = curved

    def forward(self, x):
        deep = self.first(x) if self.curved else x
        return self.left(deep) * self.right(deep)


def convolutions():
    shape = nn.Unflatten(1, (1, 1, 5))
    pooled = nn.MaxPool2d((1, 2))
    return nn.Sequential(shape, nn.Conv2d(1, 3, (1, 2)), nn.LeakyReLU(), pooled, nn.Flatten(), nn.Linear(6, 5))


LINEAR = {
    "layers": lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5)),
    "convolutions": convolutions,
    "residual": Residual,
    "dropout": lambda: nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.3), nn.Linear(7, 5)),
    "log_softmax": lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5), nn.LogSoftmax(1)),
    "gated": lambda: Gated(curved=False),
}
CURVED = {
    "tanh": lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 5)),
    "normalised": lambda: nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 5)),
    "used twice": UsedTwice,
    "gated behind a layer": lambda: Gated(curved=True),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)),
}


def trained(path, model, instruments, penalty=0.0):
    """Train a few steps on batches of 64 and return the run, with each step's exact trace by autograd in float64."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(4, 64, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (4, 64), generator=generator)
    loss_of = functional.nll_loss if isinstance(list(model.modules())[-1], nn.LogSoftmax) else functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    watched = cockpitlite.watch(optimizer, model, panel=instruments, run=path, every=1)
    right = []
    for x, y in zip(data, labels, strict=True):
        random = torch.get_rng_state()
        right.append(exact_trace(model, lambda out, y=y: loss_of(out, y), x, penalty))
        torch.set_rng_state(random)
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        if penalty:
            loss = loss + penalty * sum(p.square().square().sum() for p in model.parameters())
        loss.backward()
        watched.step()
    watched.cockpit.close()
    return cockpitlite.load(path), torch.tensor(right, dtype=torch.float64)


def exact_trace(model, loss_of, x, penalty):
    random, total = torch.get_rng_state(), 0.0
    names = dict(model.named_parameters())
    for name, parameter in names.items():

        def loss(flat, name=name, parameter=parameter):
            torch.set_rng_state(random)
            values = {**{n: p.detach() for n, p in names.items()}, name: flat.view_as(parameter)}
            found = loss_of(torch.func.functional_call(model, values, (x,)))
            return found + penalty * sum(p.square().square().sum() for p in values.values())

        flat = parameter.detach().flatten()
        total += torch.autograd.functional.hessian(loss, flat).trace().item()
    return total


@pytest.mark.parametrize("name", LINEAR)
def test_the_trace_of_a_network_that_is_linear_in_each_tensor_is_drawn(tmp_path, name):
    torch.manual_seed(0)
    model = LINEAR[name]().double()
    run, right = trained(tmp_path / "run.cockpit", model, [HessTrace()])
    said, stated = (torch.tensor(run.series(each)[1]) for each in ("hess_trace", "hess_trace_std"))
    assert ((said - right).abs() <= 3 * stated).all()
    assert (stated <= 0.25 * right).all()  # one probe of Hutchinson's is off by more than the trace itself


@pytest.mark.parametrize("name", LINEAR)
def test_such_a_trace_is_that_of_the_exact_matrix(tmp_path, name):
    torch.manual_seed(0)
    run, right = trained(tmp_path / "run.cockpit", LINEAR[name]().double(), [HessTrace(curvature="ggn_exact")])
    torch.testing.assert_close(torch.tensor(run.series("hess_trace")[1]), right, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", CURVED)
def test_other_networks_are_probed(tmp_path, name):
    """Their two traces differ, and both choices say the same: no step of one is drawn."""
    torch.manual_seed(0)
    model = CURVED[name]().double()
    run, right = trained(tmp_path / "run.cockpit", model, [HessTrace()])
    torch.manual_seed(0)
    other, _ = trained(tmp_path / "other.cockpit", CURVED[name]().double(), [HessTrace(curvature="hutchinson")])
    assert list(run.series("hess_trace")[1]) == pytest.approx(list(other.series("hess_trace")[1]), rel=1e-9)
    torch.manual_seed(0)
    exact, _ = trained(tmp_path / "exact.cockpit", CURVED[name]().double(), [HessTrace(curvature="ggn_exact")])
    assert list(exact.series("hess_trace")[1]) != pytest.approx(right.tolist(), rel=1e-6)


def test_a_penalty_on_the_parameters_is_not_left_out(tmp_path):
    """Outside of the model it keeps the batch from being evaluated again; inside of it, it counts."""
    torch.manual_seed(0)
    run, _ = trained(tmp_path / "run.cockpit", LINEAR["layers"]().double(), [HessTrace()], penalty=1.0)
    assert "hess_trace" in run.unavailable() and "hess_trace" not in run.names()


class Penalised(nn.Module):
    """Returns its loss, with a penalty on a weight in it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x, y):
        out = self.second(self.first(x).relu())
        return functional.cross_entropy(out, y) + 3 * self.first.weight.square().sum()


def test_a_penalty_inside_of_the_model_is_not_left_out(tmp_path):
    torch.manual_seed(0)
    model, path = Penalised().double(), tmp_path / "run.cockpit"
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watched = cockpitlite.watch(optimizer, model, panel=[HessTrace(probes=20)], run=path, every=1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(64, 5, dtype=torch.float64), torch.randint(5, (64,))).backward()
        watched.step()
    watched.cockpit.close()
    penalty = 2 * 3 * model.first.weight.numel()  # the trace of the penalty alone
    assert (cockpitlite.load(path).series("hess_trace")[1] > penalty).all()


def test_a_product_of_a_leaf_with_itself_is_curved():
    leaf, other = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    assert is_linear_in_each([leaf * other])
    assert is_linear_in_each([leaf / 2, leaf + other])
    assert not is_linear_in_each([leaf * leaf])
    assert not is_linear_in_each([other / leaf])
    assert not is_linear_in_each([(leaf * other).exp()])


def test_a_loss_depends_on_what_stands_between_it_and_a_leaf():
    leaf, other = torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)
    whole = leaf * other
    one, two = whole.split(2)
    assert depends_only_on(one.exp().sum(), [one])
    assert not depends_only_on((one * two).sum(), [one])  # another result of the same operation
    assert depends_only_on((one * two).sum(), [one, two])
    assert not depends_only_on(one.sum() + leaf.square().sum(), [one])
