"""The benchmark of learning rates labels by results, fits without the problem it judges, goes on where it stopped."""

import dataclasses
import math
import operator
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import sheet
from rates import calibrating, judging, labels, report, run
from rates.limits import OFF, SHIPPED, Limits, Table, fit, verdicts
from rates.looking import Look, Said
from rates.methods import CONDITIONS, METHODS
from rates.problems import PROBLEMS, loss
from rates.run import known
from rates.training import Result
from rates.trial import DECADES, RATES, Outcome, Trial, perform

from cockpitlite.diagnosis import calibration


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def result(train, valid=math.nan, error=math.nan, begin=2.0):
    return Result(begin, train, valid, error)


def look(same=-0.5, after=-0.4, said=(), family="sgd", count=10, blow_up="none", left=0.6, rates=None):
    steps = tuple(range(0, 5 * count, 5))
    jitter = 1 + 0.01 * np.cos(np.arange(count))
    slopes = (-jitter, same * jitter, -jitter, after * jitter)
    findings = tuple(Said(code, severity, confidence, factor) for code, severity, confidence, factor in said)
    return Look(findings, family, steps, tuple(map(tuple, slopes)), rates or (1.0,) * count, blow_up, left)


def outcome(index=0, problem="logistic", method="sgd", train=1.0, seed=0, condition="plain", looks=None, **settings):
    trial = Trial(problem, method, condition, index, seed)
    return Outcome(trial, result(train, **settings), (2.0, 1.9), {}, {50: look()} if looks is None else looks)


def group(problem, method="sgd", good=(5, 6), lengths=None):
    """Return runs at all learning rates, of which the good ones end at 0.1 and the others at 1."""
    lengths = lengths or [-0.99] * 5 + [-0.5] * 7
    return [
        outcome(index, problem, method, 0.1 if index in good else 1.0, looks={50: look(length, length)})
        for index, length in enumerate(lengths)
    ]


class TestGrid:
    def test_the_rates_lie_around_the_guess(self):
        rates = [Trial("mlp-64", "rmsprop", "plain", index, 0).rate for index in range(RATES)]
        assert math.log10(rates[-1] / rates[0]) == pytest.approx(DECADES)
        assert math.sqrt(rates[0] * rates[-1]) == pytest.approx(PROBLEMS["mlp-64"].rates[2] * 0.3)
        assert rates == sorted(rates)

    def test_all_of_it_is_run_and_a_part_can_be_chosen(self):
        wanted = list(run.trials(run.arguments([])))
        assert len(wanted) == len(set(wanted))
        plain = len(PROBLEMS) * len(METHODS)
        other = sum(len(each.problems) * len(each.methods) for name, each in CONDITIONS.items() if name != "plain")
        assert len(wanted) == (plain + other) * RATES * 3
        assert len(list(run.trials(run.arguments(["--quick"])))) == 3 * 3 * RATES
        few = run.arguments(["--problems", "cnn", "--optimizers", "adam", "nesterov", "--seeds", "2"])
        assert len(list(run.trials(few))) == 2 * (2 + 1) * RATES  # plain with both, weight decay with Adam
        later = list(run.trials(run.arguments(["--first-seed", "1", "--seeds", "2"])))
        assert {trial.seed for trial in later} == {1, 2} and len(later) * 3 == len(wanted) * 2

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_every_problem_learns_from_a_batch(self, name):
        torch.manual_seed(0)
        problem = PROBLEMS[name]
        data, model = problem.samples(), problem.model()
        value = loss(model(data.inputs[:8]), data.targets[:8])
        value.backward()
        assert value.isfinite()
        assert all(parameter.grad is not None for parameter in model.parameters())


class TestLabels:
    def test_a_rate_is_good_by_any_of_three_results_and_the_band_has_no_holes(self):
        band = labels.band(
            {
                0.1: [result(2.0)],
                0.2: [result(1.0, valid=1.05)],
                0.4: [result(1.0)],
                0.8: [result(0.5)],
                1.6: [result(1.0, error=0.5)],
                3.2: [result(0.6, valid=1.0, begin=9.0)],
                6.4: [result(0.6)],
            }
        )
        assert (band.low, band.high, band.best) == (0.2, 3.2, 0.8)
        assert [band.label(rate, result(1.0)) for rate in (0.1, 0.4, 6.4)] == ["small", "good", "large"]
        assert not band.open

    def test_fewer_criteria_make_a_narrower_band(self):
        results = {0.1: [result(2.0, valid=1.0)], 0.2: [result(0.5)], 0.4: [result(1.0, error=0.2)]}
        assert labels.band(results).low == 0.1
        assert labels.band(results, ("train",)).high == 0.2

    def test_a_run_that_ends_above_its_start_diverged_wherever_its_rate_lies(self):
        band = labels.Band(0.1, 1.0, 0.5, (0.05, 2.0))
        assert band.label(0.5, result(2.2)) == "diverged"
        assert band.label(0.5, result(2.05)) == "good"
        assert band.label(5.0, result(math.inf)) == band.label(5.0, result(math.nan)) == "diverged"

    def test_seeds_are_averaged(self):
        results = {0.1: [result(1.0), result(1.0)], 0.2: [result(0.2), result(math.inf)], 0.4: [result(5.0)] * 2}
        assert labels.band(results, ("train",)).high == 0.1

    def test_numbers_have_no_error(self):
        results = {rate: [result(final)] for rate, final in ((0.1, 1.0), (0.2, 0.5))}
        assert labels.band(results, ("train", "error")).low == 0.2

    def test_distance_is_a_factor_beside_the_band(self):
        band = labels.Band(0.1, 1.0, 0.5, (0.05, 1.0))
        assert [band.distance(rate) for rate in (0.01, 0.3, 20.0)] == pytest.approx([10, 1, 20])
        assert band.open


class TestVerdicts:
    def test_limits_decide(self):
        table = Table.of([look(-0.99, -0.99), look(-0.99, -0.5), look(-0.5, -0.99), look(0.1, 0.3), look(0.1, 0.6)])
        some = {"sgd": Limits(-0.9, -0.9, 0.5)}
        assert list(verdicts(table, some)) == ["small", "good", "good", "good", "large"]
        assert list(verdicts(table, {"sgd": Limits(-0.9, -0.9, OFF)}))[-1] == "good"

    def test_what_guards_the_rules_guards_them_here(self):
        said = [("R1", "error", 0.9, 0.25)], [("F3", "warning", 0.9, None)], [("F3", "info", 0.9, None)]
        table = Table.of(
            [
                look(-0.99, -0.99, said=said[0]),
                look(-0.99, -0.99, said=said[1]),
                look(-0.99, -0.99, said=said[2]),
                look(-0.99, -0.99, count=4),
                look(-0.99, -0.99, left=0.01),
                look(0.1, 0.9, family="adam", left=0.02),
                look(0.1, 0.9, family="adam", left=0.2),
                look(0.1, 0.9, family="momentum", left=0.2),
                look(0.1, 0.9, family="momentum"),
            ]
        )
        expected = ["large", "good", "small", "good", "good", "good", "large", "good", "large"]
        assert list(verdicts(table, SHIPPED)) == expected

    def test_a_fault_that_asks_for_a_smaller_rate_says_too_large(self):
        killed = look(said=[("F3", "warning", 0.9, 0.25)])
        assert killed.verdict == "large"
        assert look(said=[("F3", "warning", 0.9, None)]).verdict == "good"
        assert look(said=[("F3", "info", 0.9, 0.25)]).verdict == "good"
        assert list(verdicts(Table.of([killed]), SHIPPED)) == ["large"]

    def test_a_warm_up_is_carried_over_to_the_rate_of_now(self):
        slow = look(-0.95, -0.95, rates=(0.1,) * 10)
        assert Table.of([slow]).same == pytest.approx(-0.5)
        assert list(verdicts(Table.of([slow]), SHIPPED)) == ["good"]

    def test_fitting_finds_what_parts_the_classes(self):
        lengths = [-0.99, -0.97, -0.95, -0.7, -0.6, 0.5]
        truth = np.array(["small"] * 3 + ["good"] * 2 + ["large"], dtype=object)
        table = Table.of([look(length, length, family="adam") for length in lengths])
        limits = fit(table, truth)
        assert -0.95 < limits["adam"].same < -0.7
        assert -0.6 < limits["adam"].large < 0.5
        assert list(verdicts(table, limits)) == list(truth)
        assert limits["sgd"] == SHIPPED["sgd"]

    def test_without_anything_to_find_nothing_is_called_too_large(self):
        table = Table.of([look(0.1, 0.3 + index / 10) for index in range(4)])
        assert fit(table, np.array(["good"] * 4, dtype=object))["sgd"].large == OFF


class TestJudging:
    def test_only_whole_sets_of_rates_are_judged(self):
        whole, part = group("cnn"), group("residual")[:-1]
        assert {run.trial.problem for run in judging.judged(whole + part)} == {"cnn"}

    def test_a_problem_is_judged_by_limits_that_it_had_no_part_in(self):
        usual = [-0.99] * 5 + [-0.5] * 7
        strange = [-0.6] * 5 + [-0.5] * 7
        runs = judging.judged(
            group("cnn", lengths=usual) + group("lstm", lengths=usual) + group("mlp-8", lengths=strange)
        )
        fitted, limits = judging.refitted(runs)
        small = {name: [r.said for r in fitted if r.trial.problem == name and r.label == "small"] for name in limits}
        assert small["mlp-8"] == ["good"] * 5
        assert small["cnn"] == ["small"] * 5
        assert limits["mlp-8"]["sgd"].same < -0.6 < limits["cnn"]["sgd"].same

    def test_measures(self):
        runs = judging.judged(group("cnn"))
        below, inside = ["small", "small", "large", "good", "small"], ["good", "small"]
        said = [*below, *inside, "good", "large", "large", "small", "large"]
        runs = [dataclasses.replace(run, said=word) for run, word in zip(runs, said, strict=True)]
        assert judging.accuracy(runs).words == "58.3% (7/12)"
        assert (judging.wrong_way(runs).part, judging.left_alone(runs).part, judging.left_alone(runs).whole) == (
            2,
            1,
            2,
        )
        assert judging.far_off(runs) == judging.Share(4, 6)
        assert judging.precision(runs, "small") == judging.Share(3, 5)
        assert [share.whole for share in judging.recall(runs, "large")] == [0, 1, 1, 3]
        assert judging.confusion(runs)["small"] == [3, 1, 1]

    def test_diverged_runs_should_be_called_too_large(self):
        runs = judging.judged(
            [dataclasses.replace(o, result=result(9.0)) if o.trial.index > 8 else o for o in group("cnn")]
        )
        assert [run.truth for run in runs if run.label == "diverged"] == ["large"] * 3

    def test_advice_helps_if_it_leads_nearer_to_the_good_rates(self):
        raised, lowered = [("R3", "warning", 0.95, 30.0)], [("R1", "error", 0.99, 0.25)]
        looks = [look(said=raised if index < 5 else lowered if index > 6 else ()) for index in range(RATES)]
        runs = judging.judged([dataclasses.replace(o, looks={50: looks[o.trial.index]}) for o in group("cnn")])
        assert judging.helped(runs) == judging.Share(9, 10)  # from just below the band, ×30 leads far beyond it
        assert judging.sureness(runs, "R3") == [(pytest.approx(0.95), judging.Share(5, 5), 1.0)]
        assert judging.sureness(runs, "R4") == []


class TestRuns:
    @pytest.mark.parametrize(("index", "label"), [(1, "small"), (11, "large")])
    def test_a_rate_far_off_is_named(self, index, label):
        found = perform(Trial("logistic", "sgd", "plain", index, 0))
        assert found.looks[50].verdict == label
        assert list(verdicts(Table.of([found.looks[50]]), SHIPPED)) == [label]
        assert Outcome.of(found.line()) == found

    @pytest.mark.parametrize("condition", ["schedule", "decay", "bf16"])
    def test_every_condition_trains(self, condition):
        found = perform(Trial("mlp-64", "momentum", condition, 6, 0))
        assert found.result.train < found.result.begin
        assert found.looks[50].verdict == "good"

    def test_an_interrupted_call_goes_on_where_it_stopped(self, tmp_path, monkeypatch, capsys):
        file, page = tmp_path / "rates.jsonl", tmp_path / "rates.md"
        lines = [each.line() for each in group("logistic")]
        lines[11] = perform(Trial("logistic", "sgd", "plain", 11, 0)).line()
        file.write_text("\n".join(lines[:11]) + "\n" + lines[11][:40], encoding="utf-8")
        assert len(known(file)) == 11
        monkeypatch.setattr(run, "processes", ThreadPoolExecutor)
        page.write_text(f"What was learnt.\n\n{sheet.MARK}\n\nold numbers\n", encoding="utf-8")
        chosen = [
            "--problems",
            "logistic",
            "--optimizers",
            "sgd",
            "--conditions",
            "plain",
            "--seeds",
            "1",
            "--jobs",
            "1",
        ]
        run.main([*chosen, "--results", str(file), "--write", str(page)])
        assert [trial.index for trial in known(file)] == list(range(RATES))
        assert known(file)[Trial("logistic", "sgd", "plain", 11, 0)].line() == lines[11]
        written = page.read_text(encoding="utf-8")
        assert "What was learnt." in written
        assert "old numbers" not in written
        assert "| constant learning rate | 12 | 1 | 1 | 1 |" in written
        assert "right verdicts" in capsys.readouterr().out
        monkeypatch.setattr(run, "perform", None)  # nothing is trained again
        run.main([*chosen, "--results", str(file), "--known"])


class TestCalibration:
    def test_the_shipped_tables_are_counted(self):
        runs = calibrating.kept()
        assert len(runs) == 2016
        for kind, shipped in calibration.TABLE.items():
            assert calibrating.rows(runs, kind) == [(row.below, row.counts, row.factor) for row in shipped]
            assert calibration.GOOD_IN_RANGE[kind] == operator.truediv(*calibrating.in_range(runs, kind))
        assert calibrating.courses(runs) == calibration.BLOW_UPS
        assert calibrating.totals(runs) == calibration.RUNS
        assert calibrating.blown(runs) == calibration.BLOW_UP_FACTOR
        for kind, shipped_next in calibration.NEXT.items():
            assert calibrating.after(runs, kind) == list(shipped_next)
            right, of = calibrating.if_large(runs, kind)
            assert calibration.RIGHT_IF_LARGE[kind] == (right + 0.5) / (of + 1)

    def test_runs_are_kept_as_they_were_judged(self, tmp_path):
        lengths = [-0.999, -0.96, -0.9, -0.8, -0.6, -0.4, -0.1, 0.1, 0.2, 0.5, 0.6, 0.7]
        calibrating.keep(group("cnn", lengths=lengths), tmp_path / "kept.csv")
        runs = calibrating.kept(tmp_path / "kept.csv")
        assert [run.same for run in runs] == pytest.approx(lengths, abs=1e-3)
        assert [run.truth for run in runs] == ["small"] * 5 + ["good"] * 2 + ["large"] * 5
        assert runs[5].factor == 1.0
        assert calibrating.courses(runs)["none"] == tuple(map(sum, zip((5, 2, 5), (297, 160, 35), strict=True)))


class TestReport:
    def test_other_conditions_alone_have_their_tables(self):
        warm = [dataclasses.replace(o, trial=dataclasses.replace(o.trial, condition="schedule")) for o in group("cnn")]
        titles = [found.title for found in report.sheets(warm)]
        assert any(title.startswith("Other conditions") for title in titles)
        assert not any("plain" in title for title in titles)


class TestSeeds:
    def test_another_seed_tells_the_class_where_both_are_the_same(self):
        other = [dataclasses.replace(o, trial=dataclasses.replace(o.trial, seed=1)) for o in group("cnn", good=(6, 7))]
        told = judging.told_by_another_seed([*group("cnn"), *other])
        assert judging.accuracy(told) == judging.Share(20, 24)
        assert judging.left_alone(told) == judging.Share(2, 4)
        assert judging.told_by_another_seed(group("cnn")) == []
