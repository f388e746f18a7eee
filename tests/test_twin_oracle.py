"""The oracle of the training half is itself held against other ways to the same numbers."""

import math

import numpy as np
import pytest
import torch
from models import (
    COMPOSED,
    FOLDED,
    FURTHER,
    LOSSES,
    LSTM,
    LSTM_TIME_FIRST,
    MLP,
    NORM,
    PENALISED,
    POSITIONED,
    REQUIRED,
    RESIDUAL,
    RETURNING,
    TIME_FIRST,
    TRANSFORMER,
    Problem,
)
from torch import nn
from twins import (
    Evaluation,
    Setting,
    Truth,
    contributions,
    diagnosed,
    evaluate,
    fit_parabola,
    flat,
    mistakes,
    random_state,
    recorded_calls,
    slope,
    stand_in,
    train,
    truth,
)

ALL = [*REQUIRED, *FURTHER, FOLDED, POSITIONED, PENALISED, *TIME_FIRST, *LOSSES, *COMPOSED, *RETURNING]
STEPS = 3


def journey_of(problem: Problem, optimizer: str = "sgd"):
    return train(Setting(problem, optimizer, sizes=(6,) * STEPS))


def first_evaluation(problem: Problem) -> Evaluation:
    journey = journey_of(problem)
    return evaluate(problem, journey.places()[0], journey.steps[0].before, journey.steps[0].batch)


@pytest.mark.parametrize("problem", ALL, ids=str)
def test_contributions_sum_to_the_gradient_that_training_saw(problem):
    journey = journey_of(problem)
    for place, step in zip(journey.places(), journey.steps, strict=False):
        evaluation = evaluate(problem, place, step.before, step.batch)
        for name, gradient in evaluation.gradient.items():
            scale = evaluation.flat_gradient().norm()
            assert (evaluation.contributions[name].sum(0) - gradient).norm() <= 1e-12 * scale
            assert (step.clipped[name] - gradient).norm() <= 1e-12 * scale


@pytest.mark.parametrize("problem", [p for p in ALL if not p.interacting], ids=str)
def test_per_sample_gradients_are_those_of_batches_of_one(problem):
    journey = journey_of(problem)
    place, step = journey.places()[0], journey.steps[0]
    evaluation = evaluate(problem, place, step.before, step.batch)
    x, y = step.batch
    whole = problem.loss(problem.forward(stand_in(problem, place, {}), x, y), y).item()
    for sample in range(6):
        model = stand_in(problem, place, {})
        one_y = y[sample : sample + 1]
        output = problem.forward(model, x[sample : sample + 1], one_y)
        loss = problem.losses(output, one_y)[0]
        if "sum" in problem.name and "sum of" not in problem.name:
            loss = 6 * loss  # a sum over the batch is N times the mean
        loss.backward()
        alone = flat({name: p.grad for name, p in model.named_parameters()})
        assert (evaluation.per_sample()[sample] - alone).norm() <= 1e-12 * alone.norm()
        assert math.isclose(evaluation.losses[sample].item(), loss.item(), rel_tol=1e-12)
    assert math.isclose(evaluation.loss, whole, rel_tol=1e-14)


@pytest.mark.parametrize("problem", [NORM, RESIDUAL], ids=str)
def test_contributions_under_batch_normalisation_are_those_of_the_live_graph(problem):
    """Each module is called once here, so the live graph needs no cutting to be asked for one call's part."""
    journey = journey_of(problem)
    place, step = journey.places()[0], journey.steps[0]
    x, y = step.batch
    model = stand_in(problem, place, step.before.buffers)
    with recorded_calls(model) as calls:
        loss = problem.loss(model(x), y)
    found = contributions(problem, model, calls, loss, 6)
    names = {id(p): name for name, p in model.named_parameters()}
    compared = 0
    for call in calls:
        for parameter in call.module.parameters(recurse=False):
            (gradient,) = torch.autograd.grad(loss, call.outputs, retain_graph=True)
            for sample in range(6):
                masked = torch.zeros_like(gradient)
                masked[sample] = gradient[sample]
                (part,) = torch.autograd.grad(call.outputs, parameter, masked, retain_graph=True)
                assert torch.allclose(found[names[id(parameter)]][sample], part, rtol=1e-12, atol=1e-15)
                compared += 1
    assert compared == 6 * len(names)


def test_samples_interact_under_batch_normalisation():
    journey = journey_of(NORM)
    place, step = journey.places()[0], journey.steps[0]
    evaluation = evaluate(NORM, place, step.before, step.batch)
    x, y = step.batch
    model = stand_in(NORM, place, step.before.buffers, train=False)
    NORM.loss(model(x[:1]), y[:1]).backward()
    alone = flat({name: p.grad for name, p in model.named_parameters()})
    assert (evaluation.per_sample()[0] - alone).norm() > 0.01 * alone.norm()


@pytest.mark.parametrize("problem", [*REQUIRED, LSTM_TIME_FIRST], ids=str)
def test_norm_test_is_made_of_inner_and_ortho_test(problem):
    right = truth(problem, journey_of(problem, "momentum"))
    for step in range(STEPS):
        norm, inner, ortho = (right.series[f"{name}_test"][step] for name in ("norm", "inner", "ortho"))
        assert math.isclose(norm**2, inner**2 + ortho**2, rel_tol=1e-11)


@pytest.mark.parametrize("problem", [*REQUIRED, *FURTHER], ids=str)
def test_slopes_are_those_of_finite_differences(problem):
    journey = journey_of(problem, "adamw")
    places, step = journey.places(), journey.steps[0]
    moved = {name: places[1][name] - places[0][name] for name in places[0]}

    def loss_at(share: float) -> float:
        place = {name: places[0][name] + share * moved[name] for name in moved}
        with random_state(step.before.random):
            return problem.loss(stand_in(problem, place, step.before.buffers)(step.batch[0]), step.batch[1]).item()

    for share in (0.0, 1.0):
        place = {name: places[0][name] + share * moved[name] for name in moved}
        exact = slope(problem, place, step.before, step.batch, flat(moved))
        difference = (loss_at(share + 1e-4) - loss_at(share - 1e-4)) / 2e-4
        assert math.isclose(exact, difference, rel_tol=1e-5)


def test_the_two_layouts_of_an_lstm_agree():
    first, second = (
        truth(p, train(Setting(p, sizes=(6,) * STEPS))).series["norm_test"] for p in (LSTM, LSTM_TIME_FIRST)
    )
    for step in range(STEPS):
        assert math.isclose(first[step], second[step], rel_tol=1e-12)


def random_fits(count: int):
    generator = np.random.default_rng(1)
    for _ in range(count):
        length = 10 ** generator.uniform(-4, 1)
        yield length, generator.normal(size=4).tolist(), (10 ** generator.uniform(-3, 1, size=4)).tolist()


def test_the_fit_equals_its_closed_form():
    for length, (f0, f1, d0, d1), variances in random_fits(200):
        v_f0, v_f1, v_d0, v_d1 = variances
        residual = f1 - f0 - length * (d0 + d1) / 2
        spread = v_f0 + v_f1 + length**2 / 4 * (v_d0 + v_d1)
        p0 = d0 + v_d0 * length / 2 * residual / spread
        p1 = d1 + v_d1 * length / 2 * residual / spread
        fit = fit_parabola(length, [f0, f1, d0, d1], variances)
        assert math.isclose(fit.curvature, (p1 - p0) / length, rel_tol=1e-9, abs_tol=1e-9)
        assert math.isclose(fit.alpha, -p1 / p0 if p1 > p0 else -1.0, rel_tol=1e-9)


def test_the_standard_error_of_the_fit_is_the_spread_of_its_value():
    """Against the derivative of alpha by each observation, times that observation's spread."""
    compared = 0
    for length, observed, variances in random_fits(100):
        fit = fit_parabola(length, observed, variances)
        if fit.curvature * length < 0.1 or abs(fit.alpha) > 20:
            continue  # at the clamp and near the pole the differences below are not derivatives
        total = 0.0
        for index, variance in enumerate(variances):
            ends = []
            for sign in (1, -1):
                shifted = list(observed)
                shifted[index] += sign * 1e-5
                ends.append(fit_parabola(length, shifted, variances).alpha)
            total += ((ends[0] - ends[1]) / 2e-5) ** 2 * variance
        assert math.isclose(fit.std, math.sqrt(total), rel_tol=1e-5)
        compared += 1
    assert compared > 20


def test_a_fit_without_variances_is_the_ratio_of_its_slopes():
    for variances in ([0.0] * 4, [1.0, math.nan, 1.0, math.nan]):
        fit = fit_parabola(0.5, [1.0, 0.9, -2.0, 1.0], variances)
        assert fit.alpha == 0.5
        assert math.isnan(fit.std)
        assert fit_parabola(0.5, [1.0, 0.9, -2.0, -3.0], variances).alpha == -1.0


def test_alpha_of_a_quadratic_is_known():
    """On the same full batch each time, gradient descent with rate lr on a curvature h has alpha = lr h - 1."""
    h, lr = 3.0, 0.25
    problem = Problem(
        "quadratic",
        lambda: nn.Linear(1, 1, bias=False),
        lambda count, generator: (torch.ones(count, 1, dtype=torch.float64), torch.zeros(count, 1)),
        lambda output, y: 0.5 * h * ((output - y) ** 2).mean(),
        lambda output, y: 0.5 * h * ((output - y) ** 2).mean(1),
    )
    journey = train(Setting(problem, lambda parameters: torch.optim.SGD(parameters, lr=lr), sizes=(4,) * 3))
    right = truth(problem, journey)
    for name in ("alpha", "alpha_same", "alpha_next"):
        assert math.isclose(right.series[name][0], lr * h - 1, rel_tol=1e-12)
    assert math.isclose(right.series["alpha_curvature"][0], h, rel_tol=1e-12)
    assert right.series["noise_trace"][0] == pytest.approx(0.0, abs=1e-25)


def test_accumulated_parts_are_the_joined_batch():
    whole, parts = (train(Setting(TRANSFORMER, sizes=(6,) * STEPS, parts=parts)) for parts in (1, 3))
    for one, other in zip(whole.places(), parts.places(), strict=True):
        assert (flat(one) - flat(other)).norm() <= 1e-13 * flat(one).norm()


def test_a_run_in_float32_is_followed_where_it_went():
    journey = train(Setting(MLP, "adamw", sizes=(6,) * STEPS, dtype=torch.float32))
    right = truth(MLP, journey)
    before, after = (journey.places()[i] for i in (0, 1))
    moved = flat({name: after[name] - before[name] for name in before})
    assert moved.dtype == torch.float64
    assert right.series["update_size"][0] == moved.norm().item()
    loss = MLP.loss(stand_in(MLP, before, {})(journey.steps[0].batch[0].double()), journey.steps[0].batch[1])
    assert right.series["loss"][0] == loss.item()


def test_the_diagnosis_schedule():
    expected = [*range(0, 50, 5), *range(500, 510), *range(1000, 1010)]
    assert [step for step in range(1400) if diagnosed(step)] == expected


class Told:
    """A run that says what it is told to."""

    def __init__(self, right: Truth) -> None:
        self.said = {name: dict(series) for name, series in right.series.items()}
        self.said_layers = {name: {s: dict(v) for s, v in rows.items()} for name, rows in right.layers.items()}
        for names in (("alpha_same", "slope_same_start", "slope_same_end"),):
            for name in names:
                self.said[name] = {step: v for step, v in self.said[name].items() if diagnosed(step)}
        for name in ("alpha_next", "slope_next_start", "slope_next_end"):
            self.said[name] = {step: v for step, v in self.said[name].items() if diagnosed(step)}

    def series(self, name):
        if name not in self.said:
            raise KeyError(name)
        return np.array(list(self.said[name])), np.array(list(self.said[name].values()))

    def layers(self, name):
        rows = self.said_layers[name]
        names = list(next(iter(rows.values())))
        return np.array(list(rows)), names, np.array([[row[layer] for layer in names] for row in rows.values()])

    def unavailable(self):
        return {}


def test_mistakes_are_found():
    right = truth(MLP, journey_of(MLP))
    assert mistakes(Told(right), right, 1e-8) == []

    wrong = Told(right)
    wrong.said["norm_test"][1] *= 1 + 3e-8
    assert [line[:13] for line in mistakes(wrong, right, 1e-8)] == ["norm_test[1]:"]
    assert mistakes(wrong, right, 1e-7) == []

    wrong = Told(right)
    wrong.said["alpha"][0] = math.nan
    del wrong.said["inner_test"]
    wrong.said["loss"][7] = 1.0
    del wrong.said["grad_norm"][2]
    wrong.said_layers["distance"][1]["0.weight"] += 1e-3
    assert sorted(line.split(":")[0] for line in mistakes(wrong, right, 1e-8)) == [
        "alpha[0]",
        "distance[1, 0.weight]",
        "grad_norm",
        "inner_test",
        "loss",
    ]

    wrong = Told(right)
    wrong.said["alpha_same"][1] = -0.5  # a step that is not on the diagnosis schedule
    assert len(mistakes(wrong, right, 1e-8)) == 2


def test_only_tracked_steps_are_asked_for():
    right = truth(MLP, journey_of(MLP))
    assert any("norm_test" in line for line in mistakes(Told(right), right, 1e-8, tracked=lambda step: step % 2 == 0))
