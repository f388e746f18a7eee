"""Notes on the machine: it waits for its data, or its memory fills up."""

import math

import pytest
from faulty_runs import Judged

import cockpitlite

MB = 1e6
SLOW = {"samples_per_second": lambda step: 640.0, "batch_size": lambda step: 64.0}  # a tenth of a second for each step


@pytest.fixture
def judged(tmp_path):
    return Judged(tmp_path)


class TestWaiting:
    def test_more_than_half_of_the_time_is_a_note(self, judged):
        found = judged(readings={"data_wait": lambda step: 0.8, **SLOW})["F26"]
        assert found.severity == "info"
        assert "80 %" in found.title
        assert "5 times as fast" in found.explanation
        assert "num_workers" in found.suggestion
        assert found.lr_factor is None

    def test_all_of_the_time(self, judged):
        assert "100 %" in judged(readings={"data_wait": lambda step: 1.0, **SLOW})["F26"].title

    @pytest.mark.parametrize("share", [lambda step: 0.45, lambda step: 0.9 if step < 40 else 0.3])
    def test_less_or_no_more_is_none(self, judged, share):
        assert "F26" not in judged(steps=50, readings={"data_wait": share, **SLOW})

    def test_a_toy_may_take_as_long_for_its_batches_as_for_its_layers(self, judged):
        toy = {"samples_per_second": lambda step: 64_000.0, "batch_size": lambda step: 64.0}
        assert "F26" not in judged(readings={"data_wait": lambda step: 0.8, **toy})

    def test_it_says_what_is_missing(self, judged):
        assert "data_wait" in judged.reasons()["F26"]


class TestMemory:
    def test_a_straight_line_is_a_note(self, judged):
        found = judged(steps=200, readings={"memory": lambda step: 500 * MB + 0.5 * MB * step})["F27"]
        assert found.severity == "info"
        assert found.title == "Memory grows with every step: 500 MB in 1,000 steps"
        assert "loss.item()" in found.suggestion
        assert found.evidence[0].reading == "memory"

    @pytest.mark.parametrize(
        "memory",
        [
            lambda step: 500 * MB,
            lambda step: 500 * MB + min(step, 60) * MB,  # caches that are full then
            lambda step: 500 * MB + 0.05 * MB * step,  # too little
            lambda step: 50_000 * MB + 0.5 * MB * step,  # too little of so much
            lambda step: 500 * MB + 60 * MB * (step > 150),  # at once
            lambda step: 500 * MB - 0.5 * MB * step,
            lambda step: 500 * MB + 40 * MB * math.sin(step / 10),
        ],
    )
    def test_anything_else_is_none(self, judged, memory):
        assert "F27" not in judged(steps=200, readings={"memory": memory})

    def test_it_says_what_is_missing(self, judged):
        assert "8 readings" in judged.reasons(steps=9, readings={"memory": lambda step: MB})["F27"]


def test_a_training_whose_memory_grows(watch, run_path, monkeypatch):
    import torch
    from torch import nn

    from cockpitlite import meters

    model, kept = nn.Linear(10, 2), []
    monkeypatch.setattr(meters, "_resident_bytes", lambda: 500 * MB + len(kept) * MB)
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=1e-3), model, every=2)
    for _ in range(60):
        optimizer.zero_grad()
        kept.append(model(torch.randn(20, 10)).square().mean())
        kept[-1].backward()
        optimizer.step()
    optimizer.cockpit.close()
    found = {finding.code: finding for finding in cockpitlite.diagnose(run_path)}
    assert "1,000 MB in 1,000 steps" in found["F27"].title
