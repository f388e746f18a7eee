"""What was measured, as tables: for the terminal, and for the page of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from interleaving import Spread
from pricing import Price
from problems import PROBLEMS
from results import Measured
from scaling import FACTORS
from sheet import Sheet, words_of
from targets import targets_of_overhead, targets_of_price

TITLE = "# What watching costs"
HEAD = """Made by `{command}`.
The rows of a table took turns with plain training, block by block, in one run. A number in front of brackets is a
median over rounds, its quartiles are in the brackets. Times are those of a whole training step by SGD with momentum, at
batch 128 (GPT: 16 sequences).

- *economy*, *business* and *full* are Cockpit's contents of that panel, and the paired step lengths; *whole-* is our
  preset with all that it adds. *Samples* is `samples=`, *every* is `every=`; *untracked* is watched, between tracked
  steps.
- *× plain* is a step over the plain steps beside it. The paired step lengths have a schedule of their own, ten steps of
  each 500, fewer under a small budget: *with paired* counts ten. *Expected* is one tracked step spread over the
  interval, and the untracked ones.
- *Peak* is the most that tensors hold at once, data left out, and its ratio to plain: in steps like any other, and *at
  first*, when the samples' gradients and the replay of the step are checked. *File* is what a tracked step adds to the
  run file, in bytes.
- Cockpit 1.0.2 runs in an environment and a process of its own, against plain steps of that process. Its panels are
  measured at every step.
"""
BUDGET = """## At the default budget

`watch(optimizer, model)` lets watching take 10 % of the plain time. A whole run under each preset took turns with a
plain one from the first step on. *Overhead* is watching time over plain time, diagnosis counted, with the quartiles of
five parts of the run; *stated* is what the run file says at its end of the 500 steps before, in a short run the closely
watched first ones among them; *interval* is the mean number of steps between tracked ones. The promises are of steps
200 to 1200; a run over others has no paired step lengths in it before step 500.
"""
SCALING = """## As the model grows

Added time over plain time, with the economy panel (Cockpit's contents) at every step: it must stay flat. *Growth* is
the last size over the first.
"""


def page(measured: Sequence[Measured], command: str, picture: str, old: Path) -> str:
    """Return the page: what was written by hand in the old one, and the tables.

    ``picture`` is the file that the curves were drawn into.
    """
    parts = [words_of(old, TITLE), HEAD.format(command=command)]
    parts += [f"Measured on {machine}.\n" for machine in dict.fromkeys(each.machine for each in measured)]
    parts += ["## Every step, and every k-th\n", *_markdown(price_sheets(measured))]
    if any(each.overheads for each in measured):
        parts += [BUDGET, *_markdown(overhead_sheets(measured))]
    if any(each.curves for each in measured):
        parts += [SCALING, f"![added time over plain time, by axis]({picture})\n", *_markdown(curve_sheets(measured))]
    return "\n".join(parts)


def sheets(measured: Sequence[Measured]) -> Iterator[Sheet]:
    """Yield every table."""
    yield from price_sheets(measured)
    yield from overhead_sheets(measured)
    yield from curve_sheets(measured)


def _markdown(several: Iterator[Sheet]) -> Iterator[str]:
    return (sheet.markdown() for sheet in several)


def price_sheets(measured: Sequence[Measured]) -> Iterator[Sheet]:
    """Yield a table of prices for each problem on each device."""
    columns = [
        "",
        "samples",
        "every",
        "step ms",
        "added ms",
        "× plain",
        "with paired",
        "expected",
        "peak MB",
        "at first",
        "file B",
    ]
    for each in measured:
        if each.prices:
            rows = [[*_price_row(price), _promises(each.problem, price)] for price in each.prices]
            notes = dict.fromkeys(f"Cockpit cannot watch it: {price.note}." for price in each.prices if price.note)
            yield Sheet(_title(each), [*columns, "target"], rows, list(notes))


def _price_row(price: Price) -> list[str]:
    own = price.program == "cockpitlite"
    name = price.panel if own else f"{price.program} {price.panel}".strip()
    peaks = [_bytes(peak, price.plain_peak) for peak in (price.peak, price.first_peak)]
    return [
        name,
        "" if price.every is None or price.program == "plain" else str(price.samples or "all"),
        "" if price.every is None else str(price.every),
        _spread(price.step, 1e3),
        _spread(price.added, 1e3),
        _spread(price.ratio),
        _maybe(price.whole_ratio if price.every is not None and own else None, _number),
        _maybe(price.amortised, _number),
        *peaks,
        _maybe(price.file, lambda size: f"{size:.0f}"),
    ]


def _bytes(peak: float | None, plain: float | None) -> str:
    share = f" ({peak / plain:.2f}×)" if peak and plain else ""
    return _maybe(peak, lambda peak: f"{peak / 1e6:.1f}{share}")


def _promises(problem: str, price: Price) -> str:
    return ", ".join(map(str, targets_of_price(problem, price)))


def overhead_sheets(measured: Sequence[Measured]) -> Iterator[Sheet]:
    """Yield a table of the default budget for each problem on each device."""
    columns = ["panel", "samples", "steps", "plain step ms", "overhead", "stated", "interval", "target"]
    for each in measured:
        rows = [
            [
                o.panel,
                str(o.samples or "all"),
                f"{o.first}–{o.last}",
                _number(o.plain * 1e3),
                f"{o.overhead:.1%} ({o.windows.low:.1%}–{o.windows.high:.1%})",
                f"{o.stated:.1%}",
                f"{o.interval:.1f}",
                ", ".join(map(str, targets_of_overhead(o))),
            ]
            for o in each.overheads
        ]
        if rows:
            yield Sheet(_title(each), columns, rows)


def curve_sheets(measured: Sequence[Measured]) -> Iterator[Sheet]:
    """Yield a table of the curves for each problem on each device."""
    columns = ["axis", *(f"×{factor}" for factor in FACTORS), "plain step ms", "growth"]
    for each in measured:
        rows = []
        for curve in each.curves:
            added = [_spread(point.added) for point in curve.points] + ["–"] * (len(FACTORS) - len(curve.points))
            plain = f"{_number(curve.points[0].plain * 1e3)} to {_number(curve.points[-1].plain * 1e3)}"
            rows.append([curve.axis, *added, plain, f"{curve.growth:.2f}"])
        notes = [f"{curve.axis}: {curve.note}." for curve in each.curves if curve.note]
        if rows:
            yield Sheet(_title(each), columns, rows, notes)


def _title(measured: Measured) -> str:
    title = PROBLEMS[measured.problem].title if measured.problem in PROBLEMS else measured.problem
    return f"{title}, {'GPU' if measured.device == 'cuda' else measured.device.upper()}"


def _spread(spread: Spread | None, factor: float = 1.0) -> str:
    if spread is None:
        return "–"
    low, median, high = (_number(value * factor) for value in (spread.low, spread.median, spread.high))
    return f"{median} ({low}–{high})"


def _maybe(value: float | None, words: Callable[[float], str]) -> str:
    return "–" if value is None else words(value)


def _number(value: float) -> str:
    """Return a number with what can be told from its noise: three digits behind the point below 2, fewer above."""
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 20 else f"{value:.0f}"
