"""Watching changes nothing: after ten steps a watched run stands bit for bit where an unwatched one does."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import (
    CNN,
    COMPOSED,
    DROPOUT,
    DROPOUT_TRANSFORMER,
    FOLDED_TIME_FIRST,
    FROZEN,
    FURTHER,
    IDLE,
    LOSSES,
    MLP,
    PENALISED,
    POSITIONED,
    REQUIRED,
    RESIDUAL,
    RETURNING,
    TRANSFORMER,
    UNSTEADY,
    Problem,
)
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.utils._pytree import tree_flatten, tree_map
from twins import OPTIMIZERS, Setting

TEN = (6, 6, 6, 5, 6, 6, 6, 6, 6, 4)
Loop = Callable[[nn.Module, Optimizer, Problem, list], None]


@dataclass(frozen=True)
class End:
    """Where a run stands: everything that training may have changed."""

    parameters: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    optimizer: Any
    streams: tuple[Tensor, Any, Any]


def end_of(model: nn.Module, optimizer: Optimizer) -> End:
    return End(
        {name: p.detach().clone() for name, p in model.named_parameters()},
        {name: p.grad if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        {name: b.clone() for name, b in model.named_buffers()},
        copy.deepcopy(optimizer.state_dict()),
        (torch.get_rng_state(), random.getstate(), np.random.get_state()),
    )


def differences(one: End, other: End) -> list[str]:
    """Name what is not the same, bit for bit."""
    found = []
    for part in ("parameters", "gradients", "buffers", "optimizer", "streams"):
        (here, shape), (there, other_shape) = (tree_flatten(getattr(end, part)) for end in (one, other))
        same = shape == other_shape and all(same_leaf(a, b) for a, b in zip(here, there, strict=True))
        if not same:
            found.append(part)
    return found


def same_leaf(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def ordinary(model: nn.Module, optimizer: Optimizer, problem: Problem, batches: list) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        problem.loss(problem.forward(model, x, y), y).backward()
        optimizer.step()


def run(setting: Setting, loop: Loop, watch: Callable | None) -> End:
    random.seed(5)
    np.random.seed(5)
    model = setting.make_model()
    optimizer = setting.make_optimizer(model)
    if watch is not None:
        optimizer = watch(optimizer, model)
    loop(model, optimizer, setting.problem, setting.batches())
    return end_of(model, optimizer)


def assert_identical(setting: Setting, loop: Loop, watch: Callable) -> None:
    unwatched = run(setting, loop, None)
    assert differences(run(setting, loop, watch), unwatched) == []


def test_a_difference_would_be_found():
    def disturbing(model, optimizer, problem, batches):
        ordinary(model, optimizer, problem, batches)
        torch.rand(1)

    def nudging(model, optimizer, problem, batches):
        ordinary(model, optimizer, problem, batches)
        with torch.no_grad():
            next(model.parameters()).view(-1)[0] *= 1 + 2e-16

    setting = Setting(RESIDUAL, "adamw", sizes=TEN)
    plain = run(setting, ordinary, None)
    assert differences(run(setting, ordinary, None), plain) == []
    assert differences(run(setting, disturbing, None), plain) == ["streams"]
    assert differences(run(setting, nudging, None), plain) == ["parameters"]
    other = Setting(RESIDUAL, "adamw", sizes=TEN[:-1])
    assert differences(run(other, ordinary, None), plain) == ["parameters", "gradients", "buffers", "optimizer"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", [*REQUIRED, *FURTHER], ids=str)
def test_ten_steps(watch, problem, optimizer):
    assert_identical(Setting(problem, optimizer, sizes=TEN, dtype=torch.float32), ordinary, watch)


@pytest.mark.parametrize(
    "problem",
    [UNSTEADY, PENALISED, POSITIONED, FOLDED_TIME_FIRST, FROZEN, IDLE, *LOSSES, *COMPOSED, *RETURNING],
    ids=str,
)
def test_ten_steps_of_whatever_is_hard_to_measure(watch, problem):
    assert_identical(Setting(problem, "momentum", sizes=TEN, dtype=torch.float32), ordinary, watch)


@pytest.mark.parametrize(
    "options", [{"every": 3}, {"overhead": 0.1}, {"overhead": None}, {"samples": 2}, {"panel": []}]
)
@pytest.mark.parametrize("problem", [RESIDUAL, DROPOUT_TRANSFORMER], ids=str)
def test_ten_steps_under_other_options(watch, problem, options):
    def watching(optimizer, model):
        return watch(optimizer, model, **options)

    assert_identical(Setting(problem, "adamw", sizes=TEN, dtype=torch.float32), ordinary, watching)


def clipping(model, optimizer, problem, batches):
    for x, y in batches:
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        nn.utils.clip_grad_value_(model.parameters(), 0.05)
        optimizer.step()


def scheduled(model, optimizer, problem, batches):
    scheduler = StepLR(optimizer, 2, 0.5)
    for x, y in batches:
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()


def evaluated(model, optimizer, problem, batches):
    for x, y in batches:
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            problem.loss(model(x[:3]), y[:3])
        model.train()


def accumulating(model, optimizer, problem, batches):
    for step, (x, y) in enumerate(batches):
        (problem.loss(model(x), y) / 2).backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()


def never_clearing(model, optimizer, problem, batches):
    for x, y in batches:
        problem.loss(model(x), y).backward()
        optimizer.step()


def scaled(model, optimizer, problem, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    for step, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        loss = problem.loss(model(x), y)
        scaler.scale(loss * float("inf") if step == 4 else loss).backward()
        scaler.step(optimizer)
        scaler.update()


def twice_backward(model, optimizer, problem, batches):
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        problem.loss(output, y).backward(retain_graph=True)
        (output**2).mean().backward()
        optimizer.step()


def autocast(model, optimizer, problem, batches):
    for x, y in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = problem.loss(model(x), y)
        loss.backward()
        optimizer.step()


def penalising_gradients(model, optimizer, problem, batches):
    """A loss that contains its own gradient, taken through the same graph."""
    for x, y in batches:
        optimizer.zero_grad()
        loss = problem.loss(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        (loss + 0.1 * sum((gradient**2).sum() for gradient in gradients)).backward()
        optimizer.step()


def editing_inputs(model, optimizer, problem, batches):
    """Batches that are overwritten as soon as they have been used."""
    for x, y in batches:
        x, y = x.clone(), y.clone()
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        x.zero_() if x.is_floating_point() else x.fill_(0)
        y.fill_(0)
        optimizer.step()


@pytest.mark.parametrize(
    "loop",
    [
        clipping,
        scheduled,
        evaluated,
        accumulating,
        never_clearing,
        scaled,
        twice_backward,
        autocast,
        editing_inputs,
    ],
)
@pytest.mark.parametrize("problem", [CNN, RESIDUAL, TRANSFORMER, DROPOUT], ids=str)
def test_ten_steps_of_other_loops(watch, problem, loop):
    assert_identical(Setting(problem, "momentum", sizes=TEN, dtype=torch.float32), loop, watch)


def test_ten_steps_of_a_loss_with_its_own_gradient(watch):
    assert_identical(Setting(MLP, "momentum", sizes=TEN), penalising_gradients, watch)


@pytest.mark.parametrize("problem", [MLP, RESIDUAL, DROPOUT], ids=str)
def test_ten_steps_with_a_closure(watch, problem):
    def closing(model, optimizer, problem, batches):
        for x, y in batches:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = problem.loss(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)

    assert_identical(Setting(problem, lbfgs, sizes=TEN), closing, watch)


def test_ten_steps_with_hooks_of_the_user_s_own(watch):
    """The user's hooks run exactly as often, on the same numbers, as without the panel."""
    seen: list[list[float]] = []

    def hooked(model, optimizer, problem, batches):
        calls: list[float] = []
        seen.append(calls)
        model[0].register_forward_hook(lambda module, args, output: calls.append(output.sum().item()))
        model[2].register_full_backward_hook(lambda module, given, taken: calls.append(taken[0].sum().item()))
        model[4].weight.register_hook(lambda gradient: calls.append(gradient.sum().item()))
        model.register_forward_pre_hook(lambda module, args: calls.append(args[0].sum().item()))
        ordinary(model, optimizer, problem, batches)

    assert_identical(Setting(MLP, "adamw", sizes=TEN), hooked, watch)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 40


def test_ten_steps_of_two_optimizers_on_two_models(watch, tmp_path):
    """As in adversarial training: each backward pass also reaches the other model."""

    def duel(watching):
        torch.manual_seed(1)
        maker, judge = nn.Linear(3, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1))
        making, judging = SGD(maker.parameters(), lr=0.05, momentum=0.5), SGD(judge.parameters(), lr=0.05)
        if watching:
            watch(making, maker, run=tmp_path / "maker.cockpit")
            watch(judging, judge, run=tmp_path / "judge.cockpit")
        generator = torch.Generator().manual_seed(2)
        for _ in range(10):
            noise, true = (torch.randn(6, size, generator=generator) for size in (3, 5))
            judging.zero_grad()
            fake = judge(maker(noise).detach())
            loss = F.softplus(fake).mean() + F.softplus(-judge(true)).mean()
            loss.backward()
            judging.step()
            making.zero_grad()
            F.softplus(-judge(maker(noise))).mean().backward()
            making.step()
        return end_of(maker, making), end_of(judge, judging)

    for plain, watched in zip(duel(False), duel(True), strict=True):
        assert differences(plain, watched) == []


def test_the_batches_are_left_alone(watch):
    setting = Setting(RESIDUAL, "sgd", sizes=TEN)
    model = setting.make_model()
    optimizer = watch(setting.make_optimizer(model), model)
    batches = setting.batches()
    versions = tree_map(lambda tensor: (tensor.clone(), tensor._version), batches)
    ordinary(model, optimizer, RESIDUAL, batches)
    for batch, kept in zip(batches, versions, strict=True):
        for tensor, (value, version) in zip(batch, kept, strict=True):
            assert torch.equal(tensor, value)
            assert tensor._version == version
            assert not tensor.requires_grad
