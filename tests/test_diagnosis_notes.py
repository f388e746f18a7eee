"""Notes on the late part of a run: balance of the layers, plateaus, spikes, the edge of stability; and on all rules."""

import numpy as np
import pytest
from faulty_runs import MODEL, FaultyRun, Judged, row
from made_runs import falling

from cockpitlite.diagnosis import diagnose, engine
from cockpitlite.store import RunWriter, load

FLAT = {
    "loss": lambda step: 2.3 * 0.97**step if step < 40 else 0.7 + 0.01 * ((step * 7) % 5),
    "slope_next_end": lambda step: 0.9,
}

NORMED = [
    layer
    for entry in MODEL["layers"]
    for layer in (entry, {"name": f"{entry['name']}n", "class": "LayerNorm", "parameters": 2})
]


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


class TestBalance:
    def test_layers_at_different_speeds(self, judged):
        found = judged(readings={"update_ratio": lambda step: row(12, 0.01, _4=5e-6)})
        assert list(found) == ["F11", "R4"]
        assert found["F11"].severity == "info"
        assert "net.4.weight" in found["F11"].explanation

    def test_a_layer_that_is_rewritten(self, judged):
        assert "is rewritten" in judged(readings={"update_ratio": lambda step: row(12, 0.01, _4=0.2)})["F11"].title

    @pytest.mark.parametrize("ratios", [row(12, 0.01, _4=2e-5), row(12, 0.01, _5=5.0), row(12, 0.01, _4=0.0)])
    def test_less_and_biases_and_what_stands_still_are_left_alone(self, judged, ratios):
        assert "F11" not in judged(readings={"update_ratio": lambda step: ratios})

    def test_it_waits_for_fifty_steps(self, judged):
        made = {"readings": {"update_ratio": lambda step: row(12, 0.01, _4=0.2)}}
        assert "F11" not in judged(steps=40, **made)
        assert "F11" in judged.reasons(steps=40, **made)


class TestEquilibrium:
    def made(self, ratio, **other):
        usual = {
            "steps": 300,
            "family": "adam",
            "optimizer": "AdamW",
            "group": {"weight_decay": 0.1},
            "model": {"layers": NORMED},
        }
        return {**usual, "readings": {"update_ratio": lambda step: [ratio] * 12}, **other}

    def test_weights_before_norms_that_hardly_move(self, judged):
        found = judged(**self.made(0.04))["F12"]  # √(2 · 0.1 · 0.1) = 0.141
        assert found.severity == "info"
        assert "0.141" in found.explanation

    def test_in_equilibrium_or_too_early_it_is_none(self, judged):
        assert "F12" not in judged(**self.made(0.05))
        assert "F12" not in judged(**self.made(0.04, steps=90))
        assert "100 steps" in judged.reasons(**self.made(0.04, steps=90))["F12"]

    def test_only_before_norms_and_under_adamw(self, judged):
        assert "F12" not in judged(**self.made(0.04, model=MODEL))
        assert "F12" not in judged(**self.made(0.04, optimizer="Adam"))


class TestPlateau:
    def test_a_loss_that_has_stopped_falling(self, judged):
        found = judged(steps=600, readings=FLAT)["R6"]
        assert (found.severity, found.lr_factor) == ("info", 0.3)

    def test_not_while_it_falls_or_has_not_fallen(self, judged):
        slow = {**FLAT, "loss": lambda step: 2.3 - 0.002 * step + 0.01 * ((step * 7) % 5)}
        assert "R6" not in judged(steps=600, readings=slow)
        assert "R6" not in judged(steps=600, readings={**FLAT, "loss": lambda step: 2.3 + 0.01 * ((step * 7) % 5)})

    def test_not_while_steps_help_the_next_batch(self, judged):
        assert "R6" not in judged(steps=600, readings={**FLAT, "slope_next_end": lambda step: -0.1})

    def test_not_once_converged_or_while_the_rate_is_lowered(self, judged):
        done = {**FLAT, "loss": lambda step: 2.3 * 0.9**step + 0.01}
        assert "R6" not in judged(steps=600, readings=done)
        lowered = {**FLAT, "learning_rate": lambda step: 0.1 * (1 - step / 700)}
        assert "R6" not in judged(steps=600, readings=lowered)

    def test_it_waits_for_two_hundred_steps(self, judged):
        assert "200 steps" in judged.reasons(steps=150, readings=FLAT)["R6"]

    def test_noise_is_named_where_it_is_known(self, judged):
        noisy = {"noise_trace": lambda step: 64 * 20.0, "grad_signal": lambda step: 1.0}
        found = judged(steps=600, readings={**FLAT, **noisy})
        assert "20 times the batch size of 64" in found["R5"].explanation
        assert "R6" not in found
        lost = {**noisy, "grad_signal": lambda step: -0.1}
        assert "lost in the noise" in judged(steps=600, readings={**FLAT, **lost})["R5"].explanation
        clear = {**noisy, "grad_signal": lambda step: 2.1}
        assert "R5" not in judged(steps=600, readings={**FLAT, **clear})


class TestSpikes:
    def jumps(self, *steps, height=4.0):
        random = np.random.default_rng(0)
        return {"loss": lambda step: falling(step) * (1 + 0.02 * random.normal()) * (height if step in steps else 1)}

    def test_one_is_only_noted(self, judged):
        found = judged(steps=300, readings=self.jumps(250))
        assert list(found) == ["R4", "R8"]
        assert (found["R8"].lr_factor, found["R8"].since) == (None, 250)

    def test_three_ask_for_clipping(self, judged):
        found = judged(steps=300, readings=self.jumps(220, 250, 280))["R8"]
        assert found.lr_factor == pytest.approx(0.5)
        assert "3 times" in found.title

    def test_noise_and_old_ones_are_none(self, judged):
        assert "R8" not in judged(steps=300, readings=self.jumps(250, height=1.4))
        assert "R8" not in judged(steps=400, readings=self.jumps(150))

    def test_fifty_losses_are_needed_and_positive_ones(self, judged):
        assert "50 steps" in judged.reasons(steps=50)["R8"]
        assert "not positive" in judged.reasons(readings={"loss": lambda step: -1.0})["R8"]


class TestEdge:
    @pytest.mark.parametrize(("ratio", "told"), [(1.1, True), (0.7, False), (1.6, False)])
    def test_it_is_a_note(self, judged, ratio, told):
        made = {"edge_of_stability": lambda step: ratio, "batch_size": lambda step: 1000.0}
        assert ("R7" in judged(readings=made)) == told

    def test_small_batches_and_young_averages_are_unjudged(self, judged):
        made = {"edge_of_stability": lambda step: 1.1, "batch_size": lambda step: 1000.0}
        assert "256" in judged.reasons(readings={**made, "batch_size": lambda step: 64.0})["R7"]
        young = {"family": "adam", "group": {"betas": [0.9, 0.999]}}
        assert "young" in judged.reasons(readings=made, **young)["R7"]


class TestAllRules:
    def test_a_healthy_run_has_one_note(self, judged):
        assert list(judged(steps=1100, history=True)) == ["R4"]

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_a_few_steps_are_silent(self, judged, steps):
        assert judged(steps=steps) == {}

    def test_a_run_that_was_resumed_is_silent(self, judged):
        assert list(judged(steps=700, first=5000)) == ["R4"]
        assert list(judged(steps=1100, events=[(300, "resume", {"from": 300})])) == ["R4"]

    def test_each_reading_may_be_all_nan(self, judged):
        names = [name for one in engine.RULES for name in one.needs]
        for name in dict.fromkeys(names):
            found = judged(steps=250, readings={name: lambda step: float("nan")})
            assert not [finding for finding in found.values() if finding.code not in ("R0", "R4", "R6")], name

    def test_a_note_on_a_fault_explains_nothing(self, judged):
        short = {"slope_same_end": lambda step: -0.999, "slope_next_end": lambda step: -0.99}
        whole = {"input_fingerprint": lambda step: 7.0}
        assert "R3" in judged(readings={**short, **whole})


class TestGrowingRuns:
    def test_what_is_read_again_agrees_with_what_is_read_afresh(self, tmp_path):
        path = tmp_path / "growing.cockpit"
        writer = RunWriter(path)
        run = None
        made = FaultyRun(readings=FLAT)
        random = np.random.default_rng(0)
        for step in range(1100):
            made._write_step(writer, step, random)
            if step % 37 == 0 or step in (50, 505, 511):
                writer.commit()
                run = run or load(path)
                assert diagnose(run) == diagnose(path)
        writer.close()

    def test_layers_that_change_are_read_again(self, tmp_path):
        path = tmp_path / "growing.cockpit"
        writer = RunWriter(path)
        run = None
        for step in range(100):
            names = ("a.weight", "b.weight") if step < 50 else ("a.weight", "b.weight", "c.weight")
            writer.layers("update_ratio", step, names, np.full(len(names), 0.2))
            writer.reading("loss", step, falling(step))
            writer.commit()
            if step in (45, 55, 99):
                run = run or load(path)
                assert diagnose(run) == diagnose(path)
        writer.close()
