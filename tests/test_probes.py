"""The probes of the diagnosis: each equals its slow twin, also where the input, the labels or the gradient is odd."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from probe_twins import WIDTH, row_spread
from probe_twins import checksum as slow_checksum
from torch import Tensor, nn
from torch.optim import LBFGS, SGD
from torch.utils.checkpoint import checkpoint

import cockpitlite
from cockpitlite.statistics import checksum as sums
from cockpitlite.statistics.checksum import checksum

PROBES = (
    *("input_mean", "input_std", "input_min", "input_max", "input_spread", "input_fingerprint", "classes"),
    *("label_entropy", "probability_rows", "log_probability_rows", "clip_factor", "stale_gradient", "zero_gradient"),
    *("weight_std", "row_spread", "dead_units"),
)
FIFTH = ("input_mean", "probability_rows", "zero_gradient", "weight_std", "row_spread")
STEPS = (0, 5, 10)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))


def data(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 5, generator=generator), torch.arange(count) % 4


def simple(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
    x, y = data()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


Step = Callable[[nn.Module, torch.optim.Optimizer, int], None]


@pytest.fixture
def fly(watch, tmp_path):
    """Take steps under the default panel; return the run."""
    flights = itertools.count()

    def flown(step: Step = simple, model: nn.Module | None = None, steps: int = 11, optimizer=None, **options):
        torch.manual_seed(0)
        model = net() if model is None else model
        optimizer = SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer(model.parameters())
        watched = watch(optimizer, model, run=tmp_path / f"{next(flights)}.cockpit", **options)
        for index in range(steps):
            step(model, watched, index)
        watched.cockpit.close()
        run = cockpitlite.load(watched.cockpit.run)
        assert not run.events("warning")
        assert not [reason for reason in run.unavailable().values() if "error" in reason.lower()]
        return run

    return flown


def values(run: cockpitlite.Run, name: str) -> list[float]:
    return run.series(name)[1].tolist()


def by_layer(run: cockpitlite.Run, name: str, row: int = 0) -> dict[str, float]:
    _, layers, numbers = run.layers(name)
    return dict(zip(layers, numbers[row].tolist(), strict=True))


def fed(x: object, y: Tensor, **options: object) -> Step:
    """Train on one batch; a mapping is given by keywords, a tuple by position."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        output = model(**x) if isinstance(x, dict) else model(*x) if isinstance(x, tuple) else model(x)
        F.cross_entropy(output, y, **options).backward()
        optimizer.step()

    return step


# When they are read ---------------------------------------------------------------------------------------------------


def test_all_are_read_on_the_diagnosis_schedule_alone(fly):
    run = fly(steps=512, every=10**6)
    for name in PROBES:
        expected = [*range(0, 50, 5), *([500, 505] if name in FIFTH else range(500, 510))]
        if not name.startswith(("input_s", "input_mi", "input_ma", "log_")):
            assert run.series(name)[0].tolist() == expected, name


def test_they_do_not_ask_for_the_calls_of_the_modules(fly, monkeypatch):
    from cockpitlite.hooks import CallRecorder

    recorded: list[str] = []
    monkeypatch.setattr(CallRecorder, "_record", lambda self, owner, *rest: recorded.append(owner.name))
    run = fly(steps=11, every=10**6, panel=["classes", "dead_units", "input_mean", "probability_rows"])
    assert recorded == []
    assert values(run, "dead_units")


def test_without_a_model_what_needs_none_is_read(watch):
    model = net()
    watched = watch(SGD(model.parameters(), lr=0.1), None)
    for index in range(6):
        simple(model, watched, index)
    watched.cockpit.close()
    names = set(cockpitlite.load(watched.cockpit.run).names())
    assert {"zero_gradient", "clip_factor", "stale_gradient", "weight_std", "row_spread"} <= names
    assert not {"input_mean", "input_fingerprint", "classes", "probability_rows", "dead_units"} & names


# The fingerprint ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("count", [1, 7, 8 * WIDTH, 8 * WIDTH + 3, 2 * 8 * WIDTH])
def test_a_checksum_equals_its_twin_in_python(dtype, count):
    numbers = (3 * torch.randn(count, generator=torch.Generator().manual_seed(2))).to(dtype)
    bits = numbers if dtype is not torch.bfloat16 else numbers.view(torch.int16)  # numpy has no such numbers
    assert checksum(numbers).item() == slow_checksum(bits)


def test_a_checksum_of_very_many_words_equals_its_twin(monkeypatch):
    monkeypatch.setattr(sums, "_AT_ONCE", 16 * WIDTH)
    numbers = torch.randint(-128, 127, (8 * WIDTH * (WIDTH + 5),), generator=torch.Generator().manual_seed(2))
    assert checksum(numbers.to(torch.int8)).item() == slow_checksum(numbers.to(torch.int8))


def test_a_checksum_is_of_the_values_not_of_how_they_lie():
    whole = torch.randn(64, 5)
    assert checksum(whole[1:9]) == checksum(whole[1:9].clone())
    assert checksum(whole.t().contiguous().t()) == checksum(whole)
    assert checksum(torch.view_as_complex(torch.randn(4, 2)).conj()) != 0


def test_other_batches_have_other_checksums():
    """Of numbers with few bits too: of ones and zeros, of tokens, and of batches in another order."""
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randint(0, 2, (64, 40), generator=generator).to(kind) for kind in KINDS for _ in range(300)]
    tokens = [torch.randint(0, 3, (4, 4), generator=generator) for _ in range(300)]
    for some in (batches, list({tuple(one.flatten().tolist()): one for one in tokens}.values())):
        found = {checksum(one).item() for one in some}
        assert len(found) == len(some)
    one = batches[0]
    changed = one.clone()
    changed[63, 39] = 1 - changed[63, 39]
    assert len({checksum(other).item() for other in (one, one.flip(0), one.flip(1), changed, one[:-1])}) == 5


KINDS = (torch.float32, torch.float64, torch.float16)


def test_equal_batches_have_equal_fingerprints_and_others_not(fly):
    first, other = torch.randn(6, 5), torch.randn(6, 5)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x = (other if index == 5 else first).clone()
        fed(x, torch.arange(6) % 4)(model, optimizer, index)

    run = fly(step)
    one, two, three = values(run, "input_fingerprint")
    assert one == three == slow_checksum(first) >> 12
    assert two == slow_checksum(other) >> 12 != one


# Inputs ---------------------------------------------------------------------------------------------------------------


class Takes(nn.Module):
    """A model that takes its first tensor by keyword, and others beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, *, length: Tensor, features: Tensor) -> Tensor:
        return self.net(features)


def test_inputs_by_keyword(fly):
    x, y = data()
    run = fly(fed({"length": torch.ones(6, dtype=torch.int64), "features": 3 * x + 2}, y), Takes())
    x = (3 * x + 2).double()
    assert values(run, "input_mean") == pytest.approx([x.mean().item()] * 3, rel=1e-6)
    assert values(run, "input_std") == pytest.approx([x.std(unbiased=False).item()] * 3, rel=1e-6)
    assert values(run, "input_min") == [x.min().item()] * 3
    assert values(run, "input_max") == [x.max().item()] * 3


def test_a_feature_that_does_not_vary_has_no_part_in_the_spread(fly):
    x, y = data(7)
    x = torch.stack([torch.full((7,), 0.1), 1e4 + x[:, 0], 0.01 * x[:, 1], 100 * x[:, 2], torch.zeros(7)], 1)
    run = fly(fed(x, y))
    deviations = x.double().std(0)[1:4]
    assert values(run, "input_spread")[0] == pytest.approx((deviations.max() / deviations.min()).item(), rel=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_inputs_that_do_not_vary_have_a_spread_of_nan(fly, count):
    x, y = data(count)
    run = fly(fed(x[:1].expand(count, -1), y))
    assert math.isnan(values(run, "input_spread")[0])
    assert values(run, "input_std")[0] == pytest.approx(x[0].std(unbiased=False).item(), rel=1e-5)


def test_tokens_have_a_fingerprint_but_no_mean(fly):
    model = nn.Sequential(nn.Embedding(9, 5, sparse=True), nn.Flatten(), nn.Linear(15, 4))
    x = torch.arange(18).reshape(6, 3) % 9
    run = fly(fed(x, torch.arange(6) % 4), model)
    assert values(run, "input_fingerprint") == [slow_checksum(x) >> 12] * 3
    assert "floating-point" in run.unavailable()["input_mean"]
    assert not {"input_mean", "input_std", "input_spread"} & set(run.names())
    assert by_layer(run, "zero_gradient")["0.weight"] == 0.0  # all nine were met


class Constant(nn.Module):
    """A model that is given nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(6, 4))

    def forward(self) -> Tensor:
        return self.scores


def test_a_model_without_inputs_says_so(fly):
    run = fly(fed((), torch.arange(6) % 4), Constant())
    assert "no tensor" in run.unavailable()["input_fingerprint"]
    assert values(run, "classes") == [4.0] * 3


def test_an_input_that_was_overwritten_is_not_read(fly):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        x.zero_()
        optimizer.step()

    run = fly(step)
    assert "overwritten" in run.unavailable()["input_mean"]
    assert "overwritten" in run.unavailable()["input_fingerprint"]


def test_parts_of_a_batch_are_read_together(fly):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        optimizer.zero_grad()
        for part in (slice(0, 2), slice(2, 6)):
            F.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()

    run, (x, y) = fly(step), data()
    assert values(run, "input_std")[0] == pytest.approx(x.double().std(unbiased=False).item(), rel=1e-6)
    counts = torch.bincount(y) / len(y)
    assert values(run, "label_entropy")[0] == pytest.approx(-(counts * counts.log()).sum().item(), rel=1e-6)
    assert values(run, "stale_gradient") == [0.0] * 3


def test_an_empty_batch_is_nan(fly):
    run = fly(fed(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)), steps=1)
    for name in ("input_mean", "input_std", "input_min", "input_spread", "input_fingerprint", "label_entropy"):
        assert math.isnan(values(run, name)[0]), name
    assert math.isnan(values(run, "probability_rows")[0])
    assert values(run, "classes") == [4.0]


# What the loss is given -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_into_cross_entropy(fly, dtype):
    x, y = data()
    run = fly(fed(x.to(dtype), y), nn.Sequential(net(), nn.Softmax(1)).to(dtype))
    assert values(run, "probability_rows") == [1.0] * 3
    assert values(run, "log_probability_rows") == [0.0] * 3


def test_logarithms_of_probabilities_into_cross_entropy(fly):
    run = fly(fed(*data()), nn.Sequential(net(), nn.LogSoftmax(1)))
    assert values(run, "probability_rows") == [0.0] * 3
    assert values(run, "log_probability_rows") == [1.0] * 3


def likely(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
    x, y = data()
    optimizer.zero_grad()
    F.nll_loss(model(x), y).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("last", "share", "unnormalized"),
    [(nn.LogSoftmax(1), 0.0, 0.0), (nn.Softmax(1), 1.0, 1.0), (nn.Identity(), 0.0, 1.0)],
    ids=["right", "probabilities", "scores"],
)
def test_the_negative_log_likelihood_wants_logarithms(fly, last, share, unnormalized):
    run = fly(likely, nn.Sequential(net(), last))
    assert values(run, "probability_rows") == [share] * 3
    assert values(run, "unnormalized_rows") == [unnormalized] * 3
    assert "log_probability_rows" not in run.names()


def test_some_rows(fly):
    """Half of the rows are probabilities."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            scores = self.net(x)
            return torch.cat([scores[:3].softmax(1), scores[3:]])

    assert values(fly(fed(*data()), Half()), "probability_rows") == [0.5] * 3


@pytest.mark.parametrize("sigmoid", [False, True])
def test_choices_between_off_and_on(fly, sigmoid):
    model = nn.Sequential(net(), nn.Sigmoid() if sigmoid else nn.Identity())
    targets = (torch.arange(24).reshape(6, 4) % 3 == 0).float()

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(data()[0]), targets).backward()
        optimizer.step()

    run = fly(step, model)
    assert values(run, "classes") == [2.0] * 3
    assert values(run, "label_entropy")[0] == pytest.approx(-(math.log(1 / 3) / 3 + math.log(2 / 3) * 2 / 3))
    assert (values(run, "unit_scores") == [1.0] * 3) == sigmoid
    assert "binary" in run.unavailable()["probability_rows"]


def test_labels_that_are_ignored_are_not_counted(fly):
    y = torch.tensor([0, 0, -100, 1, -100, 1])
    assert values(fly(fed(data()[0], y)), "label_entropy")[0] == pytest.approx(math.log(2))
    y = torch.tensor([0, 3, 3, 1, 3, 1])
    one = fed(data()[0], y, ignore_index=3)
    assert values(fly(one), "label_entropy")[0] == pytest.approx(-(math.log(1 / 3) / 3 + math.log(2 / 3) * 2 / 3))


def test_all_labels_of_one_class(fly):
    assert values(fly(fed(data()[0], torch.ones(6, dtype=torch.int64))), "label_entropy") == [0.0] * 3


def test_a_large_vocabulary_is_looked_at_in_parts(fly, monkeypatch):
    from cockpitlite.statistics import classes

    whole = fly(fed(*data()), nn.Sequential(net(), nn.Softmax(1)))
    monkeypatch.setattr(classes, "_AT_ONCE", 8)  # two rows
    parts = fly(fed(*data()), nn.Sequential(net(), nn.Softmax(1)))
    for name in ("probability_rows", "label_entropy", "class_loss", "accuracy"):
        assert values(parts, name) == values(whole, name)


def test_without_labels_there_is_a_reason(fly):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        model(data()[0]).square().mean().backward()
        optimizer.step()

    reasons = fly(step).unavailable()
    assert reasons["classes"] == reasons["probability_rows"]
    assert "classes" in reasons["classes"]


def test_of_a_loss_inside_the_model_the_labels_are_known_and_its_input_is_not(fly):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self.net(x), y)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        model(*data()).backward()
        optimizer.step()

    run = fly(step, Own())
    assert values(run, "classes") == [4.0] * 3
    assert "not seen" in run.unavailable()["probability_rows"]


# The gradient on its way ----------------------------------------------------------------------------------------------


def gradient_norm(model: nn.Module) -> float:
    return math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters() if p.grad is not None))


def test_the_factor_of_clipping(fly):
    right: list[float] = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before = gradient_norm(model)
        if index:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        right.append(gradient_norm(model) / before)
        optimizer.step()

    run = fly(step)
    assert values(run, "clip_factor") == pytest.approx([right[index] for index in STEPS], rel=1e-6)
    assert right[0] == 1.0 > right[5]


def test_a_grad_scaler_does_not_clip(fly):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()

    run = fly(step)
    assert values(run, "clip_factor") == pytest.approx([1.0] * 3, rel=1e-6)
    assert values(run, "stale_gradient") == [0.0] * 3


def test_a_closure_that_is_called_several_times(fly):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)

    run = fly(step, optimizer=lambda parameters: LBFGS(parameters, lr=0.1, max_iter=3), steps=6)
    assert "closure" in run.unavailable()["clip_factor"]
    for name in ("stale_gradient", "zero_gradient", "input_mean", "classes", "weight_std", "dead_units"):
        assert len(values(run, name)) == 2, name


def test_gradients_that_nobody_cleared(fly):
    """Fresh ones are what a copy of the model says; what was left is what lay there before the backward."""
    right: list[float] = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        before = [torch.zeros_like(p) if p.grad is None else p.grad.double().clone() for p in model.parameters()]
        F.cross_entropy(model(x), y).backward()
        fresh = [p.grad.double() - old for p, old in zip(model.parameters(), before, strict=True)]
        norms = [math.sqrt(sum(part.square().sum().item() for part in parts)) for parts in (before, fresh)]
        right.append(norms[0] / norms[1])
        optimizer.step()

    run = fly(step)
    assert values(run, "stale_gradient") == pytest.approx([right[index] for index in STEPS], rel=1e-5)
    assert right[0] == 0.0
    assert right[5] > 1
    assert values(run, "clip_factor") == pytest.approx([1.0] * 3, rel=1e-6)


CLEARINGS = {
    "to none": lambda model, optimizer: optimizer.zero_grad(),
    "to zero": lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    "by the model": lambda model, optimizer: model.zero_grad(),
    "through data": lambda model, optimizer: [p.grad.data.zero_() for p in model.parameters()],
}


@pytest.mark.parametrize("when", ["before the forward", "before the backward", "after the step"])
@pytest.mark.parametrize("how", CLEARINGS)
def test_gradients_that_were_cleared_somehow(fly, how, when):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        clear = CLEARINGS[how]
        if index and when == "before the forward":
            clear(model, optimizer)
        loss = F.cross_entropy(model(x), y)
        if index and when == "before the backward":
            clear(model, optimizer)
        loss.backward()
        optimizer.step()
        if when == "after the step":
            clear(model, optimizer)

    assert values(fly(step), "stale_gradient") == [0.0] * 3


def test_gradients_without_a_backward_are_not_called_stale(fly):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        x, y = data()
        found = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()

    run = fly(step)
    assert "no backward" in run.unavailable()["stale_gradient"]
    assert "stale_gradient" not in run.names()
    assert "no backward" in run.unavailable()["input_fingerprint"]


def test_zeros_in_the_gradient(fly):
    model = net()
    with torch.no_grad():
        model[0].bias[:3] = -1e3  # three dead units of seven
    model[2].bias.requires_grad_(False)
    found: list[dict[str, float]] = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        simple(model, optimizer, index)
        named = {name: p.grad for name, p in model.named_parameters()}
        found.append({n: math.nan if g is None else (g == 0).double().mean().item() for n, g in named.items()})

    run = fly(step, model)
    for row, index in enumerate(STEPS):
        assert by_layer(run, "zero_gradient", row) == pytest.approx(found[index], nan_ok=True)
    assert found[0]["0.weight"] >= 3 / 7
    assert by_layer(run, "dead_units")["1"] >= 3 / 7
    sizes = {"0.weight": 35, "0.bias": 7, "2.weight": 28}
    total = sum(found[0][name] * size for name, size in sizes.items()) / 70
    assert values(run, "zero_gradient")[0] == pytest.approx(total)


# The weights ----------------------------------------------------------------------------------------------------------


def matrices() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    row = torch.randn(5, generator=generator)
    return {
        "random": torch.randn(9, 5, generator=generator),
        "constant": torch.full((7, 5), 0.1),
        "zero": torch.zeros(7, 5),
        "equal rows": row.expand(300, 5).clone(),
        "nearly equal rows": row + 0.1 * torch.randn(7, 5, generator=generator),
        "one row": row[None],
        "kernels": torch.randn(4, 3, 3, 3, generator=generator),
        "far from zero": 100 + torch.randn(50, 5, generator=generator),
    }


class Holds(nn.Module):
    """A model that does little with the parameters it has."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.held = nn.ParameterDict({name.replace(" ", "_"): nn.Parameter(p) for name, p in parameters.items()})

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :4] + 0 * sum(p.real.mean() if p.is_complex() else p.mean() for p in self.held.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_how_weights_are_spread(fly, dtype):
    held = {name: tensor.to(dtype) for name, tensor in matrices().items()}
    run = fly(model=Holds(held), steps=1)
    rel = 1e-9 if dtype is torch.float64 else 5e-3
    stds, rows = by_layer(run, "weight_std"), by_layer(run, "row_spread")
    for name, tensor in held.items():
        layer, exact = "held." + name.replace(" ", "_"), tensor.double()
        if name in ("constant", "zero"):
            assert stds[layer] == 0.0
        else:
            assert stds[layer] == pytest.approx(exact.std(unbiased=False).item(), rel=rel), name
        assert rows[layer] == pytest.approx(row_spread(exact.flatten(1).numpy()), rel=rel, abs=1e-9, nan_ok=True), name
    assert rows["held.equal_rows"] == rows["held.constant"] == rows["held.zero"] == 0.0
    everything = torch.cat([tensor.double().flatten() for tensor in held.values()])
    assert values(run, "weight_std")[0] == pytest.approx(everything.std(unbiased=False).item(), rel=rel)
    assert values(run, "row_spread") == [0.0]


def test_complex_weights_and_none_at_all(fly):
    held = torch.randn(3, 4, dtype=torch.complex64)
    run = fly(model=Holds({"a": held}), steps=1)
    assert by_layer(run, "weight_std")["held.a"] == pytest.approx(
        torch.view_as_real(held).double().std(unbiased=False).item(), rel=1e-5
    )
    run = fly(model=Holds({"a": torch.ones(3)}), steps=1)
    assert "two or more" in run.unavailable()["weight_std"]
    assert "two or more" in run.unavailable()["row_spread"]


# Units that do nothing ------------------------------------------------------------------------------------------------


def channels_with(inner: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
    class Waves(nn.Module):
        """A convolution over time, two of whose six channels are dead."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv1d(1, 6, 2), nn.ReLU())
            self.head = nn.Linear(24, 4)
            with torch.no_grad():
                self.body[0].bias[:2] = -1e3
                self.body[0].bias[2:] = 1e3

        def forward(self, x: Tensor) -> Tensor:
            return self.head(inner(self.body, x[:, None]).flatten(1))

    return Waves()


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_channels_are_told_from_positions_without_the_calls(fly, reentrant):
    """Where time comes last, a unit is a channel: that is known from the layer before. Checkpoints are seen through."""

    def inner(body: nn.Module, x: Tensor) -> Tensor:
        if reentrant is None:
            return body(x)
        return checkpoint(body, x.requires_grad_() if reentrant else x, use_reentrant=reentrant)

    run = fly(model=channels_with(inner), every=10**6, panel=["dead_units", "classes"], steps=6)
    _, layers, shares = run.layers("dead_units")
    assert layers == ["body.1"]
    assert shares.tolist() == [[pytest.approx(2 / 6)]] * 2


def test_saturated_units_of_half_precision(fly):
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 7), nn.Sigmoid(), nn.Linear(7, 4)).bfloat16()
    with torch.no_grad():
        model[0].bias[:2] = 50.0
        model[2].bias[:5] = -50.0
    x, y = data()
    shares = by_layer(fly(fed(x.bfloat16(), y), model), "saturated_units")
    hidden = model[1](model[0](x.bfloat16())).float().abs()
    assert shares["1"] >= 2 / 7
    assert shares["3"] >= 5 / 7
    assert set(shares) == {"1", "3"}
    assert hidden.shape == (6, 7)


def test_layers_that_are_there_but_not_called(fly):
    model = net()
    model.idle = nn.ReLU()
    model.forward = lambda x: model[2](F.relu(model[0](x)))
    assert "no ReLU was called" in fly(model=model).unavailable()["dead_units"]


def regress(*targets: Tensor) -> Step:
    """Train on some real targets, each in a forward of its own."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        for target in targets:
            F.mse_loss(model(torch.ones(len(target), 5)).reshape(target.shape), target).backward()
        optimizer.step()

    return step


def test_real_targets_and_what_guessing_each_output_costs(fly):
    generator = torch.Generator().manual_seed(2)
    targets = [1e3 + torch.randn(count, 4, generator=generator) * torch.tensor([0.1, 1, 5, 0]) for count in (6, 3)]
    run = fly(regress(*targets))
    slow = torch.cat(targets).double().numpy()
    assert values(run, "target_mean")[0] == pytest.approx(slow.mean(), rel=1e-6)
    assert values(run, "target_std")[0] == pytest.approx(slow.std(), rel=1e-4)
    assert values(run, "target_each_std")[0] == pytest.approx(math.sqrt(slow.var(0, ddof=1).mean()), rel=1e-5)


def test_one_sample_has_no_spread_of_its_outputs(fly):
    run = fly(regress(torch.arange(4.0)[None]))
    assert values(run, "target_std")[0] == pytest.approx(math.sqrt(1.25))
    assert "target_each_std" not in run.names()


def test_a_single_output_varies_over_its_samples(fly):
    run = fly(regress(torch.arange(8.0)), nn.Sequential(nn.Linear(5, 1)))
    assert values(run, "target_each_std")[0] == pytest.approx(math.sqrt(6.0))
