"""Faults put into small trainings on real digits, and the same trainings without: what the rules say of them."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import cockpitlite
from cockpitlite.diagnosis import diagnose

pytestmark = pytest.mark.slow
STEPS = 120
PIXELS, LABELS = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
RAW = PIXELS.float()
IMAGES = (RAW - RAW.mean(0)) / (RAW.std(0) + 1)
SORTED = torch.argsort(LABELS, stable=True)


def network(activation=nn.ReLU, depth=3, last=()):
    """Linear layers of 64 units with an activation between them."""
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*hidden, nn.Linear(64, 10), *last)


@torch.no_grad()
def with_weights(model, change):
    """Return a model whose weights and biases were changed in place."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            change(layer)
    return model


def any_batch(step):
    return torch.randint(len(LABELS), (64,))


@pytest.fixture
def train(run_path):
    """A function that trains a model under the panel and returns the findings by their code."""

    def trained(  # one option for each thing that a fault changes
        model,
        *,
        inputs=IMAGES,
        labels=LABELS,
        batch=any_batch,
        loss=functional.cross_entropy,
        optimizer=torch.optim.SGD,
        rate=0.2,
        before=lambda step: None,
        clear=True,
        clip=None,
        schedule=None,
        steps=STEPS,
        **options,
    ):
        watched = cockpitlite.watch(optimizer(model.parameters(), lr=rate, **options), model, run=run_path, every=5)
        scheduler = schedule(watched) if schedule else None
        for step in range(steps):
            before(step)
            rows = batch(step)
            if clear:
                watched.zero_grad()
            loss(model(inputs[rows]), labels[rows]).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            watched.step()
            if scheduler:
                scheduler.step()
        watched.cockpit.close()
        return {finding.code: finding for finding in diagnose(run_path)}

    return trained


def kill(layer):
    if layer.out_features == 64:
        layer.bias.fill_(-10)


def make_constant(layer):
    layer.weight.fill_(0.01)
    layer.bias.zero_()


def sum_of_losses(scores, labels):
    return functional.cross_entropy(scores, labels, reduction="sum")


def switches(scores, labels):
    return functional.binary_cross_entropy_with_logits(scores, functional.one_hot(labels, 10).float())


FAULTS = {
    "dead units": ("F3", lambda: {"model": with_weights(network(), kill)}),
    "eight sigmoid layers": ("F4a", lambda: {"model": network(nn.Sigmoid, 8)}),
    "saturated units": ("F5", lambda: {"model": with_weights(network(nn.Tanh), lambda layer: layer.weight.mul_(10))}),
    "inputs times 255": ("F6a", lambda: {"model": network(), "inputs": RAW * 16}),
    "inputs over 255": ("F6a", lambda: {"model": network(), "inputs": IMAGES / 1000}),
    "weights times 10": ("F6b", lambda: {"model": with_weights(network(), lambda layer: layer.weight.mul_(10))}),
    "weights over 100": ("F6b", lambda: {"model": with_weights(network(), lambda layer: layer.weight.div_(100))}),
    "constant weights": ("F6c", lambda: {"model": with_weights(network(), make_constant)}),
    "no zero_grad": ("F7", lambda: {"model": network(), "clear": False}),
    "softmax twice": ("F8a", lambda: {"model": network(last=[nn.Softmax(1)])}),
    "nll_loss of probabilities": ("F8c", lambda: {"model": network(last=[nn.Softmax(1)]), "loss": functional.nll_loss}),
    "sigmoid twice": ("F8d", lambda: {"model": network(last=[nn.Sigmoid()]), "loss": switches}),
    "clipped at 0.01": ("F10", lambda: {"model": network(), "clip": 0.01}),
    "batches in pairs": (
        "F13",
        lambda: {"model": network(), "steps": 510, "batch": lambda step: torch.arange(64) + step // 2},
    ),
    "sorted data": (
        "F14",
        lambda: {
            "model": network(),
            "inputs": IMAGES[SORTED],
            "labels": LABELS[SORTED],
            "batch": lambda step: (torch.arange(64) + 64 * step) % len(LABELS),
        },
    ),
    "a summed loss": ("F15", lambda: {"model": network(), "loss": sum_of_losses}),
    "weight decay of 1": ("F18", lambda: {"model": network(), "weight_decay": 1.0}),
    "a schedule by epochs": (
        "F17",
        lambda: {
            "model": network(),
            "rate": 0.05,
            "steps": 220,
            "schedule": lambda watched: torch.optim.lr_scheduler.StepLR(watched, 12, 0.1),
        },
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_among_the_first_three(train, name):
    code, made = FAULTS[name]
    found = train(**made())
    told = [finding.code for finding in found.values() if finding.severity != "info"][:3]
    assert code in told, {finding.code: finding.title for finding in found.values()}


def test_training_in_eval_mode(train):
    model = network(last=[nn.Dropout(0.1)])
    with pytest.warns(UserWarning, match="eval mode"):
        found = train(model, before=lambda step: model.train(step < 20))
    assert "F16" in found


class ZeroHead(nn.Module):
    """A network whose last weights start at 0."""

    def __init__(self):
        super().__init__()
        self.body, self.head = network(), nn.Linear(10, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def frozen():
    model = network()
    for parameter in model[:4].parameters():
        parameter.requires_grad_(False)
    return model


ADAM = {"optimizer": torch.optim.Adam, "rate": 0.003}
HEALTHY = {
    "ReLU": lambda: {"model": network()},
    "tanh under momentum": lambda: {"model": network(nn.Tanh), "rate": 0.03, "momentum": 0.9},
    "Adam": lambda: {"model": network(), **ADAM},
    "AdamW with decay": lambda: {
        "model": network(),
        "optimizer": torch.optim.AdamW,
        "rate": 0.003,
        "weight_decay": 0.1,
    },
    "logistic regression": lambda: {"model": network(depth=0)},
    "small batches": lambda: {"model": network(), "rate": 0.05, "batch": lambda step: any_batch(step)[:8]},
    "all data at once": lambda: {"model": network(), "batch": lambda step: torch.arange(len(LABELS))},
    "dropout": lambda: {"model": network(nn.Tanh, last=[nn.Dropout(0.1)])},
    "pixels from 0 to 1": lambda: {"model": network(), "inputs": RAW / 16, **ADAM},
    "a norm first": lambda: {"model": nn.Sequential(nn.BatchNorm1d(64), *network()), "inputs": RAW * 16},
    "log-probabilities": lambda: {"model": network(last=[nn.LogSoftmax(1)]), "loss": functional.nll_loss},
    "a last layer of zeros": lambda: {"model": ZeroHead(), **ADAM},
    "a frozen trunk": lambda: {"model": frozen(), **ADAM},
    "clipped at 1": lambda: {"model": network(), "clip": 1.0},
    "a warm-up from 0": lambda: {
        "model": network(),
        **ADAM,
        "schedule": lambda w: torch.optim.lr_scheduler.LambdaLR(w, lambda step: min(1, step / 50)),
    },
    "a cosine to 0": lambda: {
        "model": network(),
        **ADAM,
        "schedule": lambda w: torch.optim.lr_scheduler.LambdaLR(w, lambda s: (1 + math.cos(math.pi * s / STEPS)) / 2),
    },
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_trainings_are_told_no_fault(train, name):
    found = train(**HEALTHY[name]())
    told = {code: finding.title for code, finding in found.items() if finding.severity != "info" and code[0] == "F"}
    assert told == {}
    assert "R1" not in found
