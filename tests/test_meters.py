"""What a run takes: shares of time, memory, and energy where NVML can tell."""

import math
import sys
import types

import pytest
import torch
from torch import nn

import cockpitlite
from cockpitlite import meters
from cockpitlite.meters import EnergyMeter, Meters

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


def test_times_are_those_of_a_sliding_window():
    times = Meters(torch.device("cpu"))
    assert times.share == 0.0
    assert math.isnan(times.step_seconds)
    for _ in range(300):
        times.account(1.0, 3.0)
    for _ in range(meters.WINDOW):
        times.account(0.9, 0.1)
    assert times.share == pytest.approx(0.1)
    assert times.step_seconds == pytest.approx(1.0)


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
    _, rates = run.series("samples_per_second")
    assert math.isnan(rates[0])
    assert (rates[1:] > 8).all()
    assert (run.series("memory")[1] > 1e8).all()
    assert "joules_per_sample" not in run.names()  # there is no GPU in this run, and so no panel says 0
