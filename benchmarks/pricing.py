"""The rows of the price list: what a step costs under each panel, at each interval."""

from __future__ import annotations

import functools
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench import PAIRED_ONLY, UNTRACKED, Bench
from cockpit_process import CockpitProcess
from interleaving import Pair, Spread
from watching import CONTENTS, NEVER, PAIRED, PAIRED_EVERY, Setting

SCALARS = Setting("scalars of economy")
UNTRACKED_TURNS = 3  # a cost this small needs more measurements
COCKPIT = "Cockpit 1.0.2"

Tell = Callable[[str, float], None]  # what is measured next, and the share that is done
Key = Setting | str  # a way to watch, or a configuration of Cockpit
Pairs = Mapping[Key, Sequence[Pair]]


@dataclass(frozen=True)
class Price:
    """What a step costs: seconds, shares of a plain step, and bytes.

    ``paired`` is what the paired step lengths add to a step on their own schedule, in plain steps; ``step``, ``added``
    and ``ratio`` are without it. ``amortised`` is the ratio to expect from one tracked step and the untracked ones.
    ``first_peak`` is the memory in the first steps, with the checks that are made once, ``peak`` that of later ones.
    """

    program: str
    panel: str
    samples: int | None = None
    every: int | None = None
    plain: Spread | None = None
    step: Spread | None = None
    added: Spread | None = None
    ratio: Spread | None = None
    paired: float = 0.0
    amortised: float | None = None
    first_peak: float | None = None
    peak: float | None = None
    plain_peak: float | None = None
    file: float | None = None
    note: str = ""

    @property
    def whole_ratio(self) -> float | None:
        """A watched step over a plain one, with what the paired step lengths cost on the average step."""
        return None if self.ratio is None else self.ratio.median + self.paired


@dataclass(frozen=True)
class Choice:
    """Which rows are measured."""

    panels: Sequence[str]
    intervals: Sequence[int]
    samples: Sequence[int | None]
    cockpit: bool = True

    def settings(self) -> Iterator[Setting]:
        """Yield the ways to watch; whole presets at every step only."""
        for panel in self.panels:
            for samples in self.samples:
                for every in self.intervals if panel in CONTENTS else (1,):
                    yield Setting(panel, every, samples)

    def configurations(self) -> list[str]:
        """Return the names of Cockpit's own panels that are measured."""
        return [panel for panel in self.panels if panel in CONTENTS] if self.cockpit else []


def measure_prices(bench: Bench, choice: Choice, tell: Tell) -> list[Price]:
    """Return the rows of a problem, all measured in the same rounds and in a new order in each."""
    wanted = choice.configurations()
    process = CockpitProcess(bench.problem, bench.device) if wanted and not bench.problem.refused else None
    try:
        pairs = measure_rounds(bench, tasks(bench, choice, process), tell)
        tell("memory and run files", 1.0)
        return [*our_prices(bench, list(choice.settings()), pairs), *their_prices(bench, wanted, pairs, process)]
    finally:
        if process is not None:
            process.close()


Task = tuple[Key, Callable[[], Pair | None]]


def tasks(bench: Bench, choice: Choice, process: CockpitProcess | None) -> list[Task]:
    """Return what is measured in a round."""
    settings = [*[UNTRACKED] * UNTRACKED_TURNS, *choice.settings()]
    found: list[Task] = [(setting, functools.partial(bench.pair, setting)) for setting in settings]
    found.append((PAIRED_ONLY, bench.paired_pair))
    if process is not None:
        found += [(name, functools.partial(bench.cockpit_pair, process, name)) for name in choice.configurations()]
    return found


def measure_rounds(bench: Bench, todo: Sequence[Task], tell: Tell) -> Pairs:
    """Measure everything in turn, round after round; what takes too long has no pairs."""
    pairs: dict[Key, list[Pair]] = {key: [] for key, _ in todo}
    for turn in range(bench.effort.rounds):
        for place, (key, measure) in enumerate(random.sample(todo, len(todo))):
            tell(f"round {turn + 1}, {called(key)}", (turn + place / len(todo)) / bench.effort.rounds)
            pair = measure()
            pairs[key] += [] if pair is None else [pair]
    return pairs


def called(key: Key) -> str:
    """Return a row's name."""
    if isinstance(key, str):
        return f"Cockpit's {key}"
    if key.every == NEVER:
        return "untracked" if key == UNTRACKED else "paired step lengths"
    return f"{key.panel}{'' if key.samples is None else f', samples={key.samples}'}, every {key.every}"


def our_prices(bench: Bench, settings: Sequence[Setting], pairs: Pairs) -> Iterator[Price]:
    """Yield our rows: plain steps, untracked ones, the paired step lengths, and the panels."""
    plain = Spread.of([pair.plain for several in pairs.values() for pair in several])
    plain_row = with_peaks(Price("plain", "", plain=plain, step=plain), bench.peaks(None), None)
    yield plain_row
    for setting in (UNTRACKED, PAIRED_ONLY):
        yield timed(Price("cockpitlite", called(setting)), pairs[setting])
    idle = median_ratio(pairs[UNTRACKED]) - 1
    # Ten steps, and the one after, of each 500 have them.
    paired = max(0.0, median_ratio(pairs[PAIRED_ONLY]) - 1 - idle) * PAIRED / PAIRED_EVERY
    for setting in settings:
        row = Price("cockpitlite", setting.panel, setting.samples, setting.every, paired=paired)
        if setting.every == 1:
            row = with_peaks(replace(row, file=bench.bytes_a_step(setting)), bench.peaks(setting), plain_row)
        else:
            tracked = tracked_excess(setting, pairs, idle)
            row = replace(row, amortised=tracked and 1 + idle + tracked / setting.every + paired)
        yield timed(row, pairs[setting])
    yield Price("cockpitlite", SCALARS.panel, every=1, file=bench.bytes_a_step(SCALARS))


def tracked_excess(setting: Setting, pairs: Pairs, idle: float) -> float | None:
    """Return what tracking one step adds, in plain steps.

    From the shortest interval at which the step after a tracked one is another, since it has a part in the cost; from
    tracking every step where there is no other.
    """
    same = [key for key in pairs if isinstance(key, Setting) and replace(key, every=1) == replace(setting, every=1)]
    measured = [key for key in same if key.every != NEVER and pairs[key]]
    if not measured:
        return None
    shortest = min(measured, key=lambda key: (key.every == 1, key.every))
    return (median_ratio(pairs[shortest]) - 1 - idle) * (shortest.every or 1)


def their_prices(bench: Bench, wanted: Sequence[str], pairs: Pairs, process: CockpitProcess | None) -> Iterator[Price]:
    """Yield Cockpit's rows, or why there are none."""
    if process is None:
        yield from (Price(COCKPIT, name, every=1, note=bench.problem.refused) for name in wanted)
        return
    plain_row = with_peaks(Price("plain", ""), process.training("plain").peaks(), None)
    for name in wanted:
        training = process.training(name)
        row = with_peaks(Price(COCKPIT, name, every=1, file=training.bytes_a_step()), training.peaks(), plain_row)
        yield timed(row, pairs[name])


def with_peaks(row: Price, peaks: tuple[float, float], plain: Price | None) -> Price:
    """Return a row with its memory in the first steps and later, and that of plain training."""
    first, later = peaks
    return replace(row, first_peak=first, peak=later, plain_peak=None if plain is None else plain.peak)


def timed(row: Price, pairs: Sequence[Pair]) -> Price:
    """Return a row with its times; without any where it took too long."""
    if not pairs:
        return row
    return replace(
        row,
        plain=Spread.of([pair.plain for pair in pairs]),
        step=Spread.of([pair.watched for pair in pairs]),
        added=Spread.of([pair.added for pair in pairs]),
        ratio=Spread.of([pair.ratio for pair in pairs]),
    )


def median_ratio(pairs: Sequence[Pair]) -> float:
    return statistics.median(pair.ratio for pair in pairs)
