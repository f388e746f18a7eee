"""What is asked of the samples' contributions to a gradient, and what one pass over them finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", str, int)  # a parameter by its name in a module, or by its position among those watched
Other = TypeVar("Other", str, int)


@dataclass(frozen=True)
class Asked(Generic[Key]):
    """What is asked of the contributions c_n of the parameters ``names``.

    ``squares``: ‖c_n‖². ``directions`` by name, one tensor for each direction: the projections c_nᵀv. ``whole`` is the
    position of a direction that is known to be Σ c_n over all samples, None where there is none: its projections can
    be taken by pairs of samples too. ``moments``: Σ c_n² elementwise; ``sums``: Σ c_n, over the samples looked at.
    ``places`` by name, ``[sample, pick]``: single elements of c_n, by their flat positions in the parameter.
    """

    names: Sequence[Key]
    squares: bool = False
    directions: Mapping[Key, Sequence[Tensor]] = field(default_factory=dict)
    whole: int | None = None
    moments: bool = False
    sums: bool = False
    places: Mapping[Key, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many directions there are."""
        return len(next(iter(self.directions.values()), ()))

    def of(self, names: Mapping[Other, Key]) -> Asked[Other]:
        """Return what is asked of some of the parameters, under other names for them."""
        return Asked(
            list(names),
            self.squares,
            {name: self.directions[known] for name, known in names.items() if known in self.directions},
            self.whole,
            self.moments,
            self.sums,
            {name: self.places[known] for name, known in names.items() if known in self.places},
        )

    def only(self, *names: Key) -> Asked[Key]:
        """Return what is asked of some of the parameters."""
        return self.of({name: name for name in names})

    def among(self, part: slice) -> Asked[Key]:
        """Return what is asked of some of the samples looked at."""
        return replace(self, places={name: each[part] for name, each in self.places.items()})


@dataclass
class Found(Generic[Key]):
    """The answers: ``squared`` ``[sample]`` and ``projected`` ``[direction, sample]`` summed over parameters.

    The others are by name; what was not asked for is None or empty.
    """

    squared: Tensor | None = None
    projected: Tensor | None = None
    moments: dict[Key, Tensor] = field(default_factory=dict)
    sums: dict[Key, Tensor] = field(default_factory=dict)
    picked: dict[Key, Tensor] = field(default_factory=dict)

    def renamed(self, names: Mapping[Key, Other]) -> Found[Other]:
        """Return the answers under other names of the parameters."""
        moments, sums, picked = (
            {names[name]: value for name, value in each.items()} for each in (self.moments, self.sums, self.picked)
        )
        return Found(self.squared, self.projected, moments, sums, picked)

    def unscaled(self, scale: Tensor) -> Found[Key]:
        """Return the answers for contributions divided by a factor."""
        return Found(
            None if self.squared is None else self.squared / scale**2,
            None if self.projected is None else self.projected / scale,
            {name: value / scale**2 for name, value in self.moments.items()},
            {name: value / scale for name, value in self.sums.items()},
            {name: value / scale for name, value in self.picked.items()},
        )

    def __add__(self, other: Found[Key]) -> Found[Key]:
        """Join what was found of other parameters."""
        return Found(
            _added(self.squared, other.squared),
            _added(self.projected, other.projected),
            self.moments | other.moments,
            self.sums | other.sums,
            self.picked | other.picked,
        )


def surveyed(built: Mapping[Key, Tensor], asked: Asked[Key]) -> Found[Key]:
    """Answer from contributions that were built in full, ``[sample, *parameter]`` by name."""
    found: Found[Key] = Found()
    for name, each in built.items():
        flat = each.reshape(len(each), each[0].numel() if len(each) else 0)
        if asked.squares:
            found.squared = _added(found.squared, torch.linalg.vector_norm(flat, dim=1).square())
        if asked.count:
            along = torch.stack([direction.reshape(-1).to(flat.dtype) for direction in asked.directions[name]])
            found.projected = _added(found.projected, along @ flat.T)
        if asked.moments:
            found.moments[name] = flat.square().sum(0).view(each.shape[1:])
        if asked.sums:
            found.sums[name] = flat.sum(0).view(each.shape[1:])
        if name in asked.places:
            found.picked[name] = flat.gather(1, asked.places[name])
    return found


def add_to(total: dict[Key, Tensor], more: Mapping[Key, Tensor]) -> None:
    """Add what one more call or backward contributes to each parameter."""
    for key, value in more.items():
        total[key] = total[key] + value if key in total else value


def side_by_side(parts: Sequence[Found[Key]]) -> Found[Key]:
    """Join what was found of the same parameters in consecutive groups of samples."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Found(
        None if first.squared is None else torch.cat([p.squared for p in parts if p.squared is not None]),
        None if first.projected is None else torch.cat([p.projected for p in parts if p.projected is not None], 1),
        _by_name(lambda name: sum((p.moments[name] for p in parts[1:]), first.moments[name]), first.moments),
        _by_name(lambda name: sum((p.sums[name] for p in parts[1:]), first.sums[name]), first.sums),
        _by_name(lambda name: torch.cat([p.picked[name] for p in parts]), first.picked),
    )


def _by_name(joined: Callable[[Key], Tensor], names: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    return {name: joined(name) for name in names}


def _added(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
