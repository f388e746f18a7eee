"""The Instrument contract: one class turns demanded statistics into readings, and says how they are drawn."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from cockpitlite.panel import Panel
from cockpitlite.statistics import Statistic
from cockpitlite.store import MOST_BINS

Preset = Literal["economy", "business", "full"]


@dataclass(frozen=True)
class Layered:
    """A reading with a value per layer: ``total`` is a scalar tensor, ``values`` a tensor ``[layer]``."""

    total: Tensor | float
    layers: Sequence[str]
    values: Tensor | Sequence[float]


@dataclass(frozen=True)
class Histogram:
    """Exact counts per layer, int64 ``[layer, A]``, or ``[layer, A, B]`` for a joint histogram.

    ``total`` are those of all together, their sum unless given.
    ``edges`` are ascending and shared by all layers: one tensor ``[A + 1]``, or two, ``[A + 1]`` and ``[B + 1]``.
    """

    layers: Sequence[str]
    counts: Tensor
    edges: tuple[Tensor, ...]
    total: Tensor | None = None

    def __post_init__(self) -> None:
        shape = (len(self.layers), *(len(axis) - 1 for axis in self.edges))
        if len(self.edges) not in (1, 2) or tuple(self.counts.shape) != shape:
            raise ValueError(
                f"a histogram of {len(self.layers)} layers with edges of lengths {[len(axis) for axis in self.edges]} "
                f"has one or two axes and counts of shape {shape}; got counts of shape {tuple(self.counts.shape)}"
            )
        if shape[0] and self.counts[0].numel() > MOST_BINS:
            raise ValueError(f"a histogram has at most {MOST_BINS} bins; got {self.counts[0].numel()}")


@dataclass(frozen=True)
class Provided:
    """A reading that is defined where a ``condition`` on the device holds; elsewhere it is NaN, for a ``reason``."""

    value: Tensor
    condition: Tensor
    reason: str


Reading = Tensor | float | Layered | Histogram
Readings = Reading | Provided | Mapping[str, Reading | Provided]


def named_readings(name: str, read: Any) -> dict[str, Reading | Provided]:
    """Return what an instrument read by the names of its readings; TypeError for what is no reading."""
    named = dict(read) if isinstance(read, Mapping) else {name: read}
    for key, reading in named.items():
        if not isinstance(key, str):
            raise TypeError(f"read() named a reading {key!r}; names are strings")
        number = reading.value if isinstance(reading, Provided) else reading
        if isinstance(number, Tensor):
            sound = number.numel() == 1 and not number.is_complex()
        else:
            sound = isinstance(number, numbers.Real | Layered | Histogram)
        if not sound:
            what = f"a tensor of shape {tuple(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
            raise TypeError(
                f"read() gave {what} for {key!r}; a reading is a real number, a tensor of one, a Layered or a Histogram"
            )
        if isinstance(number, Layered) and len(number.layers) != len(number.values):
            raise TypeError(f"read() gave {len(number.values)} values for the {len(number.layers)} layers of {key!r}")
    return named


class Instrument(ABC):
    """Measures one thing. A subclass defines ``panel`` and ``read``; nothing else has to be edited or registered.

    Without a panel its readings are recorded, and drawn only where another panel names them.

    The parameters of ``read`` are annotated with statistics (see :mod:`cockpitlite.statistics`), which are computed
    once per tracked step however many instruments demand them. ``read`` returns a scalar tensor, a number, a
    :class:`Layered` or a :class:`Histogram`, stored under the instrument's name, or a mapping of reading names to
    these. It must not wait for the device: no ``.item()``, no ``float(tensor)``, no branch on a tensor's value. It may
    raise :class:`cockpitlite.statistics.Unavailable` with a reason for the user; any other error switches it off.
    It is read on the panel's schedule; ``on_diagnosis_schedule`` puts it on that of the diagnosis, and
    ``on_both_schedules`` on both.
    ``healthy`` may give the panel a healthy range by optimizer family (``sgd``, ``momentum``, ``adam``).
    """

    panel: ClassVar[Panel | None] = None
    name: ClassVar[str]
    preset: ClassVar[Preset | None] = None
    on_diagnosis_schedule: ClassVar[bool] = False
    on_both_schedules: ClassVar[bool] = False
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

    @classmethod
    def applies_to(cls, model: nn.Module) -> bool:
        """Whether a model has what is measured; a preset leaves the instrument out where not."""
        return True

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
