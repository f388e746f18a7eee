"""The rule about samples held out, where the script logs their loss: what is learnt does not carry over to them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import latest, level, start
from cockpitlite.diagnosis.finding import Evidence, Finding, Severity
from cockpitlite.diagnosis.guess import guessing
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.words import number
from cockpitlite.store import Steps, Values

_LOSSES = {"loss", "nll", "mse"}
_HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "held"}
_LOOKS = 3  # logged losses, from which on they are judged
_LAST = 2  # of them that have to agree
_AROUND = 20  # losses of batches whose median is the loss at a step
_BLOCKS = 32  # of logged losses at most, each told by its median, so that one logged at every step is judged as well


@dataclass(frozen=True)
class _Seen:
    """A loss on held-out samples as it was logged, where it was lowest; that of the batches now; that of guessing.

    ``losses`` are medians of so many logged in a row as ``size`` says; ``batches`` has that of the batches in words.
    """

    name: str
    steps: Steps
    losses: Values
    size: int
    best: int
    now: float
    batches: str
    guess: float

    @property
    def least(self) -> float:
        """The lowest one."""
        return float(self.losses[self.best])

    @property
    def last(self) -> Values:
        """The last ones."""
        return self.losses[-_LAST:]

    @property
    def latest(self) -> str:
        """The last one in words, which say where it is a median."""
        median = f" (median of the last {self.size} logged)" if self.size > 1 else ""
        return f"{number(float(self.losses[-1]))}{median}"

    def finding(self, severity: Severity, title: str, explanation: str, suggestion: str, since: int) -> Finding:
        """Return what is to be said of it."""
        return Finding(
            code="F25",
            severity=severity,
            confidence=0.8 if severity == "warning" else 0.6,
            title=title,
            explanation=explanation,
            evidence=(Evidence.of(self.name, self.steps, self.losses),),
            suggestion=suggestion,
            since=since,
        )


@rule("F25", needs=("loss",), silenced_by=(FAULT, "R1", "R1b"))
def does_not_carry_over(readings: Readings) -> Finding | None:
    """What is learnt of the batches does not carry over to samples held out: overfitting, or labels that are mixed up.

    It is looked for where the script logs a held-out loss, as by `optimizer.cockpit.log(valid_loss=...)`: a name with
    *loss*, *nll* or *mse* and one of *val*, *valid*, *validation*, *eval*, *test*, *dev* and *held out* in it, three
    times or more. It rises while that of the batches falls on: a note where each of the last two is more than 1.1 times
    the lowest, a warning from twice on. Or it stays, above a tenth of what guessing costs, twenty times as high as
    that of the batches: a note, samples are learnt by heart. Or it was never better than guessing though the batches'
    is a tenth lower: a warning, since labels may not belong to their inputs; a note where it is 3 % lower.
    """
    seen = _look(readings)
    if seen.least > t.NO_SIGNAL_LOSS * seen.guess and seen.losses[0] < t.OTHER_SCALE * seen.guess:
        return _nothing(seen) if seen.now < t.FALLS_SLIGHTLY * seen.least else None
    rising = len(seen.losses) - 1 - seen.best >= _LAST and float(seen.last.min()) > t.HELD_OUT_RISES * seen.least
    if rising and seen.now < t.FALLS_ON * _loss_at(readings, int(seen.steps[seen.best])):
        return _rising(seen)
    by_heart = seen.now < t.BY_HEART * seen.least and seen.least > t.HELD_OUT_LEFT * seen.guess
    return _by_heart(seen) if by_heart else None


def _nothing(seen: _Seen) -> Finding:
    return seen.finding(
        "warning" if seen.now < t.FALLS_ON * seen.least else "info",
        "Nothing of what is learnt carries over to held-out samples",
        f"{seen.name} was never below {number(seen.least)}, and guessing costs {number(seen.guess)}, while the loss of "
        f"the batches has fallen to {seen.batches}: samples are learnt by heart.",
        "Check that each label belongs to its input in both sets (shuffled apart, shifted by one, sorted on one side "
        "only), and that both sets are prepared alike. Very few samples look like this as well.",
        since=int(seen.steps[0]),
    )


def _rising(seen: _Seen) -> Finding:
    far, at = float(seen.last.min()) > t.HELD_OUT_RISES_FAR * seen.least, int(seen.steps[seen.best])
    return seen.finding(
        "warning" if far else "info",
        "The loss on held-out samples rises: overfitting",
        f"{seen.name} was lowest at step {at:,}, {number(seen.least)}, and is {seen.latest} now, while the loss of the "
        f"batches has gone on falling, to {seen.batches}.",
        f"Take the weights of about step {at:,}. {_REGULARISE}",
        since=int(seen.steps[seen.best + 1]),
    )


def _by_heart(seen: _Seen) -> Finding:
    return seen.finding(
        "info",
        "The batches are learnt by heart, and held-out samples gain little from it",
        f"{seen.name} is {seen.latest} now and was never below {number(seen.least)}; the loss of the batches is "
        f"{seen.batches}, less than a twentieth of that.",
        f"More steps will hardly help. {_REGULARISE}",
        since=int(seen.steps[seen.best]),
    )


_REGULARISE = "More samples or augmentation, dropout or weight decay, or a smaller model let it fall further."


def is_held_out_loss(name: str) -> bool:
    """Whether a logged number is called like a loss on held-out samples."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return bool(words & _LOSSES and words & _HELD_OUT)


def _look(readings: Readings) -> _Seen:
    """Return the held-out loss that was logged most often; raises Unjudged where there is too little of it."""
    names = sorted(filter(is_held_out_loss, readings.names))
    if not names:
        raise Unjudged("no loss on held-out samples was logged; optimizer.cockpit.log(valid_loss=...) does")
    known = {name: readings.series(name) for name in names}
    name, (steps, losses) = max(known.items(), key=lambda item: len(item[1][0]))
    steps, losses = steps[np.isfinite(losses)], losses[np.isfinite(losses)]
    if len(losses) < _LOOKS:
        raise Unjudged(
            f"{name} was logged {len(losses)} {'time' if len(losses) == 1 else 'times'}; {_LOOKS} are needed"
        )
    size = -(-len(losses) // _BLOCKS)
    steps, losses = _in_blocks(steps, losses, size)
    begin = readings.derived(start).loss
    if min(begin, float(losses.min())) <= 0:
        raise Unjudged("a loss is not above 0, so there is no scale to compare with")
    best, now, batches = int(np.argmin(losses)), level(readings, _AROUND), latest(readings, _AROUND)
    return _Seen(name, steps, losses, size, best, now, batches, _guess(readings, begin))


def _in_blocks(steps: Steps, losses: Values, size: int) -> tuple[Steps, Values]:
    """Return the medians of so many losses in a row, each at the last step of its own."""
    begins = range(len(losses) % size, len(losses), size)
    medians = np.array([np.median(losses[begin : begin + size]) for begin in begins])
    return steps[[begin + size - 1 for begin in begins]], medians


def _guess(readings: Readings, first: float) -> float:
    """Return what guessing costs; where it is not known, the first loss."""
    try:
        return guessing(readings)[0]
    except Unjudged:
        return first


def _loss_at(readings: Readings, step: int) -> float:
    """Return the loss of the batches around a step."""
    steps, losses = readings.series("loss")
    at = int(np.searchsorted(steps, step))
    return float(np.nanmedian(losses[max(0, at - _AROUND // 2) : at + _AROUND // 2]))
