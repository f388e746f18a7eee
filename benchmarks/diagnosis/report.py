"""The tables of the benchmark of faults."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from sheet import Sheet

from .judging import LEAST, QUANTILE, REFERENCES, Judged, Limits, Tally, instead
from .programs import PROGRAMS
from .training import VALIDATE
from .trial import KINDS
from .untold import WOULD_TELL

HALVES = ("tuning", "held out")

HEAD = f"""# What the diagnosis finds

Made by `{{command}}`. {{part}}

A *fault* is done to a small PyTorch training that otherwise goes well, or a training is *healthy* but odd; each is
watched by one line, `watch(optimizer, model)`, and diagnosed from its run file alone. Labels come from results, not
from rules. A run is *worse* if its final score on held-out samples lies above that of the healthy runs of its program
by more than chance allows: above the mean of {REFERENCES} unwatched runs by {QUANTILE} standard deviations of a
prediction (one healthy run in 1000), and by {LEAST:.0%} at least. A faulty run *counts* if it is worse or breaks an
invariant of training; a healthy run counts if it is not worse.

- *Detected*: anything above a note was found, or the right note. *Top 1* and *top 3*: a right cause is the first, or
  among the first three, of what `diagnose(run, history=True)` gives. *Steps*: the median step at which the right cause
  first stood, for one who watches live. *Accepted* are the codes taken as right; where there is none, no rule names the
  fault yet. *Instead* is what came first where no right cause was in the top 3; `·` marks a note.
- *False alarms* are healthy runs with a warning or an error; *live* are those that had one at any moment.
- Thresholds are tuned on {{tuning}}.
- **Held out** are {{held}}: no threshold was fitted to them. The faults are the same in both halves, though, and which
  of them have a rule was decided on what an earlier run had missed in either: F2b, F8f, F8g, F20, F20b, F22, F23
  and F24 to F27 came last, as did the order of notes. They rest on settings, shapes, the names of functions, what
  guessing costs, the time before a forward, the memory, and the loss on
  held-out samples, which the trainings log every {VALIDATE} steps as `valid_loss`.
"""


def page(runs: Sequence[Judged], limits: Limits, command: str, part: str) -> str:
    """Return the page of the documentation; ``part`` says what of the whole was run."""
    names = {half: ", ".join(p.title for p in PROGRAMS.values() if p.half == half) for half in HALVES}
    head = HEAD.format(command=command, part=part, tuning=names["tuning"], held=names["held out"])
    return "\n".join([head, *(sheet.markdown() for sheet in sheets(runs, limits))])


def sheets(runs: Sequence[Judged], limits: Limits) -> Iterator[Sheet]:
    """Yield every table: totals, faults, misses and why, healthy kinds."""
    faulty = [run for run in runs if not run.kind.healthy]
    good = [run for run in runs if run.kind.healthy]
    yield _totals(faulty, good)
    yield _limits(limits)
    if faulty:
        yield _faults(faulty)
        yield _misses(faulty)
        yield _untold(faulty)
    if good:
        yield _healthy(good)
    broken = list(_broken(runs))
    if broken:
        yield Sheet("Trainings and diagnoses that ended in an error", ["run", "error"], broken)


def _totals(faulty: Sequence[Judged], good: Sequence[Judged]) -> Sheet:
    columns = ["half", "faulty runs", "count", "detected", "top 1", "top 3", "precision of top 1", "steps"]
    rows = []
    for half in (*HALVES, "all"):
        tally = Tally.of(_of(faulty, half))
        healthy = [run for run in _of(good, half) if run.counts]
        alarms, live = (sum(bool(found) for found in column) for column in _alarms(healthy))
        rows.append(
            [
                half,
                str(tally.runs),
                *_shares(tally),
                "–" if math.isnan(tally.precision) else f"{tally.precision:.1%}",
                _steps(tally.steps),
                str(len(_of(good, half))),
                str(len(healthy)),
                _share(alarms, len(healthy)),
                _share(live, len(healthy)),
            ]
        )
    return Sheet("Totals", [*columns, "healthy runs", "count", "false alarms", "live"], rows)


def _limits(limits: Limits) -> Sheet:
    rows = [[PROGRAMS[name].title, PROGRAMS[name].half, f"{limit:.3f}"] for name, limit in limits.items()]
    note = "Share of wrong classes, or of the variance that is left."
    return Sheet("Scores above which a run is worse", ["program", "half", "limit"], rows, [note])


def _faults(faulty: Sequence[Judged]) -> Sheet:
    columns = ["fault", "runs", "count", "detected", "top 1", "top 3", "steps", "accepted", "instead"]
    rows = []
    for name, runs in _by_kind(faulty):
        tally = Tally.of(runs)
        kind = KINDS[name]
        given = ", ".join(f"{code} {count}" for code, count in instead(runs).most_common(4))
        row = [name, str(tally.runs), *_shares(tally), _steps(tally.steps), " ".join(sorted(kind.accepted)) or "–"]
        rows.append([*row, given])
    return Sheet("Faults", columns, rows)


def _misses(faulty: Sequence[Judged]) -> Sheet:
    """List each fault and program where a right cause was missed, with what was said."""
    rows = []
    for name, runs in _by_kind(faulty):
        for program in dict.fromkeys(run.outcome.trial.program for run in runs):
            for level in dict.fromkeys(run.outcome.trial.level for run in runs):
                cell = [r for r in runs if (r.outcome.trial.program, r.outcome.trial.level) == (program, level)]
                missed = [run for run in cell if run.counts and not run.right_within(3)]
                if missed:
                    said = Counter(" ".join(_codes(run)) or "–" for run in missed)
                    words = "; ".join(f"{codes} ({count})" if count > 1 else codes for codes, count in said.items())
                    scores = " ".join(f"{run.outcome.score:.3g}" for run in missed)
                    rows.append([name, f"{level:.3g}", program, f"{len(missed)}/{len(cell)}", scores, words])
    columns = ["fault", "level", "program", "missed", "scores", "all that was said"]
    return Sheet("Misses: no right cause in the top 3", columns, rows)


def _untold(faulty: Sequence[Judged]) -> Sheet:
    """Say of each fault that was missed which measurement would tell, the most often missed first."""
    rows = []
    for name, runs in _by_kind(faulty):
        counted = [run for run in runs if run.counts]
        missed = sum(not run.right_within(3) for run in counted)
        if missed:
            rows.append([name, _share(missed, len(counted)), WOULD_TELL.get(name, "–")])
    rows.sort(key=lambda row: -int(row[1].rpartition("(")[2].rstrip(")")))
    return Sheet("Why, and which measurement would tell", ["fault", "missed", "what would tell"], rows)


def _healthy(good: Sequence[Judged]) -> Sheet:
    rows = []
    for name, runs in _by_kind(good):
        counted = [run for run in runs if run.counts]
        alarms, live = _alarms(counted)
        words = Counter(f"{code} {run.outcome.trial.program}" for run in counted for code in run.live_alarms)
        listed = ", ".join(f"{code} {count}" for code, count in words.most_common())
        totals = [_share(sum(map(bool, column)), len(counted)) for column in (alarms, live)]
        rows.append([name, str(len(runs)), str(len(counted)), *totals, listed])
    return Sheet("Healthy runs", ["kind", "runs", "count", "false alarms", "live", "codes by program"], rows)


def _broken(runs: Sequence[Judged]) -> Iterator[list[str]]:
    for run in runs:
        if run.outcome.error and not run.right_within(1):
            yield [run.outcome.trial.name, run.outcome.error]
        yield from ([run.outcome.trial.name, said.title] for said in run.outcome.findings if said.code == "crash")


def _alarms(runs: Iterable[Judged]) -> tuple[list[list[str]], list[list[str]]]:
    runs = list(runs)
    return [run.false_alarms for run in runs], [sorted({*run.false_alarms, *run.live_alarms}) for run in runs]


def _codes(run: Judged) -> list[str]:
    return [f"{each.code}{'·' if each.severity == 'info' else ''}" for each in run.outcome.findings]


def _by_kind(runs: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    for name in dict.fromkeys(run.outcome.trial.kind for run in runs):
        yield name, [run for run in runs if run.outcome.trial.kind == name]


def _of(runs: Sequence[Judged], half: str) -> list[Judged]:
    return [run for run in runs if half in (run.half, "all")]


def _shares(tally: Tally) -> list[str]:
    hits = (tally.detected, tally.first, tally.third)
    return [str(tally.counted), *(_share(hit, tally.counted) for hit in hits)]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part})" if whole else "–"


def _steps(steps: float | None) -> str:
    return "–" if steps is None else f"{steps:g}"
