"""What a statistic is: a typed quantity of one step, computed once however many instruments demand it."""

from __future__ import annotations

import enum
import functools
from abc import ABC, abstractmethod
from typing import ClassVar, Self, TypeVar

from cockpitlite.statistics.step import Step, Unavailable


class Want(enum.Enum):
    """What a statistic wants kept of a step while it passes."""

    FORWARD = "what a re-evaluation of the batch needs"
    ROAD = "how the loss was computed from the model's output"
    START = "where the step began, for the step after it"
    INPUTS = "what the model was given"
    UNITS = "which units of the layers do nothing"
    ACTIVATIONS = "how the layers' outputs are distributed"
    SQUARES = "squared norms of per-sample gradients"
    ON_GRADIENT = "projections of per-sample gradients on the mean gradient"
    ON_STEP = "projections of per-sample gradients on the step they led to"
    ON_LAST_STEP = "projections of per-sample gradients on the step before"
    MOMENTS = "second moments of per-sample gradients, element by element"
    ELEMENTS = "some elements of per-sample gradients"

    @property
    def per_sample(self) -> bool:
        """Whether this takes the calls of the modules to answer."""
        return self is not Want.START and not self.of_forwards

    @property
    def of_forwards(self) -> bool:
        """Whether this takes the forwards of the model, but not the calls inside of them."""
        return self in (Want.FORWARD, Want.ROAD, Want.INPUTS, Want.UNITS, Want.ACTIVATIONS)


class Statistic(ABC):
    """A quantity of one step that instruments demand by naming its type in ``read``.

    ``wants`` must be kept of the step it is computed on. A statistic that ``judges_previous`` speaks about the step
    before, of which ``wants_before`` must have been kept. One that ``needs_model`` cannot be had without the model.
    ``rests_on`` names the check (``contributions`` or ``replay``) without which it is not to be trusted.
    """

    wants: ClassVar[frozenset[Want]] = frozenset()
    wants_before: ClassVar[frozenset[Want]] = frozenset()
    judges_previous: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    rests_on: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def of(cls, supply: Supply) -> Self:
        """Compute it; raise Unavailable with a reason for the user where it cannot be had."""


S = TypeVar("S", bound=Statistic)


class Supply:
    """The statistics of one step, each computed when it is first asked for."""

    def __init__(self, step: Step, wants: frozenset[Want]) -> None:
        self.step = step
        self.wants = wants
        self._known: dict[type[Statistic], Statistic | functools.partial[Unavailable]] = {}

    def __call__(self, kind: type[S]) -> S:
        """Return the statistic; raise Unavailable, the same way every time, where it cannot be had.

        An error that was raised holds the frames that it passed, and these the step: none is kept.
        """
        if kind not in self._known:
            try:
                if kind.rests_on in self.step.reasons:
                    raise Unavailable(self.step.reasons[kind.rests_on])
                self._known[kind] = kind.of(self)
            except Unavailable as reason:
                self._known[kind] = functools.partial(Unavailable, str(reason), reason.undefined)
            except Exception as error:  # what needs nothing of it goes on
                told = f"it could not be computed: {type(error).__name__}: {error}"
                self._known[kind] = functools.partial(Unavailable, told)
        found = self._known[kind]
        if isinstance(found, functools.partial):
            raise found()
        assert isinstance(found, kind)
        return found
