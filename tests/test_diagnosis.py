"""The diagnosis as a whole: order, silence, history, what could not be judged, and runs that hardly are any."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import PARAMETERS, MadeRun, falling

import cockpitlite
from cockpitlite.diagnosis import Finding, calibration, diagnose, engine, thresholds, unjudged
from cockpitlite.diagnosis.light import light
from cockpitlite.diagnosis.readings import Readings
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.window import SLOPES, length, windows
from cockpitlite.diagnosis.words import (
    QUIET,
    describe,
    listed,
    measured,
    new_rate,
    number,
    percent,
    quiet,
    times,
    verdict,
)
from cockpitlite.store import RunFileError, RunWriter, load

NAN = math.nan
SEVERITIES = ("error", "warning", "info")

READINGS = ("loss", "loss_std", "batch_size", "learning_rate", "update_size", "update_ratio", "grad_norm", *SLOPES)

any_number = st.floats(allow_nan=True, allow_infinity=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.cockpit"


def codes(path, **options):
    return [finding.code for finding in diagnose(path, **options)]


class TestFront:
    def test_a_run_a_path_and_a_text_are_the_same(self, path):
        MadeRun().write(path)
        assert diagnose(load(path)) == diagnose(path) == diagnose(str(path)) == cockpitlite.diagnose(path)
        assert unjudged(load(path)) == unjudged(str(path))

    def test_what_is_no_run_is_an_error_of_load(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            diagnose(tmp_path / "none.cockpit")
        (tmp_path / "text.cockpit").write_text("no database, but long enough to be taken for one" * 30)
        with pytest.raises(RunFileError, match="not a cockpitlite run file"):
            diagnose(tmp_path / "text.cockpit")

    def test_a_finding_is_plain_data(self, path):
        MadeRun(steps=100, loss=lambda step: 2.3 if step < 4 else 30.0).write(path)
        (finding,) = diagnose(path)
        assert type(finding.confidence) is float
        assert type(finding.lr_factor) is float
        assert all(type(step) is int for evidence in finding.evidence for step in evidence.steps)
        assert all(type(value) is float for evidence in finding.evidence for value in evidence.values)
        assert json.loads(json.dumps(finding.to_dict()))["code"] == "R1"

    def test_it_needs_neither_torch_nor_matplotlib(self, path):
        MadeRun().write(path)
        program = (
            "import sys, cockpitlite.diagnosis.words; cockpitlite.diagnose(sys.argv[1]);"
            "print(*{name.split('.')[0] for name in sys.modules} & {'torch', 'matplotlib', 'dash'})"
        )
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
        assert done.stdout.strip() == ""


class TestOrder:
    def test_errors_then_warnings_then_notes(self, path):
        events = [
            (0, "parameters", {**PARAMETERS, "no_gradient": ["a"], "not_in_optimizer": ["b"]}),
            (80, "nonfinite", {"what": "loss", "layer": None, "sample": None}),
        ]
        MadeRun(steps=90, loss=lambda step: falling(step) if step < 80 else NAN, events=events).write(path)
        assert codes(path) == ["R0", "F9b", "F9c"]

    def test_a_blow_up_comes_before_the_nan_it_led_to_and_after_one_it_did_not(self, path, tmp_path):
        MadeRun(steps=60, loss=lambda step: 2.3 if step < 5 else 50.0 if step < 40 else NAN).write(path)
        assert codes(path) == ["R1", "R0"]
        parameter = (2, "nonfinite", {"what": "parameter", "layer": "a", "sample": None})
        made = MadeRun(
            steps=60,
            loss=lambda step: 2.3 if step < 5 else 50.0,
            events=[parameter],
            values={"update_size": lambda step: NAN},
        )
        assert codes(made.write(tmp_path / "other.cockpit")) == ["R0", "R1"]

    def test_what_a_rule_is_silenced_by_is_asked_before_it(self):
        asked: list[str] = []
        for one in engine.RULES:
            assert one.silenced_by - {"fault"} <= set(asked), f"{one.code} is asked too early"
            assert not (one.fault and any("fault" in two.silenced_by for two in engine.RULES if two.code in asked))
            asked.append(one.code)


class TestRegistry:
    def test_every_rule_is_documented_and_has_a_code_of_its_own(self):
        assert len({one.code for one in engine.RULES}) == len(engine.RULES) >= 14
        for one in engine.RULES:
            first, _, rest = one.documentation.partition("\n\n")
            assert first.endswith("."), one.code
            assert len(rest) > 60, one.code

    def test_every_threshold_says_where_it_comes_from(self):
        found = list(numbers(vars(thresholds).values()))
        assert len(found) > 40
        for threshold in found:
            assert len(threshold.provenance) > 5

    @pytest.mark.parametrize("one", [one for one in engine.RULES if one.needs], ids=lambda one: one.code)
    def test_a_rule_without_a_reading_it_needs_says_so(self, path, one):
        MadeRun(values=dict.fromkeys(one.needs), layers=dict.fromkeys(one.needs)).write(path)
        assert "was not recorded" in unjudged(path)[one.code]
        assert one.code not in codes(path)

    def test_a_new_rule_is_one_function(self, path, monkeypatch):
        @rule("X1", needs=("loss",), silenced_by=("R4",))
        def never_after_r4(readings):
            """Says something of its own."""
            return Finding("X1", "info", 1.0, "x", "y")

        @rule("X2", needs=("loss",))
        def always(readings):
            """Says something of its own."""
            return Finding("X2", "info", 1.0, "x", "y", since=readings.now)

        monkeypatch.setattr(engine, "RULES", (*engine.RULES, never_after_r4, always))
        MadeRun().write(path)
        assert codes(path) == ["X2", "R4"]


def numbers(things):
    """Yield the thresholds in a table of tables."""
    for thing in things:
        if isinstance(thing, thresholds.Threshold):
            yield thing
        elif isinstance(thing, thresholds.Pair):
            yield from (thing.same, thing.next)
        elif isinstance(thing, dict | tuple):
            yield from numbers(thing.values() if isinstance(thing, dict) else thing)


class TestHistory:
    def test_what_stands_is_the_same_with_and_without(self, path):
        MadeRun(steps=1100, same=lambda s: -0.995 if s < 600 else -0.2, after=-0.99, noise=0.001).write(path)
        standing, all_of_them = diagnose(path), diagnose(path, history=True)
        assert all_of_them[: len(standing)] == standing
        cleared = all_of_them[len(standing) :]
        assert [(finding.code, finding.since, finding.until) for finding in cleared] == [("R3", 0, 1009)]

    def test_each_time_is_an_entry_of_its_own(self, path):
        MadeRun(steps=120, loss=lambda step: NAN if step in (40, 80) else falling(step)).write(path)
        past = [finding for finding in diagnose(path, history=True) if finding.code == "R0"]
        assert [finding.since for finding in past] == [40, 80]
        assert all(finding.until is not None for finding in past)

    def test_a_healthy_run_has_none(self, path):
        MadeRun(steps=1100).write(path)
        assert codes(path, history=True) == ["R4"]


class TestRunsThatHardlyAreAny:
    def test_no_reading_at_all(self, path):
        RunWriter(path).close()
        assert diagnose(path) == diagnose(path, history=True) == []
        assert set(unjudged(path).values()) == {"no step has been recorded yet"}
        assert verdict([]) == QUIET

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_a_few_steps_are_not_judged_by_their_length(self, path, steps):
        MadeRun(steps=steps, same=-1.0, after=-1.0).write(path)
        assert diagnose(path) == []
        assert "5 are needed" in unjudged(path)["R3"]
        assert "5 are needed" in unjudged(path)["R4"]

    def test_one_that_died_in_its_first_step(self, path):
        event = (0, "nonfinite", {"what": "forward", "layer": "conv1", "sample": 3})
        MadeRun(steps=1, loss=lambda step: NAN, events=[event], meta={"status": "stopped"}).write(path)
        (finding,) = diagnose(path)
        assert finding.code == "R0"
        assert finding.title == "Non-finite values since step 0, first in the output of conv1"
        assert "not a finite number" in unjudged(path)["R1"]

    def test_one_that_blew_up_in_its_second(self, path):
        MadeRun(steps=2, loss=lambda step: 2.3 * 1000**step).write(path)
        (finding,) = diagnose(path)
        assert finding.code == "R1"

    def test_only_a_loss(self, path):
        with_loss = dict.fromkeys(("loss",))
        writer = RunWriter(path)
        for name in with_loss:
            writer.readings(name, ((step, falling(step)) for step in range(200)))
        writer.close()
        assert diagnose(path) == []
        assert {"R1", "R1b"}.isdisjoint(unjudged(path))
        assert {"R3", "F0"} <= set(unjudged(path))

    def test_a_resumed_one_in_the_same_file(self, path):
        events = [(0, "start", {}), (300, "resume", {"from": 300})]
        MadeRun(steps=600, events=events).write(path)
        assert codes(path) == ["R4"]

    def test_a_resumed_one_that_begins_late(self, path):
        MadeRun(steps=700, first=5000, same=-0.995, after=-0.99).write(path)
        (finding,) = diagnose(path)
        assert finding.code == "R3"
        assert finding.since == 5000

    def test_a_live_one_is_judged_as_far_as_it_has_come(self, path):
        MadeRun(steps=600, same=lambda step: -0.995 if step >= 500 else -0.2, after=-0.99).write(path)
        then = Readings(load(path)).at(499)
        assert [finding.code for finding in engine.judge(then).findings] == ["R4"]

    @pytest.mark.parametrize("meta", [{}, {"optimizer": None}, {"optimizer": {"family": "???", "groups": ["?"]}}])
    def test_an_optimizer_nobody_knows(self, path, tmp_path, meta):
        writer = RunWriter(tmp_path / "without.cockpit")
        writer.meta(**meta)
        writer.close()
        MadeRun(same=-0.999, after=-0.999, noise=0.0, meta=meta or {"optimizer": {}}).write(path)
        assert diagnose(tmp_path / "without.cockpit") == []
        assert "judged like RMSprop" in diagnose(path)[0].explanation

    def test_without_a_learning_rate_it_is_that_of_the_optimizer(self, path):
        MadeRun(same=-0.999, after=-0.999, values={"learning_rate": None}, group={"lr": 3e-4}).write(path)
        assert "0.003 instead of 0.0003" in diagnose(path)[0].suggestion

    def test_with_no_learning_rate_known_the_factor_is_said(self, path):
        meta = {"optimizer": {"family": "sgd"}}
        MadeRun(same=-0.999, after=-0.999, values={"learning_rate": None}, meta=meta).write(path)
        assert "the present one ×10" in diagnose(path)[0].suggestion
        assert diagnose(path)[0].suggestion.endswith("(median 110).")

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        seed=st.integers(0, 2**32 - 1),
        steps=st.integers(1, 60),
        family=st.sampled_from(["sgd", "momentum", "adam", "other"]),
        names=st.sets(st.sampled_from(READINGS)),
        numbers=st.lists(any_number, min_size=1, max_size=4),
    )
    def test_any_numbers_give_sensible_findings(self, tmp_path, seed, steps, family, names, numbers):
        shutil.rmtree(tmp_path / "any", ignore_errors=True)
        random = np.random.default_rng(seed)
        drawn = {name: random.choice(numbers, steps) for name in sorted(names)}
        values = {name: drawn[name].__getitem__ if name in drawn else None for name in READINGS}
        path = MadeRun(steps=steps, family=family, values=values).write(tmp_path / "any" / "run.cockpit")
        for finding in diagnose(path, history=True):
            assert 0 <= finding.confidence <= 1
            assert finding.severity in SEVERITIES
            assert 0 <= finding.since < steps
            assert finding.lr_factor is None or 0 < finding.lr_factor <= 10
            assert finding.title in describe(finding)


class TestStepLengths:
    def test_the_ratio_of_sums_and_its_jackknife(self):
        random = np.random.default_rng(0)
        start = -random.uniform(0.5, 2, 12)
        end = 0.3 * start + 0.1 * random.normal(size=12)
        found = length(start, end)
        kept = [np.delete(np.arange(12), index) for index in range(12)]
        without = np.array([-end[rows].sum() / start[rows].sum() for rows in kept])
        assert found.value == pytest.approx(-end.sum() / start.sum())
        assert found.error == pytest.approx(math.sqrt(11 / 12 * ((without - without.mean()) ** 2).sum()))

    def test_the_error_is_the_spread_over_repetitions(self):
        random = np.random.default_rng(1)
        found = []
        for _ in range(400):
            start = -random.uniform(0.5, 2, 20)
            found.append(length(start, 0.3 * start + 0.2 * random.normal(size=20)))
        spread = np.std([one.value for one in found])
        assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.15)

    def test_one_step_that_decides_the_sign_leaves_the_residuals(self):
        start, tiny = np.array([-1.0, 0.4, 0.1, 0.2]), np.array([1e-4, -1e-4, 1e-4, 0.0])
        found = length(start, start + tiny)
        assert found.value == pytest.approx(-1, abs=1e-2)
        assert 0 < found.error < 0.01
        assert length(start, start[::-1]).error > 1

    def test_what_goes_uphill_has_no_length(self):
        assert math.isnan(length(np.array([1.0, -0.5]), np.array([1.0, 1.0])).value)
        assert math.isnan(length(np.zeros(3), np.zeros(3)).value)
        assert math.isnan(length(np.array([-1.0]), np.array([0.5])).error)

    def test_stretches_part_at_gaps_and_at_changes(self, path):
        MadeRun(steps=1100, rate=lambda step: 0.1 if step < 505 else 0.01).write(path)
        found = windows(Readings(load(path)))
        assert [(one.first, one.last, len(one.steps)) for one in found] == [
            (0, 45, 10),
            (500, 504, 5),
            (505, 509, 5),
            (1000, 1009, 10),
        ]
        assert [round(one.rate, 6) for one in found] == [0.1, 0.1, 0.01, 0.01]

    def test_steps_without_all_four_slopes_are_left_out(self, path):
        values = {"slope_next_end": lambda step: NAN if step == 10 else -0.1}
        MadeRun(values=values).write(path)
        (window,) = windows(Readings(load(path)))
        assert window.steps.tolist() == [0, 5, 15, 20, 25, 30, 35, 40, 45]


class TestCalibration:
    def test_a_posterior_is_bayes(self):
        found = calibration.posterior("none", "sgd", -0.995)
        small, good, large = (sum(row.counts[index] for row in calibration.TABLE["sgd"]) for index in range(3))
        odds = np.array(
            [
                0.3 * (1009.5 / 1010) * (190.5 / (small + 4.5)),
                0.5 * (685.5 / 743) * (2.5 / (good + 4.5)),
                0.2 * (122.5 / 1000) * (0.5 / (large + 4.5)),
            ]
        )
        assert [found[name] for name in calibration.CLASSES] == pytest.approx(odds / odds.sum())

    def test_a_lasting_blow_up_is_surer_than_one_that_recovers(self):
        courses = ("none", "overcome", "recovered", "pending", "lasting")
        large = [calibration.posterior(course)["large"] for course in courses]
        assert large == sorted(large)
        assert large[1] < 0.2
        assert large[-1] > 0.98

    @pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "other"])
    @pytest.mark.parametrize("same", [-math.inf, -1.3, -0.99, 0.0, 5.0, 1e300])
    def test_every_step_length_has_a_row(self, kind, same):
        odds = calibration.posterior("none", kind, same, same)
        assert sum(odds.values()) == pytest.approx(1)

    def test_the_probability_of_lying_below(self):
        assert calibration.beyond(1.0, 1.0, 0.5) == pytest.approx(0.5)
        assert calibration.beyond(1.0, 0.02, 0.5) == pytest.approx(0.975, abs=1e-3)
        assert calibration.beyond(1.0, 0.9, 0.0) == 1.0
        assert calibration.beyond(1.0, 1.1, 0.0) == 0.0
        assert calibration.beyond(1.0, 0.9, NAN) == 0.5


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (1e-5, "1e-5"),
            (1.234e-5, "1.23e-5"),
            (0.0001, "0.0001"),
            (0.05, "0.05"),
            (9.999, "10"),
            (-0.98765, "-0.988"),
            (4600, "4,600"),
            (123456, "123,000"),
            (1e6, "1e6"),
            (1.7976931348623157e308, "1.8e308"),
            (-2.5e9, "-2.5e9"),
            (NAN, "nan"),
            (math.inf, "inf"),
        ],
    )
    def test_numbers_have_three_digits(self, value, text):
        assert number(value) == text

    def test_errors_decide_the_digits(self):
        assert measured(-0.98191, 0.0034) == "-0.9819 ± 0.0034"
        assert measured(0.5123, 0.21) == "0.51 ± 0.21"
        assert measured(48.67, 1544.15) == "49 ± 1544"
        assert measured(1.16, 1.36) == "1.2 ± 1.4"
        assert measured(-0.5, NAN) == "-0.5"
        assert measured(NAN, NAN) == "nan"

    def test_shares_factors_and_lists(self):
        assert [percent(share) for share in (0, 0.001, 0.5, 0.999, 1)] == [
            "0 %",
            "less than 1 %",
            "50 %",
            "99 %",
            "100 %",
        ]
        assert [times(factor) for factor in (10, 0.25)] == ["×10", "÷4"]
        assert new_rate(0.1, 0.25) == "0.025 instead of 0.1 (÷4)"
        assert listed(["a"]) == "a"
        assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 other"
        assert listed([*"abcdef"]) == "a, b, c and 3 others"

    def test_a_description_holds_everything(self, path):
        MadeRun(same=-0.995, after=-0.99, noise=0.001).write(path)
        (finding,) = diagnose(path)
        text = describe(finding)
        first, *rest = text.splitlines()
        assert first == "WARNING R3: Learning rate too small (94 % sure)"
        assert all(line.startswith("  ") and len(line) <= 100 for line in rest)
        joined = " ".join(text.split())
        assert " ".join(finding.explanation.split()) in joined
        assert "What to do: Set the learning rate to 1 instead of 0.1 (×10)" in joined
        assert "Evidence: alpha_same at step 0: -0.99" in joined
        assert joined.endswith("Since step 0.")

    def test_a_cleared_finding_says_when(self):
        finding = Finding("R0", "error", 1.0, "Title", "Text.", since=40, until=1009)
        assert describe(finding).splitlines()[-1] == "  From step 40; cleared by step 1,009."

    def test_the_verdict_is_the_first_that_stands(self):
        gone = Finding("R0", "error", 1.0, "Gone", "", until=3)
        first = Finding("R1", "error", 0.986, "Learning rate too large", "")
        second = Finding("F9b", "warning", 0.95, "Other", "")
        note = Finding("F9c", "info", 0.9, "Note", "")
        assert verdict([gone]) == QUIET
        assert verdict([gone, first]) == "Learning rate too large (99 % sure)."
        assert verdict([first, second, note]) == "Learning rate too large (99 % sure; 1 more finding)."

    def test_a_note_is_told_before_the_one_that_all_is_well(self):
        note = Finding("F9d", "info", 0.9, "Parts are frozen", "")
        good = Finding("R4", "info", 0.85, "Learning rate in range", "")
        assert verdict([good, note], 25) == "Parts are frozen (90 % sure)."
        assert verdict([good], 25) == "Learning rate in range (85 % sure)."
        assert verdict([good, note], 24) == quiet(24)
        lights = [light(found, 25) for found in ([], [good], [good, note], [note])]
        assert lights == ["quiet", "good", "info", "info"]
        assert light([good], 24) == "unknown" and light([good]) == "good"
