"""Each rule: it fires where it should, keeps silent where it should, and says so where it cannot tell."""

import math

import pytest
from made_runs import PARAMETERS, MadeRun, falling

from cockpitlite.diagnosis import diagnose, unjudged

NAN = math.nan
STILL = {"update_size": lambda step: 0.0}
SIZES = {"update_size": lambda step: (0.05, 0.0, 0.05)}
FLAT = {"same": -0.95, "after": 0.4, "loss": lambda step: 2.3, "steps": 100}
LARGE = {"same": 0.2, "after": 0.8, "loss": lambda step: 2.3 - 0.005 * step}
SHORT = {"same": -0.995, "after": -0.99, "noise": 0.001}


@pytest.fixture
def judged(tmp_path):
    """A function that writes a made-up run and returns its findings by code."""
    numbers = iter(range(1000))

    def judge(history=False, **made):
        path = MadeRun(**made).write(tmp_path / f"{next(numbers)}.cockpit")
        return {finding.code: finding for finding in diagnose(path, history=history)}

    return judge


@pytest.fixture
def reasons(tmp_path):
    """A function that writes a made-up run and returns why which rules could not judge it."""

    def judge(**made):
        return unjudged(MadeRun(**made).write(tmp_path / "unjudged.cockpit"))

    return judge


def parameters(step=0, **changes):
    """An event that says how parameters and optimizer belong together."""
    return (step, "parameters", {**PARAMETERS, **changes})


def test_a_healthy_run_has_one_note(judged):
    found = judged(steps=600)
    assert list(found) == ["R4"]
    assert found["R4"].severity == "info"


LENGTHS = ("grad_norm", "update_size")


class TestNonfinite:
    def test_without_a_search_the_loss_tells_the_step(self, judged):
        found = judged(steps=80, loss=lambda step: falling(step) if step < 70 else NAN)["R0"]
        assert (found.severity, found.since, found.confidence, found.lr_factor) == ("error", 70, 1.0, None)
        assert found.evidence[0].steps == (67, 68, 69, 70)
        assert math.isnan(found.evidence[0].values[-1])

    @pytest.mark.parametrize(
        ("what", "layer", "words"),
        [
            ("input", None, "in the input of the model"),
            ("parameter", "fc.weight", "found in the parameter fc.weight"),
            ("forward", "fc", "in the output of fc"),
            ("loss", None, "in the loss"),
            ("gradient", "fc.weight", "in the gradient of fc.weight"),
            ("update", "fc.weight", "in the update of fc.weight"),
        ],
    )
    def test_the_place_is_named(self, judged, what, layer, words):
        event = (70, "nonfinite", {"what": what, "layer": layer, "sample": 17})
        found = judged(steps=75, loss=lambda step: falling(step) if step < 70 else NAN, events=[event])["R0"]
        assert f"first {words}" in found.title
        assert "sample 17" in found.explanation
        assert found.suggestion

    def test_a_search_one_step_later_is_said_to_be_later(self, judged):
        event = (71, "nonfinite", {"what": "parameter", "layer": "fc.weight", "sample": None})
        made = {"steps": 75, "loss": lambda step: falling(step) if step < 70 else NAN, "values": {"update_size": None}}
        found = judged(events=[event], **made)["R0"]
        assert (found.since, found.title) == (70, "Non-finite values since step 70, first seen in the loss")
        assert "in step 71" in found.explanation and "update that was made of such a loss" in found.explanation
        assert "batch of step 70" in found.suggestion and "the update of step 69" in found.suggestion

    def test_what_a_later_search_finds_is_said_of_that_step(self, judged):
        event = (71, "nonfinite", {"what": "input", "layer": None, "sample": 3})
        found = judged(steps=75, loss=lambda step: falling(step) if step < 70 else NAN, events=[event])["R0"]
        assert found.title.endswith("step 70, first seen in the loss")
        assert "in step 71 the first such value was in the input of the model, sample 3" in found.explanation
        assert "the batch of step 71" in found.suggestion and "update" not in found.explanation

    @pytest.mark.parametrize(
        ("loss", "sizes", "words"),
        [
            (70, None, "Most likely the update of step 69 broke it, whose loss was still finite"),
            (70, 69, "The update of step 69 was finite, so it was set after that"),
            (70, 50, "Most likely the update of step 69 broke it"),
            (99, 50, "An update of the steps 51 to 69 broke it, or it was set from outside"),
            (99, 68, "The update of step 69 broke it, or it was set from outside"),
            (99, None, "An update before step 70 broke it, or it was set from outside"),
        ],
    )
    def test_which_update_broke_a_parameter_is_told_by_its_number(self, judged, loss, sizes, words):
        """``loss`` is the first that is not finite, ``sizes`` the last step before whose update is known."""
        event = (70, "nonfinite", {"what": "parameter", "layer": "fc.weight", "sample": None})

        def size(step):
            return None if sizes is None or sizes < step < 70 else 0.05 if step < 70 else NAN

        made = {"steps": 72, "loss": lambda step: falling(step) if step < loss else NAN}
        found = judged(values={"update_size": size}, events=[event], **made)["R0"]
        assert found.title == (
            "Non-finite values since step 70, first found in the parameter fc.weight, before the batch was seen"
        )
        assert words in found.suggestion

    def test_a_parameter_that_was_never_a_number_was_broken_by_no_update(self, judged):
        event = (0, "nonfinite", {"what": "parameter", "layer": "fc.weight", "sample": None})
        found = judged(steps=5, loss=lambda step: NAN, events=[event])["R0"]
        assert "before the first step" in found.suggestion and "update" not in found.suggestion

    def test_where_the_step_before_was_sound_only_this_one_can_be_at_fault(self, judged):
        sizes = {"update_size": lambda step: 0.05 if step < 70 else NAN}
        found = judged(steps=75, loss=lambda step: falling(step) if step < 70 else NAN, values=sizes)["R0"]
        assert "batch of step 70" in found.suggestion and "update" not in found.suggestion

    def test_what_was_measured_around_it_is_evidence(self, judged):
        event = (71, "nonfinite", {"what": "parameter", "layer": "fc.weight", "sample": None})
        known = {name: lambda step: {40: 0.5, 60: 0.25}.get(step, NAN if step >= 71 else None) for name in LENGTHS}
        found = judged(steps=75, loss=lambda s: falling(s) if s < 70 else NAN, values=known, events=[event])["R0"]
        shown = {evidence.reading: evidence for evidence in found.evidence}
        assert [shown[name].steps for name in LENGTHS] == [(40, 60, 71)] * 2
        assert shown["update_size"].values[:2] == (0.5, 0.25) and math.isnan(shown["update_size"].values[2])

    def test_a_blow_up_before_is_the_root_cause(self, judged):
        def loss(step):
            return 2.3 if step < 5 else 2.3 * 3.0 ** (step - 4) if step < 20 else NAN

        found = judged(steps=40, loss=loss)
        assert list(found) == ["R1", "R0"]
        assert found["R0"].lr_factor == pytest.approx(0.1)
        assert "the loss had risen from" in found["R0"].explanation

    def test_long_steps_before_are_the_likely_cause(self, judged):
        found = judged(
            steps=4, loss=lambda step: 2.3 if step < 2 else NAN, values={"update_ratio": lambda step: 5.0 + step}
        )
        assert found["R0"].lr_factor == pytest.approx(0.1)
        assert "6 times as long as the weights" in found["R0"].explanation

    def test_an_update_that_overflows_tells_of_its_length(self, judged):
        event = (0, "nonfinite", {"what": "update", "layer": "fc.weight", "sample": None})
        found = judged(
            steps=2,
            loss=lambda step: NAN if step else 2.3,
            values={"update_ratio": lambda step: math.inf, "update_size": lambda step: math.inf},
            events=[event],
        )["R0"]
        assert found.lr_factor == pytest.approx(0.1)
        assert "infinitely many times as long" in found.explanation
        gradient = (0, "nonfinite", {"what": "gradient", "layer": "fc.weight", "sample": None})
        found = judged(steps=1, values={"update_ratio": lambda step: math.inf}, events=[gradient])["R0"]
        assert found.lr_factor is None

    def test_bad_data_is_never_the_learning_rate(self, judged):
        event = (2, "nonfinite", {"what": "input", "layer": None, "sample": 3})
        found = judged(
            steps=4,
            loss=lambda step: 2.3 if step < 2 else NAN,
            values={"update_ratio": lambda step: 5.0},
            events=[event],
        )
        assert found["R0"].lr_factor is None

    def test_it_clears_after_three_finite_losses_and_stays_in_the_history(self, judged):
        made = {"steps": 100, "loss": lambda step: NAN if step == 70 else falling(step)}
        assert "R0" not in judged(**made)
        cleared = judged(history=True, **made)["R0"]
        assert (cleared.since, cleared.until) == (70, 99)

    def test_it_stands_while_the_steps_are_not_finite(self, judged):
        event = (70, "nonfinite", {"what": "parameter", "layer": "unused.weight", "sample": None})
        sizes = {"update_size": lambda step: 0.05 if step < 70 else NAN}
        assert "R0" in judged(steps=100, values=sizes, events=[event])
        assert "R0" not in judged(steps=100, events=[event])

    def test_a_second_episode_begins_anew(self, judged):
        found = judged(steps=92, loss=lambda step: NAN if step == 70 or step >= 90 else falling(step))["R0"]
        assert found.since == 90

    def test_events_tell_without_a_loss(self, judged):
        event = (50, "nonfinite", {"what": "gradient", "layer": "fc.weight", "sample": None})
        assert judged(events=[event], values={"loss": None})["R0"].since == 50


class TestNothingMoves:
    @pytest.mark.parametrize(
        ("rate", "values", "words"),
        [
            (0.0, {}, "the learning rate is 0"),
            (0.1, {"grad_norm": lambda step: 0.0}, "every gradient is 0"),
            (0.1, {"grad_norm_clipped": lambda step: 0.0}, "when the optimizer sees them"),
            (1e-12, {}, "the steps are lost"),
        ],
    )
    def test_it_says_why(self, judged, rate, values, words):
        found = judged(rate=rate, values={**STILL, **values})
        assert next(iter(found)) == "F0"
        assert found["F0"].severity == "error"
        assert words in found["F0"].title
        assert not set(found) & {"R2", "R3", "R3b", "R4"}

    def test_a_schedule_that_ended_is_a_warning_with_its_step(self, judged):
        found = judged(
            steps=100,
            rate=lambda step: 0.1 if step < 60 else 0.0,
            values={"update_size": lambda step: 0.05 if step < 60 else 0.0},
        )["F0"]
        assert (found.severity, found.since) == ("warning", 60)
        assert "has gone to 0" in found.title

    def test_the_first_step_of_a_warm_up_from_zero_is_no_fault(self, judged):
        assert "F0" not in judged(values={"update_size": lambda step: 0.05 * step})

    def test_four_steps_are_too_few(self, judged, reasons):
        assert "F0" not in judged(steps=4, values=STILL)
        assert "4 steps tracked; 5 are needed" in reasons(steps=4, values=STILL)["F0"]


class TestTensorsThatStandStill:
    def test_they_are_named(self, judged):
        found = judged(layers=SIZES)["F9a"]
        assert "first.bias" in found.title
        assert "first.weight" not in found.title
        assert found.severity == "warning"

    def test_their_beginning_is_found(self, judged):
        sizes = {"update_size": lambda step: (0.05, 0.01 if step < 33 else 0.0, 0.05)}
        assert judged(steps=100, layers=sizes)["F9a"].since == 33
        never = {**SIZES, "distance": lambda step: (0.01 * step, 0.0, 0.01 * step)}
        assert judged(steps=100, layers=never)["F9a"].since == 0

    @pytest.mark.parametrize("gradient", [0.0, NAN])
    def test_not_without_a_gradient(self, judged, gradient):
        assert "F9a" not in judged(layers={**SIZES, "grad_norm": lambda step: (0.5, gradient, 0.8)})

    def test_not_after_one_move(self, judged):
        assert "F9a" not in judged(layers={"update_size": lambda step: (0.05, float(step == 50), 0.05)})

    def test_a_group_at_rate_zero_is_a_note(self, judged):
        rates = {"learning_rate": lambda step: (0.1, 0.0, 0.1)}
        assert judged(layers={**SIZES, **rates})["F9a"].severity == "info"

    def test_not_before_twenty_steps(self, judged, reasons):
        assert "F9a" not in judged(steps=19, layers=SIZES)
        assert "20 steps in all" in reasons(steps=19, layers=SIZES)["F9a"]

    def test_it_silences_too_small(self, judged):
        short = {"same": -0.995, "after": -0.99}
        assert "R3" in judged(**short)
        assert "R3" not in judged(**short, layers=SIZES)


class TestParametersWithoutGradient:
    def test_they_are_named(self, judged):
        found = judged(events=[parameters(no_gradient=["unused.weight", "unused.bias"])])["F9b"]
        assert "unused.weight and unused.bias" in found.title
        assert found.severity == "warning"

    def test_it_is_less_sure_at_first(self, judged):
        event = parameters(no_gradient=["unused.weight"])
        assert judged(steps=2, events=[event])["F9b"].confidence < judged(events=[event])["F9b"].confidence

    def test_not_those_that_take_turns(self, judged):
        events = [parameters(no_gradient=["a"]), parameters(1, no_gradient=["b"]), parameters(2, no_gradient=["a"])]
        assert "F9b" not in judged(events=events)

    def test_not_frozen_ones(self, judged):
        assert "F9b" not in judged(events=[parameters(no_gradient=["a"], frozen=["a"])])

    def test_not_later_ones_that_had_one(self, judged):
        assert "F9b" not in judged(events=[parameters(), parameters(9, no_gradient=["a"])])

    def test_a_run_without_the_event_is_unjudged(self, judged, reasons):
        assert not set(judged(events=[])) & {"F9b", "F9c"}
        assert {"F9b", "F9c"} <= set(reasons(events=[]))


class TestParametersNotInTheOptimizer:
    def test_some_left_out_are_a_note_after_the_verdict(self, judged):
        found = judged(events=[parameters(not_in_optimizer=["critic.weight"])])
        assert list(found) == ["R4", "F9c"]
        assert found["F9c"].severity == "info"
        assert "critic.weight" in found["F9c"].title

    def test_a_replaced_part_is_a_warning(self, judged):
        found = judged(events=[parameters(not_in_optimizer=["head.weight", "head.bias"], foreign=2)])
        assert found["F9c"].severity == "warning"
        assert "replaced" in found["F9c"].explanation

    def test_others_in_the_optimizer_are_a_note(self, judged):
        assert judged(events=[parameters(foreign=4)])["F9c"].severity == "info"

    def test_it_clears_when_they_are_added(self, judged):
        events = [parameters(not_in_optimizer=["head.weight"]), parameters(30)]
        assert "F9c" not in judged(events=events)
        assert judged(history=True, events=events)["F9c"].until == 30


class TestWrongSign:
    def test_steps_that_go_uphill(self, judged):
        found = judged(same=-1.05, after=-1.05, uphill=lambda step: True, loss=lambda step: 2.3 * 1.1**step)
        assert next(iter(found)) == "F1"
        assert found["F1"].lr_factor is None
        assert not set(found) & {"R1", "R3"}

    def test_a_third_uphill_is_momentum(self, judged):
        assert "F1" not in judged(family="momentum", uphill=lambda step: step % 15 == 0)

    def test_uphill_but_ending_lower_is_no_wrong_sign(self, judged):
        assert "F1" not in judged(same=1.5, uphill=lambda step: True)


class TestNoSignal:
    def test_steps_that_help_only_their_own_batch(self, judged):
        found = judged(**FLAT)
        assert next(iter(found)) == "F2"
        assert "(median of the last 10 losses) now" in found["F2"].explanation
        assert found["F2"].lr_factor is None
        assert "R3" not in found

    def test_small_steps_that_help_every_batch_are_small(self, judged):
        found = judged(**{**FLAT, "after": -0.95})
        assert "F2" not in found
        assert "R3" in found

    def test_not_when_the_loss_falls(self, judged):
        assert "F2" not in judged(**{**FLAT, "loss": falling})

    def test_not_while_the_rate_rises(self, judged, reasons):
        warm = {**FLAT, "steps": 50, "rate": lambda step: 0.002 * (step + 1)}
        assert "F2" not in judged(**warm)
        assert "rises" in reasons(**warm)["F2"]

    def test_not_by_steps_from_the_warm_up(self, judged, reasons):
        warm = {**FLAT, "steps": 150, "rate": lambda step: 0.001 * min(step + 1, 100)}
        assert "F2" not in judged(**warm)
        assert "warm-up" in reasons(**warm)["F2"]

    def test_not_in_the_first_steps_of_small_batches(self, judged):
        few = {"values": {"batch_size": lambda step: 8.0}}
        assert "F2" not in judged(**{**FLAT, "steps": 100, **few})
        assert "F2" in judged(**{**FLAT, "steps": 110, **few})

    def test_not_in_the_first_steps_of_weights_that_begin_at_zero(self, judged):
        zero = {"layers": {"weight_std": lambda step: (0.1, 0.1, 0.0 if step == 0 else 0.01)}}
        assert "F2" in judged(**{**FLAT, "steps": 50})
        assert "F2" not in judged(**{**FLAT, "steps": 50, **zero})
        assert "F2" in judged(**{**FLAT, **zero})

    @pytest.mark.parametrize(
        ("function", "readings"),
        [
            ("cross_entropy", {"classes": lambda step: 20.0}),
            ("mse_loss", {"target_std": lambda step: 1.8, "target_mean": lambda step: 0.0}),
        ],
    )
    def test_not_of_a_model_that_was_trained_before(self, judged, function, readings):
        asked = {"functions": [function], "factor": 1.0, "summed": False, "crossed": None}
        events = [parameters(), (0, "loss_functions", asked)]
        assert "F2" not in judged(**{**FLAT, "values": readings, "events": events})
        fewer = {name: lambda step, give=give: give(step) * 0.55 for name, give in readings.items()}
        assert "F2" in judged(**{**FLAT, "values": fewer, "events": events})


class TestBlowUp:
    @staticmethod
    def spike(height, back):
        return lambda step: 2.3 if step < 4 else height if step < 8 else back

    def test_one_that_lasts_is_an_error(self, judged):
        found = judged(steps=100, loss=self.spike(30.0, 4.0))
        assert list(found) == ["R1"]
        assert (found["R1"].severity, found["R1"].since) == ("error", 4)
        assert found["R1"].lr_factor == pytest.approx(0.1)
        assert found["R1"].confidence > 0.95
        assert "diverged" in found["R1"].title
        assert "0.01 instead of 0.1" in found["R1"].suggestion
        assert "the best learning rate was 0.009 to 0.39 times theirs" in found["R1"].suggestion
        assert found["R1"].suggestion.endswith(": here 0.0009 to 0.039.")

    def test_the_loss_of_now_is_said_to_be_a_median(self, judged):
        found = judged(steps=100, values={"loss": lambda step: 7.9 if step == 99 else self.spike(30.0, 4.0)(step)})[
            "R1"
        ]
        assert "later it was 4 (median), and it is 4 (median of the last 10 losses) now." in found.explanation
        assert found.evidence[-1].values == (7.9,)

    def test_one_that_stays_where_it_began_has_not_come_back(self, judged):
        found = judged(steps=100, loss=self.spike(30.0, 2.3))["R1"]
        assert found.severity == "error"
        assert "did not come back" in found.title

    def test_one_that_recovers_is_a_warning(self, judged):
        found = judged(steps=100, loss=self.spike(30.0, 1.0))["R1"]
        assert (found.severity, found.lr_factor) == ("warning", 0.5)
        assert "eight of ten" not in found.suggestion  # those numbers are of runs that mostly did not recover
        assert 0.4 < found.confidence < 0.7

    def test_soon_after_the_peak_it_is_open(self, judged):
        found = judged(steps=15, loss=self.spike(30.0, 30.0))["R1"]
        assert found.severity == "warning"
        assert "Whether it comes back" in found.explanation

    def test_one_that_ends_in_nan_has_not_recovered(self, judged):
        assert judged(steps=15, loss=lambda step: self.spike(30.0, NAN)(step))["R1"].severity == "error"

    def test_one_that_training_has_left_far_behind_is_forgotten(self, judged):
        for family in ("sgd", "momentum", "other"):
            assert "R1" not in judged(steps=60, loss=self.spike(30.0, 0.2), family=family)
            assert "R1" in judged(steps=60, loss=self.spike(30.0, 0.3), family=family)
            assert "R1" in judged(steps=20, loss=self.spike(30.0, 0.2), family=family)
        assert "R1" in judged(steps=60, loss=self.spike(30.0, 0.2), family="adam")

    def test_it_is_remembered(self, judged):
        found = judged(steps=1100, loss=lambda step: 30.0 if step == 4 else 2.3 if step < 50 else 0.5)
        assert "R1" in found
        assert "R4" not in found

    def test_the_limit_counts_the_error_of_the_first_loss(self, judged):
        # 2.3 + 20 % + 8 · 0.8/√64 = 3.56
        assert "R1" in judged(steps=100, loss=self.spike(3.9, 2.3))
        assert "R1" not in judged(steps=100, loss=self.spike(3.3, 2.3))
        assert "R1" not in judged(steps=100, loss=self.spike(3.9, 2.3), spread=1.6)

    def test_without_that_error_it_takes_thrice_the_loss(self, judged):
        none = {"loss_std": None}
        assert "R1" not in judged(steps=100, loss=self.spike(6.0, 2.3), values=none)
        assert "R1" in judged(steps=100, loss=self.spike(8.0, 2.3), values=none)
        single = {"loss_std": lambda step: NAN}  # one sample in a batch
        assert "R1" in judged(steps=100, loss=self.spike(8.0, 2.3), values=single)

    def test_not_after_a_hundred_steps(self, judged):
        assert "R1" not in judged(steps=200, loss=lambda step: 30.0 if step == 150 else 2.3)

    def test_a_lucky_first_batch_is_no_blow_up(self, judged):
        def loss(step):
            return 1.0 if step == 0 else 3.1 if step == 40 else 1.8

        def spread(step):
            return 8 * (0.2 if step == 0 else 0.45)

        assert "R1" not in judged(steps=100, loss=loss, values={"loss_std": spread})
        # A true blow-up stands out from the noise, or moves the typical loss further.
        assert "R1" in judged(
            steps=100, loss=lambda step: 9.0 if step == 40 else loss(step), values={"loss_std": spread}
        )
        assert "R1" in judged(steps=100, loss=lambda step: 1.0 if step == 0 else 3.0, values={"loss_std": spread})

    def test_small_batches_may_have_a_low_first_one_and_a_high_one_later(self, judged):
        def loss(step):
            return 0.25 if step == 0 else 2.0 if step == 3 else 0.6

        few = {"batch_size": lambda step: 8.0, "loss_std": lambda step: 0.9 * loss(step)}
        for steps in (5, 30, 100):
            assert "R1" not in judged(steps=steps, loss=loss, values=few)
        many = {**few, "batch_size": lambda step: 64.0}
        assert "R1" in judged(steps=100, loss=loss, values=many)
        alike = {**few, "loss_std": lambda step: 0.3 * loss(step)}  # samples that differ less leave less to luck
        assert "R1" in judged(steps=100, loss=loss, values=alike)
        far = lambda step: 0.25 if step == 0 else 9.0  # noqa: E731
        for steps in (5, 100):
            assert "R1" in judged(steps=steps, loss=far, values={**few, "loss_std": lambda step: 0.9 * far(step)})

    def test_a_trained_model_has_a_few_samples_that_make_the_loss(self, judged):
        def loss(step):
            return 0.02 if step == 0 else 0.15 if step == 30 else 0.04

        asked = {"functions": ["cross_entropy"], "factor": 1.0, "summed": False, "crossed": None}
        trained = [parameters(), (0, "loss_functions", asked)]
        values = {"classes": lambda step: 10.0, "loss_std": lambda step: 2.8 * loss(step)}
        assert "R1" not in judged(
            steps=100, loss=loss, values={**values, "loss_std": lambda step: 2.8 * loss(step)}, events=trained
        )
        worse = lambda step: 0.02 if step == 0 else 2.3  # noqa: E731
        assert "R1" in judged(steps=100, loss=worse, values={**values, "loss_std": lambda step: 0.1}, events=trained)

    def test_a_negative_loss_is_judged_with_less_certainty(self, judged):
        found = judged(steps=100, loss=lambda step: -2.3 if step < 4 else 30.0)["R1"]
        assert found.severity == "warning"
        assert found.confidence < 0.8
        assert "not positive" in found.explanation
        assert "R1" not in judged(steps=100, loss=lambda step: -2.3 - step)

    @pytest.mark.parametrize("first", [NAN, 0.0])
    def test_a_first_loss_that_is_no_scale_leaves_it_unjudged(self, reasons, first):
        def loss(step):
            return first if step == 0 else 1.0

        assert "R1" in reasons(loss=loss, values={"loss_std": None})

    def test_it_silences_the_step_lengths(self, judged):
        found = judged(steps=100, loss=self.spike(30.0, 4.0), same=-0.999, after=-0.999)
        assert list(found) == ["R1"]


class TestLateDivergence:
    def test_a_loss_that_stays_up(self, judged):
        found = judged(steps=400, loss=lambda step: falling(step) if step < 300 else 9.0)
        assert next(iter(found)) == "R1b"
        assert (found["R1b"].severity, found["R1b"].since) == ("error", 300)

    def test_one_bad_batch_is_none(self, judged):
        assert "R1b" not in judged(steps=400, loss=lambda step: 9.0 if step == 395 else falling(step))

    def test_a_loss_below_where_it_began_is_none(self, judged):
        assert "R1b" not in judged(steps=400, loss=lambda step: falling(step) if step < 300 else 2.2)

    def test_it_waits_for_a_hundred_steps(self, judged, reasons):
        assert "after 100 steps" in reasons(steps=60)["R1b"]


class TestTooLarge:
    @pytest.mark.parametrize(("family", "after"), [("momentum", 0.8), ("adam", 0.5)])
    def test_steps_that_overshoot_early(self, judged, family, after):
        found = judged(**{**LARGE, "after": after}, family=family)["R2"]
        assert found.lr_factor == pytest.approx(1 / 3)
        assert 0.8 < found.confidence <= 0.9
        assert found.severity == "warning"
        assert "0.0333 instead of 0.1" in found.suggestion
        assert "eight of ten" in found.suggestion

    def test_never_for_steps_that_look_ahead(self, judged):
        assert "R2" in judged(**LARGE, family="adam", optimizer="AdamW")
        assert "R2" not in judged(**LARGE, family="adam", optimizer="NAdam")

    @pytest.mark.parametrize("family", ["sgd", "other"])
    def test_never_where_good_runs_overshoot(self, judged, family):
        assert "R2" not in judged(**LARGE, family=family)

    def test_both_readings_count_for_adam(self, judged):
        assert "R2" not in judged(**{**LARGE, "same": -0.1}, family="adam")
        assert "R2" not in judged(**{**LARGE, "after": -0.1}, family="adam")

    def test_not_below_the_limit(self, judged):
        assert "R2" not in judged(**{**LARGE, "after": 0.55}, family="momentum")
        assert "R2" not in judged(**{**LARGE, "same": -0.4}, family="momentum")

    def test_not_once_the_loss_has_fallen(self, judged):
        fast, slower = (lambda step, left=left: 2.3 * left ** (step / 45) for left in (0.01, 0.15))
        assert "R2" not in judged(**{**LARGE, "loss": fast}, family="adam")
        assert "R2" in judged(**{**LARGE, "loss": slower}, family="adam")
        assert "R2" not in judged(**{**LARGE, "after": 0.8, "loss": slower}, family="momentum")

    def test_not_when_the_noise_is_large(self, judged):
        assert "R2" not in judged(**{**LARGE, "after": 0.3}, family="adam", noise=1.5)

    def test_ten_measured_steps_are_needed(self, judged, reasons):
        made = {**LARGE, "family": "adam", "steps": 44}
        assert "R2" not in judged(**made)
        assert "10 measured steps are needed" in reasons(**made)["R2"]

    def test_it_stands_later_but_not_from_later_steps(self, judged):
        assert judged(**LARGE, family="adam", steps=600)["R2"].since == 0
        late = {"same": lambda step: 0.2 if step > 400 else -0.5, "after": lambda step: 0.8 if step > 400 else -0.4}
        assert "R2" not in judged(**{**LARGE, **late}, family="adam", steps=600)

    def test_it_goes_when_the_settings_change(self, judged):
        made = {**LARGE, "family": "adam", "steps": 600, "rate": lambda step: 0.1 if step < 200 else 0.02}
        assert "R2" not in judged(**made)
        assert judged(history=True, **made)["R2"].until is not None


class TestCouldBeSmaller:
    def test_a_note_where_a_fifth_of_such_runs_were_too_large(self, judged):
        found = judged(family="adam", same=0.2, after=-0.2)["R2b"]
        assert found.severity == "info"
        assert "0.059 to 0.39 times theirs (median 0.15): here 0.0059 to 0.039." in found.suggestion
        assert "R2b" not in judged(family="momentum", same=0.2, after=0.55)

    @pytest.mark.parametrize(("family", "same", "factor"), [("adam", 0.2, 0.15), ("momentum", 0.4, 0.39)])
    def test_the_factor_is_that_of_runs_that_read_alike_but_a_tenth_at_least(self, judged, family, same, factor):
        found = judged(family=family, same=same, after=0.55 if family == "momentum" else -0.2, noise=0.0)["R2b"]
        assert found.lr_factor == pytest.approx(factor)
        assert f"(÷{1 / factor:.3g})" in found.suggestion

    def test_not_in_the_range(self, judged):
        assert "R2b" not in judged(family="adam", same=-0.5, after=0.2)


class TestTooSmall:
    @pytest.mark.parametrize(
        ("family", "title", "factor", "severity"),
        [
            ("sgd", "Learning rate too small", 10.0, "warning"),
            ("momentum", "Learning rate too small", 10.0, "warning"),
            ("adam", "Learning rate too small", 5.0, "warning"),
            ("other", "Learning rate probably too small", 5.0, "warning"),
        ],
    )
    def test_steps_that_are_too_short(self, judged, family, title, factor, severity):
        found = judged(**SHORT, family=family)["R3"]
        assert (found.title, found.lr_factor, found.severity) == (title, factor, severity)
        assert [evidence.reading for evidence in found.evidence] == ["alpha_same", "alpha_next"]
        assert "cannot be told apart" in found.explanation
        assert "eight of ten" not in found.explanation
        assert ("judged like RMSprop" in found.explanation) == (family == "other")

    @pytest.mark.parametrize(
        ("family", "interval"), [("sgd", "1.7 to 28"), ("momentum", "0.66 to 73"), ("adam", "1.7 to 28")]
    )
    def test_the_advice_is_an_interval_with_its_odds(self, judged, family, interval):
        suggestion = judged(**SHORT, family=family)["R3"].suggestion
        assert "In eight of ten calibration runs" in suggestion
        assert suggestion.endswith(f": here {interval}.")

    @pytest.mark.parametrize(
        ("family", "same", "after"),
        [("sgd", -0.87, -0.78), ("momentum", -0.95, -0.93), ("adam", -0.955, -0.92), ("other", -0.87, -0.78)],
    )
    def test_the_limits_are_the_optimizers(self, judged, family, same, after):
        quiet = {"family": family, "noise": 0.0}
        assert "R3" in judged(**quiet, same=same - 0.002, after=after - 0.002)
        assert "R3" not in judged(**quiet, same=same + 0.002, after=after - 0.002)
        assert "R3" not in judged(**quiet, same=same - 0.002, after=after + 0.002)

    def test_near_the_limit_it_is_a_note(self, judged):
        found = judged(same=-0.88, after=-0.80, noise=0.02)["R3"]
        assert found.severity == "info"
        assert found.confidence < 0.5

    def test_the_factor_follows_the_step_length(self, judged):
        found = judged(same=-0.9, after=-0.88, noise=0.0)["R3"]
        assert found.lr_factor == pytest.approx(1.2 / 0.12)
        assert judged(family="momentum", same=-0.955, after=-0.94, noise=0.0)["R3"].lr_factor == pytest.approx(10.0)
        assert judged(family="sgd", same=-0.9, after=-0.79, noise=0.0)["R3"].lr_factor == pytest.approx(1.2 / 0.21)

    def test_five_measured_steps_suffice_and_four_do_not(self, judged, reasons):
        assert "R3" in judged(**SHORT, steps=21)
        assert "R3" not in judged(**SHORT, steps=20)
        assert "known for 4 steps; 5 are needed" in reasons(**SHORT, steps=20)["R3"]

    def test_a_momentum_far_from_the_calibrated_one_is_less_sure(self, judged):
        usual = judged(**SHORT, family="momentum", group={"momentum": 0.9})["R3"]
        heavy = judged(**SHORT, family="momentum", group={"momentum": 0.99})["R3"]
        assert heavy.confidence < usual.confidence
        assert "0.99" in heavy.explanation

    def test_not_with_steps_uphill(self, judged):
        assert "R3" not in judged(**SHORT, uphill=lambda step: step in (0, 5))

    def test_not_while_the_rate_rises(self, judged, reasons):
        made = {**SHORT, "rate": lambda step: 1e-4 * (step + 1)}
        assert "R3" not in judged(**made)
        assert "rises" in reasons(**made)["R3"]

    def test_a_stretch_in_the_warm_up_is_carried_over_to_the_peak(self, judged):
        def rate(step):
            return 0.001 * min(step + 1, 200)

        # Carried over by 200/38, a step length of -0.9 is -0.48, and one of -0.995 is -0.97.
        found = judged(same=-0.9, after=-0.9, noise=0.0, rate=rate, steps=400)
        assert list(found) == ["R4"]
        assert "which makes alpha_same" in found["R4"].explanation
        assert "R3" in judged(**SHORT, rate=rate, steps=400)

    def test_not_once_converged(self, judged, reasons):
        made = {**SHORT, "steps": 300, "loss": lambda step: 2.3 * 0.97**step}
        assert "R3" not in judged(**made)
        assert "short steps are natural" in reasons(**made)["R3"]
        gradient = {"grad_norm": lambda step: 1.0 if step < 200 else 1e-4}
        assert "R3" not in judged(**SHORT, steps=300, values=gradient)

    def test_not_while_the_rate_is_lowered_after_progress(self, judged):
        def rate(step):
            return 0.1 * (1 + math.cos(math.pi * step / 700)) / 2

        short_late = {"same": lambda step: -0.995 if step >= 500 else -0.2, "after": -0.99, "noise": 0.001}
        assert "R3" not in judged(**short_late, rate=rate, steps=600)
        # Without progress there is nothing to anneal.
        assert "R3" in judged(**short_late, rate=rate, steps=600, loss=lambda step: 2.3)

    def test_the_most_recent_stretch_is_judged(self, judged):
        late = judged(same=lambda s: -0.99 if s >= 500 else -0.2, after=-0.99, noise=0.0, steps=600)["R3"]
        assert late.since == 500
        better = judged(same=lambda s: -0.2 if s >= 500 else -0.99, after=-0.99, noise=0.0, steps=600)
        assert "R3" not in better

    def test_a_young_stretch_waits_for_its_fifth_step(self, judged):
        made = {"same": lambda s: -0.2 if s >= 500 else -0.99, "after": -0.99, "noise": 0.0}
        assert "R3" in judged(**made, steps=504)
        assert "R3" not in judged(**made, steps=505)

    def test_two_stretches_that_agree_are_surer(self, judged):
        made = {"same": -0.97, "after": -0.96, "noise": 0.001}
        once, twice = judged(**made)["R3"], judged(**made, steps=600)["R3"]
        assert once.confidence < 0.8 <= twice.confidence
        assert twice.since == 0

    def test_slopes_of_either_sign_on_the_next_batch_leave_it_sure(self, judged):
        """Late, the next batch's slopes at the start vary in sign; where each is kept to its end, steps are short."""

        def start(step):
            return 0.9 if step % 10 in (1, 4, 7) else -0.5

        values = {"slope_next_start": start, "slope_next_end": lambda step: 0.999 * start(step)}
        found = judged(same=-0.999, noise=0.0001, values=values)["R3"]
        assert found.confidence > 0.9

    def test_only_the_present_rate_is_judged(self, judged):
        def rate(step):
            return 1e-5 if step < 200 else 0.1

        made = {"same": lambda s: -0.2 if s >= 500 else -0.995, "after": lambda s: -0.1 if s >= 500 else -0.99}
        assert "R3" in judged(**made, steps=150, rate=rate)
        found = judged(**made, steps=600, rate=rate)
        assert list(found) == ["R4"]
        assert found["R4"].since == 500
        cleared = judged(history=True, **made, steps=600, rate=rate)["R3"]
        assert cleared.until is not None

    def test_other_settings_begin_a_new_judgement(self, reasons):
        made = {"events": [parameters(), (60, "settings", {"group": 0, "name": "momentum", "old": 0, "new": 0.9})]}
        assert "since the settings changed at step 60" in reasons(**SHORT, **made, steps=100)["R3"]

    def test_steps_that_go_nowhere_on_the_whole_are_unjudged(self, reasons):
        assert "do not go downhill" in reasons(uphill=lambda step: step >= 20)["R3"]

    def test_an_older_stretch_that_went_nowhere_does_not_matter(self, judged):
        found = judged(**SHORT, uphill=lambda step: 20 <= step < 500, steps=600)
        assert found["R3"].since == 500

    def test_without_the_slopes_it_says_why(self, judged, reasons):
        lost = dict.fromkeys(("slope_same_start", "slope_same_end", "alpha_same"))
        event = (0, "unavailable", {"reading": "alpha_same", "reason": "the batch could not be evaluated again"})
        assert not set(judged(**SHORT, values=lost)) & {"R3", "R4"}
        assert reasons(values=lost, events=[event])["R3"] == (
            "alpha_same was not recorded: the batch could not be evaluated again"
        )

    def test_a_slope_that_grows_along_the_step_is_less_sure(self, judged):
        usual, concave = (judged(same=same, after=-1.0)["R3"] for same in (-1.0, -1.3))
        assert concave.confidence < usual.confidence
        assert "even more steeply" in concave.explanation

    def test_a_negative_loss_asks_for_its_sign(self, judged):
        found = judged(**SHORT, loss=lambda step: -2.3 - step)["R3"]
        assert found.confidence < judged(**SHORT)["R3"].confidence
        assert "sign" in found.explanation

    def test_a_cosine_to_nothing_is_no_change_of_settings(self, judged):
        def rate(step):
            return 0.1 * (1 + math.cos(math.pi * step / 300)) / 2

        found = judged(steps=301, rate=rate, values={"update_size": rate})
        assert list(found) == ["R4"]
        assert found["R4"].since == 0

    def test_a_small_step_of_a_schedule_is_one(self, reasons):
        def rate(step):
            return 0.1 if step < 50 else 0.01 if step < 60 else 0.005

        assert "changed at step 60" in reasons(steps=100, rate=rate)["R4"]

    def test_under_maximize_the_readings_already_go_down(self, judged):
        found = judged(**SHORT, loss=lambda step: -1 - 0.001 * step, group={"maximize": True})
        assert "R3" in found
        assert not set(found) & {"F1", "R1", "R1b"}


class TestCouldBeLarger:
    def test_between_too_small_and_good(self, judged):
        found = judged(family="momentum", same=-0.92, after=-0.9)["R3b"]
        assert (found.severity, found.lr_factor) == ("info", 2.0)
        assert 0.2 <= found.confidence <= 0.6

    def test_not_where_the_steps_of_now_would_then_be_too_long(self, judged):
        grown = {"family": "momentum", "steps": 520, "after": -0.9}
        assert "R3b" in judged(**grown, same=lambda step: -0.92 if step < 50 else -0.5)
        assert "R3b" not in judged(**grown, same=lambda step: -0.92 if step < 50 else -0.04)

    def test_not_where_most_such_runs_were_good(self, judged):
        assert list(judged(family="sgd", same=-0.6, after=-0.5)) == ["R4"]


class TestInRange:
    @pytest.mark.parametrize(
        ("family", "same", "most"), [("sgd", 0.1, 0.72), ("momentum", -0.3, 0.83), ("adam", -0.5, 0.88)]
    )
    def test_no_surer_than_the_calibration(self, judged, family, same, most):
        found = judged(family=family, same=same, after=same + 0.1)["R4"]
        assert found.title == "Learning rate in range"
        assert most - 0.1 < found.confidence < most
        assert found.lr_factor is None

    def test_its_ends_are_named(self, judged):
        assert "lower end" in judged(same=-0.6, after=-0.5)["R4"].title
        assert "upper end" in judged(same=0.55, after=0.6)["R4"].title

    def test_noise_makes_it_no_verdict(self, judged):
        found = judged(family="adam", same=lambda step: -0.25 + (1 if step % 10 else -1), noise=0.0)["R4"]
        assert found.title == "No clear verdict on the learning rate"

    def test_far_beyond_the_range_it_is_no_verdict(self, judged):
        found = judged(same=1.3, after=1.4)["R4"]
        assert found.title == "No clear verdict on the learning rate"

    def test_the_start_is_what_the_range_was_fitted_to(self, judged):
        found = judged(same=lambda step: -0.2 if step < 50 else -0.6, steps=1100)["R4"]
        assert found.title == "Learning rate in range"
        assert found.since == 0

    def test_later_stretches_are_less_sure(self, judged):
        def rate(step):
            return 0.01 if step < 200 else 0.1

        late = judged(family="adam", same=-0.5, after=-0.4, rate=rate, steps=600)["R4"]
        assert late.confidence < judged(family="adam", same=-0.5, after=-0.4)["R4"].confidence
