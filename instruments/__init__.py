"""The instruments that come with Cockpitlite: one file each, discovered by being in this folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from cockpitlite.instrument import Instrument

PRESETS = ("economy", "business", "full")  # each holds the ones before it


@cache
def known() -> dict[str, type[Instrument]]:
    """Return every instrument class of this folder by its name, in the order panels are laid out."""
    from cockpitlite.instrument import Instrument

    found: dict[str, type[Instrument]] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for _, item in inspect.getmembers(module, inspect.isclass):
            if issubclass(item, Instrument) and item.__module__ == module.__name__:
                found[item.name] = item
    return dict(sorted(found.items(), key=lambda pair: (pair[1].order, pair[0])))


def choose(
    panel: str | type[Instrument] | Instrument | Iterable[str | type[Instrument] | Instrument],
    model: nn.Module | None = None,
) -> list[Instrument]:
    """Return the instruments that a preset's name, an instrument's name, a class, an instance or a list of these mean.

    A preset leaves out what does not apply to the ``model``.

    An instrument named twice is taken once, an instance before its class or name. Raises ValueError for an unknown
    name and TypeError for anything that is not an instrument.
    """
    from cockpitlite.instrument import Instrument

    if not isinstance(panel, str | type | Instrument | Iterable):
        raise TypeError(f"a panel is made of names, Instrument classes and Instrument instances; got {panel!r}")
    items = [panel] if isinstance(panel, str | type | Instrument) else list(panel)
    chosen: dict[str, Instrument] = {}
    for item in items:
        for instrument in _meant(item, model):
            if instrument.name not in chosen or isinstance(item, Instrument):
                chosen[instrument.name] = instrument
    return list(chosen.values())


def _meant(item: Any, model: nn.Module | None) -> list[Instrument]:
    from cockpitlite.instrument import Instrument

    if isinstance(item, Instrument):
        return [item]
    if isinstance(item, type) and issubclass(item, Instrument):
        return [item()]
    if not isinstance(item, str):
        raise TypeError(f"a panel is made of names, Instrument classes and Instrument instances; got {item!r}")
    if item in PRESETS:
        wanted = PRESETS[: PRESETS.index(item) + 1]
        kinds = [kind for kind in known().values() if kind.preset in wanted]
        return [kind() for kind in kinds if model is None or kind.applies_to(model)]
    if item in known():
        return [known()[item]()]
    raise ValueError(
        f"no instrument or preset is named {item!r}; presets: {', '.join(PRESETS)}; instruments: {', '.join(known())}"
    )


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    for kind in known().values():
        if kind.__name__ == name:
            return kind
    raise AttributeError(f"module {__name__!r} has no instrument {name!r}; it has: {', '.join(known())}")


def __dir__() -> list[str]:
    return sorted(kind.__name__ for kind in known().values())
