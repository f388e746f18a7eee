"""The tables of the benchmark of learning rates."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sheet import Sheet, words_of

from cockpitlite.diagnosis.calibration import PRIOR

from .judging import (
    DISTANCES,
    STEP,
    Judged,
    Share,
    accuracy,
    again,
    confusion,
    far_off,
    helped,
    judged,
    left_alone,
    overfitted,
    precision,
    reason,
    recall,
    refitted,
    sureness,
    told_by_another_seed,
    wrong_way,
)
from .labels import CRITERIA, LABELS, Criterion
from .limits import FAMILIES, SHIPPED, Limits, Table
from .methods import CONDITIONS, METHODS
from .problems import PROBLEMS
from .trial import DECADES, RATES, Outcome

MISSES = 60  # wrong verdicts that are listed
TITLE = "# The learning rate: what was said, and what was true\n"

MEASURES: dict[str, tuple[Callable[[Sequence[Judged]], Share], str, str]] = {
    "right verdicts (small / in range / large)": (accuracy, "≥ 92 %", "89.4 % shipped, 88.4 % re-fitted"),
    "wrong-way verdicts": (wrong_way, "0", "0 of 734 shipped, 1 re-fitted"),
    "rates more than 10 times off, named right": (far_off, "≥ 99.5 %", "305 of 305"),
    "good rates left alone": (left_alone, "≥ 90 %", "85 %"),
    "precision of “too small”": (lambda runs: precision(runs, "small"), "", "94 %"),
    "precision of “too large”": (lambda runs: precision(runs, "large"), "", "97 %"),
}
DEFINITIONS: dict[tuple[Criterion, ...], str] = {
    CRITERIA: "any of the three, as above",
    ("train", "valid"): "either loss within 1.1 times the best",
    ("train",): "the loss on the samples trained on within 1.1 times the best",
}
Verdicts = dict[str, Sequence[Judged]]


def page(outcomes: Sequence[Outcome], command: str, machine: str, old: Path) -> str:
    """Return the page of the documentation: what was written by hand in the old one, and the tables."""
    made = f"Made by `{command}` on {machine}.\n"
    return "\n".join([words_of(old, TITLE), made, *(sheet.markdown() for sheet in sheets(outcomes))])


def sheets(outcomes: Sequence[Outcome]) -> Iterator[Sheet]:
    """Yield every table."""
    runs = judged(outcomes)
    plain = [run for run in runs if run.trial.condition == "plain"]
    if plain:
        fitted, limits = refitted(plain)
        both: Verdicts = {"shipped": plain, "re-fitted": fitted}
        yield _runs(runs, outcomes)
        yield _groups(runs)
        yield _measures(both)
        yield _distances(both)
        for name, several in both.items():
            yield _confusion(f"What was true and what was said, {name} limits", several)
        yield _parts("By problem", both, _by(lambda run: run.trial.problem), _problem)
        yield _parts("By optimizer", both, _by(lambda run: run.trial.method), _method)
        yield _limits(limits)
        yield _reasons(both)
        yield _agreement(plain)
        yield _sureness(plain)
        yield _best(plain)
        yield _definitions([outcome for outcome in outcomes if outcome.trial.condition == "plain"])
        yield from _seeds([outcome for outcome in outcomes if outcome.trial.condition == "plain"])
    yield from _conditions(runs)
    yield _moments(outcomes)
    if plain:
        yield _misses(plain)


def _runs(runs: Sequence[Judged], outcomes: Sequence[Outcome]) -> Sheet:
    rows = []
    for name, several in _by(lambda run: run.trial.condition)(runs):
        labels = Counter(run.label for run in several)
        parts = {what: {getattr(run.trial, what) for run in several} for what in ("problem", "method", "seed")}
        counts = [str(labels[label]) for label in LABELS]
        rows.append([CONDITIONS[name].title, str(len(several)), *(str(len(part)) for part in parts.values()), *counts])
    columns = ["condition", "runs", "problems", "optimizers", "seeds", *LABELS]
    notes = []
    if len(runs) < len(outcomes):
        notes.append(f"{len(outcomes) - len(runs)} more runs are left out: not all of their learning rates were run.")
    return Sheet("What was run", columns, rows, notes)


def _groups(runs: Sequence[Judged]) -> Sheet:
    """List what was run of each problem: which optimizers, and which of them under other conditions."""
    rows = []
    for problem, several in _by(lambda run: run.trial.problem)(runs):
        cells = []
        for condition in CONDITIONS:
            of = [run.trial for run in several if run.trial.condition == condition]
            seeds = {method: len({t.seed for t in of if t.method == method}) for method in METHODS}
            cells.append(", ".join(name + (f" ({n} seeds)" if n > 1 else "") for name, n in seeds.items() if n) or "–")
        rows.append([_problem(problem), *cells])
    note = f"Each at {RATES} learning rates over {DECADES:g} decades. `*` marks what the study had not."
    return Sheet("Of each problem", ["problem", *CONDITIONS], rows, [note])


def _measures(both: Verdicts) -> Sheet:
    studied = {name: [run for run in runs if not _new(run)] for name, runs in both.items()}
    new = {name: [run for run in runs if _new(run)] for name, runs in both.items()}
    parts = {"": both, ", kinds the study had": studied, ", kinds it had not": new}
    columns = ["measure", "goal", "the study", *(name + part for name in both for part in parts)]
    rows = [
        [what, goal, study, *(of(several[name]).words for name in both for several in parts.values())]
        for what, (of, goal, study) in MEASURES.items()
    ]
    note = (
        "Shipped limits come from the study's 734 runs, none of which is here. Re-fitted ones come from the runs here "
        "of all problems but the one that is judged. A kind is a problem with an optimizer."
    )
    return Sheet(f"Verdicts at step {STEP}, plain training", columns, rows, [note])


def _distances(both: Verdicts) -> Sheet:
    bounds = [f"{low:g} to {high:g} times" for low, high in itertools.pairwise(DISTANCES[:-1])]
    columns = ["rate", "limits", f"up to {DISTANCES[0]:g} times", *bounds, f"more than {DISTANCES[-2]:g} times"]
    rows = [
        [f"too {truth}", name, *(share.words for share in recall(runs, truth))]
        for truth in ("small", "large")
        for name, runs in both.items()
    ]
    return Sheet("Found, by distance from the good rates", columns, rows)


def _confusion(title: str, runs: Sequence[Judged]) -> Sheet:
    rows = []
    families = {family: [run for run in runs if run.look.family == family] for family in FAMILIES}
    for family, several in {**families, "all": runs}.items():
        if several:
            rows += [[family, label, *map(str, counts)] for label, counts in confusion(several).items()]
    return Sheet(title, ["family", "true", "said small", "said nothing", "said large"], rows)


def _parts(
    title: str,
    both: Verdicts,
    split: Callable[[Sequence[Judged]], Iterator[tuple[str, list[Judged]]]],
    name: Callable[[str], str],
) -> Sheet:
    measures = (accuracy, wrong_way, far_off, left_alone)
    columns = ["", "limits", "right", "wrong way", "far ones right", "good ones left alone"]
    rows = [
        [name(part), limits, *(of(several).words for of in measures)]
        for limits, runs in both.items()
        for part, several in split(runs)
    ]
    return Sheet(title, columns, sorted(rows, key=lambda row: row[0]))


def _limits(fitted: dict[str, dict[str, Limits]]) -> Sheet:
    rows = []
    for family in FAMILIES:
        several = [limits[family] for limits in fitted.values()]
        for what in ("same", "next", "large"):
            values = sorted(getattr(limits, what) for limits in several)
            shown = [
                _number(getattr(SHIPPED[family], what)),
                *map(_number, (values[0], values[len(values) // 2], values[-1])),
            ]
            rows.append([family, what, *shown])
    columns = ["family", "limit", "shipped", "lowest re-fitted", "median", "highest"]
    note = (
        "Too small is alpha_same below *same* and alpha_next below *next*; too large without a blow-up is alpha_next "
        "above *large*."
    )
    return Sheet("Limits, as fitted without one problem each", columns, rows, [note])


def _sureness(plain: Sequence[Judged]) -> Sheet:
    rows = [
        [code, f"{sure:.0%}", share.words, f"{weighted:.0%}"]
        for code in ("R1", "R2", "R2b", "R3", "R3b", "R4")
        for sure, share, weighted in sureness(plain, code)
    ]
    odds = ", ".join(f"{share:.0%} {name}" for name, share in PRIOR.items())
    notes = [
        f"Confidence is stated for one who tries {odds} rates; here are other shares of them. The last column weighs "
        "the runs so that they have these.",
        f"Following the factor of a verdict once brings the rate nearer to the good ones in {helped(plain).words}.",
    ]
    columns = ["finding", "mean confidence", "right", "right, so weighed"]
    return Sheet("How sure, and how often right", columns, rows, notes)


def _best(plain: Sequence[Judged]) -> Sheet:
    best = [run for run in plain if run.trial.rate == run.band.best]
    rows = []
    for name, runs in _by(lambda run: run.trial.method)(best):
        table = Table.of([run.look for run in runs])
        shown = [_spread(column[np.isfinite(column)]) for column in (table.same, table.next)]
        rows.append([METHODS[name].title, str(len(runs)), *shown])
    columns = ["optimizer", "runs", "alpha_same", "alpha_next"]
    return Sheet("At the rate with the lowest final loss: median (lowest to highest)", columns, rows)


def _agreement(plain: Sequence[Judged]) -> Sheet:
    same = sum(run.said == twin.said for run, twin in zip(plain, again(plain, SHIPPED), strict=True))
    note = f"The shipped rules and their form that is re-fitted say the same of {same} of {len(plain)} runs."
    rows = []
    for label in LABELS:
        of = [run for run in plain if run.label == label]
        codes = Counter(code for run in of for code in run.look.faults)
        words = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        rows.append([label, Share.of(of, lambda run: bool(run.look.faults)).words, words or "–"])
    return Sheet("Runs that were warned of another fault", ["true", "warned", "of"], rows, [note])


def _definitions(plain: Sequence[Outcome]) -> Sheet:
    rows = []
    for criteria, words in DEFINITIONS.items():
        runs = judged(plain, by=criteria)
        labels = Counter(run.label for run in runs)
        fitted = {"shipped": runs, "re-fitted": refitted(runs)[0], "fitted to these very runs": overfitted(runs)}
        for name, several in fitted.items():
            shares = [of(several).words for of in (accuracy, wrong_way, far_off, left_alone)]
            rows.append([words, name, *(str(labels[label]) for label in LABELS), *shares])
    columns = ["good is", "limits", *LABELS, "right", "wrong way", "far ones right", "good ones left alone"]
    return Sheet("With other definitions of a good rate", columns, rows)


def _seeds(plain: Sequence[Outcome]) -> Iterator[Sheet]:
    told = told_by_another_seed(plain)
    if not told:
        return
    own = [
        run
        for seed in {run.trial.seed for run in plain}
        for run in judged(one for one in plain if one.trial.seed == seed)
    ]
    rows = [
        [words, *(of(runs).words for of in (accuracy, wrong_way, far_off, left_alone))]
        for words, runs in (
            ("what the runs of another seed were in the end", told),
            (f"the shipped rules at step {STEP}", own),
        )
    ]
    note = "Each seed has good rates of its own here, and the classes of two seeds are held against each other."
    columns = ["a class is told by", "right", "wrong way", "far ones right", "good ones left alone"]
    yield Sheet("What another seed tells", columns, rows, [note])


def _conditions(runs: Sequence[Judged]) -> Iterator[Sheet]:
    other = [run for run in runs if run.trial.condition != "plain"]
    if not other:
        return
    measures = (accuracy, wrong_way, far_off, left_alone)
    rows = []
    for name, several in _by(lambda run: run.trial.condition)(other):
        alike = {(run.trial.problem, run.trial.method) for run in several}
        beside = [r for r in runs if r.trial.condition == "plain" and (r.trial.problem, r.trial.method) in alike]
        rows.append([CONDITIONS[name].title, *(of(several).words for of in measures)])
        rows.append(["– the same, plain", *(of(beside).words for of in measures)])
    columns = ["condition", "right", "wrong way", "far ones right", "good ones left alone"]
    yield Sheet(f"Other conditions, shipped limits, step {STEP}", columns, rows)


def _moments(outcomes: Sequence[Outcome]) -> Sheet:
    steps = sorted({step for outcome in outcomes for step in outcome.looks})
    rows = []
    for condition in CONDITIONS:
        for step in steps:
            runs = judged((o for o in outcomes if o.trial.condition == condition), step)
            if runs:
                measures = (accuracy, wrong_way, far_off, left_alone)
                rows.append([CONDITIONS[condition].title, str(step), *(of(runs).words for of in measures)])
    columns = ["condition", "step", "right", "wrong way", "far ones right", "good ones left alone"]
    return Sheet("At other steps, shipped limits", columns, rows)


def _reasons(both: Verdicts) -> Sheet:
    counts = {name: Counter((run.said, reason(run)) for run in runs if not run.right) for name, runs in both.items()}
    rows = [
        [
            f"said {said}" if said != "good" else "said nothing",
            words,
            *(str(count[said, words]) for count in counts.values()),
        ]
        for said, words in sorted({key for count in counts.values() for key in count})
    ]
    return Sheet("Where right verdicts are lost", ["said", "true", *both], rows)


def _misses(plain: Sequence[Judged]) -> Sheet:
    """List the runs that were called something else than they are, those farthest off first, as many as one reads."""
    table = Table.of([run.look for run in plain])
    rows = []
    for index in sorted(range(len(plain)), key=lambda index: -plain[index].distance):
        run = plain[index]
        if not run.right:
            codes = " ".join(said.words for said in run.look.findings)
            statistics = [table.same[index], table.next[index], table.next_error[index], run.look.left]
            rows.append(
                [
                    run.trial.problem,
                    run.trial.method,
                    f"{run.trial.rate:.2g}",
                    run.label,
                    codes or "–",
                    f"{run.distance:.1f}",
                    f"{run.band.best / run.trial.rate:.2g}",
                    *map(_number, statistics),
                ]
            )
    columns = ["problem", "optimizer", "rate", "true", "said", "times off", "best / rate", "alpha_same", "alpha_next"]
    notes = ["`·` marks a note."]
    if len(rows) > MISSES:
        notes.append(f"{len(rows) - MISSES} more, which lie nearer to the edge of the good rates or on its good side.")
    return Sheet("Wrong verdicts, shipped limits", [*columns, "± ", "loss left"], rows[:MISSES], notes)


def _by(of: Callable[[Judged], str]) -> Callable[[Sequence[Judged]], Iterator[tuple[str, list[Judged]]]]:
    def split(runs: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
        for name in dict.fromkeys(map(of, runs)):
            yield name, [run for run in runs if of(run) == name]

    return split


def _new(run: Judged) -> bool:
    return not (PROBLEMS[run.trial.problem].studied and METHODS[run.trial.method].studied)


def _problem(name: str) -> str:
    return PROBLEMS[name].title + ("" if PROBLEMS[name].studied else " *")


def _method(name: str) -> str:
    return METHODS[name].title + ("" if METHODS[name].studied else " *")


def _spread(values: NDArray[np.float64]) -> str:
    if not len(values):
        return "–"
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def _number(value: float) -> str:
    return "–" if math.isinf(value) or math.isnan(value) else f"{value:.3g}"
