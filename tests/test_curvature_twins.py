"""The twins of curvature, histograms, activations and classes are held against closed cases and finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from curvature_twins import (
    Curvature,
    bounds_of_counts,
    bounds_of_joint_counts,
    curvature_of,
    dead,
    edge_of,
    gauss_newton_of,
    put_activations,
    put_classes,
    put_curvature,
    saturated,
    trace_variance,
)
from models import (
    CNN,
    DROPOUT_TRANSFORMER,
    LSTM,
    MLP,
    RESIDUAL,
    SIAMESE,
    VARIATIONAL,
    VIT,
    Problem,
    noisy_targets,
    squares,
    vectors,
)
from torch import Tensor, nn
from torch.optim import SGD, Adam
from twins import Journey, Part, Rule, Setting, Step, Truth, doubled, flat, photograph, slope, train, truth

LINEAR = Problem("linear", lambda: nn.Linear(5, 4), vectors(5, 4))
LINEAR_SQUARES = Problem("linear, squares", lambda: nn.Linear(5, 3), noisy_targets(5, 3), F.mse_loss, squares)


def first_part(problem: Problem, size: int = 5) -> Part:
    setting = Setting(problem, sizes=(size,))
    model = setting.make_model()
    return Part(problem, setting.batches()[0], photograph(model))


@pytest.mark.parametrize("problem", [MLP, CNN, RESIDUAL, DROPOUT_TRANSFORMER, LSTM, VIT, SIAMESE, VARIATIONAL], ids=str)
def test_the_hessian_is_the_derivative_of_the_slope(problem):
    part = first_part(problem)
    place = doubled(part.before.parameters)
    curvature = curvature_of([part], place)
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, len(curvature.gradient), generator=generator, dtype=torch.float64)
    ends = []
    for sign in (1, -1):
        moved, start = {}, 0
        for name, tensor in place.items():
            moved[name] = tensor + sign * 1e-5 * one[start : start + tensor.numel()].view_as(tensor)
            start += tensor.numel()
        ends.append(slope(problem, moved, part.before, part.batch, other))
    exact = torch.dot(other, curvature.hessian @ one).item()
    scale = one.norm() * other.norm() * curvature.hessian.norm()
    assert abs((ends[0] - ends[1]) / 2e-5 - exact) <= 1e-7 * scale
    assert torch.dot(curvature.gradient, other).item() == pytest.approx(
        slope(problem, place, part.before, part.batch, other), rel=1e-12
    )


@pytest.mark.parametrize("problem", [LINEAR, LINEAR_SQUARES], ids=str)
def test_of_a_linear_model_the_gauss_newton_matrix_is_the_hessian(problem):
    part = first_part(problem)
    place = doubled(part.before.parameters)
    hessian = curvature_of([part], place).hessian
    ggn = gauss_newton_of([part], place)
    assert torch.allclose(ggn.columns.T @ (ggn.signs[:, None] * ggn.columns), hessian, atol=1e-13)
    assert torch.allclose(ggn.diagonal(), hessian.diagonal(), atol=1e-13)


def test_of_another_model_it_is_not_but_has_no_negative_direction():
    part = first_part(MLP)
    place = doubled(part.before.parameters)
    ggn = gauss_newton_of([part], place)
    matrix = ggn.columns.T @ (ggn.signs[:, None] * ggn.columns)
    assert torch.linalg.eigvalsh(matrix).min() >= -1e-13
    assert not torch.allclose(matrix, curvature_of([part], place).hessian, rtol=1e-2)


def test_sampled_diagonals_have_the_exact_one_as_their_mean():
    part = first_part(MLP)
    ggn = gauss_newton_of([part], doubled(part.before.parameters))
    draws = ggn.sampled_diagonals(4000)
    error = (draws.mean(0) - ggn.diagonal()).abs() / (draws.std(0) / math.sqrt(4000) + 1e-15)
    assert error.max() < 5


def test_the_variance_of_a_trace_is_that_of_probes():
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    curvature = Curvature(matrix + matrix.T, torch.zeros(7), {"a": 3, "b": 4})
    signs = torch.randint(2, (20000, 7), generator=generator).double() * 2 - 1
    probes = signs * (signs @ curvature.hessian)
    total, layers = trace_variance(curvature)
    assert probes.sum(1).var().item() == pytest.approx(total, rel=0.05)
    assert probes[:, :3].sum(1).var().item() == pytest.approx(layers["a"], rel=0.05)
    assert probes[:, 3:].sum(1).var().item() == pytest.approx(layers["b"], rel=0.05)


# The edge of stability ------------------------------------------------------------------------------------------------


def valley(lr: float, steepest: float, **options) -> float:
    """Return how much a quadratic's steepest direction has grown after many steps of a rule."""
    theta = nn.Parameter(torch.ones(2, dtype=torch.float64))
    heights = torch.tensor([0.1, steepest], dtype=torch.float64)
    optimizer = SGD([theta], lr=lr, **options)
    for _ in range(3000):
        theta.grad = (heights * theta).detach()
        optimizer.step()
    return theta[1].abs().item()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "dampening": 0.4},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.3, "nesterov": True},
    ],
    ids=str,
)
def test_below_the_edge_a_valley_is_descended_and_above_it_left(options):
    steepest = 2.0
    curvature = Curvature(torch.diag(torch.tensor([0.1, steepest], dtype=torch.float64)), torch.zeros(2), {"p": 2})
    rule = Rule("SGD", {"p": {"lr": 1.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False, **options}}, {})
    lr = 1 / edge_of(curvature, rule)
    assert valley(0.99 * lr, steepest, **options) < 1e-3
    assert valley(1.01 * lr, steepest, **options) > 1e3


def test_the_edge_of_adam_is_that_of_its_frozen_preconditioner():
    """Momentum as Adam averages it, with each direction divided by P: stable just below, unstable just above."""
    beta1, heights, P = 0.8, torch.tensor([3.0, 1.0]).double(), torch.tensor([4.0, 0.5]).double()
    beta2, t = 0.9, 3.0
    state = {"step": torch.tensor(t), "exp_avg_sq": (P / (1 - beta1**t) - 1e-3) ** 2 * (1 - beta2**t)}
    options = {"lr": 1.0, "betas": (beta1, beta2), "eps": 1e-3}
    curvature = Curvature(torch.diag(heights), torch.zeros(2), {"p": 2})
    edge = edge_of(curvature, Rule("Adam", {"p": options}, {"p": state}))
    for factor, grows in ((0.99, False), (1.01, True)):
        lr, theta, average = factor / edge, torch.ones(2).double(), torch.zeros(2).double()
        for _ in range(3000):
            average = beta1 * average + (1 - beta1) * heights * theta
            theta = theta - lr * average / P
        assert (theta.abs().max().item() > 1e3) == grows


def test_rates_of_their_own_scale_the_hessian_from_both_sides():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    curvature = Curvature(matrix, torch.zeros(2), {"p": 1, "q": 1})
    plain = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}
    rule = Rule("SGD", {"p": {"lr": 0.5, **plain}, "q": {"lr": 0.1, **plain}}, {})
    steps = torch.diag(torch.tensor([0.5, 0.1]).double()) @ matrix
    assert edge_of(curvature, rule) == pytest.approx(torch.linalg.eigvals(steps).real.max().item() / 2)


def test_of_an_unknown_rule_no_edge_is_known():
    curvature = Curvature(torch.eye(1).double(), torch.zeros(1), {"p": 1})
    assert math.isnan(edge_of(curvature, Rule("LBFGS", {"p": {"lr": 1.0}}, {})))


def test_a_quadratic_has_its_own_curvature_everywhere():
    heights = torch.tensor([[1.0, -2.0, 4.0]]).double()
    problem = Problem(
        "bowl",
        lambda: nn.Linear(3, 1, bias=False),
        lambda count, generator: (torch.ones(count, 3).double(), torch.zeros(count)),
        lambda output, y: output.sum() / len(y),
        lambda output, y: output[:, 0],
        lambda model, x, y: 0.5 * (heights * model.weight**2).sum(1, keepdim=True).expand(len(x), 1),
    )
    journey = train(Setting(problem, "sgd", sizes=(3,) * 2))
    part = Part(problem, journey.steps[0].batch, journey.steps[0].before)
    curvature = curvature_of([part], journey.places()[0])
    assert torch.allclose(curvature.hessian, torch.diag(heights[0]))


def test_the_readings_of_curvature_are_those_of_the_matrix():
    journey = train(Setting(MLP, lambda parameters: Adam(parameters, lr=0.01), sizes=(5,) * 2))
    found = truth(MLP, journey)
    put_curvature(found, MLP, journey)
    places = journey.places()
    curvature = curvature_of([Part(MLP, journey.steps[1].batch, journey.steps[1].before)], places[1])
    vector = flat({name: places[2][name] - places[1][name] for name in places[1]})
    series = found.series
    assert series["step_curvature"][1] == pytest.approx(
        (vector @ curvature.hessian @ vector / (vector @ vector)).item()
    )
    assert series["hess_min_ev"][1] <= series["step_curvature"][1] <= series["hess_max_ev"][1]
    assert series["hess_trace"][1] == pytest.approx(torch.linalg.eigvalsh(curvature.hessian).sum().item())
    assert sum(found.layers["hess_trace"][1].values()) == pytest.approx(series["hess_trace"][1])


# Ratios ---------------------------------------------------------------------------------------------------------------


def test_ratios_of_known_gradients():
    """Of w x + b with loss 30 + output, the samples' gradients are their inputs, and 1 for the bias."""
    x = torch.tensor([[1.0], [2.0], [6.0]]).double()
    problem = Problem(
        "slope",
        lambda: nn.Linear(1, 1),
        lambda count, generator: (x, torch.zeros(3)),
        lambda output, y: 30 + output.mean(),
        lambda output, y: 30 + output[:, 0],
    )
    right = truth(problem, train(Setting(problem, "sgd", sizes=(3,))))
    layers = right.layers
    assert layers["mean_gsnr"][0]["weight"] == pytest.approx(9 / (14 / 3 + 1e-5))
    assert layers["mean_gsnr"][0]["bias"] == pytest.approx(1e5)
    assert right.series["mean_gsnr"][0] == pytest.approx((9 / (14 / 3 + 1e-5) + 1e5) / 2)
    assert layers["early_stopping"][0]["weight"] == pytest.approx(1 - 3 * 9 / (7 + 1e-5))
    assert right.series["early_stopping"][0] == pytest.approx(1 - 1.5 * (9 / (7 + 1e-5) + 1e5))
    assert right.series["cabs"][0] == pytest.approx(0.1 * (14 / 3) / right.series["loss"][0])


# Histograms -----------------------------------------------------------------------------------------------------------


def test_counts_are_bounded_by_those_of_numpy():
    generator = np.random.default_rng(0)
    values, edges = generator.normal(size=500), np.linspace(-2, 2, 9)
    lower, upper = bounds_of_counts(values, edges, 1e-9)
    counts = np.histogram(values, edges)[0]
    assert np.array_equal(lower, counts)
    assert np.array_equal(upper, counts)


def test_a_value_on_an_edge_may_be_on_either_side():
    lower, upper = bounds_of_counts(np.array([0.5, 1.0]), np.array([0.0, 1.0, 2.0]), 1e-9)
    assert lower.tolist() == [1, 0]
    assert upper.tolist() == [2, 1]


def test_joint_counts_are_bounded_by_those_of_numpy():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 300))
    edges = (np.linspace(-2, 2, 6), np.linspace(-1, 3, 5))
    lower, upper = bounds_of_joint_counts((one, other), edges, 1e-9)
    counts = np.histogram2d(one, other, edges)[0]
    assert np.array_equal(lower, counts)
    assert np.array_equal(upper, counts)


# Activations and classes ----------------------------------------------------------------------------------------------


def test_units_are_features_or_channels():
    flat_output = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert dead(flat_output) == pytest.approx(1 / 3)
    image = torch.zeros(2, 4, 3, 3)
    image[1, 2, 0, 0] = 1.0
    assert dead(image) == 0.75
    sequence = torch.zeros(2, 5, 4)
    sequence[0, 3, 1] = 1.0
    assert dead(sequence) == 0.75


def test_saturation_is_counted_at_both_ends():
    assert saturated(nn.Tanh(), torch.tensor([[0.98, -0.98, 0.96, 0.0]])) == 0.5
    assert saturated(nn.Sigmoid(), torch.tensor([[0.99, 0.01, 0.5, 0.03]])) == 0.5


def one_step(problem: Problem) -> tuple[Step, Journey]:
    journey = train(Setting(problem, "sgd", sizes=(6,)))
    return journey.steps[0], journey


def test_activations_are_those_of_the_modules():
    step, journey = one_step(MLP)
    found = Truth()
    place = journey.places()[0]
    put_activations(found, 0, MLP, step, place)
    assert set(found.layers["activation_mean"][0]) == {"0", "1", "2", "3", "4"}
    assert set(found.layers["dead_units"][0]) == {"3"}
    assert set(found.layers["saturated_units"][0]) == {"1"}
    h = step.batch[0].double() @ place["0.weight"].T + place["0.bias"]
    assert found.layers["activation_std"][0]["0"] == pytest.approx(h.std(unbiased=False).item())
    assert found.layers["activation_mean"][0]["1"] == pytest.approx(h.tanh().mean().item())


def test_classes_are_those_of_the_labels():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0]]).double()
    labels = torch.tensor([0, 1, 1, 0])
    problem = Problem("told", lambda: nn.Linear(1, 1), lambda count, g: (torch.ones(4, 1).double(), labels))
    problem = replace(problem, forward=lambda model, x, y: logits + 0 * model(x))
    step, _ = one_step(problem)
    found = Truth()
    put_classes(found, 0, problem, step)
    assert found.series["accuracy"][0] == 0.75
    assert found.series["balanced_accuracy"][0] == 0.75
    each: Tensor = F.cross_entropy(logits, labels, reduction="none")
    expected = {"0": each[[0, 3]].mean().item(), "1": each[[1, 2]].mean().item()}
    assert found.layers["class_loss"][0] == pytest.approx(expected)
    assert found.series["class_loss"][0] == pytest.approx(sum(expected.values()) / 2)
