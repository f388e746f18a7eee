"""Every reading equals its slow twin, on every model, with every optimizer, however the loss is written."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import (
    CNN,
    COMPOSED,
    DROPOUT,
    FOLDED,
    FOLDED_TIME_FIRST,
    FREE,
    FROZEN,
    FURTHER,
    IDLE,
    LOSSES,
    LSTM,
    MLP,
    PENALISED,
    POSITIONED,
    POSITIONED_SQUARE,
    REQUIRED,
    RESIDUAL,
    RETURNING,
    TIME_FIRST,
    TRANSFORMER,
    Problem,
    cross_entropies,
    vectors,
)
from torch import nn
from twins import (
    FIT,
    GRADIENTS,
    NEXT,
    OPTIMIZERS,
    PER_SAMPLE,
    READINGS,
    SAME,
    Journey,
    Setting,
    Truth,
    diagnosed,
    evaluate,
    mistakes,
    ratio,
    slope,
    train,
    truth,
    without_variances,
)

import cockpitlite

INSTRUMENT = {  # whose reason speaks for which reading
    **dict.fromkeys(SAME, "alpha_same"),
    **dict.fromkeys(NEXT, "alpha_next"),
    "noise_trace": "noise_scale",
    "grad_signal": "noise_scale",
}
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}


@pytest.fixture
def fly(watch, run_path):
    """Train a setting watched; return its run, read back, and the journey."""

    def flown(setting: Setting, **options):
        journey = train(setting, lambda optimizer, model: watch(optimizer, model, **options))
        journey.optimizer.cockpit.close()
        return cockpitlite.load(run_path), journey

    return flown


def assert_right(run, right: Truth, tolerance: float, **options) -> None:
    found = mistakes(run, right, tolerance, **options)
    assert not found, "\n".join(found)


def assert_honest(run, right: Truth, tolerance: float) -> None:
    """Whatever is said is right, and whatever is not said has a reason."""
    reasons = run.unavailable()
    assert not {"loss", "grad_norm", "update_size", "alpha"} & set(reasons), reasons
    variances = [name for name in FIT if name.endswith("_var")]
    if "norm_test" in reasons or "loss_std" in reasons:
        right = without_variances(right)
        variances = [name for name in variances if not np.isnan(run.series(name)[1]).all()]
        assert len(variances) < 4
    means = [name for name in READINGS if name not in FIT or not name.endswith("_var")]
    found = []
    for line in mistakes(run, right, tolerance, readings=[*means, *variances]):
        name = line.split(":")[0]
        if not (INSTRUMENT.get(name, name) in reasons and ("no value" in line or "missing" in line)):
            found.append(line)
    assert not found, "\n".join(found)


def assert_same_way(one: Journey, other: Journey) -> None:
    for here, there in zip(one.places(), other.places(), strict=True):
        for name in here:
            assert torch.equal(here[name], there[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("clip", [None, 0.3], ids=["", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", REQUIRED, ids=str)
def test_readings_equal_their_twins(fly, problem, optimizer, clip, dtype):
    setting = Setting(problem, optimizer, clip, dtype=dtype)
    plain = train(setting)
    right = truth(problem, plain)
    run, journey = fly(setting)
    assert_same_way(plain, journey)
    if clip is not None:
        before, after = right.series["grad_norm"], right.series["grad_norm_clipped"]
        assert any(after[step] < 0.9 * before[step] for step in before), "the clipping never bites"
    assert_right(run, right, TOLERANCE[dtype])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("problem", FURTHER, ids=str)
def test_readings_of_further_models(fly, problem, optimizer):
    setting = Setting(problem, optimizer)
    run, _ = fly(setting)
    assert_right(run, truth(problem, train(setting)), 1e-8)


@pytest.mark.parametrize("problem", [*LOSSES, *COMPOSED, *RETURNING], ids=str)
def test_readings_of_every_way_to_write_a_loss(fly, problem):
    setting = Setting(problem, "momentum")
    run, _ = fly(setting)
    assert_right(run, truth(problem, train(setting)), 1e-8)


@pytest.mark.parametrize("problem", [FOLDED, POSITIONED, POSITIONED_SQUARE, *TIME_FIRST], ids=str)
def test_outputs_whose_rows_are_not_plainly_samples_are_right_or_unavailable(fly, problem):
    setting = Setting(problem)
    run, _ = fly(setting)
    assert_honest(run, truth(problem, train(setting)), 1e-8)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_penalty_on_the_parameters_is_shared_or_said_to_be_unseen(fly, optimizer):
    """How the penalty was computed may stay unseen, and with it the loss elsewhere; the gradients are all there."""
    setting = Setting(PENALISED, optimizer)
    run, _ = fly(setting)
    assert_honest(run, truth(PENALISED, train(setting)), 1e-8)


def test_rows_folded_time_first_are_right_or_unavailable(fly):
    run, _ = fly(Setting(FOLDED_TIME_FIRST))
    assert_honest(run, truth(FOLDED, train(Setting(FOLDED))), 1e-8)  # the same function of the same parameters


def test_batch_sizes_that_change(fly):
    setting = Setting(CNN, "momentum", sizes=(6, 4, 7, 1, 5, 6, 3))
    run, _ = fly(setting)
    right = truth(CNN, train(setting))
    assert math.isnan(right.series["norm_test"][3])
    assert_right(run, right, 1e-8)


def test_batches_of_one(fly):
    setting = Setting(MLP, sizes=(1,) * 7)
    run, _ = fly(setting)
    right = truth(MLP, train(setting))
    assert any(value != -1.0 for value in right.series["alpha"].values())
    assert_right(run, right, 1e-8)
    for name in ("norm_test", "inner_test", "ortho_test"):
        assert run.unavailable()[name]


@pytest.mark.parametrize("problem", [MLP, TRANSFORMER, DROPOUT], ids=str)
def test_only_tracked_steps(fly, problem):
    setting = Setting(problem, "momentum", sizes=(6,) * 12)
    run, _ = fly(setting, every=3)
    assert_right(run, truth(problem, train(setting)), 1e-8, tracked=lambda step: step % 3 == 0)


@pytest.mark.parametrize("problem", [MLP, CNN, TRANSFORMER], ids=str)
def test_accumulated_parts_read_as_the_joined_batch(fly, problem):
    whole, parts = Setting(problem, "momentum"), Setting(problem, "momentum", parts=2)
    run, _ = fly(parts)
    journey = train(whole)
    right = truth(problem, journey)
    assert_right(run, right, 1e-8, readings=[name for name in READINGS if name not in SAME + NEXT])
    for name in ("alpha_same", "alpha_next"):
        if name in run.unavailable():
            continue
        steps, values = run.series(name)
        assert steps.size
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            allowed = [right.series[name][step], *paired_alphas_of_parts(problem, journey, step, name)]
            assert min(abs(value - one) / max(1.0, abs(one)) for one in allowed) <= 1e-8


def paired_alphas_of_parts(problem: Problem, journey: Journey, step: int, name: str) -> list[float]:
    """Return the paired step length of a step measured on each half of the batch."""
    here, there = journey.places()[step : step + 2]
    direction = torch.cat([(there[key] - here[key]).flatten() for key in here])
    judging = journey.steps[step if name == "alpha_same" else step + 1]
    halves = zip(*(tensor.chunk(2) for tensor in judging.batch), strict=True)
    pairs = [[slope(problem, place, judging.before, half, direction) for place in (here, there)] for half in halves]
    return [ratio(-end, start) for start, end in pairs]


@pytest.mark.parametrize("problem", [FROZEN, IDLE], ids=str)
def test_parameters_without_a_gradient(fly, problem):
    setting = Setting(problem, "adamw")
    run, _ = fly(setting)
    measured = [name for name in READINGS if name != "update_ratio"]
    assert_right(run, truth(problem, train(setting)), 1e-8, readings=measured)


def test_maximising_the_negative_reads_as_minimising(fly):
    negative = replace(MLP, loss=lambda o, y: -F.cross_entropy(o, y), losses=lambda o, y: -cross_entropies(o, y))

    def upwards(parameters):
        return torch.optim.SGD(parameters, lr=0.1, maximize=True)

    run, _ = fly(Setting(negative, upwards))
    right = truth(MLP, train(Setting(MLP)))
    names = ("alpha", "alpha_std", "alpha_curvature", "alpha_same", "alpha_next", "uphill", "update_size", "grad_norm")
    assert_right(run, right, 1e-8, readings=[*names, *PER_SAMPLE])


# Training loops of other shapes ---------------------------------------------------------------------------------------


def fly_loop(setting: Setting, watch, run_path, step):
    """Train with ``step(model, optimizer, x, y)`` as the body of the loop."""
    model = setting.make_model()
    optimizer = watch(setting.make_optimizer(model), model)
    for x, y in setting.batches():
        step(model, optimizer, x, y)
    optimizer.cockpit.close()
    return cockpitlite.load(run_path)


def clear_after(model, optimizer, x, y):
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()


def clear_before_backward(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def clear_to_zero(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=False)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def clear_the_model(model, optimizer, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    for parameter in model.parameters():
        parameter.grad = None


@pytest.mark.parametrize("step", [clear_after, clear_before_backward, clear_to_zero, clear_the_model])
def test_gradients_may_be_cleared_anywhere(watch, run_path, step):
    setting = Setting(MLP, "momentum")
    run = fly_loop(setting, watch, run_path, step)
    assert_right(run, truth(MLP, train(setting)), 1e-8)


def test_a_gradient_scaler_changes_no_reading(watch, run_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        scaler.step(optimizer)
        scaler.update()

    setting = Setting(MLP, "momentum", clip=0.3)
    run = fly_loop(setting, watch, run_path, step)
    assert_right(run, truth(MLP, train(setting)), 1e-8)


def test_a_gradient_scaler_left_to_unscale_by_itself(watch, run_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()

    setting = Setting(MLP, "adamw")
    run = fly_loop(setting, watch, run_path, step)
    assert_right(run, truth(MLP, train(setting)), 1e-8)


def one_after_the_other(output, y):
    F.cross_entropy(output, y).backward(retain_graph=True)
    (0.5 * F.multi_margin_loss(output, y)).backward()


def both_at_once(output, y):
    torch.autograd.backward([F.cross_entropy(output, y), 0.5 * F.multi_margin_loss(output, y)])


@pytest.mark.parametrize("backward", [one_after_the_other, both_at_once])
def test_two_losses_of_one_forward(watch, run_path, backward):
    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        backward(model(x), y)
        optimizer.step()

    joined = replace(
        MLP,
        loss=lambda o, y: F.cross_entropy(o, y) + 0.5 * F.multi_margin_loss(o, y),
        losses=lambda o, y: cross_entropies(o, y) + 0.5 * F.multi_margin_loss(o, y, reduction="none"),
    )
    setting = Setting(joined, "momentum")
    run = fly_loop(setting, watch, run_path, step)
    assert_right(run, truth(joined, train(setting)), 1e-8)


def test_an_evaluation_pass_between_steps_is_not_measured(watch, run_path):
    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            F.cross_entropy(model(x[:3]), y[:3])
        model.train()

    setting = Setting(MLP, "momentum")
    run = fly_loop(setting, watch, run_path, step)
    assert_right(run, truth(MLP, train(setting)), 1e-8)


def test_an_unused_forward_in_the_step_is_not_measured(watch, run_path):
    """A forward with gradients that never takes part in a backward pass, before and after the one that does."""

    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        model(x[:2])
        loss = F.cross_entropy(model(x), y)
        model(x[:4])
        loss.backward()
        optimizer.step()

    setting = Setting(MLP, "momentum")
    run = fly_loop(setting, watch, run_path, step)
    assert_honest(run, truth(MLP, train(setting)), 1e-8)


def test_a_loss_that_is_named_beforehand(fly):
    run, _ = fly(Setting(MLP), loss_fn=F.cross_entropy)
    assert_right(run, truth(MLP, train(Setting(MLP))), 1e-8)


def test_parameters_of_other_groups_move_at_their_own_rate(fly):
    def grouped(parameters):
        first, *others = list(parameters)
        return torch.optim.SGD([{"params": [first], "lr": 0.2}, {"params": others}], lr=0.05, momentum=0.5)

    setting = Setting(MLP, grouped)
    run, _ = fly(setting)
    assert_right(run, truth(MLP, train(setting)), 1e-8)
    _, groups, values = run.layers("learning_rate")
    assert groups == ["0", "1"]
    assert (values == [[0.2, 0.05]] * 7).all()


# Statistics from some of the samples ----------------------------------------------------------------------------------


def standing(parameters):
    """An optimizer that stays where it is, so that every step measures the same batch at the same place."""
    return torch.optim.SGD(parameters, lr=0.0)


SMALL = Problem("small", lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), vectors(5, 3))


def standing_still(watch, run_path, samples, steps, problem=SMALL, size=7):
    """Watch one batch many times; return the run and the batch's true evaluation."""
    setting = Setting(problem, standing, sizes=(size,))
    model = setting.make_model()
    optimizer = watch(setting.make_optimizer(model), model, samples=samples)
    (x, y) = setting.batches()[0]
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(model(x), y).backward()
        optimizer.step()
    optimizer.cockpit.close()
    journey = train(setting)
    step = journey.steps[0]
    return cockpitlite.load(run_path), evaluate(problem, journey.places()[0], step.before, step.batch)


def test_every_draw_of_samples_is_one_of_the_possible_ones(watch, run_path):
    """The estimate of each step is the estimate from one subset, the same one for all readings and all layers."""
    run, evaluation = standing_still(watch, run_path, samples=3, steps=80)
    N, K = 7, 3
    each, g = evaluation.per_sample(), evaluation.flat_gradient()
    square = torch.dot(g, g).item()
    possible = []
    for subset in itertools.combinations(range(N), K):
        rows = each[list(subset)]
        about = N / K * ((rows - g) ** 2).sum().item()
        along = N / K * ((rows @ g - square) ** 2).sum().item()
        norm, inner = (math.sqrt(about / (N * (N - 1) * square)), math.sqrt(along / (N * (N - 1) * square**2)))
        ortho = math.sqrt(norm**2 - inner**2)
        trace = about / (N - 1)
        possible.append((norm, inner, ortho, trace, square - trace / N))
    names = ("norm_test", "inner_test", "ortho_test", "noise_trace", "grad_signal")
    said = np.stack([run.series(name)[1] for name in names], axis=1)
    assert said.shape == (80, 5)
    table = np.array(possible)
    errors = np.abs(said[:, None, :] / table[None, :, :] - 1).max(2)
    assert errors.min(1).max() <= 1e-8
    assert len(set(errors.argmin(1).tolist())) >= 20  # of 35; eighty draws of one in 35 leave out 3 on average


def test_estimates_from_some_samples_are_unbiased(watch, run_path):
    run, evaluation = standing_still(watch, run_path, samples=4, steps=150, problem=TRANSFORMER, size=6)
    each, g = evaluation.per_sample(), evaluation.flat_gradient()
    right = ((each - g) ** 2).sum().item() / 5
    _, traces = run.series("noise_trace")
    assert traces.std() > 0.01 * right
    assert abs(traces.mean() - right) <= 4 * traces.std(ddof=1) / math.sqrt(len(traces))
    norm, inner, ortho = (run.series(f"{name}_test")[1] for name in ("norm", "inner", "ortho"))
    assert np.allclose(norm**2, inner**2 + ortho**2, rtol=1e-10)


@pytest.mark.parametrize("samples", [6, 50])
def test_as_many_samples_as_there_are_give_the_exact_readings(fly, samples):
    setting = Setting(RESIDUAL, "momentum")
    run, _ = fly(setting, samples=samples)
    assert_right(run, truth(RESIDUAL, train(setting)), 1e-8)


@pytest.mark.parametrize("problem", [MLP, CNN, RESIDUAL, LSTM, FREE], ids=str)
def test_what_needs_no_samples_stays_exact(fly, problem):
    setting = Setting(problem, "momentum")
    run, _ = fly(setting, samples=2)
    right = truth(problem, train(setting))
    whole = [name for name in FIT if not name.endswith("_var")] + [*SAME, *NEXT, *GRADIENTS]
    assert_right(run, right, 1e-8, readings=["loss", "uphill", "batch_size", "update_size", *whole])
    assert not math.isclose(run.series("norm_test")[1][0], right.series["norm_test"][0], rel_tol=1e-6)


# Degenerate batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_identical_samples_have_no_spread(watch, run_path, dtype):
    problem = replace(
        MLP, draw=lambda count, generator: tuple(t.expand(count, *t.shape[1:]) for t in MLP.draw(1, generator))
    )
    setting = Setting(problem, dtype=dtype)
    journey = train(setting, watch)
    journey.optimizer.cockpit.close()
    run = cockpitlite.load(run_path)
    for name in ("norm_test", "inner_test", "ortho_test"):
        assert run.series(name)[1].max() <= 1e-6


def test_a_step_of_length_zero_has_no_alpha(fly):
    run, _ = fly(Setting(MLP, standing))
    steps, values = run.series("alpha")
    assert steps.tolist() == [*range(6)]
    assert np.isnan(values).all()
    for name in ("alpha_same", "alpha_next"):
        assert np.isnan(run.series(name)[1]).all()
    assert (run.series("update_size")[1] == 0).all()
    assert (run.series("distance")[1] == 0).all()
    assert (run.series("norm_test")[1] > 0).all()


def test_a_long_run_follows_the_diagnosis_schedule(watch, run_path):
    problem = Problem("tiny", lambda: nn.Linear(5, 3), vectors(5, 3))
    setting = Setting(problem, "sgd", sizes=(4,) * 520)
    journey = train(setting, lambda optimizer, model: watch(optimizer, model, every=100))
    journey.optimizer.cockpit.close()
    run = cockpitlite.load(run_path)
    for name in ("alpha_same", "alpha_next"):
        assert run.series(name)[0].tolist() == [step for step in range(519) if diagnosed(step)]
    assert run.series("norm_test")[0].tolist() == [0, 100, 200, 300, 400, 500]
    assert run.series("alpha")[0].tolist() == [0, 100, 200, 300, 400, 500]
    assert len(run.series("loss")[0]) == 520
