"""What is measured on a step: which instruments are read, and what has to be kept of the step for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cockpitlite.instrument import Instrument
from cockpitlite.records import Wish
from cockpitlite.statistics import Scan, Want


@dataclass(frozen=True)
class Plan:
    """Which schedules a step is on, and which the step before was on, whose judgement this one completes."""

    panel: bool = False
    diagnosis: bool = False
    after_panel: bool = False
    after_diagnosis: bool = False

    @property
    def tracked(self) -> bool:
        """Whether anything is measured."""
        return self.panel or self.diagnosis or self.after_panel or self.after_diagnosis

    @property
    def judged(self) -> bool:
        """Whether the next step may have something to say about this one."""
        return self.panel or self.diagnosis

    def calls_for(self, instrument: Instrument) -> bool:
        """Whether an instrument is read on this step."""
        if instrument.judges_previous:
            return self.after_diagnosis if instrument.on_diagnosis_schedule else self.after_panel
        return self.prepares(instrument)

    def prepares(self, instrument: Instrument) -> bool:
        """Whether an instrument is read about this step, now or on the next."""
        if instrument.on_both_schedules:
            return self.panel or self.diagnosis
        return self.diagnosis if instrument.on_diagnosis_schedule else self.panel


@dataclass(frozen=True)
class Program:
    """A plan worked out for given instruments."""

    due: tuple[Instrument, ...]
    wants: frozenset[Want]
    wish: Wish


def work_out(plan: Plan, instruments: Sequence[Instrument], has_model: bool) -> Program:
    """Return the instruments to read, what their statistics want kept, and what the hooks must keep for that."""
    due = tuple(instrument for instrument in instruments if plan.calls_for(instrument))
    coming = [i for i in instruments if i.judges_previous and plan.prepares(i)]
    now = [want for instrument in due for kind in instrument.demands().values() for want in kind.wants]
    then = [want for instrument in coming for kind in instrument.demands().values() for want in kind.wants_before]
    wants = frozenset([*now, *then]) if has_model else frozenset()
    scan = any(Scan in instrument.demands().values() for instrument in due)
    wish = Wish(
        calls=has_model and (scan or any(want.per_sample for want in wants)),
        forwards=any(want.of_forwards for want in wants),
        gradient=plan.tracked,
        scan=scan,
        activations=bool(wants & {Want.UNITS, Want.ACTIVATIONS}),
        moments=Want.ACTIVATIONS in wants,
    )
    return Program(due, wants, wish)
