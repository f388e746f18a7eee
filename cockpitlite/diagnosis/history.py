"""What stood earlier in a run: the steps to look back at, and the findings that have cleared by one of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.window import windows

_EVENTS = ("nonfinite", "parameters", "settings", "resume")
_MOST_EVENTS = 100  # of one kind, as occasions to look back at


@dataclass
class History:
    """The findings that have cleared, and those that stand, after the last step that was looked at."""

    step: int = -1
    past: list[Finding] = field(default_factory=list)
    standing: dict[str, Finding] = field(default_factory=dict)

    def copy(self) -> History:
        """Return it to go on from without changing this one."""
        return History(self.step, list(self.past), dict(self.standing))

    def advance(self, step: int, findings: Sequence[Finding]) -> None:
        """Go on to a later step, at which these findings stand."""
        now = {finding.code: finding for finding in findings}
        before = self.standing
        self.past += [dataclasses.replace(before[code], until=step) for code in before if code not in now]
        self.standing = {
            code: dataclasses.replace(finding, since=min(finding.since, before.get(code, finding).since))
            for code, finding in now.items()
        }
        self.step = step

    @property
    def cleared(self) -> list[Finding]:
        """The findings that stood and do not stand any more, in the order they began."""
        return sorted(self.past, key=lambda finding: (finding.since, finding.code))


def occasions(readings: Readings) -> list[int]:
    """Return the steps at which a finding may have come or gone: after measured stretches, at events, and now."""
    steps = {readings.now} if readings.now >= 0 else set()
    with contextlib.suppress(Unjudged):
        steps |= {window.last for window in readings.derived(windows)}
    for kind in _EVENTS:
        steps |= {event.step for event in readings.events(kind)[:_MOST_EVENTS]}
    if readings.has("loss"):
        at, losses = readings.series("loss")
        steps |= {int(step) for step in at[~np.isfinite(losses)][:_MOST_EVENTS]}
    return sorted(steps)
