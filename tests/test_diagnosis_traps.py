"""Traps that no learning rate explains, made up and for real: wrong signs, missing steps, targets that do not fit."""

import copy

import pytest
import torch
from faulty_runs import MODEL, PARAMETER_NAMES, Judged
from made_runs import PARAMETERS
from torch import nn
from torch.nn import functional
from torch.optim import SGD

import cockpitlite
from cockpitlite.diagnosis import diagnose
from cockpitlite.store import RunWriter

MAXIMISED = {"functions": ["cross_entropy"], "factor": -1.0, "summed": False, "crossed": None}
UP = {"slope_same_start": lambda step: 1.0, "slope_same_end": lambda step: 1.5}
STUCK = {"loss": lambda step: 2.3}
RUNAWAY = {"loss": lambda step: 5.0 * 1.5 ** min(step, 30)}
WIDE = {"target_std": lambda step: 300.0, "target_mean": lambda step: 20.0}
NAMED = {"layers": [{**layer, "tensors": ["weight", "bias"]} for layer in MODEL["layers"]]}


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def loss(step=0, **changes):
    """An event on what the loss asks for."""
    return (step, "loss_functions", {**MAXIMISED, **changes})


def frozen(*names, step=1):
    """An event on frozen parameters."""
    return (step, "parameters", {**PARAMETERS, "frozen": list(names)})


class TestMaximisedLoss:
    def test_it_is_the_first_thing_said(self, judged):
        found = judged(steps=40, events=[loss()], readings={"loss": lambda step: -2.3 * 1.5 ** min(step, 30)})
        assert next(iter(found)) == "F1"
        assert (found["F1"].severity, found["F1"].since, found["F1"].lr_factor) == ("error", 0, None)
        assert "minus" in found["F1"].suggestion
        assert not set(found) & {"R1", "R3", "R4"}

    def test_the_setting_is_named(self, judged):
        assert "maximize=True" in judged(events=[loss()], group={"maximize": True})["F1"].suggestion

    def test_it_waits_for_three_measured_steps(self, judged):
        assert "F1" not in judged(steps=10, events=[loss()])
        assert "F1" in judged(steps=11, events=[loss()])

    @pytest.mark.parametrize("factor", [1.0, 0.25, None])
    def test_no_other_factor_is_one(self, judged, factor):
        assert "F1" not in judged(events=[loss(factor=factor)])

    def test_rewards_change_and_are_none(self, judged):
        assert "F1" not in judged(events=[loss(), loss(5, factor=-0.7)])
        assert "F1" not in judged(events=[loss(), loss(5, factor=None)])


class TestUphillFromTheStart:
    def test_two_steps_suffice_if_the_first_is_one(self, judged):
        found = judged(steps=6, readings=UP)
        assert found["F1"].severity == "error"
        assert "2 measured steps" in found["F1"].explanation

    def test_one_does_not(self, judged):
        assert "F1" not in judged(steps=1, readings=UP)

    def test_momentum_goes_uphill_later(self, judged):
        later = {name: lambda step, up=up: up(step) if step else -1.0 for name, up in UP.items()}
        assert "F1" not in judged(steps=16, readings=later)

    def test_a_resumed_run_has_a_memory(self, judged):
        assert "F1" not in judged(steps=6, readings=UP, events=[(0, "resume", {})])


class TestStepNeverCalled:
    def stepless(self, path, count, status="running", logged=False, more=()):
        writer = RunWriter(path)
        writer.meta(status=status)
        for event in (count, *more):
            writer.event(0, "no_step", {"count": event, "scaled": False})
        if logged:
            writer.reading("valid_accuracy", 0, 0.1)
        writer.close()
        return {finding.code: finding for finding in diagnose(path)}

    def test_after_fifty_backwards(self, run_path):
        found = self.stepless(run_path, 50)
        assert list(found) == ["F0c"]
        assert found["F0c"].severity == "error"
        assert "50 backwards" in found["F0c"].explanation

    def test_or_a_few_where_the_run_is_over(self, tmp_path):
        assert "F0c" not in self.stepless(tmp_path / "running.cockpit", 30)
        assert "F0c" in self.stepless(tmp_path / "over.cockpit", 30, status="finished")
        assert "F0c" not in self.stepless(tmp_path / "short.cockpit", 4, status="finished")

    def test_what_the_script_logs_is_no_step(self, run_path):
        assert "F0c" in self.stepless(run_path, 50, logged=True)

    def test_a_step_clears_it(self, run_path):
        assert self.stepless(run_path, 50, more=(0,)) == {}


class TestWeightsPutBack:
    def test_every_step_starts_where_the_run_began(self, judged):
        found = judged(readings={"distance": lambda step: 0.0})
        assert next(iter(found)) == "F0b"
        assert found["F0b"].severity == "error"
        assert not set(found) & {"R3", "R4"}

    def test_elsewhere_is_none(self, judged):
        assert "F0b" not in judged(readings={"distance": lambda step: 0.01 * step})
        assert "F0b" not in judged(readings={"distance": lambda step: 0.0 if step < 40 else 1.0})

    def test_what_does_not_move_is_another_fault(self, judged):
        found = judged(readings={"distance": lambda step: 0.0, "update_size": lambda step: [0.0] * 12})
        assert "F0" in found
        assert "F0b" not in found

    def test_it_waits(self, judged):
        assert "20 steps in all are needed" in judged.reasons(steps=10, readings={"distance": lambda step: 0.0})["F0b"]


class TestClearedInPart:
    def test_what_is_left_is_named(self, judged):
        left = [0.0] * 10 + [3.0, 3.0]
        readings = {"stale_gradient": lambda step: left if step else [0.0] * 12}
        found = judged(readings=readings, layers={"stale_gradient": PARAMETER_NAMES})["F7"]
        assert found.title == "Gradients are not cleared between steps: net.10.weight and net.10.bias"
        assert "a part of the model" in found.suggestion


class TestFrozen:
    def test_behind_a_trained_layer(self, judged):
        found = judged(model=NAMED, events=[frozen("net.4.weight", "net.4.bias")])["F9d"]
        assert (found.severity, found.since) == ("warning", 1)
        assert found.title == "1 layer is frozen behind net.0, which is trained: net.4"

    def test_half_a_layer(self, judged):
        found = judged(model=NAMED, events=[frozen("net.4.weight")])["F9d"]
        assert found.severity == "warning"
        assert "by half" in found.title

    def test_first_layers_are_fine_tuning(self, judged):
        found = judged(model=NAMED, events=[frozen("net.0.weight", "net.0.bias")])["F9d"]
        assert found.severity == "info"
        assert "fine-tuning" in found.title

    def test_biases_alone_are_a_pattern(self, judged):
        weights = [f"{layer['name']}.weight" for layer in NAMED["layers"]]
        assert judged(model=NAMED, events=[frozen(*weights)])["F9d"].severity == "info"

    def test_norms_are_left_alone(self, judged):
        layers = [{**layer, "class": "LayerNorm"} if layer["name"] == "net.4" else layer for layer in NAMED["layers"]]
        assert "F9d" not in judged(model={"layers": layers}, events=[frozen("net.4.weight", "net.4.bias")])

    @pytest.mark.parametrize(("kind", "severity"), [("target", "info"), ("model.ema", "info"), ("schema", "warning")])
    def test_what_is_called_so_is_meant(self, judged, kind, severity):
        layers = [*NAMED["layers"], {**NAMED["layers"][0], "name": f"{kind}.0"}]
        found = judged(model={"layers": layers}, events=[frozen(f"{kind}.0.weight", f"{kind}.0.bias")])
        assert found["F9d"].severity == severity

    def test_a_copy_is_a_target_network(self, judged):
        shapes = [("Linear", 40), ("Linear", 20), ("Linear", 10)]
        layers = [
            {"name": f"{part}.{place}", "class": kind, "parameters": count, "tensors": ["weight"]}
            for part in ("online", "slow")
            for place, (kind, count) in enumerate(shapes)
        ]
        still = [f"slow.{place}.weight" for place in range(3)]
        assert judged(model={"layers": layers}, events=[frozen(*still)])["F9d"].severity == "info"
        assert judged(model={"layers": layers}, events=[frozen(*still[:1])])["F9d"].severity == "warning"

    def test_nothing_frozen_is_nothing_to_say(self, judged):
        assert "F9d" not in judged(model=NAMED)


class TestTargets:
    def test_crossed_shapes_explain_a_blow_up(self, judged):
        found = judged(steps=60, readings=RUNAWAY, events=[loss(factor=1.0, crossed=[[32, 1], [32]])])
        assert next(iter(found)) == "F8e"
        assert found["F8e"].severity == "error"
        assert "[32, 1]" in found["F8e"].title
        assert "R1" not in found

    def test_unscaled_ones_explain_it_too(self, judged):
        found = judged(steps=60, readings={**WIDE, "loss": lambda step: 9e4 * 1.5 ** min(step, 30)})
        assert next(iter(found)) == "F6d"
        assert found["F6d"].severity == "error"
        assert "300" in found["F6d"].title
        assert "R1" not in found

    def test_they_are_a_note_while_training_goes_well(self, judged):
        assert judged(readings={**WIDE, "loss": lambda step: 9e4 * 0.98**step})["F6d"].severity == "info"

    def test_small_ones_are_none(self, judged):
        usual = {"target_std": lambda step: 2.0, "target_mean": lambda step: -5.0}
        assert "F6d" not in judged(steps=150, readings={**usual, **STUCK})

    def test_nor_is_a_model_that_is_made_for_them(self, judged):
        assert "F6d" not in judged(steps=150, readings={**WIDE, **STUCK})

    def test_a_known_sum_needs_no_classes(self, judged):
        summed = [loss(functions=["mse_loss"], factor=64.0, summed=True)]
        readings = {**RUNAWAY, "classes": None, "class_loss": None}
        found = judged(steps=60, readings=readings, events=summed)
        assert next(iter(found)) == "F15"
        assert found["F15"].severity == "error"
        assert "R1" not in found

    def test_a_known_mean_is_none(self, judged):
        assert "F15" not in judged(readings={"loss": lambda step: 147.0}, events=[loss(factor=1.0)])


class TestOrder:
    def test_what_makes_the_loss_blow_up_comes_before_the_nan_it_led_to(self, judged):
        gone = {**WIDE, "loss": lambda step: 9e4 * 1e3**step if step < 20 else float("nan")}
        assert list(judged(steps=40, readings=gone))[:2] == ["F6d", "R0"]


class TestResumption:
    def resumed(self, level, steps=130):
        def loss(step):
            return 2.3 * 0.97 ** min(step, 60) if step < 100 else level

        return {"steps": steps, "readings": {"loss": loss}, "events": [(100, "resume", {"from": 100})]}

    def test_a_jump_back_to_the_start(self, judged):
        found = judged(**self.resumed(2.2))["F21"]
        assert (found.severity, found.since) == ("warning", 100)
        assert "weights were probably not loaded" in found.title

    def test_a_smaller_one(self, judged):
        assert "optimizer" in judged(**self.resumed(1.0))["F21"].suggestion

    def test_none_where_it_goes_on(self, judged):
        assert "F21" not in judged(**self.resumed(0.38))
        assert "F21" not in judged(**{**self.resumed(2.2), "events": []})

    def test_it_waits_and_is_forgotten(self, judged):
        assert "F21" in judged.reasons(**self.resumed(2.2, steps=105))
        assert "F21" not in judged(**self.resumed(2.2, steps=310))


# For real -------------------------------------------------------------------------------------------------------------


def network(outputs=4):
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, outputs))


@pytest.fixture
def train(watch, run_path):
    """A function that trains a small network for some steps and returns the findings by their code."""

    def trained(
        *,
        ask=functional.cross_entropy,
        backward=lambda loss: loss.backward(),
        clear=None,
        after=lambda model: None,
        step=True,
        scale=None,
        change=lambda model: None,
        steps=60,
        **options,
    ):
        real = scale is not None
        model = network(1 if real else 4)
        change(model)
        watched = watch(SGD(model.parameters(), lr=0.05, **options), model, every=10)
        for _ in range(steps):
            x = torch.randn(32, 5)
            y = scale * x.sum(1, keepdim=True) if real else (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
            clear(model) if clear else watched.zero_grad()
            backward(ask(model(x), y))
            if step:
                watched.step()
            after(model)
        watched.cockpit.close()
        return {finding.code: finding for finding in diagnose(run_path)}

    return trained


def asked(run_path):
    """What was noted of the loss, in order."""
    return [event.data for event in cockpitlite.load(run_path).events("loss_functions")]


@pytest.mark.parametrize("case", ["minus", "maximize", "by a number", "sum of losses"])
def test_a_loss_that_is_maximised(train, case):
    backward = {
        "minus": lambda loss: (-loss).backward(),
        "by a number": lambda loss: (loss * -0.5).backward(),
        "sum of losses": lambda loss: (-2 * loss - loss / 4).backward(),
    }.get(case, lambda loss: loss.backward())
    found = train(backward=backward, **({"maximize": True} if case == "maximize" else {}))
    assert next(iter(found)) == "F1"
    assert found["F1"].severity == "error"


def log_likelihood(scores, labels):
    return -functional.cross_entropy(scores, labels)


def rewarded(scores, labels):
    rewards = -torch.rand(len(labels))
    return (functional.cross_entropy(scores, labels, reduction="none") * rewards).mean()


def with_entropy(scores, labels):
    entropy = -(scores.softmax(1) * scores.log_softmax(1)).sum(1).mean()
    return functional.cross_entropy(scores, labels) - 0.1 * entropy


RIGHT = {
    "a likelihood that is maximised": {"ask": log_likelihood, "maximize": True},
    "a policy gradient with costs": {"ask": rewarded},
    "an entropy that is subtracted": {
        "ask": lambda scores, labels: (
            functional.cross_entropy(scores, labels)
            - 0.1 * torch.distributions.Categorical(logits=scores).entropy().mean()
        )
    },
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_loss_that_may_be_negative_has_no_wrong_sign(train, name):
    assert "F1" not in train(**RIGHT[name])


def test_a_generator_may_raise_the_loss_of_a_discriminator(train):
    other = network(1)
    fool = nn.Linear(4, 5)

    def saturating(made, labels):
        return -functional.binary_cross_entropy_with_logits(other(fool(made)), torch.zeros(len(made), 1))

    assert "F1" not in train(ask=saturating)


def test_what_is_noted_of_a_loss(train, run_path):
    train(steps=6)
    made = {"makers": {"cross_entropy": ["addmm"]}, "weighted": False}
    assert asked(run_path) == [{**MAXIMISED, "factor": 1.0, **made}]


def test_a_factor_that_goes_on_changing_is_noted_a_few_times(train, run_path):
    factors = iter(range(1, 600))
    train(steps=560, backward=lambda loss: (loss * next(factors)).backward())
    assert len(asked(run_path)) == 20


def test_a_sum_of_squared_errors(train):
    found = train(ask=lambda out, y: functional.mse_loss(out, y, reduction="sum"), scale=1.0)
    assert next(iter(found)) == "F15"
    assert "R1" not in found


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("ask", [functional.mse_loss, lambda out, y: (out - y).square().mean()])
def test_crossed_targets(train, ask):
    found = train(ask=lambda out, y: ask(out, y.squeeze(1)), scale=1.0)
    assert next(iter(found)) == "F8e"
    assert "[32, 1] and [32]" in found["F8e"].title


@pytest.mark.parametrize(
    "ask",
    [
        functional.mse_loss,
        lambda out, y: functional.mse_loss(out, torch.zeros(1)),
        lambda out, y: functional.smooth_l1_loss(out.unsqueeze(1), y.expand(-1, 3).unsqueeze(2)),
        lambda out, y: (out[:, None] - out[None]).square().mean() + (out - y).square().mean(),
    ],
    ids=["alike", "one number", "quantiles", "pairs of predictions"],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_that_are_spread_on_purpose(train, ask):
    assert "F8e" not in train(ask=ask, scale=1.0, steps=11)


def test_targets_that_are_not_standardised(train, run_path):
    found = train(ask=functional.mse_loss, scale=100.0)
    assert next(iter(found)) == "F6d"
    assert "R1" not in found
    assert cockpitlite.load(run_path).series("target_std")[1][0] == pytest.approx(220, rel=0.3)


def test_gradients_of_the_head_alone_are_cleared(train, run_path):
    found = train(clear=lambda model: model[2].zero_grad())
    assert next(iter(found)) == "F7"
    assert "0.weight and 0.bias" in found["F7"].title
    _, layers, left = cockpitlite.load(run_path).layers("stale_gradient")
    assert dict(zip(layers, (left[1] > 1).tolist(), strict=True)) == {
        "0.weight": True,
        "0.bias": True,
        "2.weight": False,
        "2.bias": False,
    }


def test_weights_that_are_put_back(train):
    first = {}

    def put_back(model):
        model.load_state_dict(first)

    found = train(change=lambda model: first.update(copy.deepcopy(model.state_dict())), after=put_back)
    assert next(iter(found)) == "F0b"


def test_a_frozen_body(train):
    deep = lambda model: model.insert(2, nn.Linear(16, 16)).requires_grad_(True)[2].requires_grad_(False)  # noqa: E731
    found = train(change=deep)
    assert found["F9d"].severity == "warning"
    assert found["F9d"].title == "1 layer is frozen behind 0, which is trained: 2"


def constant(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.fill_(0.1)


def test_weights_that_are_all_equal_come_first(train):
    assert next(iter(train(change=constant))) == "F6c"


@pytest.mark.parametrize("loaded", [True, False])
def test_a_resumed_run_without_its_weights(watch, run_path, loaded):
    model = network()
    for leg in range(2):
        if leg and not loaded:
            model = network()
        watched = watch(SGD(model.parameters(), lr=0.3), model, every=10, resume=bool(leg))
        for _ in range(100 if leg == 0 else 20):
            x = torch.randn(32, 5)
            watched.zero_grad()
            functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
            watched.step()
        watched.cockpit.close()
    found = {finding.code: finding for finding in diagnose(run_path)}
    assert ("F21" in found) is not loaded
    assert loaded or "not loaded" in found["F21"].title


class TestWithoutSteps:
    def test_it_is_told_at_the_end(self, train):
        found = train(step=False, steps=20)
        assert list(found) == ["F0c"]

    def test_it_is_told_live_and_a_step_ends_it(self, watch):
        told = []
        model = network()
        watched = watch(SGD(model.parameters(), lr=0.05), model, on_finding=told.append)

        def backward():
            watched.zero_grad()
            x = torch.randn(32, 5)
            functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()

        for _ in range(60):
            backward()
        assert [finding.code for finding in watched.cockpit.findings()] == ["F0c"]
        for _ in range(60):
            watched.cockpit._recorder.flush()
            backward()
        assert [finding.code for finding in told] == ["F0c"]
        watched.step()
        assert "F0c" not in [finding.code for finding in watched.cockpit.findings()]

    def test_a_long_accumulation_is_over_with_its_step(self, watch, run_path):
        model = network()
        watched = watch(SGD(model.parameters(), lr=0.05), model)
        for _ in range(70):
            functional.cross_entropy(model(torch.randn(2, 5)), torch.zeros(2, dtype=torch.int64)).backward()
        watched.step()
        watched.cockpit.close()
        events = cockpitlite.load(run_path).events("no_step")
        assert [event.data["count"] for event in events] == [50, 0]
        assert "F0c" not in [finding.code for finding in diagnose(run_path)]

    def test_a_grad_scaler_that_skips_every_step_is_named(self, watch, run_path):
        model = network()
        watched, scaler = watch(SGD(model.parameters(), lr=0.05), model), torch.amp.GradScaler("cpu")
        for _ in range(20):
            watched.zero_grad()
            scaler.scale(model(torch.randn(8, 5)).mean() * float("inf")).backward()
            scaler.step(watched)
            scaler.update()
        watched.cockpit.close()
        (found,) = diagnose(run_path)
        assert found.code == "F0c"
        assert "GradScaler" in found.title

    def test_gradients_after_the_training_are_nothing(self, train, run_path):
        found = train(steps=20)
        assert "F0c" not in found
        assert cockpitlite.load(run_path).events("no_step") == []
