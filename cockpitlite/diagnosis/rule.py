"""What a rule is: one small function from readings to a finding, whose docstring is the user's documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.readings import Readings

FAULT = "fault"
Judge = Callable[[Readings], Finding | None]


@dataclass(frozen=True)
class Rule:
    """A rule with the readings it needs, and what silences it.

    ``silenced_by`` holds codes of rules that explain what this one would say; ``"fault"`` stands for every rule marked
    as a ``fault`` (a cause other than the learning rate) whose finding is more than a note. Rules that silence come
    first.
    """

    code: str
    judge: Judge
    needs: tuple[str, ...]
    silenced_by: frozenset[str]
    fault: bool

    @property
    def documentation(self) -> str:
        """What the rule looks for, on what grounds, and when it keeps silent."""
        return inspect.getdoc(self.judge) or ""

    def silenced(self, code: str, fault: bool) -> bool:
        """Whether a finding of another rule explains what this one would say."""
        return code in self.silenced_by or (fault and FAULT in self.silenced_by)


def rule(
    code: str, *, needs: tuple[str, ...] = (), silenced_by: tuple[str, ...] = (), fault: bool = False
) -> Callable[[Judge], Rule]:
    """Turn a function into a rule.

    The function returns what stands at the step ``readings.now``, or None. It raises Unjudged with the reason where it
    cannot tell; readings it ``needs`` are there when it is called.
    """
    return lambda judge: Rule(code, judge, needs, frozenset(silenced_by), fault)
