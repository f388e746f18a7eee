"""The scale of inputs, first loss and first weights, units that begin equal, and what enters the loss."""

import math

import pytest
from faulty_runs import MODEL, WEIGHTS, Judged, row
from made_runs import falling

STUCK = {"loss": lambda step: 2.3, "class_loss": lambda step: [2.3] * 10}
WIDE = {"input_std": lambda step: 95.0, "input_max": lambda step: 255.0}
NARROW = {"input_mean": lambda step: 0.001, "input_std": lambda step: 0.004, "input_max": lambda step: 0.01}


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def blow_up(step):
    return 2.3 if step < 4 else 2.3 * 3.0 ** min(step, 30)


class TestScaleOfInputs:
    def test_wide_inputs_that_show(self, judged):
        gradient = {"grad_norm": lambda step: row(12, 1.0, _0=40.0)}
        found = judged(readings={**WIDE, **gradient})["F6a"]
        assert (found.severity, found.since) == ("warning", 0)
        assert "40 times as long" in found.explanation
        assert "Standardise" in found.suggestion

    def test_wide_inputs_that_do_not_show_are_a_note(self, judged):
        assert judged(readings=WIDE)["F6a"].severity == "info"

    def test_at_the_edge_it_is_none(self, judged):
        assert "F6a" not in judged(readings={"input_std": lambda step: 10.0})
        assert "F6a" not in judged(readings={**NARROW, "input_std": lambda step: 0.02})
        assert "F6a" not in judged(readings={"input_mean": lambda step: 1.2})

    def test_tiny_inputs(self, judged):
        gradient = {"grad_norm": lambda step: row(12, 1.0, _0=0.02)}
        found = judged(readings={**NARROW, **gradient})["F6a"]
        assert found.severity == "warning"
        assert "tiny" in found.title

    def test_sparse_inputs_are_not_tiny(self, judged):
        sparse = {**NARROW, "input_max": lambda step: 1.0}
        assert "F6a" not in judged(readings=sparse)

    def test_inputs_far_from_zero(self, judged):
        far = {"input_mean": lambda step: -4.0}
        assert judged(readings=far)["F6a"].severity == "info"
        found = judged(steps=200, readings={**far, **STUCK})["F6a"]
        assert found.severity == "warning"
        assert "10 deviations away" in found.title

    def test_one_feature_of_another_scale(self, judged):
        uneven = {**WIDE, "input_spread": lambda step: 2e4}
        assert "Some features" in judged(readings=uneven)["F6a"].title

    def test_a_norm_comes_first(self, judged):
        layers = [{"name": "norm", "class": "BatchNorm1d", "parameters": 128}, *MODEL["layers"]]
        assert "F6a" not in judged(readings=WIDE, model={**MODEL, "layers": layers})

    def test_it_is_an_error_where_the_loss_blew_up_and_explains_that(self, judged):
        found = judged(steps=100, readings={**WIDE, "loss": blow_up})
        assert next(iter(found)) == "F6a"
        assert found["F6a"].severity == "error"
        assert not set(found) & {"R1", "R1b"}
        assert "R1" in judged(steps=100, readings={"loss": blow_up})

    def test_tokens_have_no_scale(self, judged):
        none = dict.fromkeys(("input_mean", "input_std", "input_min", "input_max", "input_spread"))
        assert judged.reasons(readings=none)["F6a"] == "input_mean was not recorded"

    def test_one_step_suffices(self, judged):
        assert "F6a" in judged(steps=1, readings=WIDE)


class TestFirstLoss:
    def high(self, begin, end=2.0):
        def loss(step):
            return max(begin * 0.9**step, end)

        return {"loss": loss, "class_loss": lambda step: [loss(step)] * 10}

    def test_far_worse_than_guessing(self, judged):
        found = judged(readings=self.high(47.0))["F6b"]
        assert found.severity == "warning"
        assert found.title == "The model starts far worse than by guessing: 47 instead of 2.3"
        assert found.evidence[0].reading == "class_loss"

    def test_once_overcome_it_is_a_note(self, judged):
        found = judged(steps=200, readings=self.high(47.0, end=0.5))["F6b"]
        assert found.severity == "info"
        assert "come down" in found.explanation

    @pytest.mark.parametrize("begin", [0.1, 2.3, 3.7])
    def test_near_or_below_chance_is_none(self, judged, begin):
        assert "F6b" not in judged(readings=self.high(begin))

    def test_two_classes_may_start_a_little_sure(self, judged):
        two = {**self.high(1.4), "classes": lambda step: 2.0}
        assert "F6b" not in judged(readings=two)

    def test_other_terms_of_the_loss_do_not_count(self, judged):
        terms = {"loss": lambda step: 47 + falling(step)}
        assert "F6b" not in judged(readings=terms)

    def test_the_loss_stands_in_for_the_loss_by_class(self, judged):
        assert "F6b" in judged(readings={**self.high(47.0), "class_loss": None})

    def test_a_resumed_run_has_no_start(self, judged):
        resumed = [(30, "resume", {"from": 30})]
        assert "F6b" not in judged(readings=self.high(47.0), events=resumed)
        assert "F6b" not in judged(first=5000, readings={"class_loss": lambda step: [47.0] * 10})

    def test_it_silences_the_learning_rate(self, judged):
        short = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
        assert "R3" not in judged(readings={**self.high(47.0), **short})
        assert "R3" in judged(steps=200, readings={**self.high(10.0, end=1.0), **short})

    def test_without_readings_it_says_so(self, judged):
        none = {"classes": None, "weight_std": None}
        assert judged.reasons(readings=none)["F6b"] == "classes was not recorded"


class TestInitialWeights:
    @pytest.mark.parametrize(("std", "word"), [(1.0, "large"), (0.0007, "small")])
    def test_odd_ones_are_told_and_are_a_note_where_much_is_learnt(self, judged, std, word):
        weights = {"weight_std": lambda step: [std] * len(WEIGHTS)}
        found = judged(steps=200, readings={**weights, **STUCK})["F6b"]
        assert f"too {word}" in found.title
        assert found.severity == "warning"
        assert judged(steps=200, readings=weights)["F6b"].severity == "info"

    @pytest.mark.parametrize("std", [0.01, 0.2])
    def test_usual_ones_are_left_alone(self, judged, std):
        weights = {"weight_std": lambda step: [std] * len(WEIGHTS)}
        assert "F6b" not in judged(steps=200, readings={**weights, **STUCK})

    def test_some_that_start_at_zero_are_usual(self, judged):
        weights = {"weight_std": lambda step: [0.07, 0.0, 0.07, 0.0, 0.07, 0.0]}
        assert "F6b" not in judged(steps=200, readings={**weights, **STUCK})


class TestEqualUnits:
    def equal(self, *layers, until=math.inf):
        def spreads(step):
            return [0.0 if index in layers and step < until else 1.1 for index in range(len(WEIGHTS))]

        return {"row_spread": spreads}

    def test_they_are_named(self, judged):
        found = judged(readings=self.equal(1, 2))["F6c"]
        assert found.title == "All units are equal in net.2.weight and net.4.weight"
        assert (found.severity, found.since) == ("warning", 0)

    def test_weights_that_part_after_the_start_are_none(self, judged):
        assert "F6c" not in judged(readings=self.equal(1, 2, until=40))

    def test_the_last_layer_may_be_equal(self, judged):
        assert "F6c" not in judged(readings=self.equal(5))

    def test_a_single_row_is_none(self, judged):
        assert "F6c" not in judged(readings={"row_spread": lambda step: [1.1, math.nan, 1.1, 1.1, 1.1, 1.1]})

    def test_it_waits_for_the_weights_to_part(self, judged):
        assert "F6c" not in judged(steps=10, readings=self.equal(1))
        assert "F6c" in judged.reasons(steps=10, readings=self.equal(1))

    def test_it_explains_dead_gradients_and_steps_without_signal(self, judged):
        flat = {
            **STUCK,
            "slope_same_end": lambda step: -0.95,
            "slope_next_end": lambda step: 0.4,
            "dead_units": lambda step: [1.0] * 5,
        }
        assert "F2" in judged(steps=100, readings={**flat, "dead_units": None})
        found = judged(steps=100, readings={**flat, **self.equal(0, 1, 2, 3, 4)})
        assert "F6c" in found
        assert not set(found) & {"F2", "F3"}


class TestWhatEntersTheLoss:
    def test_probabilities_are_told_at_once(self, judged):
        rows = {"probability_rows": lambda step: 1.0}
        found = judged(steps=1, readings=rows)["F8a"]
        assert found.severity == "warning"
        assert "1.46" in found.explanation
        short = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
        assert "R3" not in judged(readings={**rows, **short})

    def test_some_rows_are_chance(self, judged):
        assert "F8a" not in judged(readings={"probability_rows": lambda step: 0.95})
        assert "F8a" not in judged(readings={"probability_rows": lambda step: 1.0 if step < 20 else 0.2})

    def test_log_probabilities_are_a_note_after_the_verdict(self, judged):
        found = judged(readings={"log_probability_rows": lambda step: 1.0})
        assert list(found) == ["R4", "F8b"]
        assert found["F8b"].severity == "info"
        assert "F8b" not in judged(readings={"log_probability_rows": lambda step: 0.9})

    @pytest.mark.parametrize(("plain", "word"), [(1.0, "Probabilities"), (0.0, "Scores")])
    def test_nll_loss_takes_log_probabilities(self, judged, plain, word):
        rows = {"probability_rows": lambda step: plain, "unnormalized_rows": lambda step: 1.0}
        found = judged(readings=rows)
        assert found["F8c"].title.startswith(word)
        assert "F8a" not in found
        assert "F8c" not in judged(readings={**rows, "unnormalized_rows": lambda step: 0.0})

    def test_a_sigmoid_before_the_loss_that_has_one(self, judged):
        assert "F8d" in judged(readings={"unit_scores": lambda step: 1.0})
        assert "F8d" not in judged(readings={"unit_scores": lambda step: 0.9})

    @pytest.mark.parametrize(
        ("code", "reading"), [("F8a", "probability_rows"), ("F8b", "log_probability_rows"), ("F8d", "unit_scores")]
    )
    def test_without_the_reading_it_says_so(self, judged, code, reading):
        assert judged.reasons(readings={reading: None})[code] == f"{reading} was not recorded"


class TestSummedLoss:
    def summed(self, factor=64.0):
        return {"loss": lambda step: factor * falling(step)}

    def test_it_is_a_note_while_training_goes_well(self, judged):
        found = judged(steps=200, readings=self.summed())["F15"]
        assert found.severity == "info"
        assert "64 samples" in found.explanation

    def test_it_explains_a_blow_up(self, judged):
        found = judged(steps=100, readings={"loss": lambda step: 64 * blow_up(step)})
        assert next(iter(found)) == "F15"
        assert found["F15"].severity == "error"
        assert "R1" not in found

    def test_a_loss_that_does_not_fall_makes_it_a_warning(self, judged):
        assert judged(steps=200, readings={"loss": lambda step: 147.0})["F15"].severity == "warning"

    @pytest.mark.parametrize("factor", [1.0, 8.0, 40.0, 100.0])
    def test_other_factors_are_none(self, judged, factor):
        assert "F15" not in judged(readings=self.summed(factor))

    def test_a_single_sample_has_no_sum(self, judged):
        assert "F15" not in judged(readings={"batch_size": lambda step: 1.0})

    def test_a_run_that_begins_late_is_unjudged(self, judged):
        assert "F15" in judged.reasons(first=5000, steps=700, readings=self.summed())
