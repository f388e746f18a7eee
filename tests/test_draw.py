"""The elements that are drawn for histograms: each parameter has its due share, and the stated error holds."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import vectors
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

import cockpitlite
from cockpitlite import instruments
from cockpitlite.statistics.draw import LIMIT, Draw, _runs


def drawn(sizes: list[int], samples: int, looked_at: int | None = None) -> Draw:
    step = SimpleNamespace(
        frozen=[False] * len(sizes),
        start=[torch.zeros(size) for size in sizes],
        generator=torch.Generator().manual_seed(0),
        memory=SimpleNamespace(rounding=random.Random(0)),
    )
    return Draw.of(step, range(len(sizes)), samples, looked_at or samples)


@given(st.integers(1, 9), st.integers(1, 4), st.data())
def test_those_that_stand_for_the_total_are_as_many_as_are_due(samples, picks, data):
    due, begin = data.draw(st.integers(0, samples * picks)), data.draw(st.integers(0, samples - 1))
    runs = _runs(samples, picks, due, begin)
    assert all(number > 0 for number, _ in runs)
    assert sum(number for number, _ in runs) == samples * picks
    flags = np.repeat([in_total for _, in_total in runs], [number for number, _ in runs]).reshape(picks, samples)
    assert flags.sum() == due
    (part,) = np.flatnonzero(flags.any(1) & ~flags.all(1)) if due % samples else [-1]
    wanted = {(begin + place) % samples for place in range(due % samples)}
    assert part < 0 or set(np.flatnonzero(flags[part])) == wanted


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=8), st.integers(1, 3000))
def test_every_parameter_has_its_share_of_the_total(sizes, samples):
    draw = drawn(sizes, samples)
    share = min(1.0, LIMIT / (samples * sum(sizes)))
    for index, size in enumerate(sizes):
        assert sum(number for number, _ in draw.runs[index]) == draw.places[index].numel() > 0
        assert draw.places[index].max() < size
        in_total = sum(number for number, in_total in draw.runs[index] if in_total)
        assert abs(in_total - share * size * samples) <= 1


def test_in_large_batches_every_sample_stands_for_the_total_about_as_often():
    draw = drawn([6000, 2000, 10], 5000)
    times = sum(
        np.repeat([in_total for _, in_total in runs], [number for number, _ in runs]).reshape(-1, 5000).sum(0)
        for runs in draw.runs.values()
    )
    assert set(times) == {3, 4}


@pytest.mark.parametrize("samples", [128, 1024, LIMIT + 9])
def test_the_stated_error_is_small_and_holds(watch, samples):
    """Of all bins, against all elements; the layers are of very different sizes and gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 4))
    edges = [-1e9, -1e-2, -1e-3, -1e-4, -1e-12, 1e-12, 1e-4, 1e-3, 1e-2, 1e9]
    exact = instruments.GradHist1d(edges=edges, exact=True)
    exact.name = "all_of_them"
    optimizer = watch(SGD(model.parameters(), lr=1e-3), model, panel=[instruments.GradHist1d(edges=edges), exact])
    x, y = vectors(5, 4)(samples, torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(x.float()), y).backward()
        optimizer.step()
    optimizer.cockpit.close()
    run = cockpitlite.load(optimizer.cockpit.run)
    errors = run.series("grad_hist_1d_error")[1]
    assert (errors > 0).all() and (errors <= 0.01).all()
    for step, error in enumerate(errors):
        some, every = (run.histogram(name, step)[0] for name in ("grad_hist_1d", "all_of_them"))
        assert abs(some.sum() - LIMIT) <= 1
        assert np.abs(some / some.sum() - every / every.sum()).max() < 4 * error
        for layer in ("0.weight", "0.bias", "2.weight", "2.bias"):
            few, most = (run.histogram(name, step, layer)[0] for name in ("grad_hist_1d", "all_of_them"))
            assert np.abs(few / few.sum() - most / most.sum()).max() < 4 * 0.5 / np.sqrt(few.sum())
