"""The tables of ``cockpitlite.diagnosis.calibration``, counted: ``python benchmarks/rates/calibrating.py``.

They pool the study's 734 runs, of which the counts are known, with the runs of ``calibration.csv``: plain training,
seeds 1 and 2, which no limit was fitted to. ``--of FILE`` writes that file anew from the results of
``run.py --first-seed 1 --seeds 2 --conditions plain``.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

if not __package__:  # run as a script: its package stands beside it, and its folder must not be searched
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from archive import lines

from cockpitlite.diagnosis import thresholds as t
from rates.judging import Judged, judged
from rates.limits import CLASSES, Table
from rates.trial import Outcome

KEPT = Path(__file__).with_name("calibration.csv")
BELOW = (-0.99, -0.95, -0.87, -0.70, -0.50, -0.30, 0.0, 0.30, math.inf)  # of the rows, as in the study
FEWEST = 10  # runs that eight of ten can be told of; a row with fewer borrows those of the rows beside it
FAR = -0.30  # step length on a step's own batch from which the one on the next batch is asked as well
AFTER = {"momentum": (0.50, 0.70), "adam": (0.30,)}  # where it parts good from too large
COURSES = ("none", "pending", "recovered", "overcome", "lasting")

Counts = tuple[int, int, int]  # runs that were too small, good and too large
STUDY: dict[str, tuple[Counts, ...]] = {
    "sgd": ((119, 1, 0), (17, 1, 0), (8, 1, 0), (6, 4, 0), (0, 4, 0), (1, 3, 0), (0, 8, 0), (4, 12, 5), (2, 5, 1)),
    "momentum": ((67, 1, 0), (7, 4, 0), (7, 4, 0), (3, 8, 0), (2, 10, 0), (0, 5, 3), (1, 6, 2), (1, 8, 6), (0, 0, 4)),
    "adam": ((44, 8, 0), (6, 4, 0), (2, 15, 0), (0, 15, 0), (0, 12, 3), (0, 8, 1), (0, 11, 11), (0, 0, 9), (0, 1, 2)),
    "other": ((0, 0, 0),) * len(BELOW),
}
STUDY_COURSES: dict[str, Counts] = {
    "none": (297, 160, 35),
    "pending": (0, 5, 237),
    "recovered": (0, 5, 30),
    "overcome": (0, 0, 0),
    "lasting": (0, 0, 196),
}
STUDY_RUNS: Counts = (297, 165, 272)
STUDY_IN_RANGE = {"sgd": (26, 38), "momentum": (30, 38), "adam": (54, 60), "other": (0, 0)}
STUDY_IF_LARGE = {"momentum": (4, 4), "adam": (12, 14)}


@dataclass(frozen=True)
class Run:
    """What one run tells: which optimizer, what its rate was, the course of its loss and its step lengths.

    ``factor`` is the best over its own learning rate, ``said`` the code of the verdict, if there was one.
    """

    family: str
    truth: str
    course: str
    same: float
    after: float
    factor: float
    said: str

    @classmethod
    def of(cls, run: Judged) -> Self:
        """Return what is kept of a run of the benchmark."""
        table = Table.of([run.look])
        same, after = (float(f"{values[0]:.4g}") for values in (table.same, table.next))
        said = next((found.code for found in run.look.naming("R2", "R4")), "")
        factor = float(f"{run.band.best / run.trial.rate:.4g}")
        return cls(run.look.family, run.truth, run.look.blow_up, same, after, factor, said)

    @property
    def calm(self) -> bool:
        """Whether the loss has not blown up and the steps go down, so that their length tells something."""
        return self.course == "none" and math.isfinite(self.same)


def kept(path: Path = KEPT) -> list[Run]:
    """Return the runs of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Run(**{field.name: (float if field.type == "float" else str)(line[field.name]) for field in fields(Run)})
            for line in csv.DictReader(file)
        ]


def keep(outcomes: Iterable[Outcome], path: Path = KEPT) -> None:
    """Write what runs tell to a file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Run)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(Run.of(run)) for run in judged(outcomes))


def rows(runs: Sequence[Run], family: str) -> list[tuple[float, Counts, tuple[float, float, float]]]:
    """Return the rows of an optimizer: its upper end, the counts, and the factors to the best rate."""
    calm = [run for run in runs if run.family == family and run.calm]
    within = [[run for run in calm if low <= run.same < high] for low, high in itertools.pairwise((-math.inf, *BELOW))]
    found = []
    for place, (high, study) in enumerate(zip(BELOW, STUDY[family], strict=True)):
        reach = next(reach for reach in range(len(within)) if len(_about(within, place, reach)) >= FEWEST)
        median, least, most = np.quantile([run.factor for run in _about(within, place, reach)], (0.5, 0.1, 0.9))
        factors = tuple(float(f"{factor:.2g}") for factor in (median, least, most))
        found.append((high, _added(study, _counts(within[place])), factors))
    return found


def _about(within: Sequence[Sequence[Run]], place: int, reach: int) -> list[Run]:
    """Return the runs of a row and of as many rows on either side of it."""
    return [run for row in within[max(place - reach, 0) : place + reach + 1] for run in row]


def courses(runs: Sequence[Run]) -> dict[str, Counts]:
    """Return how many runs of each class had each course; every blow-up was pending once."""
    counts = {name: _counts([run for run in runs if run.course == name]) for name in COURSES}
    counts["pending"] = _counts([run for run in runs if run.course != "none"])
    return {name: _added(STUDY_COURSES[name], each) for name, each in counts.items()}


def totals(runs: Sequence[Run]) -> Counts:
    """Return how many runs there are of each class."""
    return _added(STUDY_RUNS, _counts(runs))


def after(runs: Sequence[Run], family: str) -> list[tuple[float, float]]:
    """Return from which step lengths on the next batch on long steps are how much likelier in too large runs.

    Of runs whose own batch says the same: two lengths of one step are not independent.
    """
    long = [run for run in runs if run.family == family and run.calm and run.same >= FAR]
    _, all_good, all_large = _counts(long)
    bounds = (-math.inf, *AFTER[family], math.inf)
    found = []
    for low, high in itertools.pairwise(bounds):
        _, good, large = _counts([run for run in long if low <= run.after < high])
        likelier = ((large + 0.5) / (all_large + 1)) / ((good + 0.5) / (all_good + 1))
        found.append((low, float(f"{likelier:.2g}")))
    return found


def in_range(runs: Sequence[Run], family: str) -> tuple[int, int]:
    """Return how many runs that read like good ones were good, of how many."""
    low, high = t.IN_RANGE[family]  # type: ignore[index]
    return _share(runs, family, "good", lambda run: run.said == "R4" and low <= run.same <= high, STUDY_IN_RANGE)


def if_large(runs: Sequence[Run], family: str) -> tuple[int, int]:
    """Return how many runs that R2 spoke of were too large, of how many."""
    return _share(runs, family, "large", lambda run: run.said == "R2", STUDY_IF_LARGE)


def blown(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Return the best over used learning rate of the runs that blew up: median, and where 10 and 90 % lie."""
    factors = [run.factor for run in runs if run.course != "none"]
    median, least, most = (float(f"{factor:.2g}") for factor in np.quantile(factors, (0.5, 0.1, 0.9)))
    return median, least, most


def _share(
    runs: Sequence[Run], family: str, right: str, holds: Callable[[Run], bool], study: dict[str, tuple[int, int]]
) -> tuple[int, int]:
    of = [run for run in runs if run.family == family and holds(run)]
    part, whole = study[family]
    return part + sum(run.truth == right for run in of), whole + len(of)


def _counts(runs: Sequence[Run]) -> Counts:
    found = Counter(run.truth for run in runs)
    small, good, large = (found[name] for name in CLASSES)
    return small, good, large


def _added(one: Counts, other: Counts) -> Counts:
    small, good, large = (a + b for a, b in zip(one, other, strict=True))
    return small, good, large


def main(argv: Sequence[str] | None = None) -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=Path, metavar="FILE", help="results that calibration.csv is made from anew")
    options = parser.parse_args(argv)
    if options.of:
        keep(map(Outcome.of, lines(options.of)))
    runs = kept()
    for family in STUDY:
        print(family, "in range", in_range(runs, family))
        for row in rows(runs, family):
            print("   ", row)
    print("courses", courses(runs), totals(runs))
    for family in AFTER:
        print(family, "next batch", after(runs, family), "right if large", if_large(runs, family))
    print("blown up", blown(runs))


if __name__ == "__main__":
    main()
