"""Batches that repeat, and labels that are all of one class."""

import math

import pytest
from faulty_runs import CLASSES, Judged

NAN = math.nan


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


def prints(of):
    return {"input_fingerprint": lambda step: float(of(step))}


class TestSameBatch:
    def test_the_whole_data_at_each_step_are_a_note(self, judged):
        found = judged(steps=600, readings=prints(lambda step: 7))
        assert list(found) == ["F13", "R4"]
        assert (found["F13"].severity, found["F13"].since) == ("info", 0)

    def test_a_loader_that_gets_stuck(self, judged):
        found = judged(steps=1200, readings=prints(lambda step: min(step, 504)))["F13"]
        assert (found.severity, found.since) == ("warning", 504)

    def test_batches_that_come_in_pairs(self, judged):
        found = judged(steps=600, readings=prints(lambda step: step // 2))["F13"]
        assert found.severity == "warning"
        assert "% of the steps get the batch of the step before" in found.title

    def test_one_repetition_is_none(self, judged):
        assert "F13" not in judged(steps=600, readings=prints(lambda step: step if step != 505 else 504))

    def test_data_that_come_round_are_none(self, judged):
        assert "F13" not in judged(steps=600, readings=prints(lambda step: step % 7))
        # Every fifth step meets the same of five batches, but neighbours differ.
        assert "F13" not in judged(steps=600, readings=prints(lambda step: step % 5))

    def test_batches_without_elements_are_none(self, judged):
        assert "F13" not in judged(steps=600, readings=prints(lambda step: NAN))

    def test_four_steps_are_too_few(self, judged):
        assert "F13" not in judged(steps=20, readings=prints(lambda step: 7))
        assert "5 are needed" in judged.reasons(steps=20, readings=prints(lambda step: 7))["F13"]


class TestOneClassPerBatch:
    def labels(self, classes_of, count=CLASSES):
        """Batches that hold the classes which a function gives for the step, in equal parts."""

        def losses(step):
            return [2.0 if label in classes_of(step) else NAN for label in range(CLASSES)]

        return {
            "class_loss": losses,
            "label_entropy": lambda step: math.log(len(classes_of(step))),
            "classes": lambda step: float(count),
        }

    def test_sorted_data(self, judged):
        found = judged(readings=self.labels(lambda step: {step // 3 % 10}))["F14"]
        assert (found.severity, found.confidence) == ("warning", 0.9)
        assert "sorted" in found.title
        assert "shuffle=True" in found.suggestion

    def test_labels_that_are_all_the_same(self, judged):
        assert "All labels" in judged(readings=self.labels(lambda step: {4}))["F14"].title

    def test_mixed_batches_are_left_alone(self, judged):
        assert "F14" not in judged(readings=self.labels(lambda step: set(range(10))))
        assert "F14" not in judged(readings=self.labels(lambda step: {step % 10, (step + 3) % 10, (step + 6) % 10}))

    def test_rare_classes_are_an_imbalance_and_no_order(self, judged):
        rare = {**self.labels(lambda step: {0, 1}, count=2), "label_entropy": lambda step: 0.05}
        assert "F14" not in judged(readings=rare)
        rare = {**self.labels(lambda step: set(range(8))), "label_entropy": lambda step: 0.3}
        assert "F14" not in judged(readings=rare)

    def test_the_two_sides_of_a_gan_are_a_note(self, judged):
        assert judged(readings=self.labels(lambda step: {step // 5 % 2}, count=2))["F14"].severity == "info"
        assert "F14" not in judged(readings=self.labels(lambda step: {1}, count=2))

    def test_small_batches_and_many_classes_are_unjudged(self, judged):
        small = {**self.labels(lambda step: {4}), "batch_size": lambda step: 7.0}
        assert "F14" not in judged(readings=small)
        assert "8 samples" in judged.reasons(readings=small)["F14"]
        assert "F14" not in judged(readings={**self.labels(lambda step: {4}), "class_loss": lambda step: 2.0})

    def test_it_silences_the_learning_rate(self, judged):
        short = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
        assert "R3" not in judged(readings={**short, **self.labels(lambda step: {step // 3 % 10})})

    def test_without_the_reading_it_says_so(self, judged):
        assert judged.reasons(readings={"label_entropy": None})["F14"] == "label_entropy was not recorded"
