"""The benchmark of advice: what it runs, what it keeps, and what it counts."""

import dataclasses
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import advice
import advised
import leading
from leading import Outcome, Trial


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def short(monkeypatch):
    problem = dataclasses.replace(leading.PROBLEMS["regression"], steps=60)
    monkeypatch.setitem(leading.PROBLEMS, "regression", problem)
    monkeypatch.setattr(leading, "MAPPINGS", 2)


def outcome(policy, rate, held_out, train=1.0, problem="mlp", optimizer="sgd", seed=0, said=()):
    return Outcome(Trial(problem, optimizer, rate, seed, policy), train, held_out, rate, said)


def test_trainings_start_over_four_and_a_half_decades():
    for rates in leading.RATES.values():
        assert len(rates) == 10
        assert max(rates) / min(rates) == pytest.approx(10**4.5, rel=0.01)


def test_everything_is_run_with_fixed_rates_too():
    wanted = advice.trials(advice.arguments(["--policies", "follow", "--seeds", "2", "--problems", "mlp", "cnn"]))
    assert len(wanted) == len(set(wanted)) == 2 * 2 * 3 * 10 * 2
    assert {trial.policy for trial in wanted} == {"keep", "follow"}


def test_a_sparse_run_still_spans_all_rates_and_compares_with_every_fixed_one():
    wanted = advice.trials(advice.arguments(["--sparse", "--seeds", "1", "--problems", "mlp", "--optimizers", "adamw"]))
    rates = {policy: [trial.rate for trial in wanted if trial.policy == policy] for policy in ("keep", "follow")}
    assert rates["keep"] == list(leading.RATES["adamw"])
    assert len(rates["follow"]) == 4
    assert (rates["follow"][0], rates["follow"][-1]) == (rates["keep"][0], rates["keep"][-1])


class TestTrainings:
    @pytest.mark.usefixtures("short")
    def test_the_same_trial_ends_the_same(self):
        for policy in leading.POLICIES:
            trial = Trial("regression", "momentum", 1e-3, 1, policy)
            assert leading.perform(trial) == leading.perform(trial)

    @pytest.mark.usefixtures("short")
    def test_who_follows_the_findings_leaves_a_rate_that_is_far_off(self):
        kept, followed = (leading.perform(Trial("regression", "sgd", 1e-3, 0, way)) for way in ("keep", "follow"))
        assert (kept.last, kept.said) == (1e-3, ())
        assert followed.last == pytest.approx(0.1)
        assert "too small" in followed.said[0]
        assert followed.train < kept.train

    @pytest.mark.usefixtures("short")
    def test_alpha_changes_the_rate_every_25_steps_by_ten_at_most(self):
        found = leading.perform(Trial("regression", "sgd", 1e-3, 0, "alpha"))
        factors = [float(line.partition("×")[2]) for line in found.said]
        assert len(factors) == 2
        assert all(1 / leading.MOST <= factor <= leading.MOST for factor in factors)
        assert found.last == pytest.approx(1e-3 * math.prod(factors), rel=0.01)

    @pytest.mark.usefixtures("short")
    def test_a_loss_that_is_no_number_is_infinite(self):
        assert leading.perform(Trial("regression", "sgd", 1e6, 0, "keep")).held_out == math.inf


class TestKept:
    def test_outcomes_are_read_as_they_were_written(self, tmp_path, monkeypatch, capsys):
        known = {one.trial: one for one in (outcome("keep", rate, 1.0, said=("a",)) for rate in leading.RATES["sgd"])}
        asked = []

        def perform(trial):
            asked.append(trial)
            return known[trial]

        monkeypatch.setattr(advice, "perform", perform)
        monkeypatch.setattr(advice, "processes", ThreadPoolExecutor)
        file = tmp_path / "advice.jsonl"
        options = ["--problems", "mlp", "--optimizers", "sgd", "--seeds", "1", "--policies", "keep"]
        options += ["--keep", str(file), "--write", str(tmp_path / "page.md"), "--jobs", "1"]
        advice.main(options)
        assert advice.kept(file) == known
        # The last line was cut off when somebody pulled the plug: only that trial is run again.
        last = list(advice.kept(file))[-1]  # trials end in any order
        file.write_text(file.read_text()[:-20])
        asked.clear()
        advice.main(options)
        assert asked == [last]
        assert advice.kept(file) == known
        assert "keep the start rate" in capsys.readouterr().out
        assert (tmp_path / "page.md").read_text().startswith("# What following the advice leads to")


class TestCounting:
    KEPT = (
        *(outcome("keep", 0.1, loss, train=0.2, seed=seed) for seed, loss in enumerate((0.4, 0.6))),
        *(outcome("keep", 1.0, loss, train=0.1, seed=seed) for seed, loss in enumerate((0.1, 2.0))),
    )

    def test_the_best_fixed_rate_is_that_of_the_least_mean_over_seeds(self):
        followed = outcome("follow", 10.0, 0.75, train=0.3)
        (*_, result) = advised.results([*self.KEPT, followed])
        assert (result.held_out, result.train) == (pytest.approx(1.5), pytest.approx(3.0))

    def test_a_divergence_counts_as_a_hundred_times(self):
        for loss in (math.inf, 1e9):
            (*_, result) = advised.results([*self.KEPT, outcome("follow", 10.0, loss)])
            assert result.held_out == 100.0

    def test_shares_and_mean(self):
        led = [outcome("follow", 10.0, 0.5 * ratio, seed=seed) for seed, ratio in enumerate((1.0, 1.5, 4.0, 16.0))]
        totals, *_, misses = advised.sheets([*self.KEPT, *led])
        (row,) = [row for row in totals.rows if row[:3] == ["**follow the findings**", "all", "all"]]
        assert row[3:] == ["4", "25%", "50%", "75%", "3.13×"]
        assert len(misses.rows) == 2

    def test_each_half_by_itself(self):
        other = [
            dataclasses.replace(one, trial=dataclasses.replace(one.trial, problem="autoencoder")) for one in self.KEPT
        ]
        totals, *_ = advised.sheets([*self.KEPT, *other])
        counts = {row[1]: row[3] for row in totals.rows if row[2] == "all"}
        assert counts == {"tuning": "4", "held out": "4", "all": "8"}

    def test_the_page_says_who_was_looked_at(self):
        other = [
            dataclasses.replace(one, trial=dataclasses.replace(one.trial, problem="autoencoder")) for one in self.KEPT
        ]
        page = advised.page([*self.KEPT, *other], "make advice")
        assert "results were looked at for MLP, digits." in page
        assert "**held out**: autoencoder (of each" in page
