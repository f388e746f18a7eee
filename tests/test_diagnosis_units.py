"""Dead and saturated units, and gradients that vanish or explode on their way back."""

import math

import pytest
from faulty_runs import ACTIVATIONS, MODEL, PARAMETER_NAMES, WEIGHTS, Judged, row

NAN = math.nan
STUCK = {"loss": lambda step: 2.3}
MATRICES = [index for index, name in enumerate(PARAMETER_NAMES) if name in WEIGHTS]


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def dead(share, layer=2):
    return {"dead_units": lambda step: row(len(ACTIVATIONS), 0.1, **{f"_{layer}": share})}


def saturated(share, layer=1, since=0):
    def shares(step):
        return row(len(ACTIVATIONS), 0.02, **{f"_{layer}": share if step >= since else 0.02})

    return {"saturated_units": shares}


def profile(ratio):
    """Gradient norms that fall (or grow) evenly from the last weights to the first, over a ratio."""

    def norms(step):
        return [ratio ** (1 - index // 2 / (len(WEIGHTS) - 1)) for index in range(len(PARAMETER_NAMES))]

    return {"grad_norm": norms}


class TestDeadUnits:
    def test_a_dead_layer_is_named(self, judged):
        found = judged(readings=dead(0.97))
        assert next(iter(found)) == "F3"
        assert found["F3"].severity == "warning"
        assert found["F3"].title == "97 % of the units of layer net.5 are dead"
        assert found["F3"].evidence[0].reading == "dead_units"
        assert found["F3"].lr_factor is None

    def test_half_a_layer_is_a_note_while_training_goes_well(self, judged):
        assert judged(steps=200, readings=dead(0.6))["F3"].severity == "info"
        assert judged(steps=200, readings={**dead(0.6), **STUCK})["F3"].severity == "warning"

    def test_less_is_none(self, judged):
        assert "F3" not in judged(readings=dead(0.5))

    def test_one_odd_batch_is_none(self, judged):
        shares = {"dead_units": lambda step: row(len(ACTIVATIONS), 0.1, _2=0.1 if step == 40 else 0.97)}
        assert "F3" not in judged(readings=shares)

    def test_two_batches_are_too_few(self, judged):
        assert "F3" not in judged(steps=6, readings=dead(0.97))
        assert "2 steps; 3 are needed" in judged.reasons(steps=6, readings=dead(0.97))["F3"]

    def test_small_batches_leave_units_at_zero_by_chance(self, judged):
        small = {"batch_size": lambda step: 4.0}
        assert "F3" not in judged(readings={**dead(0.97), **small})
        assert "F3" in judged(readings={**dead(1.0), **small})

    def test_its_beginning_is_found(self, judged):
        shares = {"dead_units": lambda step: row(len(ACTIVATIONS), 0.1, _2=0.97 if step >= 20 else 0.1)}
        assert judged(readings=shares)["F3"].lr_factor == pytest.approx(0.1)
        assert "too long steps have killed them" in judged(readings=shares)["F3"].suggestion
        assert judged(readings=shares)["F3"].since == 20

    def test_after_a_blow_up_that_is_the_cause(self, judged):
        def loss(step):
            return 2.3 if step < 4 else 40.0 if step < 8 else 1.0

        shares = {"dead_units": lambda step: row(len(ACTIVATIONS), 0.1, _2=0.97 if step >= 5 else 0.1)}
        found = judged(steps=100, readings={**shares, "loss": loss})
        assert list(found)[:2] == ["R1", "F3"]
        assert "blown up at step 4" in found["F3"].explanation

    def test_the_gradient_tells_where_no_relu_is_seen(self, judged):
        def zeros(share):
            return {"dead_units": None, "zero_gradient": lambda step: row(12, 0.1, _4=share), **STUCK}

        assert "net.4.weight" in judged(steps=200, readings=zeros(0.95))["F3"].title
        assert "F3" not in judged(steps=200, readings=zeros(0.9))

    def test_sparse_inputs_biases_and_embeddings_are_left_out(self, judged):
        none = {"dead_units": None, **STUCK}
        first = {"zero_gradient": lambda step: row(12, 0.1, _0=0.99, _5=0.99)}
        assert "F3" not in judged(steps=200, readings={**none, **first})
        layers = [*MODEL["layers"][:2], {**MODEL["layers"][2], "class": "Embedding"}, *MODEL["layers"][3:]]
        words = {"zero_gradient": lambda step: row(12, 0.1, _4=0.99)}
        assert "F3" not in judged(steps=200, readings={**none, **words}, model={**MODEL, "layers": layers})

    def test_a_loss_that_has_reached_zero_leaves_no_gradient(self, judged):
        assert "F3" not in judged(steps=200, readings={"dead_units": None, "zero_gradient": lambda step: [1.0] * 12})

    def test_layers_of_another_kind_say_nothing(self, judged):
        assert "F3" not in judged(readings={"dead_units": lambda step: [NAN] * len(ACTIVATIONS)})

    def test_without_either_reading_it_says_so(self, judged):
        none = {"dead_units": None, "zero_gradient": None}
        assert judged.reasons(readings=none)["F3"] == "dead_units was not recorded"

    def test_it_silences_the_learning_rate(self, judged):
        short = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
        assert "R3" in judged(readings=short)
        assert "R3" not in judged(readings={**short, **dead(0.97)})
        assert "R3" in judged(readings={**short, **dead(0.6)})  # a mere note explains nothing


class TestSaturatedUnits:
    def test_a_layer_that_starts_so_is_named(self, judged):
        found = judged(readings=saturated(0.63))["F5"]
        assert (found.severity, found.since) == ("warning", 0)
        assert found.title == "63 % of the units of layer net.3 are saturated"

    def test_late_it_is_a_note_unless_training_suffers(self, judged):
        assert judged(steps=200, readings=saturated(0.63, since=20))["F5"].severity == "info"
        assert judged(steps=200, readings={**saturated(0.63, since=20), **STUCK})["F5"].severity == "warning"
        assert judged(steps=200, readings=saturated(0.95, since=20))["F5"].severity == "warning"

    def test_less_is_none(self, judged):
        assert "F5" not in judged(readings=saturated(0.5))

    def test_the_output_may_be_sure(self, judged):
        output = {"saturated_units": ("net.11",)}
        found = judged(readings={"saturated_units": lambda step: [0.95]}, layers=output)["F5"]
        assert found.severity == "info"

    @pytest.mark.parametrize(
        ("owners", "name", "severity"),
        [
            (("body.0", "head"), "body.1", "warning"),
            (("body.0", "body.2"), "body.3", "info"),
            (("first", "second"), "sigmoid", "info"),
            (("0", "2"), "1", "warning"),
        ],
    )
    def test_what_comes_after_a_layer_is_told_from_the_order_of_the_model(self, judged, owners, name, severity):
        layers = [{"name": owner, "class": "Linear", "parameters": 100} for owner in owners]
        shares = {"saturated_units": lambda step: [0.95]}
        found = judged(readings=shares, layers={"saturated_units": (name,)}, model={"layers": layers})
        assert found["F5"].severity == severity

    def test_without_the_reading_it_says_so(self, judged):
        assert judged.reasons(readings={"saturated_units": None})["F5"] == "saturated_units was not recorded"


class TestVanishingGradients:
    def test_the_profile_is_told(self, judged):
        found = judged(readings=profile(1e-7))["F4a"]
        assert (found.severity, found.since) == ("warning", 0)
        assert found.confidence > 0.9
        assert "net.0.weight" in found.title
        assert judged(readings=profile(1e-5))["F4a"].confidence == pytest.approx(0.8)

    def test_a_moderate_one_counts_only_where_nothing_is_learnt(self, judged):
        assert "F4a" not in judged(steps=200, readings=profile(3e-3))
        assert judged(steps=200, readings={**profile(3e-3), **STUCK})["F4a"].confidence == pytest.approx(0.7)
        assert "F4a" not in judged(steps=200, readings={**profile(2e-2), **STUCK})

    def test_one_good_step_at_the_end_is_no_cure(self, judged):
        bad, good = profile(1e-7)["grad_norm"], profile(1.0)["grad_norm"]
        found = judged(steps=40, readings={"grad_norm": lambda step: good(step) if step == 39 else bad(step)})
        assert found["F4a"].since == 0  # it stands for what the last steps were in the middle

    def test_a_small_first_layer_alone_is_no_profile(self, judged):
        first = {"grad_norm": lambda step: row(12, 1.0, _0=1e-6)}
        found = judged(readings=first)
        assert "F4a" not in found

    def test_norms_biases_and_embeddings_are_left_out(self, judged):
        odd = {"grad_norm": lambda step: row(12, 1.0, _1=1e-9, _3=1e-8, _5=1e-7)}
        assert "F4a" not in judged(readings=odd)

    def test_two_matrices_have_no_depth(self, judged):
        made = {"readings": {"grad_norm": lambda step: [1e-9, 1.0], "weight_std": None}}
        layers = {"layers": {"grad_norm": ("a.weight", "b.weight")}}
        assert "F4a" not in judged(**made, **layers)
        assert "3 weight matrices are needed" in judged.reasons(**made, **layers)["F4a"]

    def test_three_steps_are_too_few(self, judged):
        assert "F4a" not in judged(steps=3, readings=profile(1e-7))
        assert "5 are needed" in judged.reasons(steps=3, readings=profile(1e-7))["F4a"]

    def test_dead_units_explain_it(self, judged):
        found = judged(readings={**profile(1e-7), **dead(0.97)})
        assert "F3" in found
        assert "F4a" not in found


class TestExplodingGradients:
    def test_the_profile_is_told(self, judged):
        assert judged(readings=profile(1e5))["F4b"].severity == "warning"
        assert judged(readings=profile(500))["F4b"].severity == "info"
        assert judged(steps=200, readings={**profile(500), **STUCK})["F4b"].severity == "warning"
        assert "F4b" not in judged(readings=profile(60))

    def test_bursts_are_told_with_their_layer(self, judged):
        def norms(step):
            return row(12, 1.0, _6=1200.0) if step in (60, 75, 90) else [1.0] * 12

        found = judged(steps=100, readings={"grad_norm": norms})["F4b"]
        assert (found.severity, found.since) == ("warning", 60)
        assert "net.6.weight" in found.title
        assert found.evidence[0].steps == (60, 75, 90)

    def test_two_are_too_few(self, judged):
        norms = {"grad_norm": lambda step: [50.0] * 12 if step in (60, 75) else [1.0] * 12}
        assert "F4b" not in judged(steps=100, readings=norms)

    def test_late_gradients_that_are_short_of_those_at_the_start_are_none(self, judged):
        def norms(step):
            return [1.0] * 12 if step < 20 or step in (60, 75, 90) else [0.01] * 12

        assert "F4b" not in judged(steps=100, readings={"grad_norm": norms})
