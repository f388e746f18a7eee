"""What has no axis of samples and is added to what has one: each sample's part is seen at the addition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

import cockpitlite
from cockpitlite.spread import additions, by_sample, origin_of
from cockpitlite.statistics.whole import WholeRule

SAMPLES, PLACES, WIDTH = 6, 5, 4


class Added(nn.Module):
    """Tokens, and what is added to them in one way or another."""

    def __init__(self, way):
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, WIDTH), nn.Embedding(PLACES, WIDTH)
        self.free = nn.Parameter(
            0.1 * torch.randn({"row": (WIDTH,), "table": (PLACES, WIDTH)}.get(way, (1, PLACES, WIDTH)))
        )
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.way = way

    def forward(self, x):
        t, p = self.tokens(x), self.places(torch.arange(PLACES))
        h = {
            "positions": lambda: t + p + 0 * self.free.sum(),
            "positions first": lambda: p + t + 0 * self.free.sum(),
            "free": lambda: t + self.free + 0 * p.sum(),
            "row": lambda: t + self.free + p,
            "table": lambda: torch.add(t, self.free, alpha=-2) + p,
            "twice": lambda: (t + p + self.free).tanh() + p + self.free,
            "multiplied": lambda: (t + p) * (1 + p) + self.free,
        }[self.way]()
        return self.head(torch.tanh(self.body(h)).mean(1))


def trained(watch, way, samples=SAMPLES, steps=3, backward=lambda loss: loss.backward()):
    """Train a few steps watched; return the optimizer and, for each step, the contributions by brute force."""
    model = Added(way).double()
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1), model, panel=["economy", "mean_gsnr"])
    twins = []
    for _ in range(steps):
        x, y = torch.randint(7, (samples, PLACES)), torch.randint(3, (samples,))
        optimizer.cockpit.pause()
        each = []
        for n in range(samples):
            loss = F.cross_entropy(model(x[n : n + 1]), y[n : n + 1])
            found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            each.append(
                torch.cat(
                    [
                        torch.zeros_like(p).flatten() if g is None else g.flatten()
                        for p, g in zip(model.parameters(), found, strict=True)
                    ]
                )
            )
        twins.append(torch.stack(each))
        optimizer.cockpit.resume()
        optimizer.zero_grad()
        backward(F.cross_entropy(model(x), y))
        optimizer.step()
    optimizer.cockpit.close()
    return cockpitlite.load(optimizer.cockpit.run), twins


def norm_test(each):
    mean = each.mean(0)
    return ((each - mean).square().sum() / (len(each) * (len(each) - 1) * mean.square().sum())).sqrt().item()


WAYS = ["positions", "positions first", "free", "row", "table", "twice", "multiplied"]


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_gets_its_part_of_what_is_added(watch, way):
    run, twins = trained(watch, way)
    np.testing.assert_allclose(run.series("norm_test")[1], [norm_test(each) for each in twins], rtol=1e-9)


@pytest.mark.parametrize("way", ["row", "table", "twice"])
def test_the_model_is_not_gone_through_again_for_it(watch, way, monkeypatch):
    monkeypatch.setattr(WholeRule, "contributions", lambda *_: pytest.fail("gone through again"))
    run, _ = trained(watch, way)
    assert "norm_test" not in run.unavailable()
    assert len(run.series("norm_test")[0]) == 3


@pytest.mark.parametrize("way", WAYS)
def test_as_many_places_as_samples_are_not_taken_for_samples(watch, way):
    run, twins = trained(watch, way, samples=PLACES)
    np.testing.assert_allclose(run.series("norm_test")[1], [norm_test(each) for each in twins], rtol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_a_second_backward_through_the_addition_is_right(watch, way):
    def both(loss):
        loss.backward(retain_graph=True)
        loss.backward()

    run, twins = trained(watch, way, backward=both)
    np.testing.assert_allclose(run.series("norm_test")[1], [norm_test(each) for each in twins], rtol=1e-9)


def test_only_what_is_nothing_but_added_is_found():
    x, added, scaled = torch.randn(3, 2), torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True)
    made = added * 1
    loss = ((x + made) * scaled + scaled).sum()
    origins = [origin_of(tensor) for tensor in (made, added, scaled)]
    assert list(additions([loss], origins)) == [origins[0]]


def test_a_gradient_is_divided_only_where_the_samples_are_plain():
    gradient = torch.randn(3, 5, 4)
    torch.testing.assert_close(by_sample(gradient, torch.Size((5, 4)), 3), gradient)
    torch.testing.assert_close(by_sample(gradient, torch.Size((1, 5, 4)), 3), gradient[:, None])
    torch.testing.assert_close(by_sample(gradient, torch.Size((4,)), 3), gradient.sum(1))
    assert by_sample(gradient, torch.Size((3, 5, 4)), 3) is None  # it has the samples itself
    assert by_sample(gradient, torch.Size((5, 4)), 5) is None  # another axis counts them
    assert by_sample(torch.randn(4, 4), torch.Size((4,)), 4) is None  # which of the two
