"""The tables of the benchmark of advice: how near to the best fixed learning rate trainings end."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from leading import OPTIMIZERS, PROBLEMS, RATES, Outcome
from sheet import Sheet

WORST = 100.0  # times the best loss: more counts as so much, so that one divergence does not decide a mean
NEAR = (1.25, 2.0, 5.0)
MISS = 2.0
HALVES = ("tuning", "held out")
WORDS = {"keep": "keep the start rate", "follow": "**follow the findings**", "alpha": "rate / (1 + α)"}
MEANING = {
    "keep": "all steps at the start rate",
    "follow": "the loop of [the example](../examples/follow_the_advice.py)",
    "alpha": "what the α of Cockpit's paper suggests: every 25 steps for 200 steps the rate is divided by 1 + the "
    "median of α (by ten at most, and without starting again)",
}

HEAD = """# What following the advice leads to

Made by `{command}`.

A training starts at a learning rate somewhere in 4.5 decades ({rates}), from {seeds}.

{policies}

All steps count, those that are thrown away as well: {steps}.

What a training ends with is divided by what the best fixed rate ends with: the least of the means over seeds among
trainings that keep their rate. A loss that is not finite, or more than {worst:g} times that, counts as {worst:g} times.
Factors do not mean the same everywhere: the cross-entropy of digits falls to a hundredth of where it began, that of
characters hardly to half, and on held-out patients the loss of a network that has learnt nothing is about twice the
best.

When the loop was worked out, results were looked at for {tuning}. All others were **held out**: {held} (of each, two
trainings by momentum with a first form of the loop had been seen).
"""


@dataclass(frozen=True)
class Result:
    """How many times the best fixed rate's loss a training ended with, on held-out and on training samples."""

    outcome: Outcome
    held_out: float
    train: float

    @property
    def half(self) -> str:
        """The half of the benchmark that the problem belongs to."""
        return PROBLEMS[self.outcome.trial.problem].half


def page(outcomes: Sequence[Outcome], command: str) -> str:
    """Return the page of the documentation."""
    problems = [PROBLEMS[name] for name in dict.fromkeys(outcome.trial.problem for outcome in outcomes)]
    rates = ", ".join(f"{min(rates):.1g} to {max(rates):g} for {name}" for name, rates in RATES.items())
    names = {half: ", ".join(problem.title for problem in problems if problem.half == half) for half in HALVES}
    steps = ", ".join(f"{problem.title} {problem.steps}" for problem in problems)
    policies = dict.fromkeys(outcome.trial.policy for outcome in outcomes)
    seeds = len({outcome.trial.seed for outcome in outcomes})
    head = HEAD.format(
        command=command,
        rates=rates,
        seeds=f"{seeds} {'seed' if seeds == 1 else 'seeds'}",
        policies="\n".join(f"- *{WORDS[policy].strip('*')}*: {MEANING[policy]}" for policy in policies),
        steps=steps,
        worst=WORST,
        tuning=names["tuning"] or "none of these",
        held=names["held out"] or "none",
    )
    return "\n".join([head, *(sheet.markdown() for sheet in sheets(outcomes))])


def results(outcomes: Sequence[Outcome]) -> list[Result]:
    """Hold every outcome against the best fixed rate of its problem and optimizer."""
    best = {pair: _best(members) for pair, members in _by_pair(outcomes)}
    return [
        Result(outcome, *(min(loss / least, WORST) for loss, least in _beside(outcome, best[_pair(outcome)])))
        for outcome in outcomes
    ]


def sheets(outcomes: Sequence[Outcome]) -> Iterator[Sheet]:
    """Yield every table: totals, problems, and the trainings that followed the findings and missed."""
    found = results(outcomes)
    yield _totals("Held-out loss over that of the best fixed rate", found, "held_out")
    yield _totals("Training loss over that of the best fixed rate", found, "train")
    yield _problems(outcomes, [result for result in found if result.outcome.trial.policy == "follow"])
    yield _misses([result for result in found if result.outcome.trial.policy == "follow"])


def _totals(title: str, found: Sequence[Result], loss: str) -> Sheet:
    rows = []
    for policy in dict.fromkeys(result.outcome.trial.policy for result in found):
        followed = [result for result in found if result.outcome.trial.policy == policy]
        for half in (*HALVES, "all"):
            rows += _row([WORDS[policy], half, "all"], [r for r in followed if half in (r.half, "all")], loss)
        for optimizer in OPTIMIZERS:
            members = [result for result in followed if result.outcome.trial.optimizer == optimizer]
            rows += _row([WORDS[policy], "all", optimizer], members, loss)
    columns = ["policy", "half", "optimizer", "trainings", *(f"within {near:g}×" for near in NEAR), "geometric mean"]
    return Sheet(title, columns, rows)


def _row(names: Sequence[str], members: Sequence[Result], loss: str) -> list[list[str]]:
    ratios = [getattr(result, loss) for result in members]
    if not ratios:
        return []
    shares = [sum(ratio <= near for ratio in ratios) / len(ratios) for near in NEAR]
    mean = statistics.geometric_mean(ratios)
    return [[*names, str(len(ratios)), *(f"{share:.0%}" for share in shares), f"{mean:.2f}×"]]


def _problems(outcomes: Sequence[Outcome], followed: Sequence[Result]) -> Sheet:
    rows = []
    for pair, members in _by_pair(outcomes):
        kept = [outcome for outcome in members if outcome.trial.policy == "keep"]
        rate, _ = min(_means(kept, 1).items(), key=lambda entry: entry[1])
        held_out, train = _best(members)
        mine = [result for result in followed if _pair(result.outcome) == pair]
        if mine:
            within = [f"{sum(getattr(r, loss) <= MISS for r in mine)} of {len(mine)}" for loss in ("held_out", "train")]
            ends = sorted(result.outcome.last for result in mine)
            led = f"{ends[len(ends) // 10]:.2g} to {ends[-1 - len(ends) // 10]:.2g}"
            half, title = PROBLEMS[pair[0]].half, PROBLEMS[pair[0]].title
            rows.append([title, half, pair[1], f"{rate:.2g}", f"{held_out:.3g}", f"{train:.3g}", led, *within])
    columns = ["problem", "half", "optimizer", "best fixed rate", "its held-out loss", "least training loss"]
    columns += ["led to (8 of 10)", "within 2×, held out", "within 2×, training"]
    return Sheet("Problems, for those who follow the findings", columns, rows)


def _misses(followed: Sequence[Result]) -> Sheet:
    rows = []
    for result in followed:
        trial = result.outcome.trial
        if result.held_out > MISS:
            names = [PROBLEMS[trial.problem].title, trial.optimizer, f"{trial.rate:.2g}", str(trial.seed)]
            path = "; ".join(line.strip() for line in result.outcome.said)
            rows.append([*names, f"{result.held_out:.3g}×", f"{result.outcome.last:.2g}", path])
    columns = ["problem", "optimizer", "start", "seed", "loss", "end", "what was said and done"]
    return Sheet("Followed the findings, and more than 2× the best held-out loss", columns, rows)


def _by_pair(outcomes: Iterable[Outcome]) -> Iterator[tuple[tuple[str, str], list[Outcome]]]:
    outcomes = list(outcomes)
    for pair in dict.fromkeys(map(_pair, outcomes)):
        yield pair, [outcome for outcome in outcomes if _pair(outcome) == pair]


def _pair(outcome: Outcome) -> tuple[str, str]:
    return outcome.trial.problem, outcome.trial.optimizer


def _best(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    """Return the least mean held-out and training loss of a fixed rate, each at its own rate."""
    kept = [outcome for outcome in outcomes if outcome.trial.policy == "keep"]
    held_out, train = (min(_means(kept, index).values()) for index in (1, 0))
    return held_out, train


def _means(kept: Sequence[Outcome], index: int) -> dict[float, float]:
    """Return the mean loss over seeds of each rate: the training loss for index 0, the held-out one for 1."""
    rates = dict.fromkeys(outcome.trial.rate for outcome in kept)
    return {
        rate: statistics.fmean((o.train, o.held_out)[index] for o in kept if o.trial.rate == rate) for rate in rates
    }


def _beside(outcome: Outcome, best: tuple[float, float]) -> Iterator[tuple[float, float]]:
    return zip((outcome.held_out, outcome.train), best, strict=True)
