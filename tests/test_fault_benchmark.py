"""The benchmark of faults runs, judges by results, and finds what the rules are known to find: its short form."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from diagnosis import judging, report, run
from diagnosis.faults import FAULTS
from diagnosis.healthy import HEALTHY, tasks
from diagnosis.programs import PROGRAMS
from diagnosis.training import Training
from diagnosis.trial import KINDS, Outcome, Said, Trial, perform
from diagnosis.untold import WOULD_TELL

EVERYWHERE = 3  # programs that a fault is done to, so that no rule learns one model

quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # of what is done wrong on purpose


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def outcome(kind, program="mlp", score=0.01, said=(), told=None, alarms=(), limit=None, level=1.0):
    findings = tuple(Said(code, severity, code, 0.9, 0, None) for code, severity in said)
    return Outcome(Trial(kind, level, program, 0), score, limit, findings, told or {}, tuple(alarms))


def judged(*arguments, bound=0.05, **settings):
    return judging.Judged(outcome(*arguments, **settings), bound)


class TestKinds:
    def test_there_are_enough(self):
        assert sum(len(kind.programs) >= EVERYWHERE for kind in FAULTS.values()) >= 40
        assert not FAULTS.keys() & HEALTHY.keys()
        wanted = [
            run.trials(run.arguments(["--faults", *faults, "--healthy", *healthy]))
            for faults, healthy in ((FAULTS, []), ([], HEALTHY))
        ]
        faulty, healthy = (len(list(trials)) for trials in wanted)
        assert healthy >= faulty

    def test_each_half_has_half_of_the_programs_and_nearly_every_fault(self):
        assert Counter(program.half for program in PROGRAMS.values()) == {"tuning": 3, "held out": 3}
        for half in report.HALVES:
            names = {name for name, program in PROGRAMS.items() if program.half == half}
            assert all(names & set(kind.programs) for kind in KINDS.values() if len(kind.programs) >= EVERYWHERE)

    def test_they_say_what_they_are(self):
        assert all(kind.what for kind in KINDS.values())
        assert all(kind.accepted for kind in FAULTS.values() if kind.breaks)
        assert not any(kind.accepted or kind.breaks for kind in HEALTHY.values())

    @quiet
    @pytest.mark.parametrize("name", KINDS)
    def test_they_train_in_every_program_they_are_for(self, name, monkeypatch):
        monkeypatch.setattr(tasks, "_pretrain", lambda training: None)
        kind = KINDS[name]
        torch.set_num_threads(1)
        for program in kind.programs:
            for level in kind.levels:
                training = kind.training(PROGRAMS[program], level, seed=0)
                training.steps = 2
                training.valid_inputs, training.valid_targets = training.valid_inputs[:8], training.valid_targets[:8]
                training.run()


class TestTraining:
    def test_the_same_seed_gives_the_same_numbers_watched_or_not(self, tmp_path):
        def score(seed, path=None):
            training = Training(PROGRAMS["regression"], seed)
            training.steps = 60
            return training.run(path)

        assert score(3) == score(3) == score(3, tmp_path / "run.cockpit")
        assert score(3) != score(4)


class TestDiagnosis:
    """Faults that leave no doubt, and healthy runs, in one program from one seed."""

    @pytest.mark.parametrize(
        ("name", "level", "program"),
        [
            ("rate-far-too-large", 1000, "mlp"),
            ("rate-too-small", 1e-3, "regression"),
            ("sign-of-loss-wrong", 2, "lstm"),
            ("sign-of-loss-wrong", 0, "regression"),
            ("step-never-called", 1, "regression"),
            ("weights-put-back", 1, "regression"),
            ("gradients-cleared-before-step", 0, "regression"),
            ("gradients-cleared-of-head-only", 1, "regression"),
            ("graph-cut-in-forward", 1, "regression"),
            ("head-replaced-after-optimizer", 1, "regression"),
            ("model-made-anew-after-optimizer", 1, "regression"),
            ("sample-not-a-number", 1, "regression"),
            ("adam-betas-swapped", 1, "regression"),
            ("dropout-far-too-strong", 0.97, "regression"),
            ("one-hidden-unit", 1, "regression"),
        ],
    )
    def test_a_fault_is_found_by_its_name(self, name, level, program):
        found = perform(Trial(name, level, program, 0))
        case = judging.Judged(found, 0.7)
        assert case.counts
        assert case.detected
        assert case.right_within(3), found.findings
        assert case.told is not None

    @pytest.mark.parametrize("name", ["usual", "cosine-to-zero", "dropout", "frozen-trunk"])
    def test_a_healthy_run_is_left_alone(self, name):
        found = perform(Trial(name, KINDS[name].levels[0], "mlp", 0))
        case = judging.Judged(found, 0.1)
        assert case.counts, found.score
        assert case.false_alarms == []

    def test_a_kept_run_is_diagnosed_again_and_not_trained(self, tmp_path, monkeypatch):
        trial = Trial("rate-too-small", 1e-3, "regression", 0)
        first = perform(trial, tmp_path)
        monkeypatch.setattr(Training, "run", None)
        assert perform(trial, tmp_path) == first


class TestJudging:
    def test_a_score_is_worse_beyond_chance(self):
        scores = [0.10, 0.12, 0.11, 0.09, 0.10, 0.11, 0.10, 0.12, 0.11, 0.10]
        assert max(scores) < judging.limit(scores) < 0.16
        assert judging.limit([1.0] * 9 + [1.0001]) == pytest.approx(1.05, rel=1e-3)

    def test_what_counts_comes_from_the_result_or_an_invariant(self):
        assert judged("rate-too-small", score=0.9).counts
        assert not judged("rate-too-small", score=0.01, said=[("R3", "warning")]).counts
        assert judged("gradients-never-cleared", score=0.01).counts
        assert judged("rate-too-small", score=float("nan")).counts
        assert judged("usual", score=0.01).counts
        assert not judged("usual", score=0.9).counts
        assert judged("usual", score=0.9, limit=1.0).counts

    def test_detected_is_less_than_the_right_cause(self):
        wrong = judged("sign-of-loss-wrong", said=[("R1", "error")])
        note = judged("sign-of-loss-wrong", said=[("R4", "info")])
        third = judged("sign-of-loss-wrong", said=[("R1", "error"), ("R4", "info"), ("F1", "info")], told={"F1": 20})
        assert (wrong.detected, wrong.right_within(3), wrong.told) == (True, False, None)
        assert not note.detected
        assert (third.detected, third.right_within(2), third.right_within(3), third.told) == (True, False, True, 20)
        tally = judging.Tally.of([wrong, note, third, judged("sign-of-loss-wrong", said=[("F1", "error")])])
        assert (tally.counted, tally.detected, tally.first, tally.third, tally.steps) == (4, 3, 1, 2, 20)
        assert tally.precision == pytest.approx(1 / 3)
        assert judging.instead([wrong, note, third]) == {"R1": 1, "R4·": 1}

    def test_notes_on_healthy_runs_are_no_alarms(self):
        assert judged("usual", said=[("R4", "info")]).false_alarms == []
        assert judged("usual", said=[("R2", "warning")]).false_alarms == ["R2"]
        assert judged("usual", alarms=["F2"]).live_alarms == ["F2"]


class TestTrials:
    @pytest.mark.parametrize(
        ("options", "faulty", "healthy"),
        [
            ([], 3 * 2, 6 * 2),
            (["--seeds", "2"], 2 * 2, 4 * 2),
            (["--healthy-seeds", "1"], 3 * 2, 2),
            (["--strongest"], 3, 6 * 2),
            (["--short"], 1, 1),
        ],
    )
    def test_they_are_of_every_seed_and_level_that_is_asked_for(self, options, faulty, healthy):
        chosen = ["--programs", "mlp", "--faults", "rectifiers-dead", "--healthy", "gradients-accumulated"]
        found = Counter(trial.kind for trial in run.trials(run.arguments([*chosen, *options])))
        assert found == {"rectifiers-dead": faulty, "gradients-accumulated": healthy}


class TestReport:
    def test_it_says_what_would_tell_of_a_fault_that_was_missed(self):
        missed = judged("far-too-few-samples", score=0.2, said=[("R4", "info")])
        page = report.page([missed], {"mlp": 0.05}, "the command", "A part of it.")
        assert "| far-too-few-samples | 100.0% (1) | The model is too small" in page
        found = judged("sign-of-loss-wrong", said=[("F1", "error")])
        assert "sign-of-loss-wrong" not in report.page([found], {"mlp": 0.05}, "", "").partition("Why, and")[2]

    def test_reasons_are_of_faults_that_there_are(self):
        assert WOULD_TELL.keys() <= FAULTS.keys()

    def test_misses_and_alarms_are_listed(self):
        runs = [
            judged("sign-of-loss-wrong", said=[("R1", "error")]),
            judged("sign-of-loss-wrong", "cnn", said=[("F1", "error")], told={"F1": 5}),
            judged("usual", said=[("F2", "warning")], alarms=["F2"]),
        ]
        page = report.page(runs, {"mlp": 0.05, "cnn": 0.06}, "the command", "A part of it.")
        assert "Made by `the command`. A part of it." in page
        assert "| sign-of-loss-wrong | 2 | 2 | 100.0% (2) | 50.0% (1) | 50.0% (1) | 5 | F1 | R1 1 |" in page
        assert "| sign-of-loss-wrong | 1 | mlp | 1/1 | 0.01 | R1 |" in page
        assert "| usual | 1 | 1 | 100.0% (1) | 100.0% (1) | F2 mlp 1 |" in page

    def test_one_command_prints_and_writes_it(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(judging, "REFERENCES", 3)
        page, numbers = tmp_path / "faults.md", tmp_path / "faults.json"
        chosen = ["--programs", "regression", "--faults", "rate-too-small", "--healthy", "usual", "--short"]
        run.main([*chosen, "--jobs", "1", "--json", str(numbers), "--write", str(page)])
        assert "rate-too-small" in capsys.readouterr().out
        assert "| rate-too-small | 1 | 1 |" in page.read_text(encoding="utf-8")
        saved = json.loads(numbers.read_text(encoding="utf-8"))
        assert [entry["trial"]["kind"] for entry in saved["outcomes"]] == ["rate-too-small", "usual"]
