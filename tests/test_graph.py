"""What the graph behind a model's output tells: where it narrows, what its norms average over, what made a tensor."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD

import cockpitlite
from cockpitlite.graph import maker


@pytest.fixture
def noted(watch, run_path):
    """Train a model for a few steps and return what was noted of it."""

    def note(model, inputs=None, loss=None, steps=3):
        inputs = torch.randn(16, 8) if inputs is None else inputs
        watched = watch(SGD(model.parameters(), lr=0.01), model)
        for _ in range(steps):
            watched.zero_grad()
            (model(inputs).square().mean() if loss is None else loss(model(inputs))).backward()
            watched.step()
        watched.cockpit.close()
        return [event.data for event in cockpitlite.load(run_path).events("graph")]

    return note


class Branches(nn.Module):
    """Layers, one of them of a single output, put together by a function."""

    def __init__(self, forward):
        super().__init__()
        self.wide, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.down, self.up = nn.Linear(8, 1), nn.Linear(1, 8)
        self.together = forward

    def forward(self, x):
        return self.together(self, x)


def narrows(m, x):
    return m.head(torch.relu(m.up(m.down(m.wide(x)))))


@pytest.mark.parametrize("shape", [(16, 8), (4, 5, 8)])
def test_a_single_number_is_named_by_its_weight(noted, shape):
    assert noted(Branches(narrows), torch.randn(shape))[0]["narrow"] == "down.weight"


def test_it_is_seen_under_autocast(noted):
    def cast(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            return narrows(m, x).float()

    assert noted(Branches(cast))[0]["narrow"] == "down.weight"


GOES_AROUND = {
    "a residual connection": lambda m, x: m.head(x + m.up(m.down(m.wide(x)))),
    "a low-rank addition": lambda m, x: m.head(m.wide(x) + m.up(m.down(x))),
    "a gate": lambda m, x: m.head(m.wide(x) * torch.sigmoid(m.up(m.down(m.wide(x))))),
    "attention": lambda m, x: m.head((m.down(x).softmax(0) * m.wide(x)).sum(0, keepdim=True)),
    "two heads": lambda m, x: torch.cat([m.down(m.wide(x)), m.head(m.wide(x))], 1),
    "two networks": lambda m, x: torch.cat([m.down(x), m.head(m.wide(x))], 1),
    "inputs that come in later": lambda m, x: m.head(torch.cat([m.up(m.down(x))[:, 1:], x[:, :1]], 1)),
    "a last layer of one output": lambda m, x: m.down(m.wide(x)),
    "a last number that is scaled": lambda m, x: m.down(m.wide(x)) * m.up.bias[:1],
}


@pytest.mark.parametrize("case", GOES_AROUND)
def test_what_goes_around_makes_it_none(noted, case):
    assert noted(Branches(GOES_AROUND[case]))[0]["narrow"] is None


def test_a_penalty_on_weights_is_no_layer(noted):
    model = Branches(lambda m, x: m.down(m.wide(x)))
    penalised = noted(model, loss=lambda out: out.square().mean() + sum(p.square().sum() for p in model.parameters()))
    assert penalised[0]["narrow"] is None


def test_channels_pooled_to_one_place_are_many(noted):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten())
    assert noted(model, torch.randn(2, 1, 5, 5))[0]["narrow"] is None


def test_it_is_noted_once(noted):
    assert len(noted(Branches(narrows), steps=12)) == 1


@pytest.mark.parametrize(("norm", "shape", "count"), [(nn.BatchNorm1d, (6, 8), 6), (nn.BatchNorm2d, (2, 8, 3, 5), 30)])
def test_a_batch_norm_averages_over_samples_and_places(noted, norm, shape, count):
    model = nn.Sequential(norm(8), nn.Flatten(), nn.LazyLinear(3))
    model(torch.randn(shape))
    assert noted(model, torch.randn(shape))[0]["norm_values"] == count


def test_other_norms_do_not(noted):
    frozen = nn.BatchNorm1d(8).eval()
    model = nn.Sequential(nn.LayerNorm(8), frozen, nn.Linear(8, 3))
    assert noted(model)[0]["norm_values"] is None


def test_the_strongest_dropout_in_train_mode_is_named(noted):
    model = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 8), nn.Dropout(0.9), nn.Dropout(0.95).eval(), nn.Linear(8, 2))
    found = noted(model)[0]
    assert (found["dropout"], found["dropping"]) == (0.9, ["2"])


def test_dropout_inside_of_layers_counts(noted):
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.6, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    found = noted(Attends(), torch.randn(4, 3, 8))[0]
    assert (found["dropout"], found["dropping"]) == (0.6, ["attention"])


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda x: x.softmax(1), "softmax"),
        (lambda x: torch.sigmoid(x).view(-1), "sigmoid"),
        (lambda x: functional.relu(x, inplace=True).unsqueeze(0).transpose(0, 1), "relu"),
        (lambda x: 30 * torch.tanh(x / 30), "mul"),
        (lambda x: x.detach(), ""),
    ],
)
def test_what_made_a_tensor_is_found_behind_its_form(made, name):
    assert maker(made(torch.randn(4, 3, requires_grad=True) * 1)) == name


def test_the_loss_tells_what_gave_its_predictions(watch, run_path):
    model = nn.Sequential(nn.Linear(8, 3), nn.Sigmoid())
    watched = watch(SGD(model.parameters(), lr=0.1), model)
    weight = torch.ones(3)
    for _ in range(3):
        watched.zero_grad()
        functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,)), weight).backward()
        watched.step()
    watched.cockpit.close()
    asked = cockpitlite.load(run_path).events("loss_functions")[0].data
    assert asked["makers"] == {"cross_entropy": ["sigmoid"]}
    assert asked["weighted"]
