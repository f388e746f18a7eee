"""What a tracked step held is given back as it ends, and waits for no garbage collector."""

import gc

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

SAMPLES = 11  # as no other test has, whose own circles may come to light here


def of_classes(model, inputs):
    return F.cross_entropy(model(inputs), torch.arange(len(inputs)) % 3)


def of_numbers(model, inputs):
    return F.mse_loss(model(inputs), torch.zeros(len(inputs), 3))


def of_its_own(model, inputs):
    return model(inputs).square().mean()


@pytest.mark.parametrize("loss", [of_classes, of_numbers, of_its_own])
@pytest.mark.parametrize(("panel", "seen"), [("economy", True), ("full", True), ("economy", False)])
def test_no_tensor_is_kept_by_a_circle(watch, panel, seen, loss):
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1), *([model] if seen else []), panel=panel, every=1)

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            loss(model, torch.randn(SAMPLES, 5)).backward()
            optimizer.step()

    steps(3)  # what is unavailable is told once
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        steps(3)
        gc.collect()
        tensors = [thing for thing in gc.garbage if type(thing) is torch.Tensor]
        kept = [tensor for tensor in tensors if tensor.shape[:1] == (SAMPLES,)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not kept
