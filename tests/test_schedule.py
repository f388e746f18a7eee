"""The budget schedule: in simulated trainings the share that watching takes is what was allowed, and is used."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from cockpitlite import meters
from cockpitlite.meters import Clock, DeviceClock, HostClock, Meters
from cockpitlite.plan import Plan
from cockpitlite.schedule import LEAST_BURST, Budget, diagnosed_under

CPU = torch.device("cpu")


@dataclass
class Training:
    """A training whose steps take what they are told to, in seconds; ``factor`` changes all of it, ``pause`` adds.

    ``panel`` is what a step on the panel takes in our code and ``unseen`` what it takes besides; ``diagnosis`` is the
    same of the diagnosis, ``after`` that of the step after either, ``writing`` that of the writer's thread for each,
    and ``hook`` what every step takes.
    """

    budget: Budget
    plain: float = 0.01
    panel: float = 0.015
    unseen: float = 0.003
    after: float = 0.002
    diagnosis: float = 0.01
    writing: float = 0.0005
    hook: float = 0.00005
    noise: float = 0.05
    factor: Callable[[int], float] = lambda step: 1.0
    fixed: Callable[[int], float] = lambda step: 1.0
    pause: Callable[[int], float] = lambda step: 0.0
    clock: Callable[[], Clock] = HostClock
    plans: list[Plan] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    plains: list[float] = field(default_factory=list)

    def run(self, steps: int, monkeypatch: pytest.MonkeyPatch) -> "Training":
        """Train; costs are scaled by ``fixed`` and plain steps by ``factor``."""
        now, written = 0.0, 0.0
        monkeypatch.setattr(meters.time, "perf_counter", lambda: now)
        self.meters = Meters(CPU, self.clock())
        random = np.random.default_rng(0)
        last = Plan()
        for step in range(steps):
            diagnosis = diagnosed_under(self.budget, step)
            plan = Plan(self.budget(step), diagnosis, last.panel, last.diagnosis)
            stretch = float(np.exp(self.noise * random.standard_normal()))
            seen = self.hook + self.panel * plan.panel + self.diagnosis * plan.diagnosis
            seen += self.after * (plan.after_panel or plan.after_diagnosis)
            seen *= self.fixed(step) * stretch
            unseen = self.unseen * (plan.panel or plan.diagnosis) * self.fixed(step) * stretch
            plain = self.plain * self.factor(step) * stretch
            writing = self.writing * (plan.panel or plan.diagnosis)
            written += writing
            now += plain + seen + unseen + self.pause(step)
            self.meters.mark(step, plan if plan.tracked else None, seen, written)
            for spent in self.meters.news():
                of = spent.kind if isinstance(spent.kind, Plan) else Plan()
                self.budget.account(spent.step, spent.plain, spent.cost, spent.usual, of)
            self.budget.pending = sum(isinstance(kind, Plan) and kind.panel for kind in self.meters.waiting)
            self.plans.append(plan)
            self.costs.append(seen + unseen + writing)
            self.plains.append(plain)
            last = plan
        return self

    def share(self, begin: int = 200, end: int = 1200) -> float:
        """What watching has really taken over what training has, between two steps."""
        return sum(self.costs[begin:end]) / sum(self.plains[begin:end])

    def tracked(self) -> list[int]:
        return [step for step, plan in enumerate(self.plans) if plan.panel]


def ramp(begin: int, before: float, after: float) -> Callable[[int], float]:
    return lambda step: before if step < begin else after


@pytest.mark.parametrize("overhead", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("panel", [0.002, 0.015, 0.1])
def test_a_steady_training_uses_what_is_allowed_and_no_more(overhead, panel, monkeypatch):
    training = Training(Budget(overhead), panel=panel, diagnosis=min(panel, 0.005)).run(3000, monkeypatch)
    for begin in (200, 750, 1500):  # any thousand steps hold two bursts of the diagnosis
        assert 0.8 * overhead < training.share(begin, begin + 1000) < 1.2 * overhead


SURPRISES = {
    "nothing": {},
    "first steps that are slow": {"factor": lambda step: 300.0 if step < 2 else 20.0 if step < 12 else 1.0},
    "first measurements that are slow": {"fixed": lambda step: 100.0 if step < 3 else 1.0},
    "a larger batch": {"factor": ramp(500, 1.0, 10.0), "fixed": ramp(500, 1.0, 10.0)},
    "a smaller batch": {"factor": ramp(700, 1.0, 0.1), "fixed": ramp(700, 1.0, 0.1), "hook": 0.00001, "writing": 1e-5},
    "dearer measurements": {"fixed": ramp(650, 1.0, 3.0), "diagnosis": 0.003, "unseen": 0.001},
    "cheaper measurements": {"fixed": ramp(650, 1.0, 0.3)},
    "a burst of other work": {
        "factor": lambda step: 5.0 if step % 300 in range(60) else 1.0,
        "fixed": lambda step: 5.0 if step % 300 in range(60) else 1.0,
    },
    "a noisy machine": {"noise": 0.5},
    "validation": {"pause": lambda step: 2.0 if step % 100 == 99 else 0.0},
    "a slow disk for the data": {"pause": lambda step: 0.1 if step % 7 == 0 else 0.0},
    "a diagnosis that takes half of the budget": {"diagnosis": 0.02},
    "a diagnosis that would take all of the budget": {"diagnosis": 0.045},
    "hooks that take most of the budget": {"hook": 0.0008, "diagnosis": 0.002, "panel": 0.004},
    "hooks that take a third of the budget": {"hook": 0.00033},
    "costs that the host does not see": {"panel": 0.002, "diagnosis": 0.002, "unseen": 0.02},
}


@pytest.mark.parametrize("surprise", SURPRISES)
def test_whatever_comes_the_share_is_kept_and_used(surprise, monkeypatch):
    training = Training(Budget(0.1), **SURPRISES[surprise]).run(1200, monkeypatch)
    assert 0.05 < training.share() < 0.12


@pytest.mark.parametrize("surprise", SURPRISES)
def test_the_panel_is_never_silent_for_long(surprise, monkeypatch):
    training = Training(Budget(0.1), **SURPRISES[surprise]).run(2000, monkeypatch)
    gaps = np.diff([*training.tracked(), 2000])
    assert gaps.max() < 300


def test_between_the_bursts_of_the_diagnosis_tracked_steps_are_evenly_spaced(monkeypatch):
    training = Training(Budget(0.1), noise=0.0).run(2000, monkeypatch)
    gaps = np.diff([step for step in training.tracked() if step > 100])
    assert gaps.max() < 1.5 * np.median(gaps)


@pytest.mark.parametrize(("diagnosis", "burst"), [(0.005, 10), (0.04, 5), (0.06, LEAST_BURST)])
def test_a_diagnosis_that_is_too_dear_is_shorter(diagnosis, burst, monkeypatch):
    plans = Training(Budget(0.1), diagnosis=diagnosis, noise=0.0).run(1600, monkeypatch).plans
    taken = [step for step, plan in enumerate(plans) if plan.diagnosis and step >= 50]
    assert taken == [begin + at for begin in (500, 1000, 1500) for at in range(burst)]


@pytest.mark.parametrize("dear", [{"panel": 1.0}, {"panel": 0.5, "diagnosis": 1.0}, {"diagnosis": 0.4, "panel": 0.2}])
def test_a_small_network_whose_tracked_steps_cost_a_hundred_plain_ones_keeps_to_its_budget(dear, monkeypatch):
    training = Training(Budget(0.1), **dear).run(30_000, monkeypatch)
    assert training.share(1000, 30_000) < 0.12
    assert len(training.tracked()) > 10
    assert sum(plan.diagnosis for plan in training.plans[500:]) > 3


@pytest.mark.parametrize("greedy", [{"hook": 0.009}, {"hook": 0.005}])
def test_what_takes_everything_leaves_the_panel_a_part(greedy, monkeypatch):
    training = Training(Budget(0.1), **greedy).run(2000, monkeypatch)
    spent = 0.02 * sum(step >= 500 for step in training.tracked()) / sum(training.plains[500:])
    assert 0.01 < spent < 0.03


def test_where_all_can_be_paid_every_step_is_tracked(monkeypatch):
    training = Training(Budget(10.0)).run(200, monkeypatch)
    assert training.tracked() == list(range(200))


def test_the_start_is_no_debt(monkeypatch):
    training = Training(Budget(0.1), fixed=ramp(45, 50.0, 1.0), noise=0.0).run(200, monkeypatch)
    assert training.plans[0].panel and training.plans[1].panel
    assert any(step in training.tracked() for step in range(50, 60))


@pytest.mark.parametrize("surprise", ["nothing", "validation", "costs that the host does not see"])
def test_the_share_that_is_read_is_the_true_one(surprise, monkeypatch):
    training = Training(Budget(0.1), **SURPRISES[surprise]).run(1200, monkeypatch)
    cost, plain = sum(training.costs[700:]), sum(training.plains[700:])
    assert training.meters.share == pytest.approx(cost / (cost + plain), rel=0.1)  # pauses are not training


def _news(times: Meters, step: int, kind: str | None, watching: float) -> list[meters.Spent]:
    times.mark(step, kind, watching)
    return times.news()


class Device:
    """A GPU that is some steps behind: an event has passed when as many have been recorded after it."""

    def __init__(self, behind: int, now: Callable[[], float]) -> None:
        self.behind, self.now = behind, now
        self.passed, self.events, self.capturing = 0, 0, False

    def record(self, event: "Event | None") -> "Event | None":
        if self.capturing:
            return None
        if event is None:
            event, self.events = Event(self), self.events + 1
        self.passed += 1
        event.number, event.time = self.passed, self.now()
        return event


class Event:
    def __init__(self, device: Device) -> None:
        self.device = device

    def query(self) -> bool:
        return self.device.passed - self.number >= self.device.behind

    def elapsed_time(self, end: "Event") -> float:
        assert self.query() and end.query()  # anything else would wait or raise
        return 1000 * (end.time - self.time)


def test_a_device_that_is_behind_is_never_waited_for_and_the_budget_holds(monkeypatch):
    device = Device(3, lambda: meters.time.perf_counter())
    training = Training(Budget(0.1), clock=lambda: DeviceClock(device.record)).run(1200, monkeypatch)
    assert 0.05 < training.share() < 0.12
    assert device.events < 10  # they are used again


def test_what_the_host_does_while_the_device_works_costs_nothing():
    now = 0.0
    device = Device(1, lambda: now)
    times = Meters(CPU, DeviceClock(device.record))
    known = []
    for step in range(40):
        now += 0.012 if step % 4 == 0 else 0.01
        known += _news(times, step, "panel" if step % 4 == 0 else None, 0.008 if step % 4 == 0 else 0.0)
    costs = [spent.cost for spent in known if spent.kind is not None]
    assert costs[-1] == pytest.approx(0.002)
    assert len(times.waiting) == 1


def test_a_device_tells_how_long_it_had_nothing_to_do():
    now = 0.0
    device = Device(2, lambda: now)
    times = Meters(CPU, DeviceClock(device.record))
    for step in range(40):
        now += 0.006
        times.arrive()
        now += 0.004
        _news(times, step, None, 0.0)
    assert times.data_wait == pytest.approx(0.6)
    assert device.events < 20  # they are used again


def test_steps_inside_of_a_capture_are_not_timed_and_none_is_waited_for_in_it():
    device = Device(0, lambda: float(device.passed))
    clock = DeviceClock(device.record)
    times = Meters(CPU, clock)
    assert len(_news(times, 0, None, 0.0)) == 1
    device.capturing = True
    assert _news(times, 1, None, 0.0) == []
    device.capturing = False
    assert _news(times, 2, None, 0.0) == []  # it began inside
    assert [spent.step for spent in _news(times, 3, None, 0.0)] == [3]


def test_a_device_far_behind_leaves_its_oldest_steps_untimed():
    device = Device(1000, lambda: 0.0)
    clock = DeviceClock(device.record)
    times = Meters(CPU, clock)
    for step in range(500):
        assert _news(times, step, None, 0.0) == []
    assert len(times.waiting) == meters.WAITING_STEPS
