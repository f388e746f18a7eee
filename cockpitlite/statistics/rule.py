"""What a layer family knows about the contributions of single samples to the gradient of its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cockpitlite.records import Call
from cockpitlite.statistics.step import Unavailable

CHUNK = 2**25  # numbers of per-sample gradients held at once


@dataclass(frozen=True)
class Reduced:
    """Sums over parameters, per sample: squared norms ``[sample]`` and projections ``[direction, sample]``."""

    squared: Tensor | None
    projected: Tensor

    def __add__(self, other: Reduced) -> Reduced:
        squared = None if self.squared is None or other.squared is None else self.squared + other.squared
        return Reduced(squared, self.projected + other.projected)


@dataclass(frozen=True)
class Scope:
    """Which samples are looked at, and where: ``chosen`` of ``samples`` (None for all), at parameter ``values``.

    ``values`` are all parameters of the model at the point of the step, by identity.
    """

    samples: int
    chosen: Tensor | None
    values: Mapping[int, Tensor]

    @property
    def indices(self) -> Tensor:
        """The samples looked at, ``[K]``."""
        return torch.arange(self.samples) if self.chosen is None else self.chosen

    def parts(self, size: int) -> Iterator[Scope]:
        """Divide the samples looked at so that ``size`` numbers for each of them fit into memory at once."""
        if len(self.indices) * size <= CHUNK:
            yield self
            return
        for some in self.indices.split(max(1, CHUNK // size)):
            yield replace(self, chosen=some)


class Rule(ABC):
    """Contributions c_n of a module's own calls; their sum over samples is the parameter's gradient.

    Names are those of the module's own parameters.
    """

    @abstractmethod
    def contributions(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return c_n of each named parameter, shape ``[sample, *parameter]``."""

    @abstractmethod
    def total(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return Σ c_n of each named parameter over all samples, from the records, to check it against the gradient."""

    def reduce(self, calls: Sequence[Call], directions: Mapping[str, Tensor], scope: Scope, squares: bool) -> Reduced:
        """Return norms (where ``squares``) and projections on ``directions`` (``[direction, *parameter]`` by name).

        Builds the contributions of as many samples at a time as memory allows; a family that can do without does so.
        """
        size = sum(direction[0].numel() for direction in directions.values()) + self.transient(calls)
        built = (self.contributions(calls, list(directions), part) for part in scope.parts(size))
        return joined([reduce_contributions(part, directions, squares) for part in built])

    def moments(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return Σ c_n² of each named parameter, elementwise, over the samples looked at."""
        return self._accumulated(calls, names, scope, lambda each: each.square().sum(0))

    def partial(self, calls: Sequence[Call], names: Sequence[str], scope: Scope) -> dict[str, Tensor]:
        """Return Σ c_n of each named parameter over the samples looked at."""
        return self._accumulated(calls, names, scope, lambda each: each.sum(0))

    def picked(self, calls: Sequence[Call], positions: Mapping[str, Tensor], scope: Scope) -> dict[str, Tensor]:
        """Return single elements of c_n, ``[K, pick]``, at flat ``positions`` (``[K, pick]``) of each parameter."""
        found: dict[str, list[Tensor]] = {name: [] for name in positions}
        for part, built in self.parts(calls, list(positions), scope):
            for name, each in built.items():
                found[name].append(each.reshape(len(each), -1).gather(1, positions[name][part]))
        return {name: torch.cat(parts) for name, parts in found.items()}

    def parts(
        self, calls: Sequence[Call], names: Sequence[str], scope: Scope
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield the contributions of as many samples as memory allows, with their places among those looked at."""
        owned = own_parameters(calls[0].module, names)
        size = sum(parameter.numel() for parameter in owned.values()) + self.transient(calls)
        begin = 0
        for part in scope.parts(size):
            end = begin + len(part.indices)
            yield slice(begin, end), self.contributions(calls, names, part)
            begin = end

    def _accumulated(
        self, calls: Sequence[Call], names: Sequence[str], scope: Scope, summed: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for _, built in self.parts(calls, names, scope):
            for name, each in built.items():
                add(total, name, summed(each))
        return total

    def transient(self, calls: Sequence[Call]) -> int:
        """Return how many numbers a sample's contributions take while they are built, besides themselves."""
        return 0


def by_sample(call: Call, tensor: Tensor, samples: int) -> Tensor:
    """Return an input or output gradient of a divisible call as ``[sample, row, ...]``.

    Rows are what the layer made of one sample's share: one where an axis is the batch, k where the first axis has k·N
    rows, which were seen to be sample-major.
    """
    if samples == 1:
        return tensor.unsqueeze(0)
    axis = call.axes[0]
    assert axis is not None
    if tensor.shape[axis] == samples:
        return tensor.movedim(axis, 0).unsqueeze(1)
    return tensor.unflatten(0, (samples, tensor.shape[0] // samples))


def chosen_rows(tensor: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the rows of the chosen samples."""
    return tensor if chosen is None else tensor.index_select(0, chosen.to(tensor.device))


def output_gradient(call: Call) -> Tensor:
    """Return the gradient of the output of a module that returns one tensor."""
    gradient = call.gradients[0]
    if gradient is None or len(call.gradients) != 1:
        raise Unavailable(f"no gradient reached the output of layer {call.name!r}")
    return gradient


def checked_input(call: Call) -> Tensor:
    """Return the first tensor given to a module, if nothing has written to it since."""
    if not call.intact:
        raise Unavailable(f"an input of layer {call.name!r} was overwritten in place after the call")
    given = call.args[0] if call.args else next(iter(call.kwargs.values()))
    if not isinstance(given, Tensor):
        raise Unavailable(f"layer {call.name!r} was not given a tensor")
    return given


def reduce_contributions(
    contributions: Mapping[str, Tensor], directions: Mapping[str, Tensor], squares: bool
) -> Reduced:
    """Reduce ``[sample, *parameter]`` contributions that were built in full."""
    parts = []
    for name, each in contributions.items():
        flat = each.reshape(len(each), -1)
        projected = directions[name].reshape(-1, flat.shape[1]).to(flat.dtype) @ flat.T
        parts.append(Reduced(flat.square().sum(1) if squares else None, projected))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def joined(parts: Sequence[Reduced]) -> Reduced:
    """Put the results of consecutive groups of samples side by side."""
    squares = [part.squared for part in parts if part.squared is not None]
    return Reduced(torch.cat(squares) if squares else None, torch.cat([part.projected for part in parts], 1))


def add(total: dict[str, Tensor], name: str, part: Tensor) -> None:
    """Add what one more call contributes to a named parameter."""
    total[name] = total[name] + part if name in total else part


def own_parameters(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Return a module's own parameters by local name, those of uncalled submodules with their path."""
    known = dict(module.named_parameters(remove_duplicate=False))
    return {name: known[name] for name in names}
