"""What settings, graph and layers tell by themselves, what gives a loss its predictions, and what guessing costs."""

import math

import pytest
from faulty_runs import Judged
from made_runs import falling

STUCK = {"loss": lambda step: 2.3, "class_loss": lambda step: [2.3] * 10}
BUILT = {"narrow": None, "norm_values": None, "dropout": 0.0, "dropping": []}
ASKED = {"functions": ["cross_entropy"], "makers": {"cross_entropy": ["addmm"]}, "factor": 1, "weighted": False}
ONE_HOT = {"target_mean": lambda step: 0.1, "target_std": lambda step: 0.3}
GUESS = {"loss": lambda step: 2.3, "label_entropy": lambda step: 2.25}
SHORT = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def built(**changes):
    """Return an event on how the model is built."""
    return (0, "graph", {**BUILT, **changes})


def asked(**changes):
    """Return an event on what the loss asks for."""
    return (0, "loss_functions", {**ASKED, "summed": False, "crossed": None, **changes})


def made(by, loss="cross_entropy"):
    """Return an event on a loss whose predictions come out of a function."""
    return asked(functions=[loss], makers={loss: [by]})


class TestExchangedBetas:
    def adam(self, judged, *betas, optimizer="Adam"):
        return judged(family="adam", optimizer=optimizer, group={"betas": list(betas)})

    @pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "NAdam"])
    def test_they_are_told_by_the_settings(self, judged, optimizer):
        found = self.adam(judged, 0.999, 0.9, optimizer=optimizer)["F20"]
        assert (found.severity, found.since) == ("warning", 0)
        assert found.suggestion == "Set betas=(0.9, 0.999)."

    @pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95), (0.0, 0.99), (0.9, 0.9)])
    def test_the_usual_order_is_none(self, judged, betas):
        assert "F20" not in self.adam(judged, *betas)

    def test_other_optimizers_may_mean_something_else(self, judged):
        assert "F20" not in self.adam(judged, 0.99, 0.9, optimizer="Lion")


class TestHeavyMomentum:
    def test_it_is_a_note(self, judged):
        found = judged(family="momentum", group={"momentum": 0.999})["F20b"]
        assert found.severity == "info"
        assert "1,000 steps" in found.title

    @pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
    def test_usual_ones_are_none(self, judged, momentum):
        assert "F20b" not in judged(family="momentum", group={"momentum": momentum})


class TestStrongDropout:
    def test_it_is_told_by_the_layers(self, judged):
        found = judged(events=[built(dropout=0.97, dropping=["body.1"])])["F22"]
        assert found.severity == "warning"
        assert found.title == "Dropout drops 97 % of what layer body.1 is given"

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
    def test_usual_shares_are_none(self, judged, share):
        assert "F22" not in judged(events=[built(dropout=share, dropping=["body.1"])])

    @pytest.mark.parametrize("code", ["F22", "F23", "F24"])
    def test_without_a_look_at_the_model_it_says_so(self, judged, code):
        assert judged.reasons()[code] == "the run does not say how its model is built"


class TestSingleNumber:
    def test_it_is_a_note_while_training_goes_well(self, judged):
        assert judged(steps=200, events=[built(narrow="code.weight")])["F23"].severity == "info"

    def test_a_loss_that_does_not_fall_makes_it_a_warning(self, judged):
        found = judged(steps=200, events=[built(narrow="code.weight")], readings=STUCK)["F23"]
        assert found.severity == "warning"
        assert "code.weight" in found.title

    def test_a_model_that_does_not_narrow_has_none(self, judged):
        assert "F23" not in judged(steps=200, events=[built()], readings=STUCK)


class TestTinyNormBatches:
    def test_two_values_leave_the_sign(self, judged):
        found = judged(events=[built(norm_values=2)])["F24"]
        assert found.severity == "warning"
        assert "only the signs" in found.explanation

    @pytest.mark.parametrize(("count", "told"), [(4, True), (5, False), (64, False)])
    def test_few_are_told(self, judged, count, told):
        assert ("F24" in judged(events=[built(norm_values=count)])) == told


class TestBoundedScores:
    def test_a_sigmoid_is_told_with_its_floor(self, judged):
        found = judged(events=[made("sigmoid")])["F8f"]
        assert found.severity == "warning"
        assert "ln(1 + 9 / e) = 1.46" in found.explanation

    @pytest.mark.parametrize("maker", ["relu", "tanh"])
    def test_others_are_a_note_unless_training_suffers(self, judged, maker):
        assert judged(steps=200, events=[made(maker)])["F8f"].severity == "info"
        assert judged(steps=200, events=[made(maker)], readings=STUCK)["F8f"].severity == "warning"

    @pytest.mark.parametrize("maker", ["addmm", "add", "mul", ""])
    def test_scores_without_bounds_are_none(self, judged, maker):
        assert "F8f" not in judged(events=[made(maker)])

    def test_other_losses_may_take_them(self, judged):
        assert "F8f" not in judged(events=[made("sigmoid", loss="binary_cross_entropy")])

    def test_a_softmax_has_a_rule_of_its_own(self, judged):
        found = judged(events=[made("sigmoid")], readings={"probability_rows": lambda step: 1.0})
        assert "F8a" in found
        assert "F8f" not in found

    def test_without_what_made_them_it_says_so(self, judged):
        reasons = judged.reasons(events=[(0, "loss_functions", {"functions": ["cross_entropy"]})])
        assert reasons["F8f"] == "the run does not say what gives the loss its predictions"


class TestSquaredErrorOfClasses:
    def test_it_is_a_note_unless_training_suffers(self, judged):
        events = [made("softmax", loss="mse_loss")]
        assert judged(steps=200, events=events, readings=ONE_HOT)["F8g"].severity == "info"
        assert judged(steps=200, events=events, readings={**ONE_HOT, **STUCK})["F8g"].severity == "warning"

    @pytest.mark.parametrize(("mean", "std"), [(0.1, 0.2), (0.37, 0.4828), (0.0, 0.0)])
    def test_other_targets_are_none(self, judged, mean, std):
        readings = {"target_mean": lambda step: mean, "target_std": lambda step: std}
        assert "F8g" not in judged(events=[made("softmax", loss="mse_loss")], readings=readings)

    def test_scores_without_a_softmax_are_none(self, judged):
        assert "F8g" not in judged(events=[made("addmm", loss="mse_loss")], readings=ONE_HOT)


class TestGuessing:
    def test_a_loss_at_the_entropy_of_the_labels_is_told(self, judged):
        found = judged(steps=250, events=[asked()], readings=GUESS)["F2b"]
        assert (found.severity, found.lr_factor) == ("warning", None)
        assert (
            "(median of the last 20 losses)" in found.explanation and "the entropy of the labels" in found.explanation
        )

    def test_it_is_a_note_before(self, judged):
        assert judged(steps=150, events=[asked()], readings=GUESS)["F2b"].severity == "info"
        assert "F2b" in judged.reasons(steps=100, events=[asked()], readings=GUESS)

    def test_frequent_labels_make_guessing_cheaper(self, judged):
        rare = {"label_entropy": lambda step: 1.5}
        at_first = {**rare, "loss": lambda step: max(2.2 * 0.95**step, 1.55)}
        assert "F2b" in judged(steps=250, events=[asked()], readings=at_first)
        below = {**rare, "loss": lambda step: max(2.2 * 0.95**step, 1.4)}
        assert "F2b" not in judged(steps=250, events=[asked()], readings=below)

    def test_what_was_learnt_and_lost_is_something_else(self, judged):
        lost = {**GUESS, "loss": lambda step: falling(step) if step < 150 else 2.4}
        assert "F2b" not in judged(steps=300, events=[asked()], readings=lost)

    def test_targets_of_squared_error_are_a_note(self, judged):
        event = asked(functions=["mse_loss"], makers={})
        readings = {"loss": lambda step: 4.1, "target_std": lambda step: 2.0, "classes": None}
        assert judged(steps=250, events=[event], readings=readings)["F2b"].severity == "info"
        assert "F2b" not in judged(steps=250, events=[event], readings={**readings, "loss": lambda step: 3.5})

    def test_each_output_has_a_mean_to_guess(self, judged):
        event = asked(functions=["mse_loss"], makers={})
        targets = {"target_std": lambda step: 2.0, "target_mean": lambda step: 1.0, "target_each_std": lambda step: 1.0}
        falls = {"loss": lambda step: 4.5 if step < 20 else 1.0, "classes": None, **targets}
        assert "1" in judged(steps=250, events=[event], readings=falls)["F2b"].explanation
        learns = {**falls, "loss": lambda step: 4.5 if step < 20 else 0.9}
        assert "F2b" not in judged(steps=250, events=[event], readings=learns)
        other = {**falls, "loss": lambda step: 9.0 if step < 20 else 1.0}  # more than predictions of 0 cost
        assert "F2b" not in judged(steps=250, events=[event], readings=other)

    def test_too_short_steps_explain_it(self, judged):
        found = judged(steps=250, events=[asked()], readings={**GUESS, **SHORT})
        assert "R3" in found
        assert "F2b" not in found

    @pytest.mark.parametrize(
        "case", [{"factor": 2.0}, {"factor": None}, {"weighted": True}, {"functions": ["binary_cross_entropy"]}]
    )
    def test_other_losses_are_not_judged(self, judged, case):
        assert "F2b" in judged.reasons(steps=250, events=[asked(**case)], readings=GUESS)

    def test_few_labels_of_many_classes_are_not_judged(self, judged):
        few = {**GUESS, "labels": lambda step: 39.0}
        assert "labels for each class" in judged.reasons(steps=250, events=[asked()], readings=few)["F2b"]

    def test_a_loss_with_other_terms_is_left_alone(self, judged):
        terms = {**GUESS, "loss": lambda step: 5.0}
        assert "F2b" not in judged(steps=250, events=[asked()], readings=terms)


def test_weights_that_are_too_large_for_finite_numbers_come_before_what_they_led_to(judged):
    large = {"weight_std": lambda step: [1.0] * 6, "loss": lambda step: 2.3 if step < 4 else math.inf}
    assert judged(steps=60, readings=large)["F6b"].severity == "error"


def test_gradients_that_vanish_come_before_what_stands_still_by_them(judged):
    names = 12
    profile = [10.0 ** (index - names) for index in range(names)]
    still = {
        "grad_norm": lambda step: profile,
        "update_size": lambda step: [0.0] * 4 + [0.05] * (names - 4),
        "loss": lambda step: 2.3,
    }
    found = [code for code in judged(steps=200, readings=still) if code in ("F4a", "F9a")]
    assert found == ["F4a", "F9a"]
