"""The batch evaluated once more at the start of the step, once for all that is differentiated there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

from cockpitlite.curvature import twice_differentiable
from cockpitlite.heads import Evaluation
from cockpitlite.replay import NotReplayable, Replay
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable


@dataclass(frozen=True)
class Again(Statistic):
    """The step's backwards made anew at θ_t, in train mode, with the step's own random masks.

    Nothing is evaluated until it is asked for. With the calls of the modules recorded it takes longer, and is
    shared by all from the second tracked step on that asks for them.
    """

    step: Step
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Nothing is computed until an evaluation is asked for."""
        if any(backward.samples == 0 for backward in supply.step.backwards):
            raise Unavailable("the batch is empty")
        return cls(supply.step)

    @property
    def replays(self) -> Sequence[Replay]:
        """One replay of each backward."""
        if self.step.memory.calls_wanted:
            with contextlib.suppress(Unavailable):  # the reason is that of who wants the calls
                return [evaluation.replay for evaluation in self.with_calls]
        return self._plain

    @cached_property
    def with_calls(self) -> Sequence[Evaluation]:
        """One evaluation of each backward with its heads, and the calls of the modules on the way to them."""
        step = self.step
        if any(backward.samples is None for backward in step.backwards):
            raise Unavailable("the forwards of one backward saw different numbers of samples")
        recorder = step.recorder
        if recorder is None:
            raise Unavailable("a scripted model cannot be looked into")
        step.memory.calls_wanted = True
        with self._evaluating():
            return [Evaluation(each, step.parameters, step.start, recorder) for each in step.backwards]

    @contextlib.contextmanager
    def unheard(self) -> Iterator[None]:
        """Let gradients pass without leaving anything at the recorded calls."""
        with contextlib.ExitStack() as stack:
            for evaluation in self.__dict__.get("with_calls", ()):
                stack.enter_context(evaluation.unheard())
            yield

    @cached_property
    def _plain(self) -> Sequence[Replay]:
        step = self.step
        with self._evaluating():
            return [Replay(backward, step.parameters, step.start) for backward in step.backwards]

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        if not self.step.backwards:
            raise Unavailable("no backward was seen in this step, so its batch cannot be evaluated again")
        try:
            with twice_differentiable(self.step.backwards):
                yield
        except NotReplayable as reason:
            raise Unavailable(str(reason)) from reason
