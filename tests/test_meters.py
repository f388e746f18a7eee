"""What a run takes: shares of time, memory, and energy where NVML can tell."""

import math
import sys
import types

import pytest
import torch
from torch import nn

import cockpitlite
from cockpitlite import meters
from cockpitlite.meters import EnergyMeter, Meters, Taken

GPU = torch.device("cuda", 0)


class Driver(types.ModuleType):
    """A stand-in for pynvml whose GPU has taken ``joules`` so far."""

    def __init__(self, joules: float = 0.0, *, counts: bool = True) -> None:
        super().__init__("pynvml")
        self.joules, self.counts, self.asked = joules, counts, []

    def nvmlInit(self):  # noqa: N802  # as the library has it
        pass

    def nvmlDeviceGetHandleByUUID(self, identity):  # noqa: N802
        self.asked.append(identity)
        return identity

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if not self.counts:
            raise RuntimeError("Not Supported")
        return int(1000 * self.joules)


@pytest.fixture
def driver(monkeypatch):
    found = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="8a1b-22"))
    clock = iter(range(100, 200, 4))
    monkeypatch.setattr(meters.time, "perf_counter", lambda: float(next(clock)))
    return found


def test_power_is_the_energy_since_the_last_question(driver):
    meter = EnergyMeter(GPU)
    assert driver.asked == ["GPU-8a1b-22"]
    assert math.isnan(meter.watts())
    driver.joules += 800.0
    assert meter.watts() == 200.0  # in four seconds


def test_a_gpu_that_does_not_count_has_no_power(driver):
    driver.counts = False
    meter = EnergyMeter(GPU)
    assert math.isnan(meter.watts())
    assert math.isnan(meter.watts())


def test_without_the_library_there_is_no_power(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert math.isnan(EnergyMeter(GPU).watts())


class Times:
    """A clock that is told how long each step takes."""

    overlaps = False

    def __init__(self):
        self.seconds, self.before, self.laps = 0.0, math.nan, []

    def mark(self, lap):
        self.laps.append(Taken(lap, self.seconds, self.before))

    def durations(self):
        laps, self.laps = self.laps, []
        return laps

    def waiting(self):
        return ()


@pytest.fixture
def clock():
    return Times()


@pytest.fixture
def times(clock):
    found = Meters(torch.device("cpu"), clock)

    def stepped(step, seconds, watching=0.0, kind=None, written=0.0, before=math.nan):
        clock.seconds, clock.before = seconds, before
        found.mark(step, kind, watching, written)
        (spent,) = found.news()
        return spent

    found.took = stepped
    return found


def test_times_are_those_of_a_sliding_window(times):
    assert times.share == 0.0
    assert math.isnan(times.step_seconds)
    for step in range(300):
        times.took(step, 4.0, 3.0)
    assert times.share == pytest.approx(0.75)
    for step in range(meters.SHARE_STEPS):
        times.took(step, 1.0, 0.1)
    assert times.share == pytest.approx(0.1)
    assert times.step_seconds == pytest.approx(1.0)


def test_a_validation_does_not_make_watching_look_cheap(times):
    for step in range(meters.SHARE_STEPS):
        times.took(step, 1.0 + 100 * (step % 50 == 49), 0.1)
    assert times.share == pytest.approx(0.1, rel=0.05)


def test_a_tracked_step_costs_what_it_exceeds_the_usual_one_by(times):
    for step in range(10):
        times.took(step, 1.0)
    assert times.took(10, 1.7, 0.5, "panel").cost == pytest.approx(0.7)
    assert times.took(11, 2.9, 1.5, "diagnosis").cost == pytest.approx(1.9)  # each kind by itself


def test_it_costs_no_less_than_what_the_host_saw(times):
    for step in range(10):
        times.took(step, 1.0)
    assert times.took(10, 1.2, 0.5, "panel").cost == pytest.approx(0.5)


def test_a_pause_is_neither_a_cost_nor_usual(times):
    for step in range(60):
        tracked = step % 3 == 0
        paused = step in (30, 40, 41, 42)
        spent = times.took(step, (1.6 if tracked else 1.0) + 100 * paused, 0.5 * tracked, "panel" if tracked else None)
        assert spent.cost == pytest.approx(0.6 if tracked and step > 0 else 0.5 if tracked else 0.0)
        assert spent.usual == pytest.approx(1.0 if step else 1.1)


def test_where_every_step_is_tracked_the_host_is_all_there_is_to_go_by(times):
    costs = [times.took(step, 1.7, 0.5, "panel") for step in range(20)]
    assert all(spent.cost == pytest.approx(0.5) and spent.usual == pytest.approx(1.2) for spent in costs)


def test_times_that_are_long_past_are_not_usual(times):
    for step in range(32):
        times.took(step, 1.0)
    for step in range(32, 400):
        spent = times.took(step, 11.0, 1.0, "panel")
    assert (spent.cost, spent.usual) == (pytest.approx(1.0), pytest.approx(10.0))


def test_what_other_threads_take_is_a_cost_of_the_step_that_it_is_noticed_in(times):
    times.took(0, 1.0, written=0.25)
    assert times.took(1, 1.0, 0.125, written=0.75).cost == pytest.approx(0.625)
    assert times.took(2, 1.0, 0.125, written=0.75).cost == pytest.approx(0.125)


def test_waiting_is_what_goes_before_the_forward(times):
    times.took(0, 50.0, before=40.0)  # what a script does before its first step is no waiting
    assert math.isnan(times.data_wait)
    for step in range(1, 10):
        times.took(step, 4.0, before=3.0)
        assert times.data_wait == pytest.approx(0.75)
    for step in range(10, 100):
        times.took(step, 4.0 + 2.0 * (step % 10 == 0), 2.0 * (step % 10 == 0), "panel", before=3.0)
    assert times.data_wait == pytest.approx(0.75)  # what watching takes is no part of training
    for step in range(100, 100 + meters.RECENT_STEPS):
        times.took(step, 4.0, before=1.0)
    assert times.data_wait == pytest.approx(0.25)


def test_a_pause_is_no_waiting_and_a_loader_that_stalls_is(times):
    for step in range(100):
        times.took(step, 1.0 + 100.0 * (step % 20 == 19), before=0.1 + 100.0 * (step % 20 == 19))
    assert times.data_wait == pytest.approx(0.1)
    for step in range(meters.RECENT_STEPS):
        times.took(step, 1.0 + 8.0 * (step % 4 == 0), before=0.1 + 8.0 * (step % 4 == 0))
    assert times.data_wait == pytest.approx(2.1 / 3.0)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_loop_that_waits_for_its_data(watch, run_path, monkeypatch, accumulated):
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])

    class Slow(nn.Linear):
        def forward(self, x):
            now[0] += 1.0
            return super().forward(x)

    model = Slow(4, 3)
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1), model, every=5)
    for step in range(40):
        optimizer.zero_grad()
        for _ in range(accumulated):
            now[0] += 3.0
            model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if step % 10 == 9:
            now[0] += 5.0
            with torch.no_grad():
                model(torch.randn(8, 4))
    optimizer.cockpit.close()
    run = cockpitlite.load(run_path)
    assert run.series("data_wait")[1][-1] == pytest.approx(3 / (4 * accumulated), rel=0.1)


def test_what_watching_does_after_a_step_is_no_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    found = Meters(torch.device("cpu"))
    for step in range(10):
        now[0] += 3.0
        found.arrive()
        now[0] += 1.0
        found.mark(step, "panel", 20.0 * bool(step))
        now[0] += 20.0
        found.leave()
        found.news()
    assert found.data_wait == pytest.approx(0.75)


def test_without_the_model_nothing_is_known_of_waiting(watch, run_path):
    model = nn.Linear(4, 3)
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    optimizer.cockpit.close()
    assert "data_wait" not in cockpitlite.load(run_path).names()


def test_memory_is_what_the_process_holds():
    before = Meters(torch.device("cpu")).memory
    kept = torch.ones(2**25)  # 128 MiB, written to
    assert 0.9 * kept.nbytes < Meters(torch.device("cpu")).memory - before < 1.5 * kept.nbytes


def test_a_run_says_how_fast_it_is_and_what_it_holds(watch, run_path):
    model = nn.Linear(4, 3)
    optimizer = watch(torch.optim.SGD(model.parameters(), lr=0.1), model)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    optimizer.cockpit.close()
    run = cockpitlite.load(run_path)
    steps, rates = run.series("samples_per_second")
    assert steps[0] > 0  # nothing is known yet at the first
    assert (rates > 8).all()
    assert (run.series("memory")[1] > 1e8).all()
    assert "joules_per_sample" not in run.names()  # there is no GPU in this run, and so no panel says 0
