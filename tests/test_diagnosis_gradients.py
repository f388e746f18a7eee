"""Gradients that are left over, clipped away or lost in 16-bit numbers, and the mode and settings of training."""

import pytest
from faulty_runs import Judged, row
from made_runs import falling

SHORT = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
STUCK = {"loss": lambda step: 2.3}
HALF = [(0, "dtypes", {"net.0": "float16", "net.10": "float32"})]

LEFT = {"stale_gradient": lambda step: 3.6 if step else 0.0}
CLIPPED = {"clip_factor": lambda step: 0.02}
ZEROS = {"zero_gradient": lambda step: [0.7] * 12}


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


class TestGradientsNotCleared:
    def test_they_are_an_error_that_explains_the_rest(self, judged):
        def loss(step):
            return 2.3 if step < 4 else 2.3 * 3.0 ** min(step, 30)

        found = judged(steps=100, readings={**LEFT, "loss": loss})
        assert next(iter(found)) == "F7"
        assert (found["F7"].severity, found["F7"].since) == ("error", 5)
        assert not set(found) & {"R1", "R1b", "R3", "R4"}

    def test_two_steps_suffice(self, judged):
        assert "F7" in judged(steps=11, readings={"stale_gradient": lambda step: 3.6 if step else None})
        assert "F7" not in judged(steps=6, readings=LEFT)
        assert "1 step; 2 are needed" in judged.reasons(steps=3, readings=LEFT)["F7"]

    def test_once_is_no_habit(self, judged):
        assert "F7" not in judged(readings={"stale_gradient": lambda step: 3.6 if step % 10 else 0.0})

    def test_hardly_anything_is_none(self, judged):
        assert "F7" not in judged(readings={"stale_gradient": lambda step: 0.01})

    def test_without_the_reading_it_says_so(self, judged):
        assert judged.reasons(readings={"stale_gradient": None})["F7"] == "stale_gradient was not recorded"


class TestClipping:
    def test_it_matters_where_steps_are_short(self, judged):
        found = judged(readings={**CLIPPED, **SHORT})
        assert found["F10"].severity == "warning"
        assert "2 % of its length" in found["F10"].title
        assert "as long as with 0.002" in found["F10"].explanation
        assert "R3" not in found

    def test_or_where_the_loss_does_not_fall(self, judged):
        assert judged(steps=200, readings={**CLIPPED, **STUCK})["F10"].severity == "warning"

    def test_else_and_under_adam_it_is_a_note(self, judged):
        assert judged(readings=CLIPPED)["F10"].severity == "info"
        found = judged(family="adam", readings={**CLIPPED, **SHORT})
        assert found["F10"].severity == "info"
        assert "R3" in found

    def test_now_and_then_or_a_little_is_usual(self, judged):
        assert "F10" not in judged(readings={"clip_factor": lambda step: 0.02 if step % 10 else 1.0})
        assert "F10" not in judged(readings={"clip_factor": lambda step: 0.31})

    def test_four_steps_are_too_few(self, judged):
        assert "5 are needed" in judged.reasons(steps=20, readings=CLIPPED)["F10"]


class TestHalfPrecision:
    def test_underflow_is_told(self, judged):
        found = judged(readings=ZEROS, events=HALF)["F19"]
        assert found.severity == "warning"
        assert "70 % of the gradient is exactly 0" in found.title

    def test_not_in_other_formats(self, judged):
        wide = [(0, "dtypes", {"net.0": "bfloat16"})]
        assert "F19" not in judged(readings=ZEROS, events=wide)
        assert "F19" in judged.reasons(readings=ZEROS)

    def test_not_where_one_layer_is_dead_or_few_are_zero(self, judged):
        assert "F19" not in judged(readings={"zero_gradient": lambda step: row(12, 0.1, _4=1.0)}, events=HALF)
        assert "F19" not in judged(readings={"zero_gradient": lambda step: [0.5] * 12}, events=HALF)

    @pytest.mark.parametrize(("count", "steps", "told"), [(16, 40, False), (60, 100, True), (60, 400, False)])
    def test_skipped_steps(self, judged, count, steps, told):
        events = [*HALF, (5, "skipped_step", {"count": 3}), (steps - 1, "skipped_step", {"count": count})]
        assert ("F19" in judged(steps=steps, events=events)) == told


class TestEvalMode:
    def test_it_is_told(self, judged):
        found = judged(events=[(12, "eval_mode", {})])["F16"]
        assert (found.severity, found.since, found.confidence) == ("warning", 12, 0.7)
        layers = [{"name": "norm", "class": "BatchNorm2d", "parameters": 4}]
        assert judged(events=[(12, "eval_mode", {})], model={"layers": layers})["F16"].confidence > 0.8

    def test_a_model_in_train_mode_is_left_alone(self, judged):
        assert "F16" not in judged()


class TestRateThatFallsEarly:
    def falls(self, gamma, floor=0.0):
        return {"learning_rate": lambda step: max(0.1 * gamma**step, floor)}

    def test_a_schedule_stepped_at_every_batch(self, judged):
        found = judged(steps=300, readings={**self.falls(0.9), **STUCK, **SHORT})
        assert found["F17"].severity == "warning"
        assert found["F17"].since == 44
        assert found["F17"].lr_factor is None
        assert "R3" not in found

    def test_it_is_a_note_where_the_loss_has_fallen(self, judged):
        fallen = {"loss": lambda step: max(falling(step) - 0.45, 0.3) if step < 200 else 0.3}
        assert judged(steps=300, readings={**self.falls(0.9), **fallen})["F17"].severity == "info"
        done = {"loss": lambda step: 2.3 * 0.9**step + 0.01}
        assert "F17" not in judged(steps=300, readings={**self.falls(0.9), **done})

    @pytest.mark.parametrize(
        "rate",
        [
            lambda step: 0.1 * (1 - step / 300),
            lambda step: 0.1 * 0.1 ** (step // 100),
            lambda step: 0.1 / (1 + step) ** 0.5,
            lambda step: 0.1 * min(1, step / 200),
            lambda step: 0.1 if step < 200 else 1e-5,
        ],
    )
    def test_schedules_that_end_with_the_run_are_left_alone(self, judged, rate):
        assert "F17" not in judged(steps=300, readings={"learning_rate": rate, **STUCK})

    def test_a_hundred_steps_are_waited_for(self, judged):
        assert "F17" not in judged(steps=140, readings={**self.falls(0.9), **STUCK})

    def test_nothing_moves_is_said_first(self, judged):
        def rate(step):
            return 0.1 if step < 20 else 0.0

        zero = {"learning_rate": rate, "update_size": lambda step: [rate(step)] * 12}
        found = judged(steps=300, readings={**zero, **STUCK})
        assert "F0" in found
        assert "F17" not in found


class TestWeightDecay:
    def shrinking(self, gamma=0.95, loss=2.3):
        """Weights of length 5 · gamma^step, with steps of a tenth of that."""
        return {
            "update_ratio": lambda step: [0.1] * 12,
            "update_size": lambda step: [0.5 * gamma**step] * 12,
            "loss": lambda step: loss * (0.98**step if loss < 2 else 1),
        }

    def test_weights_that_shrink_away(self, judged):
        found = judged(steps=200, group={"weight_decay": 1.0}, readings=self.shrinking())["F18"]
        assert found.severity == "warning"
        assert "less than 1 % of their length" in found.title

    def test_not_without_decay_nor_while_the_loss_falls(self, judged):
        assert "F18" not in judged(steps=200, readings=self.shrinking())
        assert "F18" not in judged(steps=200, group={"weight_decay": 1.0}, readings=self.shrinking(loss=1.9))

    def test_a_little_decay_does_not_shrink_them(self, judged):
        few = {"weight_decay": 1e-4}
        assert "F18" not in judged(steps=200, group=few, readings=self.shrinking())

    def test_decay_that_makes_up_the_step_of_adamw(self, judged):
        made = {"family": "adam", "optimizer": "AdamW", "steps": 200, "readings": self.shrinking(gamma=1.0)}
        assert "F18" in judged(group={"weight_decay": 0.6}, **made)
        assert "F18" not in judged(group={"weight_decay": 0.4}, **made)

    def test_l2_decay_against_the_gradient(self, judged):
        made = {"steps": 200, "readings": self.shrinking(gamma=1.0)}
        assert "F18" in judged(group={"weight_decay": 0.3}, **made)
        assert "F18" not in judged(group={"weight_decay": 0.1}, **made)

    def test_an_unknown_decay_is_unjudged(self, judged):
        assert judged.reasons(group={"weight_decay": None})["F18"] == "the weight decay is not known"
