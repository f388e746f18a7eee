"""The Instrument contract: one class turns demanded statistics into readings, and says how they are drawn."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from cockpitlite.panel import Panel
from cockpitlite.statistics import Statistic

Preset = Literal["economy", "business", "full"]


@dataclass(frozen=True)
class Layered:
    """A reading with a value per layer: ``total`` is a scalar tensor, ``values`` a tensor ``[layer]``."""

    total: Tensor | float
    layers: Sequence[str]
    values: Tensor | Sequence[float]


Reading = Tensor | float | Layered
Readings = Reading | Mapping[str, Reading]


class Instrument(ABC):
    """Measures one thing. A subclass defines ``panel`` and ``read``; nothing else has to be edited or registered.

    Without a panel its readings are recorded, and drawn only where another panel names them.

    The parameters of ``read`` are annotated with statistics (see :mod:`cockpitlite.statistics`), which are computed
    once per tracked step however many instruments demand them. ``read`` returns a scalar tensor, a number or a
    :class:`Layered`, stored under the instrument's name, or a mapping of reading names to these. It must not wait for
    the device: no ``.item()``, no ``float(tensor)``, no branch on a tensor's value. It may raise
    :class:`cockpitlite.statistics.Unavailable` with a reason for the user; any other error switches it off. ``healthy``
    may give the panel a healthy range by optimizer family (``sgd``, ``momentum``, ``adam``).
    """

    panel: ClassVar[Panel | None] = None
    name: ClassVar[str]
    preset: ClassVar[Preset | None] = None
    on_diagnosis_schedule: ClassVar[bool] = False
    order: ClassVar[int] = 100
    healthy: ClassVar[Mapping[str, tuple[float | None, float | None]]] = {}
    _demands: ClassVar[dict[str, type[Statistic]] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._demands = None
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Readings:
        """Turn the demanded statistics of one step into readings."""

    @classmethod
    def demands(cls) -> dict[str, type[Statistic]]:
        """Return the statistics that ``read`` is annotated with, by parameter name; TypeError for anything else."""
        if cls._demands is not None:
            return cls._demands
        try:
            hints = typing.get_type_hints(cls.read)
        except NameError as error:
            raise TypeError(f"{cls.__name__}.read: an annotation cannot be resolved ({error})") from error
        found: dict[str, type[Statistic]] = {}
        for name in list(inspect.signature(cls.read).parameters)[1:]:
            kind = hints.get(name)
            if not (isinstance(kind, type) and issubclass(kind, Statistic)):
                raise TypeError(
                    f"{cls.__name__}.read: parameter {name!r} must be annotated with a statistic of "
                    f"cockpitlite.statistics, such as MeanGradient; got {kind!r}"
                )
            found[name] = kind
        cls._demands = found
        return found

    @property
    def judges_previous(self) -> bool:
        """Whether its readings speak about the step before the one they are computed on."""
        return any(kind.judges_previous for kind in self.demands().values())

    @property
    def needs_model(self) -> bool:
        """Whether it cannot be read without the model."""
        return any(kind.needs_model for kind in self.demands().values())

    def placed_panel(self, family: str) -> Panel | None:
        """Return the panel under the instrument's name, with the healthy range of an optimizer family, if any."""
        if self.panel is None:
            return None
        panel = self.panel.named(self.name)
        return dataclasses.replace(panel, healthy=self.healthy.get(family, panel.healthy))
