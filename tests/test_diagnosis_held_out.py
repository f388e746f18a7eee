"""Losses on held-out samples, where the script logs them: overfitting, and what is learnt by heart."""

import math

import pytest
from faulty_runs import Judged
from made_runs import falling

import cockpitlite
from cockpitlite.diagnosis.held_out import is_held_out_loss

NAMES = ["valid_loss", "val_loss", "val/loss", "loss/val", "validation-loss", "test_loss", "eval.loss", "dev_nll"]
NAMES += ["held_out_loss", "heldout_mse", "logged_valid_loss", "Loss (test)"]
BY_HEART = {"loss": lambda step: 2.3 * 0.97**step}


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def logged(*losses, name="valid_loss", every=40):
    """Return the readings of a run that logs these losses, one after the other."""
    at = dict(zip(range(every - 1, every * (len(losses) + 1), every), losses, strict=False))
    return {"steps": every * len(losses), "name": name, "value": at.get}


def look(judged, *losses, loss=falling, **options):
    made = logged(*losses, **options)
    return judged(steps=made["steps"], readings={made["name"]: made["value"], "loss": loss}).get("F25")


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_names_that_people_give(self, name):
        assert is_held_out_loss(name)

    @pytest.mark.parametrize(
        "name", ["loss", "train_loss", "valid_accuracy", "valid_score", "class_loss", "latest_loss"]
    )
    def test_other_names(self, name):
        assert not is_held_out_loss(name)


class TestRising:
    def test_it_is_a_note_with_the_step_of_the_lowest(self, judged):
        found = look(judged, 1.9, 1.5, 1.3, 1.5, 1.6)
        assert (found.severity, found.since) == ("info", 159)
        assert "lowest at step 119, 1.3, and is 1.6 now" in found.explanation
        assert "(median of the last 20 losses)" in found.explanation
        assert "weights of about step 119" in found.suggestion
        assert found.evidence[0].reading == "valid_loss"
        assert found.lr_factor is None

    def test_far_above_it_is_a_warning(self, judged):
        assert look(judged, 1.9, 1.0, 2.1, 2.2).severity == "warning"

    @pytest.mark.parametrize(
        "losses", [(1.9, 1.3, 1.35, 1.4), (1.9, 1.6, 1.3, 1.5), (1.9, 1.3, 1.6, 1.3), (1.9, 1.5, 1.3)]
    )
    def test_a_little_higher_or_once_or_falling_it_is_none(self, judged, losses):
        assert look(judged, *losses) is None

    def test_where_the_batches_rise_as_well_it_is_something_else(self, judged):
        assert look(judged, 1.9, 1.3, 1.6, 1.7, loss=lambda step: 1.2 if step < 80 else 1.6) is None

    def test_a_loss_that_is_a_sum_is_judged_by_its_course(self, judged):
        assert look(judged, 1900, 1300, 1900, 2300).severity == "info"


class TestLoggedAtEveryStep:
    noise = staticmethod(lambda step: 1 + 0.3 * math.sin(1000 * step))

    def found(self, judged, course, loss=falling, steps=400):
        readings = {"valid_loss": lambda step: course(step) * self.noise(step), "loss": loss}
        return judged(steps=steps, readings=readings).get("F25")

    def test_its_noise_is_not_judged(self, judged):
        falls = {"course": lambda step: 1.2 + 0.8 * 0.98**step, "loss": lambda step: 2.3 * 0.99**step}
        assert [self.found(judged, **falls, steps=steps) for steps in (100, 171, 242, 313)] == [None] * 4

    def test_its_course_is(self, judged):
        found = self.found(judged, lambda step: 1.0 + abs(step - 150) / 100, lambda step: 2.3 * 0.995**step)
        assert found.severity == "warning"
        assert found.since == pytest.approx(150, abs=30)
        assert "(median of the last 13 logged) now" in found.explanation


class TestByHeart:
    def test_a_large_gap_is_a_note(self, judged):
        found = look(judged, 0.9, 0.85, 0.84, 0.84, loss=BY_HEART["loss"])
        assert found.severity == "info"
        assert "learnt by heart" in found.title

    def test_a_small_rest_is_none(self, judged):
        assert look(judged, 0.3, 0.1, 0.09, 0.09, loss=BY_HEART["loss"]) is None

    def test_never_better_than_guessing_is_a_warning(self, judged):
        found = look(judged, 2.35, 2.5, 2.9, loss=BY_HEART["loss"])
        assert (found.severity, found.since) == ("warning", 39)
        assert "each label belongs to its input" in found.suggestion

    def test_where_little_was_learnt_it_is_a_note(self, judged):
        assert look(judged, 2.35, 2.5, 2.9, loss=lambda step: 2.2).severity == "info"

    def test_where_the_batches_are_no_better_there_is_nothing_to_carry_over(self, judged):
        assert look(judged, 2.35, 2.35, 2.35, loss=lambda step: 2.29) is None


class TestSilence:
    def test_it_says_what_is_missing(self, judged):
        assert "no loss on held-out samples was logged" in judged.reasons()["F25"]
        made = logged(1.9, 1.5)
        reasons = judged.reasons(steps=80, readings={"valid_loss": made["value"]})
        assert reasons["F25"] == "valid_loss was logged 2 times; 3 are needed"

    def test_losses_without_a_scale(self, judged):
        made = logged(-1.0, -2.0, -1.0)
        reasons = judged.reasons(steps=120, readings={"valid_loss": made["value"]})
        assert "no scale" in reasons["F25"]

    def test_what_is_not_finite_is_passed_over(self, judged):
        assert look(judged, 1.9, math.nan, 1.3, 1.7, math.inf, 1.8).severity == "info"


def test_it_is_found_in_a_training_that_logs(watch, run_path):
    import torch
    from torch import nn
    from torch.nn import functional

    inputs, labels = torch.randn(200, 8), torch.randint(0, 4, (200,))
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = watch(torch.optim.Adam(model.parameters(), lr=0.01), model, panel=["loss"])
    for step in range(200):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[:32]), labels[:32]).backward()
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                optimizer.cockpit.log(valid_loss=functional.cross_entropy(model(inputs[32:]), labels[32:]))
    optimizer.cockpit.close()
    found = {finding.code: finding for finding in cockpitlite.diagnose(run_path)}
    assert found["F25"].severity == "warning"
