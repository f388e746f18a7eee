"""Training that is unusual but works: models with state of their own, odd outputs, odd losses, odd optimizers."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

import cockpitlite
from cockpitlite.instrument import Instrument
from cockpitlite.instruments import HessTrace
from cockpitlite.statistics import MeanGradient


class Counting(nn.Module):
    """Keeps a counter, a list, a generator of each kind and a running mean in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)
        self.calls = 0
        self.past: list[int] = []
        self.numpy = np.random.default_rng(0)
        self.torch = torch.Generator().manual_seed(0)
        self.running = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.past.append(self.calls)
        h = self.layer(x) * 0.99**self.calls * float(self.numpy.uniform(0.9, 1.1))
        self.running = 0.9 * self.running + 0.1 * h.detach().mean(0)
        return h - self.running + 0.01 * torch.randn(4, generator=self.torch) * len(self.past)


def batches(steps=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.randn(6, 5, generator=generator), torch.randint(0, 4, (6,), generator=generator)


def train(model, optimizer, loss=functional.cross_entropy, steps=8):
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def land(optimizer):
    optimizer.cockpit.close()
    return cockpitlite.load(optimizer.cockpit.run)


def test_plain_attributes_of_modules_are_left_as_they_were(watch):
    plain = Counting()
    watched = copy.deepcopy(plain)
    watched.torch = torch.Generator().manual_seed(0)
    train(plain, SGD(plain.parameters(), lr=0.1))
    optimizer = watch(SGD(watched.parameters(), lr=0.1), watched)
    train(watched, optimizer)
    assert watched.calls == plain.calls == len(watched.past) == 8
    assert torch.equal(watched.running, plain.running)
    for mine, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_model_saved_while_watched_needs_nothing_of_ours(watch):
    model = nn.Sequential(nn.Linear(5, 4))
    watch(SGD(model.parameters(), lr=0.1), model)
    stored = pickle.dumps(model)
    assert b"cockpitlite" not in stored
    x = torch.randn(3, 5)
    for twin in (pickle.loads(stored), copy.deepcopy(model)):
        assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize("name", ["loss", "alpha", "slope_same_end"])
def test_what_is_logged_under_a_measured_name_leaves_the_reading_alone(watch, name):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer)
    with pytest.warns(UserWarning, match="is measured"):
        optimizer.cockpit.log(**{name: 1.0})
    run = land(optimizer)
    assert 1.0 not in run.series(name)[1]
    assert run.series(f"logged_{name}")[1].tolist() == [1.0]


def test_logging_after_the_end_is_warned_of(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    optimizer.cockpit.close()
    with pytest.warns(UserWarning, match=r"after close\(\)"):
        optimizer.cockpit.log(accuracy=1.0)


def test_a_watch_that_is_refused_leaves_the_first_one_alone(watch, run_path):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    with pytest.raises(FileExistsError):
        cockpitlite.watch(optimizer, model, run=run_path)
    train(model, optimizer)
    assert len(land(optimizer).series("loss")[0]) == 8


def test_a_watch_that_fails_leaves_nothing_behind(run_path):
    model = nn.Linear(5, 4)
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError):
        cockpitlite.watch(optimizer, model, run=run_path, every=lambda step: 1 // 0)
    assert not run_path.exists()
    assert not model._forward_hooks and not model._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_autocast_knows_the_spread_of_the_loss(watch):
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    for x, y in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(x)
            loss = functional.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
    run = land(optimizer)
    assert np.isfinite(run.series("loss_std")[1]).all()
    assert np.isfinite(run.series("alpha_std")[1]).all()
    truth = functional.cross_entropy(out.detach().float(), y, reduction="none").std()
    assert run.series("loss_std")[1][-1] == pytest.approx(float(truth), rel=1e-2)


def test_parameters_added_to_the_optimizer_are_watched_from_then_on(watch):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    optimizer = watch(SGD(model[0].parameters(), lr=0.1), model)
    train(model, optimizer, steps=4)
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.01})
    for x, y in batches(4, seed=1):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        optimizer.step()
    run = land(optimizer)
    assert run.series("grad_norm")[1][-1] == pytest.approx(float(norm), rel=1e-5)
    _, layers, values = run.layers("grad_norm")
    assert layers == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert np.isnan(values[:4, 2:]).all() and np.isfinite(values[-1]).all()
    assert np.isfinite(run.series("norm_test")[1]).all()


def test_a_vmapped_forward_loses_only_what_needs_the_model(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(lambda x: torch.func.vmap(model)(x), optimizer)
    run = land(optimizer)
    assert len(run.series("loss")[0]) == len(run.series("grad_norm")[0]) == 8
    assert "norm_test" in run.unavailable()


def test_a_pause_keeps_nothing(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer, steps=2)
    optimizer.cockpit.pause()
    train(model, optimizer, steps=5)
    assert optimizer.cockpit._tracker.capture.backwards == []
    optimizer.cockpit.resume()
    train(model, optimizer, steps=2)
    assert land(optimizer).series("norm_test")[0].tolist() == [0, 1, 7, 8]


@pytest.mark.parametrize("paused_too", [False, True])
def test_watching_goes_on_with_the_step_after_a_forward_that_was_not_seen(watch, paused_too):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer, steps=2)
    if not paused_too:
        optimizer.cockpit.pause()
    x, y = next(iter(batches()))
    out = model(x)
    if paused_too:
        optimizer.cockpit.pause()
    optimizer.cockpit.resume()
    optimizer.zero_grad()
    functional.cross_entropy(out, y).backward()
    optimizer.step()
    train(model, optimizer, steps=2)
    run = land(optimizer)
    assert run.series("grad_norm")[0].tolist() == run.series("norm_test")[0].tolist() == [0, 1, 3, 4]
    assert not run.unavailable().keys() & {"norm_test", "grad_norm", "step_curvature"}


def test_two_watches_follow_one_output(watch, tmp_path):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    first = watch(SGD(model[0].parameters(), lr=0.1), model)
    second = watch(SGD(model[2].parameters(), lr=0.1), model, run=tmp_path / "second.cockpit")
    for x, y in batches():
        model.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        first.step()
        second.step()
    assert np.isfinite(land(first).series("alpha_same")[1]).all()
    assert np.isfinite(land(second).series("loss_std")[1]).all()


def test_one_empty_batch_costs_its_own_step_only(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.01), model, panel="full")
    for size in (8, 8, 0, 8, 8):
        optimizer.zero_grad()
        functional.cross_entropy(model(torch.randn(size, 5)), torch.randint(4, (size,)), reduction="sum").backward()
        optimizer.step()
    run = land(optimizer)
    assert run.series("hess_trace")[0].tolist() == [0, 1, 3, 4]
    assert not any("switched off" in event.data["reason"] for event in run.events("unavailable"))


def test_another_number_format_and_other_parameters_switch_nothing_off(watch):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    optimizer = watch(SGD(model.parameters(), lr=0.01), model, panel="full")
    train(model, optimizer, steps=3)
    model[2] = nn.Linear(6, 4)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    train(model, optimizer, steps=3)
    model.double()
    for x, y in batches():
        optimizer.zero_grad()
        functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    run = land(optimizer)
    reasons = [event.data["reason"] for event in run.events("unavailable")]
    assert [reason for reason in reasons if "switched off" in reason or "Error" in reason] == []
    assert run.last_step in run.series("hess_max_ev")[0]


def test_the_default_device_is_not_that_of_the_model(watch):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    optimizer = watch(SGD(model.parameters(), lr=0.01), model, panel="full", samples=4)
    given = [(x, y) for x, y in batches()]
    torch.set_default_device("meta")
    try:
        for x, y in given:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    finally:
        torch.set_default_device(None)
    run = land(optimizer)
    assert not any("Error" in event.data["reason"] for event in run.events("unavailable")), run.events("unavailable")
    assert run.events("warning") == []
    assert len(run.series("mean_gsnr")[0]) == len(run.series("hess_trace")[0]) == len(given)


def test_hooks_on_every_module_are_not_called_again(watch):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    model = nn.Linear(5, 4)
    try:
        train(model, watch(SGD(model.parameters(), lr=0.1), model, panel="full"), steps=3)
    finally:
        handle.remove()
    assert seen == [model] * 3


def assigned(out, y):
    out[:, 0] = 0.0
    return functional.cross_entropy(out, y)


def halved(out, y):
    loss = functional.cross_entropy(out, y)
    loss /= 2
    return loss


@pytest.mark.parametrize("loss", [assigned, halved])
def test_losses_that_write_in_place_are_followed(watch, loss):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer, loss)
    run = land(optimizer)
    assert np.isfinite(run.series("alpha_same")[1]).all()
    assert np.isfinite(run.series("loss_std")[1]).all()
    assert run.unavailable() == {}


def test_several_losses_given_to_one_backward(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        both = [functional.cross_entropy(model(x), y), 0.1 * model.weight.square().sum()]
        torch.autograd.backward(both)
        optimizer.step()
        losses.append(float(sum(both).detach()))
    assert land(optimizer).series("loss")[1].tolist() == pytest.approx(losses, rel=1e-6)


def test_an_evaluation_with_gradients_is_no_training_in_eval_mode(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    for x, y in batches():
        model.eval()
        model(x).sum()
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert land(optimizer).events("eval_mode") == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"samples": 2.5}, ValueError),
        ({"overhead": "a", "every": None}, TypeError),
        ({"panel": 3}, TypeError),
        ({"run": 3}, TypeError),
        ({"batch_dim": "a"}, TypeError),
        ({"batch_dim": {"nowhere": 1}}, ValueError),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(watch, options, error):
    model = nn.Linear(5, 4)
    with pytest.raises(error):
        watch(SGD(model.parameters(), lr=0.1), model, **options)


def test_a_folder_is_no_run_file(watch, tmp_path):
    model = nn.Linear(5, 4)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        watch(SGD(model.parameters(), lr=0.1), model, run=tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch says so of scripting
def test_a_scripted_model_is_watched_without_its_layers(watch):
    model = torch.jit.script(nn.Linear(5, 4))
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    train(model, optimizer)
    run = land(optimizer)
    assert len(run.series("grad_norm")[0]) == 8
    assert run.unavailable()["norm_test"]


def opaque(out, y):
    """A mean squared error that torch functions cannot be followed through."""
    return torch.func.vmap(lambda o, t: (o - t).square().mean())(out, y).mean()


def spread_by(watch, observing):
    """Train with an opaque loss; return the run and the true spread of the last step."""
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model)
    for x, _ in batches():
        y = x[:, :4]
        optimizer.zero_grad()
        out = model(x)
        each = (out - y).square().mean(1)
        if observing:
            optimizer.cockpit.observe(each)
        opaque(out, y).backward()
        optimizer.step()
    return land(optimizer), float(each.detach().std())


def test_losses_of_samples_can_be_given(watch):
    run, truth = spread_by(watch, observing=True)
    assert run.series("loss_std")[1][-1] == pytest.approx(truth, rel=1e-5)


def test_an_opaque_loss_says_what_would_help(watch):
    run, _ = spread_by(watch, observing=False)
    assert "loss_std" not in run.names()
    assert "observe()" in run.unavailable()["loss_std"]
    assert np.isfinite(run.series("norm_test")[1]).all()


# What a first user broke ----------------------------------------------------------------------------------------------


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def step_of(model, optimizer, x, y, loss=functional.cross_entropy):
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()


def drawn(count=4):
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.randn(6, 5, generator=generator).double(), torch.randint(4, (6,), generator=generator))
        for _ in range(count)
    ]


class Says(Instrument):
    """Gives back what it was made with."""

    def __init__(self, what):
        self.what = what

    def read(self, mean: MeanGradient):
        return self.what


@pytest.mark.parametrize("what", ["hello", None, [1.0, 2.0], torch.ones(3), torch.tensor(1j), {"loss": 0.0}, {1: 2.0}])
def test_an_instrument_that_gives_no_reading_is_switched_off_alone(watch, what):
    model = small()
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel=["economy", Says(what)])
    for x, y in drawn():
        step_of(model, optimizer, x, y)
    run = land(optimizer)
    assert "switched off after an error" in run.unavailable()["says"]
    assert len(run.series("norm_test")[0]) == 4
    assert (run.series("loss")[1] > 0).all()


def test_a_first_batch_with_nan_is_no_verdict_on_those_after_it(watch):
    model = small()
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel="full")
    for index, (x, y) in enumerate(drawn()):
        if index == 0:
            x[2, 1] = float("nan")
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        for parameter in model.parameters():
            parameter.grad.nan_to_num_(0.0)
        optimizer.step()
    run = land(optimizer)
    for name in ("norm_test", "mean_gsnr", "tic_trace", "hess_max_ev"):
        steps, values = run.series(name)
        assert steps.tolist()[-3:] == [1, 2, 3]
        assert np.isfinite(values[-3:]).all()


def test_gradients_asked_for_on_the_side_belong_to_no_step(tmp_path):
    runs = []
    for probing in (False, True):
        torch.manual_seed(1)
        model = small()
        path = tmp_path / f"{probing}.cockpit"
        optimizer = cockpitlite.watch(SGD(model.parameters(), lr=0.1), model, every=1, run=path)
        for x, y in drawn():
            if probing:
                torch.autograd.grad(functional.cross_entropy(model(x[:1]), y[:1]), list(model.parameters()))
            step_of(model, optimizer, x, y)
        runs.append(land(optimizer))
    for name in ("batch_size", "norm_test", "alpha", "alpha_same"):
        assert runs[1].series(name)[1].tolist() == runs[0].series(name)[1].tolist()


@pytest.mark.parametrize("outside", [False, True], ids=["in the model", "after it"])
def test_a_log_softmax_may_stand_on_either_side_of_the_end_of_the_model(watch, tmp_path, outside):
    panel = [HessTrace(curvature="ggn_exact")]

    def loss(output, y):
        return functional.nll_loss(output.log_softmax(1) if outside else output, y)

    torch.manual_seed(1)
    model = small() if outside else nn.Sequential(small(), nn.LogSoftmax(1))
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel=panel)
    torch.manual_seed(1)
    plain = small()
    other = cockpitlite.watch(
        SGD(plain.parameters(), lr=0.1), plain, panel=panel, every=1, run=tmp_path / "other.cockpit"
    )
    for x, y in drawn(3):
        step_of(model, optimizer, x, y, loss)
        step_of(plain, other, x, y)
    np.testing.assert_allclose(land(optimizer).series("hess_trace")[1], land(other).series("hess_trace")[1], rtol=1e-9)


def test_a_loss_without_a_second_derivative_says_so(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel="full")
    lengths = torch.full((6,), 3), torch.full((6,), 1)
    for x, _ in drawn(3):
        optimizer.zero_grad()
        outputs = model(x.float().unsqueeze(0).expand(3, 6, 5)).log_softmax(2)
        functional.ctc_loss(outputs, torch.ones(6, 1, dtype=torch.long), *lengths).backward()
        optimizer.step()
    assert "switched off" not in " ".join(land(optimizer).unavailable().values())


def test_lazy_layers_are_to_be_called_first(watch):
    model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match="call it on one batch before"):
        watch(SGD(model.parameters(), lr=0.1), model)
    model(torch.randn(2, 5))
    watch(SGD(model.parameters(), lr=0.1), model)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(torch.complex128) @ self.weight.T).abs()


def test_complex_parameters_are_not_measured_as_if_they_were_real(watch):
    model = Complex()
    optimizer = watch(SGD(model.parameters(), lr=0.1), model, panel="full")
    for x, y in drawn(3):
        step_of(model, optimizer, x, y)
    run = land(optimizer)
    for name in ("norm_test", "alpha", "alpha_same", "hess_trace", "mean_gsnr", "grad_hist_1d"):
        assert "complex" in run.unavailable()[name]
    assert (run.series("grad_norm")[1] > 0).all()


class Failing(SGD):
    """Fails when it is told to, with a step inside of its step as subclasses have."""

    fails = False

    def step(self, closure=None):
        if self.fails:
            raise RuntimeError("no step today")
        return super().step(closure)


def failing_step(optimizer, *closure):
    optimizer.fails = True
    with pytest.raises(RuntimeError, match="today"):
        optimizer.step(*closure)
    optimizer.fails = False


@pytest.mark.parametrize("every", [1, 100])
def test_after_a_step_that_raised_the_next_one_is_measured(every, watch):
    model = nn.Linear(5, 4)
    optimizer = watch(Failing(model.parameters(), 0.1), model, every=every)
    for step, (x, y) in enumerate(batches(6)):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        if step in (2, 3):
            failing_step(optimizer)
        if step != 3:  # given up; the third is tried again with the same gradient
            optimizer.step()
    run = land(optimizer)
    assert run.series("loss")[0].tolist() == [0, 1, 2, 3, 4]
    assert run.series("grad_norm")[0].tolist() == ([0, 1, 2, 3, 4] if every == 1 else [0])


def test_after_a_step_with_a_closure_that_raised_the_next_one_is_measured(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(Failing(model.parameters(), 0.1), model, every=1)
    for step, (x, y) in enumerate(batches(5)):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if step == 2:
            failing_step(optimizer, closure)
        optimizer.step(closure)
    run = land(optimizer)
    assert run.series("grad_norm")[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("panel", ["economy", ["alpha_same", "alpha_next", "batch_size"]])
def test_two_forwards_before_their_backwards_are_as_one_after_the_other(panel, tmp_path):
    """As in GANs and with several tasks."""
    runs = []
    for crossed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
        run = tmp_path / f"{crossed}.cockpit"
        optimizer = cockpitlite.watch(SGD(model.parameters(), 0.1), model, every=1, panel=panel, run=run)
        for (x, y), (other_x, other_y) in zip(batches(4), batches(4, seed=1), strict=True):
            optimizer.zero_grad()
            first = functional.cross_entropy(model(x), y)
            if not crossed:
                first.backward()
            second = functional.cross_entropy(model(other_x), other_y)
            if crossed:
                first.backward()
            second.backward()
            optimizer.step()
        runs.append(land(optimizer))
    one, other = runs
    assert one.unavailable() == other.unavailable()
    for name in {"batch_size", "alpha_same", "alpha_next", "norm_test", "alpha"} & set(one.names()):
        steps, values = one.series(name)
        assert len(steps) >= 1 and np.isfinite(values).all()
        np.testing.assert_array_equal(other.series(name)[0], steps)
        np.testing.assert_allclose(other.series(name)[1], values, rtol=1e-5)


def test_a_forward_whose_loss_is_not_used_counts_for_nothing(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), 0.1), model, every=1, panel=["batch_size", "alpha_same"])
    for x, y in batches(3):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        model(torch.cat([x, x]))  # looked at only
        loss.backward()
        optimizer.step()
    run = land(optimizer)
    assert set(run.series("batch_size")[1]) == {6}
    assert np.isfinite(run.series("alpha_same")[1]).all()


def test_a_loss_that_stays_nan_is_looked_at_once(watch):
    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), 0.1), model, every=50)
    for step, (x, y) in enumerate(batches(120)):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        (loss * torch.nan if step >= 60 else loss).backward()
        optimizer.step()
    run = land(optimizer)
    steps = run.series("norm_test")[0].tolist()
    assert set(steps) > {0, 50, 61, 100}
    assert len(steps) <= 6  # the recorder's thread may raise an alarm of its own once
    assert run.events("nonfinite")[0].step == 60


def test_a_schedule_that_fails_in_training_is_said_to(watch):
    def schedule(step):
        if step == 4:
            raise KeyError("oops")
        return True

    model = nn.Linear(5, 4)
    optimizer = watch(SGD(model.parameters(), 0.1), model, every=schedule)
    with pytest.warns(UserWarning, match=r"every\(\) failed at step 4.*oops"):
        train(model, optimizer, steps=8)
    run = land(optimizer)
    assert run.series("grad_norm")[0].tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert "norm_test" not in run.unavailable()


def test_a_gradient_penalty_names_itself(watch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = watch(SGD(model.parameters(), 0.01), model, panel="full")
    for _ in range(3):
        x = torch.randn(16, 4, requires_grad=True)
        out = model(x)
        slope = torch.autograd.grad(out.sum(), x, create_graph=True)[0]
        optimizer.zero_grad()
        (out.square().mean() + (slope.norm(dim=1) - 1).square().mean()).backward()
        optimizer.step()
    run = land(optimizer)
    for name in ("alpha_same", "step_curvature", "hess_trace", "hess_max_ev"):
        assert "gradient penalty" in run.unavailable()[name], name
    assert np.isfinite(run.series("grad_norm")[1]).all()


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it compiles
class TestCompiledLosses:
    """The code that a compiler made is at stake here, so its slow part, that makes machine code of it, is left out."""

    @pytest.fixture(params=[False, True], ids=["graph may break", "fullgraph"])
    def loss(self, request):
        return torch.compile(functional.cross_entropy, backend="aot_eager", fullgraph=request.param)

    def test_they_stay_compiled_and_training_ends_with_the_same_bits(self, watch, loss):
        ends = []
        for watched in (True, False):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
            optimizer = SGD(model.parameters(), lr=0.1)
            given = []

            def heard(prediction, target, given=given):
                given.append(type(prediction))
                found = loss(prediction, target)
                assert "CompiledFunction" in found.grad_fn.name()
                return found

            train(model, watch(optimizer, model) if watched else optimizer, heard)
            assert set(given) == {Tensor}
            ends.append([parameter.detach().clone() for parameter in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))

    def test_what_can_be_read_is_read_and_the_rest_has_a_reason(self, watch, run_path, loss):
        model = nn.Linear(5, 4)
        optimizer = watch(SGD(model.parameters(), lr=0.1), model)
        train(model, optimizer, loss)
        optimizer.cockpit.close()
        run = cockpitlite.load(run_path)
        assert len(run.series("norm_test")[0]) == len(run.series("alpha")[0]) + 1 == 8
        assert "compiled by itself" in run.unavailable()["loss_std"]

    def test_another_compiled_function_costs_one_step_of_those_readings(self, watch, run_path, loss):
        model = nn.Linear(5, 4)
        optimizer = watch(SGD(model.parameters(), lr=0.1), model)
        train(model, optimizer, lambda prediction, target: (prediction - target[:, None]).pow(2).mean())
        optimizer.cockpit.close()
        assert cockpitlite.load(run_path).series("loss_std")[0].tolist() == [*range(1, 8)]
