"""Batches that are no proper batches: every reading has the value written here, and nothing raises.

NaN stands where a reading is not defined, and a reason stands beside it where it never is in such a run.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import Batch, mlp, vectors
from torch import Tensor, nn
from torch.optim import SGD, AdamW

import cockpitlite

STEPS = 3
TESTS = ("norm_test", "inner_test", "ortho_test")
SCALARS = (  # every reading that is a number, but the vitals and the observations that alpha is fitted to
    "loss", "loss_std", "accuracy", "balanced_accuracy", "class_loss", "alpha", "alpha_std", "alpha_curvature",
    "alpha_same", "alpha_next", "uphill", "update_size", "update_ratio", "distance", "grad_norm", "grad_norm_clipped",
    *TESTS, "noise_scale", "noise_trace", "grad_signal", "mean_gsnr", "early_stopping", "cabs", "hess_trace",
    "hess_trace_std", "tic_diag", "tic_trace", "step_curvature", "grad_curvature", "hess_max_ev", "hess_min_ev",
    "edge_of_stability", "activation_mean", "activation_std", "learning_rate",
    "grad_hist_1d_outside", "grad_hist_1d_nonfinite", "grad_hist_2d_outside", "grad_hist_2d_nonfinite",
)  # fmt: skip
PROBES = (  # readings of the first step, of the ones here
    "dead_units", "saturated_units", "zero_gradient", "clip_factor", "stale_gradient", "input_mean", "input_std",
    "input_min", "input_max", "input_spread", "input_fingerprint", "classes", "label_entropy", "probability_rows",
    "log_probability_rows", "weight_std", "row_spread",
)  # fmt: skip


def batches(count: int = STEPS, size: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [vectors(5, 4)(size, generator) for _ in range(count)]


@pytest.fixture
def fly(watch):
    """Train on batches with the full panel; return the run."""

    def flown(
        given: Sequence[Batch],
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        lr: float = 0.1,
        model: nn.Module | None = None,
        optimizer: type = SGD,
    ) -> cockpitlite.Run:
        torch.manual_seed(3)
        model = mlp().double() if model is None else model
        watching = watch(optimizer(model.parameters(), lr=lr), model, panel="full")
        for x, y in given:
            watching.zero_grad()
            loss(model(x), y).backward()
            watching.step()
        watching.cockpit.close()
        run = cockpitlite.load(watching.cockpit.run)
        assert_nothing_was_switched_off(run)
        return run

    return flown


def assert_nothing_was_switched_off(run: cockpitlite.Run) -> None:
    broken = {name: reason for name, reason in run.unavailable().items() if "error" in reason.lower()}
    assert not broken


def at(run: cockpitlite.Run, name: str, step: int) -> float:
    """Return a reading at a step; NaN where it has none for a reason."""
    try:
        steps, values = run.series(name)
    except KeyError:
        steps, values = np.array([]), np.array([])
    if step in steps.tolist():
        return float(values[steps.tolist().index(step)])
    assert any(name.startswith(one) or GROUP.get(name) == one for one in run.unavailable()), f"{name}: a silent gap"
    return math.nan


GROUP = {
    "balanced_accuracy": "accuracy",
    "noise_trace": "noise_scale",
    "grad_signal": "noise_scale",
    "grad_curvature": "step_curvature",
    "activation_mean": "activations",
    "activation_std": "activations",
}


def assert_values(run: cockpitlite.Run, step: int, **expected: float) -> None:
    said = {name: at(run, name, step) for name in expected}
    assert said == pytest.approx(expected, nan_ok=True, abs=1e-9, rel=1e-9)


def assert_finite(run: cockpitlite.Run, step: int, names: Sequence[str]) -> None:
    said = {name: at(run, name, step) for name in names}
    assert all(math.isfinite(value) for value in said.values()), said


def nan_for(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, math.nan)


def zero_for(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


UNMOVED = {  # what is said where no step is taken
    **nan_for("alpha", "alpha_std", "alpha_curvature", "alpha_same", "alpha_next", "step_curvature"),
    **zero_for("update_size", "update_ratio", "distance", "uphill"),
}


def test_identical_samples(fly):
    """There is no spread: the tests are 0, and what divides by a variance divides by its epsilon."""
    x, y = batches(1, 1)[0]
    run = fly([(x.expand(6, -1).clone(), y.expand(6).clone())] * STEPS)
    for step in range(STEPS):
        assert_values(run, step, **zero_for(*TESTS, "noise_trace", "noise_scale", "loss_std", "cabs"))
        square = at(run, "grad_norm", step) ** 2
        count = 118  # parameters
        assert_values(run, step, grad_signal=square, mean_gsnr=square / count / 1e-5)
        assert_values(run, step, early_stopping=1 - 6 * square / count / 1e-5)
        assert_finite(run, step, [name for name in SCALARS if not name.startswith("alpha")])
    assert_finite(run, 0, [name for name in PROBES if name != "input_spread"])
    assert_values(run, 0, input_spread=math.nan, label_entropy=0.0, clip_factor=1.0, stale_gradient=0.0)
    for step in range(STEPS - 1):
        assert at(run, "alpha", step) > -1
        assert not at(run, "alpha_std", step) > 1e-9  # unknown, or nothing
    alphas = [at(run, name, 0) for name in ("alpha", "alpha_same", "alpha_next")]
    assert alphas == pytest.approx([alphas[0]] * 3, rel=1e-2)  # all three are on the same line of the same loss


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_no_gradient(fly, optimizer):
    """A loss that is 1 whatever the model says: nothing is 0/0 but what is a ratio of two vanishing things."""
    run = fly(batches(), lambda output, y: 1.0 + 0.0 * output.sum(), optimizer=optimizer)
    for step in range(STEPS):
        assert_values(run, step, loss=1.0, **nan_for(*TESTS, "noise_scale", "grad_curvature"))
        assert_values(run, step, **zero_for("grad_norm", "grad_norm_clipped", "noise_trace", "grad_signal", "cabs"))
        assert_values(run, step, mean_gsnr=0.0, early_stopping=1.0)
        assert_values(run, step, **zero_for("hess_trace", "hess_max_ev", "hess_min_ev", "edge_of_stability"))
        assert_values(run, step, **zero_for("tic_diag", "tic_trace"))
    assert_values(run, 0, zero_gradient=1.0, clip_factor=1.0, stale_gradient=0.0)
    if optimizer is SGD:  # AdamW decays the weights all the same
        for step in range(STEPS - 1):
            assert_values(run, step, **{name: UNMOVED[name] for name in UNMOVED if step == 0 or "_" not in name})


def test_no_loss(fly):
    """Targets that the model already gives: the gradient vanishes, its curvature does not."""
    torch.manual_seed(3)
    model = mlp().double()
    x = batches(1)[0][0]
    run = fly([(x, model(x).detach())] * STEPS, F.mse_loss, model=copy.deepcopy(model))
    for step in range(STEPS):
        assert_values(run, step, **zero_for("loss", "loss_std", "grad_norm", "noise_trace", "mean_gsnr", "update_size"))
        assert_values(run, step, early_stopping=1.0, tic_diag=0.0, tic_trace=0.0)
        assert_values(run, step, **nan_for(*TESTS, "noise_scale", "grad_curvature", "cabs", "step_curvature"))
        assert at(run, "hess_max_ev", step) > 0.1
        assert at(run, "hess_min_ev", step) == pytest.approx(0.0, abs=1e-9)
        assert at(run, "hess_trace", step) > 0.1
    assert run.unavailable().get("cabs")


def poisoned(index: int = 1) -> list[Batch]:
    """Three batches, with one NaN in one sample of one of them."""
    given = batches()
    given[index][0][2, 1] = math.nan
    return given


def test_one_nan_sample_at_the_first_step(fly):
    """What is about the input or made of it is NaN; labels, weights and the shares of what is 0 are as ever."""
    run = fly(poisoned(0))
    assert_values(run, 0, **nan_for("input_mean", "input_std", "input_min", "input_max", "input_spread"))
    assert_values(run, 0, **zero_for("stale_gradient", "probability_rows", "log_probability_rows"))
    assert_finite(run, 0, ["input_fingerprint", "classes", "label_entropy", "weight_std", "row_spread", "dead_units"])


def test_one_nan_sample(fly):
    """What is made of all samples is NaN from that step on, what went before is not; the sample is named."""
    run = fly(poisoned())
    assert_finite(
        run, 0, [name for name in SCALARS if name not in ("alpha", "alpha_std", "alpha_curvature", "alpha_next")]
    )
    assert_values(run, 0, **nan_for("alpha", "alpha_curvature", "alpha_next"))
    for step in (1, 2):
        assert_values(run, step, **nan_for("loss", "loss_std", "grad_norm", *TESTS, "noise_scale", "noise_trace"))
        assert_values(run, step, **nan_for("mean_gsnr", "early_stopping", "cabs", "tic_diag", "tic_trace"))
        assert_values(run, step, **nan_for("hess_trace", "hess_max_ev", "hess_min_ev", "step_curvature"))
        assert_values(run, step, **nan_for("edge_of_stability", "update_size", "activation_mean"))
    (event,) = run.events("nonfinite")
    assert (event.step, event.data["sample"]) == (1, 2)
    assert at(run, "grad_hist_1d_nonfinite", 1) == 118  # the elements of that sample only
    assert run.histogram("grad_hist_1d", 1)[0].sum() == 5 * 118
    assert at(run, "grad_hist_1d_nonfinite", 2) == 6 * 118


def test_a_nan_logit_is_no_answer(fly):
    """A sample whose scores are NaN is not right, and the loss of its class is not known."""
    given = poisoned()
    given[1][1][2] = 0  # the class that argmax takes NaN for
    run = fly(given)
    x, y = given[1]
    model = mlp_after_one_step(given[0])
    right = (model(x).argmax(1) == y) & ~x.isnan().any(1)
    assert_values(run, 1, accuracy=right.double().mean().item(), class_loss=math.nan)
    assert at(run, "accuracy", 2) == 0.0 or math.isnan(at(run, "accuracy", 2))


def mlp_after_one_step(batch: Batch) -> nn.Module:
    torch.manual_seed(3)
    model = mlp().double()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    SGD(model.parameters(), lr=0.1).step()
    return model


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_no_learning_rate(fly, optimizer):
    """No step is taken: what speaks of the step is 0 or NaN, what speaks of the gradient is as ever."""
    run = fly(batches(), lr=0.0, optimizer=optimizer)
    still = [name for name in SCALARS if name not in (*UNMOVED, "cabs", "edge_of_stability", "learning_rate")]
    for step in range(STEPS):
        assert_values(run, step, **zero_for("update_size", "update_ratio", "distance", "cabs", "edge_of_stability"))
        assert_values(run, step, learning_rate=0.0, step_curvature=math.nan)
        assert_finite(run, step, still)
    assert_finite(run, 0, PROBES)
    assert_values(run, 0, **UNMOVED)


def test_an_empty_batch(fly):
    """It has no samples and its mean loss is NaN; its gradient is 0. Neighbouring steps are judged without it."""
    first, last = batches(2)
    run = fly([first, (torch.zeros(0, 5, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)), last])
    assert_values(run, 1, loss=math.nan, grad_norm=0.0, update_size=0.0)
    assert_values(run, 1, **nan_for("loss_std", *TESTS, "noise_scale", "mean_gsnr", "early_stopping", "cabs"))
    assert_values(run, 1, **nan_for("tic_diag", "tic_trace", "accuracy", "step_curvature", "grad_curvature"))
    assert_values(run, 0, **nan_for("alpha", "alpha_curvature", "alpha_next"))  # no batch to look at from the other end
    assert_values(run, 1, **nan_for("alpha"))
    assert_finite(run, 0, ["alpha_same", "norm_test", "hess_max_ev", "mean_gsnr", "tic_trace"])
    assert_finite(run, 2, ["loss", "norm_test", "hess_max_ev", "mean_gsnr", "tic_trace", "accuracy"])


@pytest.mark.parametrize("size", [1, 2])
def test_very_small_batches(fly, size):
    """Of one sample there is no spread to know; two are enough."""
    run = fly(batches(size=size))
    spread = ("loss_std", *TESTS, "noise_scale", "noise_trace", "early_stopping")
    for step in range(STEPS):
        if size == 1:
            assert_values(run, step, **nan_for(*spread))
            assert_values(run, step, cabs=0.0)
        else:
            assert_finite(run, step, spread)
        assert_finite(run, step, ["mean_gsnr", "tic_diag", "tic_trace", "hess_max_ev", "edge_of_stability"])
