"""Rules about numbers that are no numbers: the first NaN or infinity, and what broke there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.course import limit, peak, start
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import number, times
from cockpitlite.store import Event, Steps, Values

_SURVIVED = 3  # finite losses in a row that end an episode of non-finite ones
_BEFORE = 2  # lengths of gradients and updates that are shown of the time before

# What broke, where first seen there: what it means, and what to look at.
_PLACES = {
    "input": ("in the input of the model", "Look at the data: the batch of step {step} holds NaN or infinite values."),
    "parameter": ("in the parameter {layer}, before the batch was seen", ""),  # see _broken_before
    "forward": (
        "in the output of {layer}",
        "What the layers before it gave in step {step} was finite: look in this layer, and at what is computed between "
        "them, for log(0), a division by 0, or the overflow of a 16-bit number.",
    ),
    "loss": (
        "in the loss",
        "What the layers gave in step {step} was finite: look in the loss, and at what is computed between them and "
        "it, for log(0), a division by 0, or targets that are not finite.",
    ),
    "gradient": (
        "in the gradient of {layer}",
        "The loss of step {step} was finite: look in the backward pass for the root or the norm of 0, a division by a "
        "tiny number, or the overflow of a 16-bit number.",
    ),
    "update": (
        "in the update of {layer}",
        "The gradient of step {step} was finite: look at the optimizer's settings (eps, learning rate, weight decay) "
        "and its state.",
    ),
}
_SEARCH = "Watched with every=1, the same training shows the first place."


@dataclass(frozen=True)
class _Episode:
    """A stretch of steps with non-finite values that is not over: its first step, and the first place found in it.

    ``sound`` is the last step before it whose update is known to have been finite, None where none is; ``sudden`` says
    whether its first loss is not finite and that of the step before is.
    """

    step: int
    found: Event | None
    sound: int | None
    sudden: bool

    @property
    def what(self) -> str:
        """The kind of place, empty where none was found."""
        return "" if self.found is None else str(self.found.data.get("what"))

    @property
    def place(self) -> str:
        """The place in words, empty where none was found."""
        layer = None if self.found is None else self.found.data.get("layer")
        return _PLACES.get(self.what, ("", ""))[0].format(layer=layer or "a layer")

    @property
    def searched(self) -> bool:
        """Whether the place was found in the first step, and not in a later one."""
        return self.found is not None and self.found.step == self.step

    @property
    def suspect(self) -> int:
        """The first step whose update may have broken something; the step itself where none before may have."""
        if self.step == 0 or self.sound == self.step - 1 or (self.searched and self.what != "parameter"):
            return self.step
        return self.step - 1 if self.sudden or self.sound is None else self.sound + 1

    @property
    def first(self) -> str:
        """Where the first non-finite value was seen, which in a step that was not searched is its loss."""
        if not self.searched:
            return ", first seen in the loss"
        return self.place and f", first {'found ' if self.what == 'parameter' else ''}{self.place}"


@rule("R0", fault=True)
def nonfinite(readings: Readings) -> Finding | None:
    """A NaN or infinite value has appeared, and training has not got rid of it.

    Names the first place in the order inputs, parameters, outputs of the layers, loss, gradients, updates. Of a step
    that was not looked at so closely only the loss is known: the batch, the model and the loss may have made it, or
    the update of the step before. Where the loss had risen far or the steps had become longer than a tenth of the
    weights before, too large a learning rate is named as the likely cause. Silent once three finite losses in a row
    have followed; the history keeps it.
    """
    if not readings.events("nonfinite"):
        readings.require("loss")
    episode = _episode(readings)
    if episode is None:
        return None
    cause = _cause(readings, episode)
    return Finding(
        code="R0",
        severity="error",
        confidence=1.0,
        title=f"Non-finite values since step {episode.step:,}{episode.first}",
        explanation=f"{_story(episode)} {cause}".strip(),
        evidence=(*_losses_around(readings, episode.step), *_lengths_around(readings, episode)),
        suggestion=_remedy(episode, bool(cause)),
        lr_factor=float(t.AFTER_NONFINITE) if cause else None,
        since=episode.step,
    )


def _episode(readings: Readings) -> _Episode | None:
    steps, losses = _losses(readings)
    finite = steps[np.isfinite(losses)]
    events = readings.events("nonfinite")
    marks = np.union1d(steps[~np.isfinite(losses)], np.array([event.step for event in events], dtype=np.int64))
    if not len(marks) or (len(finite) - np.searchsorted(finite, marks[-1], "right") >= _SURVIVED and _moves(readings)):
        return None
    healthy = np.searchsorted(finite, marks[1:], "left") - np.searchsorted(finite, marks[:-1], "right")
    begin = int(marks[int(np.max(np.flatnonzero(healthy >= _SURVIVED), initial=-1)) + 1])
    searched = (event for event in events if event.step >= begin and event.data.get("searched", True))
    sudden = begin - 1 in finite and begin in steps and begin not in finite
    return _Episode(begin, next(searched, None), _sound(readings.at(begin - 1)), sudden)


def _sound(before: Readings) -> int | None:
    """Return the last step whose update is known to have been finite."""
    steps, sizes = before.series("update_size") if before.has("update_size") else (np.empty(0, np.int64), np.empty(0))
    finite = steps[np.isfinite(sizes)]
    return int(finite[-1]) if len(finite) else None


def _moves(readings: Readings) -> bool:
    """Whether the last known step was finite, as it is not while a parameter is NaN, even an unused one."""
    _, sizes = readings.recent("update_size", 1) if readings.has("update_size") else (None, np.zeros(1))
    return bool(np.all(np.isfinite(sizes)))


def _story(episode: _Episode) -> str:
    step, found = episode.step, episode.found
    if found is None:
        return f"The loss of step {step:,} is not a finite number. Where that began has not been found."
    sample = found.data.get("sample")
    where = (episode.place or "found") + ("" if sample is None else f", sample {sample} of the batch")
    if episode.searched:
        return f"The first NaN or infinite value of step {step:,} was {where}."
    follows = " The update that was made of such a loss may have broken it." if episode.what == "parameter" else ""
    return (
        f"The loss of step {step:,} is not a finite number. The step itself was not searched; in step {found.step:,} "
        f"the first such value was {where}.{follows}"
    )


def _remedy(episode: _Episode, by_rate: bool) -> str:
    advice = _advice(episode)
    if not by_rate:
        return advice
    return (
        f"Restart from the initial parameters, or from a checkpoint before step {episode.suspect:,}, with the learning "
        f"rate {times(t.AFTER_NONFINITE)} and the gradient norm clipped at 1. If that does not help: {advice}"
    )


def _advice(episode: _Episode) -> str:
    advice = _PLACES.get(episode.what, ("", ""))[1]
    if episode.found is not None and advice:
        return advice.format(step=f"{episode.found.step:,}")
    return _broken_before(episode) if episode.searched and episode.what == "parameter" else _unsearched(episode)


def _broken_before(episode: _Episode) -> str:
    """Return what to look at where a parameter was broken before its step began."""
    step, sound, suspect = episode.step, episode.sound, episode.suspect
    if step == 0:
        return "It was so before the first step: look at what sets it, its initialisation or a checkpoint."
    if suspect == step:
        return (
            f"The update of step {sound:,} was finite, so it was set after that and outside of the optimizer's step: "
            "look at what sets parameters there, such as a checkpoint, an average of weights or a limit to them."
        )
    if episode.sudden:
        return (
            f"Most likely the update of step {suspect:,} broke it, whose loss was still finite; else it was set from "
            f"outside after that. Look at gradient and update of step {suspect:,}. {_SEARCH}"
        )
    updates = (
        f"The update of step {suspect:,}"
        if suspect == step - 1
        else f"An update of the steps {suspect:,} to {step - 1:,}"
    )
    if sound is None:
        updates = f"An update before step {step:,}"
    return f"{updates} broke it, or it was set from outside: look at gradient and update there. {_SEARCH}"


def _unsearched(episode: _Episode) -> str:
    """Return what to look at where it is not known what broke in the first step."""
    step, suspect = episode.step, episode.suspect
    look = f"Look at the batch of step {step:,}, and in model and loss for log(0) or a division by 0"
    if suspect == step:
        return f"{look}. {_SEARCH}"
    before = f"the update of step {suspect:,}" if suspect == step - 1 else "an update before that"
    return f"{look}; or, if {before} broke the parameters, at its gradient. {_SEARCH}"


def _cause(readings: Readings, episode: _Episode) -> str:
    """Return a sentence on what the learning rate has to do with it, empty where nothing says so."""
    if episode.what == "input":
        return ""
    before = readings.at(episode.step - 1)
    # Where the gradient was still finite, the broken update itself tells how long it was.
    return _risen_loss(before) or _long_step(readings.at(episode.step) if episode.what == "update" else before)


def _risen_loss(before: Readings) -> str:
    try:
        begin, high, found = before.derived(start), before.derived(limit), before.derived(peak)
    except Unjudged:
        return ""
    steps, losses = before.recent("loss", 5)
    top = int(np.argmax(losses))
    if found is None and not losses[top] > high.loss:
        return ""
    step, value = (found.step, found.loss) if found else (int(steps[top]), float(losses[top]))
    return (
        f"Before that, the loss had risen from {number(begin.loss)} at step {begin.step:,} to {number(value)} at step "
        f"{step:,}: too large a learning rate is the likely cause."
    )


def _long_step(before: Readings) -> str:
    if not before.has("update_ratio"):
        return ""
    steps, ratios = before.recent("update_ratio", 5)
    long = np.flatnonzero(ratios > t.MOVES_TOO_FAR)
    if not len(long):
        return ""
    return (
        f"At step {int(steps[long[-1]]):,} the update was {_so_many(float(ratios[long[-1]]))} times as long as the "
        "weights (0.004 to 0.08 is usual): too large a learning rate is the likely cause."
    )


def _so_many(ratio: float) -> str:
    return number(ratio) if np.isfinite(ratio) else "infinitely many"


def _losses(readings: Readings) -> tuple[Steps, Values]:
    return readings.series("loss") if readings.has("loss") else (np.empty(0, np.int64), np.empty(0))


def _losses_around(readings: Readings, step: int) -> tuple[Evidence, ...]:
    steps, losses = _losses(readings)
    near = slice(*np.searchsorted(steps, [step - 3, step + 1]))
    if not len(steps[near]):
        return ()
    return (Evidence("loss", tuple(map(int, steps[near])), tuple(map(float, losses[near]))),)


def _lengths_around(readings: Readings, episode: _Episode) -> list[Evidence]:
    """Return how long gradients and updates last were before, and the first that is known from then on."""
    found = []
    for name in ("grad_norm", "update_size"):
        if not readings.has(name) or episode.what == "input":
            continue
        steps, lengths = readings.series(name)
        begin = int(np.searchsorted(steps, episode.step))
        near = slice(max(0, begin - _BEFORE), begin + 1)
        if len(steps[near]):
            found.append(Evidence.of(name, steps[near], lengths[near]))
    return found
