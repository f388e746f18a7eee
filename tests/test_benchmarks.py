"""The benchmarks measure what they say: tiny models, few steps, and no judgement of any time."""

import math
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import live_diagnosis
import memory
import price
import report
import results
import scaling
from bench import Bench, Effort
from budget import Overhead, StandingClock, measure_overhead
from cockpit_process import PYTHON, CockpitProcess
from interleaving import Pair, Spread, take_turns
from pricing import Choice, Price, measure_prices, tracked_excess
from problems import PROBLEMS, Problem, Size
from results import Measured
from sheet import MARK, words_of
from targets import targets_of_overhead, targets_of_price
from watching import FIRST, MOST, NEVER, PAIRED, PAIRED_FIRST, PANELS, WARM, Setting, WatchedTraining

import cockpitlite
from cockpitlite.instruments import choose
from cockpitlite.schedule import on_diagnosis_schedule

CPU = torch.device("cpu")
QUICK = Effort(rounds=2, seconds=0.01, longest=0.5)
PARAMETERS = {"mlp": 535_818, "3c3d": 895_210, "resnet": 78_042, "gpt": 3_323_392}


def tiny_model(size):
    return nn.Sequential(nn.Linear(6, 4 * size.width), nn.ReLU(), nn.Linear(4 * size.width, 3))


def tiny_batch(size, samples):
    return torch.randn(samples, 6), torch.randint(0, 3, (samples,))


TINY = Problem("tiny", "tiny", tiny_model, tiny_batch, 16, axes=("width",), refused="it is too small")


def say_nothing(words, share):
    assert 0 <= share <= 1


@pytest.fixture
def bench():
    return Bench(TINY, CPU, QUICK)


@pytest.fixture(scope="module")
def prices():
    choice = Choice(["economy", "whole-economy"], [1, 4], [8])
    return measure_prices(Bench(TINY, CPU, QUICK), choice, say_nothing)


class Pretender:
    """Trains without doing anything, and claims that each step takes so many seconds."""

    def __init__(self, seconds, told):
        self.seconds, self.told, self.steps = seconds, told, 0

    def run(self, steps):
        self.told.append(self)
        self.steps += steps
        return steps * self.seconds

    def close(self):
        pass


class TestProblems:
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_they_have_the_size_they_are_known_by(self, name):
        model = PROBLEMS[name].model(Size())
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_batches_are_the_same_at_every_call_and_differ_from_each_other(self, name):
        once, again = (PROBLEMS[name].batches(Size(), CPU) for _ in range(2))
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(once, again, strict=True))
        assert not torch.equal(once[0][0], once[1][0])
        assert len(once[0][0]) == PROBLEMS[name].samples

    @pytest.mark.parametrize(("name", "axis"), [(p.name, axis) for p in PROBLEMS.values() for axis in p.axes])
    def test_they_grow_along_an_axis(self, name, axis):
        def extent(size):
            problem = PROBLEMS[name]
            inputs = problem.draw(size, problem.samples * size.batch)[0]
            return sum(p.numel() for p in problem.model(size).parameters()) + inputs.numel()

        assert extent(Size().along(axis, 2)) > extent(Size())

    def test_a_grown_model_takes_its_own_batches(self):
        for name in ("3c3d", "resnet"):
            size = Size(width=2, depth=2)
            inputs, _ = PROBLEMS[name].draw(size, 2)
            assert PROBLEMS[name].model(size)(inputs).shape == (2, 10)
        size = Size(length=2)
        assert PROBLEMS["gpt"].model(size)(PROBLEMS["gpt"].draw(size, 1)[0]).shape == (1, 256, 256)


class TestTurns:
    def test_a_step_of_each_is_told_apart(self):
        told = []
        watched, plain = Pretender(0.2, told), Pretender(0.1, told)
        pair = take_turns(watched, plain, 7, Pair(0.2, 0.1))
        assert watched.steps == 7
        assert (pair.watched, pair.plain) == (pytest.approx(0.2), pytest.approx(0.1))
        assert (pair.ratio, pair.added) == (pytest.approx(2), pytest.approx(0.1))

    def test_they_take_turns_and_the_first_changes(self):
        told = []
        watched, plain = Pretender(1.0, told), Pretender(1.0, told)
        take_turns(watched, plain, 4, Pair(1.0, 1.0))
        assert told == [plain, watched, watched, plain, plain, watched, watched, plain]

    def test_quartiles(self):
        assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(2.0, 3.0, 4.0)
        assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


class TestSchedule:
    @pytest.mark.parametrize("every", [1, 4, 16, 64, 256])
    def test_a_block_of_the_interval_has_one_tracked_step_and_no_paired_ones(self, every):
        begin = FIRST + WARM
        tracked = [Setting("economy", every).tracks(step) for step in range(begin, begin + MOST)]
        for block in range(0, MOST // every * every, every):
            assert sum(tracked[block : block + every]) == 1
        assert not any(on_diagnosis_schedule(step) for step in range(FIRST - 2, begin + MOST))

    def test_the_paired_block_has_the_ten_steps_and_the_one_after(self):
        begin = PAIRED_FIRST + WARM
        block = [on_diagnosis_schedule(step) for step in range(begin - 1, begin + PAIRED + 1)]
        assert block == [False, *[True] * 10, False, False]
        never = Setting("economy", NEVER, first=PAIRED_FIRST)
        assert not any(never.tracks(step) for step in range(begin, begin + PAIRED))

    def test_a_watch_begins_late_and_tracks_what_it_is_told_to(self):
        watched = WatchedTraining(TINY, Size(), CPU, TINY.batches(Size(), CPU), Setting("economy", 8))
        watched.run(20)
        watched.finish()
        steps = cockpitlite.load(watched.path).series("grad_norm")[0]
        watched.close()
        assert steps.tolist() == [512, 513, 514, 520, 528]
        assert not watched.path.exists()

    def test_a_panel_has_cockpits_contents_and_the_paired_step_lengths(self):
        contents = {i.name for i in choose(list(PANELS["full"]))}
        assert {"alpha_same", "alpha_next", "hess_max_ev", "grad_hist_2d"} <= contents
        assert contents < {i.name for i in choose(PANELS["whole-full"])}


class TestMemory:
    def test_the_peak_of_each_action_counts_what_is_still_held(self):
        kept = []

        def first():
            kept.append(torch.zeros(1_000_000))
            torch.zeros(3_000_000)

        assert memory.peaks([first, lambda: torch.zeros(500_000)], CPU) == [16e6, 6e6]

    def test_a_watched_training_holds_more(self, bench):
        pairs = zip(bench.peaks(Setting("economy")), bench.peaks(None), strict=True)
        assert all(watched > plain > 0 for watched, plain in pairs)


class TestPromises:
    """What can be promised without a clock is held here, so that it cannot be lost unseen."""

    def test_scalars_take_at_most_600_bytes_a_step(self):
        bench = Bench(PROBLEMS["mlp"], CPU, QUICK)
        assert bench.bytes_a_step(Setting("scalars of economy")) <= 600

    def test_economy_holds_at_most_half_as_much_again_as_plain_training(self):
        bench = Bench(PROBLEMS["3c3d"], CPU, QUICK)
        (plain_first, plain), (first, later) = bench.peaks(None), bench.peaks(Setting("economy"))
        assert later <= 1.5 * plain
        assert first <= 1.5 * plain_first


class TestPrices:
    def test_every_row_is_there(self, prices):
        ours = [(p.panel, p.samples, p.every) for p in prices if p.program == "cockpitlite"]
        assert ours == [
            ("untracked", None, None),
            ("paired step lengths", None, None),
            *(("economy", 8, every) for every in (1, 4)),
            ("whole-economy", 8, 1),
            ("scalars of economy", None, 1),
        ]
        assert all(p.ratio is not None for p in prices if p.program == "cockpitlite" and "scalars" not in p.panel)

    def test_what_is_measured_once_is_on_the_rows_of_every_step(self, prices):
        for each in prices:
            if each.every == 1 and each.program == "cockpitlite":
                assert each.file > 0
            if each.every == 4:
                assert each.amortised > 0
        sizes = {each.panel: each.file for each in prices if each.file}
        assert sizes["scalars of economy"] < sizes["economy"] < sizes["whole-economy"]

    def test_cockpit_is_refused_with_a_reason(self, prices):
        assert [p.note for p in prices if p.program.startswith("Cockpit")] == ["it is too small"]

    def test_they_survive_the_file_and_are_all_on_the_page(self, prices, tmp_path):
        measured = [Measured("cpu", "tiny", "a machine", prices)]
        results.save(tmp_path / "numbers.json", measured)
        assert results.read(tmp_path / "numbers.json") == measured
        page = report.page(measured, "the command", "picture.png", tmp_path / "page.md")
        table = [line for line in page.splitlines() if line.startswith("|")]
        assert len(table) == 2 + len(prices)
        assert len({line.count("|") for line in table}) == 1
        assert "it is too small" in page
        assert "the command" in page

    def test_later_parts_join_earlier_ones(self, prices):
        known = [Measured("cpu", "tiny", "old", prices), Measured("cpu", "other", "old")]
        curve = scaling.Curve("width", [])
        found = results.joined(known, Measured("cpu", "tiny", "new", curves=[curve]))
        assert [(each.problem, each.machine) for each in found] == [("tiny", "new"), ("other", "old")]
        assert (found[0].prices, found[0].curves) == (prices, [curve])

    def test_the_cost_of_one_tracked_step_is_that_of_a_true_interval(self):
        pairs = {
            Setting("full", 1): [Pair(9.0, 1.0)],
            Setting("full", 4): [Pair(3.0, 1.0)],
            Setting("full", 16): [],
            Setting("economy", 4): [Pair(1.5, 1.0)],
        }
        assert tracked_excess(Setting("full", 16), pairs, 0.0) == 8.0
        assert tracked_excess(Setting("business", 16), pairs, 0.0) is None

    def test_a_target_is_kept_or_not(self):
        times = Spread(1.0, 1.7, 2.0)
        kept = Price("cockpitlite", "economy", None, 1, ratio=times, paired=0.09)
        missed = Price("cockpitlite", "economy", None, 1, ratio=times, paired=0.11)
        assert [str(t) for t in targets_of_price("3c3d", kept)] == ["≤ 1.8 ✓"]
        assert [str(t) for t in targets_of_price("3c3d", missed)] == ["≤ 1.8 ✗"]
        assert targets_of_price("3c3d", Price("Cockpit 1.0.2", "economy", None, 1, ratio=times)) == []

    def test_a_target_within_the_spread_is_not_judged(self):
        def untracked(*spread):
            times = Spread(*spread)
            return Price("cockpitlite", "untracked", None, None, added=times, ratio=times)

        told = [
            targets_of_price("gpt", untracked(*times))
            for times in ((0.9, 1.0, 1.1), (0.9, 0.98, 1.005), (1.0, 1.0, 1.005), (1.02, 1.1, 1.2))
        ]
        assert [str(target) for (target,) in told] == ["≤ 1% ?", "≤ 1% ?", "≤ 1% ✓", "≤ 1% ✗"]

    def test_the_budget_is_promised_of_the_steps_from_200_to_1200(self):
        def overhead(first, last):
            return Overhead("whole-economy", None, first, last, 0.1, 0.09, Spread(0.08, 0.09, 0.1), 0.1, 20.0)

        assert [str(target) for target in targets_of_overhead(overhead(200, 1200))] == ["≤ 12% ✓", "≥ 5% ✓"]
        assert targets_of_overhead(overhead(50, 300)) == []

    def test_what_was_written_by_hand_on_a_page_is_kept(self, tmp_path):
        page = tmp_path / "page.md"
        assert words_of(page, "# Title") == f"# Title\n{MARK}\n"
        page.write_text(f"# Title\n\nBy hand.\n\n{MARK}\nmade", encoding="utf-8")
        assert words_of(page, "# Title") == f"# Title\n\nBy hand.\n\n{MARK}\n"


class TestBudget:
    def test_a_clock_stands_still_for_what_does_not_count(self):
        real = time.perf_counter
        with StandingClock().in_place() as clock:
            begin, really = time.perf_counter(), real()
            with clock.standing():
                time.sleep(0.05)
            passed, really_passed = time.perf_counter() - begin, real() - really
        assert really_passed - passed >= 0.05
        assert time.perf_counter is real

    def test_a_run_is_compared_from_a_step_to_another(self, bench):
        found = measure_overhead(bench, "whole-economy", None, say_nothing, first=11, last=67)
        assert (found.first, found.last) == (11, 66)
        assert found.interval >= 1
        assert math.isfinite(found.stated)
        assert found.windows.low <= found.windows.median <= found.windows.high


class TestScaling:
    def test_a_curve_ends_where_a_step_takes_too_long(self):
        setting = Setting("economy")
        whole = scaling.measure_curve(TINY, "width", CPU, setting, Effort(2, 0.01, longest=1e9))
        short = scaling.measure_curve(TINY, "width", CPU, setting, Effort(2, 0.01, longest=0.0))
        assert [point.factor for point in whole.points] == [1, 2, 4, 8]
        assert ([point.factor for point in short.points], bool(short.note)) == ([1], True)

    def test_curves_are_drawn_and_tabled(self, tmp_path):
        points = [scaling.Point(1, 0.1, Spread(0.4, 0.5, 0.6)), scaling.Point(2, 0.2, Spread(0.5, 0.6, 0.7))]
        curves = [scaling.Curve("width", points, "not beyond ×2")]
        assert curves[0].growth == pytest.approx(1.2)
        scaling.draw({"tiny": curves}, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 1000
        page = report.page([Measured("cpu", "tiny", "m", curves=curves)], "c", "picture.png", tmp_path / "page.md")
        assert "| width | 0.500 (0.400–0.600) | 0.600 (0.500–0.700) | – | – | 100 to 200 | 1.20 |" in page
        assert "not beyond ×2" in page


class TestCommand:
    def test_it_prints_and_writes_the_parts_that_are_asked_for(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setitem(PROBLEMS, "tiny", TINY)
        page, numbers = tmp_path / "price.md", tmp_path / "price.json"
        quickly = ["--quick", "--rounds", "1", "--seconds", "0.01", "--longest", "0.2", "--samples", "all"]
        common = ["--problems", "tiny", "--devices", "cpu", *quickly, "--json", str(numbers), "--write", str(page)]
        price.main([*common, "--parts", "prices", "--panels", "economy", "--no-cockpit"])
        price.main([*common, "--parts", "budget", "--panels", "whole-economy", "--steps", "60"])
        assert "untracked" in capsys.readouterr().out
        text = page.read_text(encoding="utf-8")
        assert "paired step lengths" in text
        assert "## At the default budget" in text
        assert "## As the model grows" not in text


@pytest.mark.skipif(not PYTHON.exists(), reason="Cockpit has no environment here: `make tests` makes it")
class TestCockpit:
    def test_it_trains_when_told_to_and_its_last_words_are_told(self):
        process = CockpitProcess(PROBLEMS["mlp"], CPU)
        try:
            assert process.training("plain").run(1) > 0
            assert process.training("economy").run(1) > 0
            process.training("economy").close()
            with pytest.raises(RuntimeError, match="KeyError: 'no such panel'"):
                process.training("no such panel").run(1)
        finally:
            process.close()


def test_the_long_run_has_the_readings_of_a_real_one_on_their_schedules(tmp_path):
    run = live_diagnosis.begin(tmp_path, every=10)
    run.grow(520)
    row = live_diagnosis.measure(run, steps=520, updates=2)
    assert row[0] == "520" and len(row) == 6
    long = cockpitlite.load(run.writer.path)
    run.writer.close()
    assert long.last_step == 519 + 2 * live_diagnosis.GROWTH
    assert len(long.series("loss")[0]) == long.last_step + 1
    measured = {step for step in range(long.last_step + 1) if on_diagnosis_schedule(step)}
    assert set(long.series("alpha_same")[0].tolist()) == set(long.series("input_fingerprint")[0].tolist()) == measured
    assert set(long.layers("grad_norm")[0].tolist()) == measured | set(range(0, long.last_step + 1, 10))
