"""What a reading says does not hang on how the loss is scaled, summed or cut into parts; where it does, it is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import CNN, MLP, Batch, Problem, cross_entropies
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from twins import Setting, Truth, train, truth

import cockpitlite
from cockpitlite.instruments import HessTrace, TicDiag, TicTrace

STEPS, SIZE, FACTOR = 6, 8, 1024.0
PANEL = [  # what is estimated draws its own random numbers; here it must not
    "full",
    HessTrace(curvature="ggn_exact"),
    TicDiag(curvature="ggn_exact"),
    TicTrace(curvature="ggn_exact"),
]
Loop = Callable[[nn.Module, Optimizer, list[Batch]], None]

INVARIANT = ("alpha", "alpha_same", "alpha_next", "norm_test", "inner_test", "ortho_test", "noise_scale")
WITH_EPSILON = ("mean_gsnr", "early_stopping", "tic_diag", "tic_trace")  # an absolute one, in the units of the loss

# How a reading grows with the loss's scale c when the learning rate is divided by it: by c to this power.
POWERS = {
    **dict.fromkeys(INVARIANT, 0),
    **dict.fromkeys(("update_size", "update_ratio", "distance", "uphill", "edge_of_stability", "cabs"), 0),
    **dict.fromkeys(
        ("loss", "loss_std", "grad_norm", "alpha_f0", "alpha_d0", "alpha_curvature", "slope_same_start"), 1
    ),
    **dict.fromkeys(("hess_trace", "hess_max_ev", "hess_min_ev", "step_curvature", "grad_curvature"), 1),
    **dict.fromkeys(("noise_trace", "grad_signal", "alpha_f0_var", "alpha_d0_var"), 2),
}


def plainly(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def times_1024(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        (FACTOR * F.cross_entropy(model(x), y)).backward()
        optimizer.step()


def summed(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y, reduction="sum").backward()
        optimizer.step()


def in_four_parts(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        for part_x, part_y in zip(x.chunk(4), y.chunk(4), strict=True):
            (F.cross_entropy(model(part_x), part_y) / 4).backward()
        optimizer.step()


def with_a_scaler(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=FACTOR, growth_interval=2)
    for x, y in batches:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


def unscaling_first(model: nn.Module, optimizer: Optimizer, batches: list[Batch]) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=FACTOR)
    for x, y in batches:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


@pytest.fixture
def fly(watch, tmp_path):
    """Train with a loop and a learning rate divided by the loss's scale; return the run."""

    def flown(problem: Problem, loop: Loop, scale: float = 1.0) -> cockpitlite.Run:
        setting = Setting(problem, sizes=(SIZE,) * STEPS)
        model = setting.make_model()
        optimizer = SGD(model.parameters(), lr=0.05 / scale, momentum=0.9)
        watch(optimizer, model, run=tmp_path / f"{loop.__name__}.cockpit", panel=PANEL)
        loop(model, optimizer, setting.batches())
        optimizer.cockpit.close()
        return cockpitlite.load(optimizer.cockpit.run)

    return flown


LOOSELY = {"edge_of_stability": 1e-6}  # followed by iterations that begin at random


def assert_equal(run: cockpitlite.Run, other: cockpitlite.Run, name: str, factor: float = 1.0) -> None:
    (steps, values), (other_steps, other_values) = run.series(name), other.series(name)
    assert steps.size
    assert other_steps.tolist() == steps.tolist()
    allowed = LOOSELY.get(name, 1e-9)
    np.testing.assert_allclose(other_values, factor * values, rtol=allowed, atol=1e-9 * factor, err_msg=name)


@pytest.mark.parametrize(
    ("loop", "scale"),
    [(times_1024, FACTOR), (summed, SIZE), (in_four_parts, 1.0), (with_a_scaler, 1.0), (unscaling_first, 1.0)],
)
@pytest.mark.parametrize("problem", [MLP, CNN], ids=str)
def test_readings_without_a_unit_are_unchanged(fly, problem, loop, scale):
    run, other = fly(problem, plainly), fly(problem, loop, scale)
    for name in INVARIANT:
        assert_equal(run, other, name)


@pytest.mark.parametrize("loop", [with_a_scaler, unscaling_first])
@pytest.mark.parametrize("problem", [MLP, CNN], ids=str)
def test_a_gradient_scaler_changes_nothing_at_all(fly, problem, loop):
    run, other = fly(problem, plainly), fly(problem, loop)
    for name in (*POWERS, *WITH_EPSILON):
        assert_equal(run, other, name)


@pytest.mark.parametrize("problem", [MLP, CNN], ids=str)
def test_parts_of_a_batch_are_the_batch_for_what_has_a_unit_too(fly, problem):
    run, other = fly(problem, plainly), fly(problem, in_four_parts)
    for name in ("mean_gsnr", "early_stopping", "tic_diag", "tic_trace", "cabs", "hess_max_ev", "step_curvature"):
        assert_equal(run, other, name)


@pytest.mark.parametrize(("loop", "scale"), [(times_1024, FACTOR), (summed, SIZE)])
def test_readings_with_a_unit_grow_with_the_loss(fly, loop, scale):
    run, other = fly(MLP, plainly), fly(MLP, loop, scale)
    for name, power in POWERS.items():
        assert_equal(run, other, name, scale**power)


def scaled_problem(scale: float) -> Problem:
    def losses(output: Tensor, y: Tensor) -> Tensor:
        return scale * cross_entropies(output, y)

    return replace(MLP, loss=lambda output, y: scale * F.cross_entropy(output, y), losses=losses)


def truth_at(scale: float) -> Truth:
    problem = scaled_problem(scale)
    rate = 0.05 / scale
    return truth(problem, train(Setting(problem, lambda p: SGD(p, lr=rate, momentum=0.9), sizes=(SIZE,) * STEPS)))


@pytest.mark.parametrize(("loop", "scale"), [(times_1024, FACTOR), (summed, SIZE)])
def test_an_absolute_epsilon_counts_for_less_the_larger_the_loss(fly, loop, scale):
    """mean_gsnr and early_stopping add 1e-5 to a variance in squared units of the loss: at c times it, 1e-5/c²."""
    run, other = fly(MLP, plainly), fly(MLP, loop, scale)
    right = truth_at(scale)
    for name in ("mean_gsnr", "early_stopping"):
        np.testing.assert_allclose(other.series(name)[1], list(right.series[name].values()), rtol=1e-8)
    assert (other.series("mean_gsnr")[1] > run.series("mean_gsnr")[1]).all()
    assert (other.series("early_stopping")[1] < run.series("early_stopping")[1]).all()


@pytest.mark.parametrize(("loop", "scale"), [(times_1024, FACTOR), (summed, SIZE)])
def test_the_information_criterion_grows_with_the_loss(fly, loop, scale):
    """Both are a squared gradient over a curvature, so c²/c; the 1e-7 added to the curvature counts for less."""
    run, other = fly(MLP, plainly), fly(MLP, loop, scale)
    np.testing.assert_allclose(other.series("tic_trace")[1], scale * run.series("tic_trace")[1], rtol=1e-6)
    grown = other.series("tic_diag")[1] / (scale * run.series("tic_diag")[1])
    assert ((grown > 0.999) & (grown < 1.5)).all()


def test_at_the_same_learning_rate_the_suggested_batch_size_grows_with_the_loss(fly):
    run, other = fly(MLP, plainly), fly(MLP, times_1024)
    assert other.series("cabs")[1][0] == pytest.approx(FACTOR * run.series("cabs")[1][0], rel=1e-9)
