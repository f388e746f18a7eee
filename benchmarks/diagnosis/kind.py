"""What is done to a program: a fault with the codes that name it, or a healthy peculiarity that must not be named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from .programs import PROGRAMS, Program
from .training import Training

Change = Callable[[Training, float], None]

ALL = tuple(PROGRAMS)
CLASSES = tuple(name for name, program in PROGRAMS.items() if program.task == "classes")
NUMBERS = tuple(name for name, program in PROGRAMS.items() if program.task == "numbers")
REAL = tuple(name for name, program in PROGRAMS.items() if program.real_inputs)  # whose inputs have a scale
AUTOCAST = tuple(name for name in PROGRAMS if name != "lstm")  # not every processor has an LSTM in 16 bits


@dataclass(frozen=True)
class Kind:
    """A change to the training of some programs, graded by levels where that makes sense, the strongest last.

    ``accepted`` holds the codes that are a right answer to a fault; it is empty for a fault that no code names yet,
    and that counts as a wrong cause. ``breaks`` says which invariant of training the fault breaks: it counts then
    whether or not it hurts. A healthy kind has ``healthy`` set, and anything above a note is a false alarm.
    """

    name: str
    what: str
    change: Change
    programs: tuple[str, ...]
    levels: tuple[float, ...] = (1.0,)
    accepted: frozenset[str] = field(default_factory=frozenset)
    breaks: str = ""
    healthy: bool = False

    def training(self, program: Program, level: float, seed: int) -> Training:
        """Return a training with this change made."""
        training = Training(program, seed)
        self.change(training, level)
        return training


def fault(
    *accepted: str, programs: tuple[str, ...], levels: tuple[float, ...] = (1.0,), breaks: str = ""
) -> Callable[[Change], Kind]:
    """Turn a function into a fault named like it; its docstring says what is wrong."""
    return lambda change: Kind(_name(change), _what(change), change, programs, levels, frozenset(accepted), breaks)


def healthy(*, programs: tuple[str, ...] = ALL, levels: tuple[float, ...] = (1.0,)) -> Callable[[Change], Kind]:
    """Turn a function into a healthy kind named like it; its docstring says what is odd."""
    return lambda change: Kind(_name(change), _what(change), change, programs, levels, healthy=True)


def kinds_of(*themes: object) -> dict[str, Kind]:
    """Return the kinds that some modules define, by name."""
    found = [thing for theme in themes for thing in vars(theme).values() if isinstance(thing, Kind)]
    return {kind.name: kind for kind in found}


def _name(change: Change) -> str:
    return change.__name__.strip("_").replace("_", "-")


def _what(change: Change) -> str:
    return (inspect.getdoc(change) or "").splitlines()[0].rstrip(".")
