"""What a layer family knows about the contributions of single samples to the gradient of its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cockpitlite.records import Call
from cockpitlite.statistics.step import Unavailable
from cockpitlite.statistics.survey import Asked, Found, side_by_side, surveyed

CHUNK = 2**23  # numbers of per-sample gradients held at once,
CACHED = 2**20  # and as many as a processor's cache holds, where memory is the bottleneck


@dataclass(frozen=True)
class Scope:
    """Which samples are looked at, and where: ``chosen`` of ``samples`` (None for all), at parameter ``values``.

    ``values`` are all parameters of the model at the point of the step, by identity.
    """

    samples: int
    chosen: Tensor | slice | None
    values: Mapping[int, Tensor]

    @property
    def count(self) -> int:
        """How many samples are looked at."""
        return len(self.chosen) if isinstance(self.chosen, Tensor) else len(self._every)

    @property
    def indices(self) -> Tensor:
        """The samples looked at, ``[K]``."""
        if isinstance(self.chosen, Tensor):
            return self.chosen
        return torch.arange(self._every.start, self._every.stop, device="cpu")

    @property
    def _every(self) -> range:
        """The samples looked at where they are consecutive."""
        return range(self.samples)[self.chosen] if isinstance(self.chosen, slice) else range(self.samples)

    def parts(self, size: int, most: int = CHUNK) -> Iterator[tuple[slice, Scope]]:
        """Divide the samples looked at so that ``size`` numbers for each of them come to no more than ``most``.

        Yields the places of each part among them, and the part.
        """
        each = max(1, most // max(1, size))
        for begin in range(0, self.count, each):
            part = slice(begin, min(begin + each, self.count))
            yield part, replace(self, chosen=self.chosen[part] if isinstance(self.chosen, Tensor) else part)


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

    def survey(self, calls: Sequence[Call], asked: Asked[str], scope: Scope) -> Found[str]:
        """Answer what is asked, building each contribution once; a family that can do without building does so."""
        return side_by_side(
            [surveyed(built, asked.among(part)) for part, built in self.parts(calls, asked.names, scope)]
        )

    def parts(
        self, calls: Sequence[Call], names: Sequence[str], scope: Scope
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield the contributions of some samples at a time, with their places among those looked at."""
        owned = own_parameters(calls[0].module, names)
        size = sum(parameter.numel() for parameter in owned.values()) + self.transient(calls)
        device = next(iter(owned.values())).device
        for place, part in scope.parts(size, self.most(device)):
            yield place, self.contributions(calls, names, part)

    def most(self, device: torch.device) -> int:
        """Return how many numbers may be held at once."""
        return CHUNK

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


def chosen_rows(tensor: Tensor, chosen: Tensor | slice | None) -> Tensor:
    """Return the rows of the chosen samples."""
    if isinstance(chosen, Tensor):
        return tensor.index_select(0, chosen)
    return tensor if chosen is None else tensor[chosen]


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


def cache_sized(device: torch.device) -> int:
    """Return how many numbers to hold at once where they are read again at once."""
    return CACHED if device.type == "cpu" else CHUNK


def own_parameters(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Return a module's own parameters by local name, those of uncalled submodules with their path."""
    known = dict(module.named_parameters(remove_duplicate=False))
    return {name: known[name] for name in names}
