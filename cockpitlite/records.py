"""What is kept of a training step as it passes: forwards, calls of modules, backwards."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cockpitlite.trace import Trace
from cockpitlite.tree import tensors_in


@dataclass(frozen=True)
class Wish:
    """What the step now under way is to leave behind.

    ``calls``: inputs and output gradients of modules. ``forwards``: what a re-evaluation of the root module needs.
    ``gradient``: a copy of the gradient before anything clips it. ``scan``: the largest magnitudes on the way.
    """

    calls: bool = False
    forwards: bool = False
    gradient: bool = False
    scan: bool = False


@dataclass(frozen=True)
class Streams:
    """Where the random number generators stand: torch's on the CPU and on the device, Python's and NumPy's."""

    device: torch.device
    cpu: Tensor
    cuda: Tensor | None
    python: Any
    numpy: Any

    @classmethod
    def now(cls, device: torch.device) -> Streams:
        """Note where they stand; nothing waits for the device."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), cuda, random.getstate(), np.random.get_state())

    def restore(self) -> None:
        """Put all of them back to where they stood."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        random.setstate(self.python)
        np.random.set_state(self.numpy)


@dataclass(frozen=True)
class Surroundings:
    """What a forward depends on besides parameters and inputs: random number generators and autocast."""

    device: torch.device
    streams: Streams
    autocast: tuple[bool, torch.dtype]

    @classmethod
    def now(cls, device: torch.device) -> Surroundings:
        """Note the present state; nothing waits for the device."""
        return cls(
            device,
            Streams.now(device),
            (torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)),
        )


@dataclass
class Call:
    """One call of a module that owns parameters, and the gradient of what it returned.

    ``gradients`` has one entry per tensor among the outputs, ``None`` until (or unless) a gradient arrives; ``axes``
    says which axis of each counts samples (or rows of samples one after another), None where none does. The output
    itself is never held: it would keep the record alive through its own hooks for ever.
    """

    module: nn.Module
    name: str
    samples: int | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    versions: tuple[int, ...]
    surroundings: Surroundings | None
    buffers: Mapping[str, Tensor]
    gradients: list[Tensor | None]
    backwards: list[int | None]
    axes: tuple[int | None, ...]

    @property
    def arrived(self) -> bool:
        """Whether any gradient has reached this call."""
        return any(gradient is not None for gradient in self.gradients)

    @property
    def divisible(self) -> bool:
        """Whether what reached this call can be divided among the samples."""
        reached = zip(self.axes, self.gradients, strict=True)
        return self.samples == 1 or all(axis is not None for axis, gradient in reached if gradient is not None)

    @property
    def intact(self) -> bool:
        """Whether no input was written to since the call."""
        return self.versions == tuple(tensor._version for tensor in tensors_in((self.args, self.kwargs)))


@dataclass
class Forward:
    """One grad-mode call of the root module: all that a re-evaluation needs, and the calls inside it.

    ``scanned`` are the largest magnitudes in its inputs and in what its layers returned, by what and which, in the
    order they were met, and ``spoilt`` the sample with a non-finite input (−1 for none), where that was asked for.
    """

    root: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    versions: tuple[int, ...]
    samples: int | None
    surroundings: Surroundings
    buffers: Mapping[str, Tensor]
    training: bool = True
    outputs: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    scanned: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    spoilt: Tensor | None = None

    def release(self) -> None:
        """Let go of what a graph hangs on: its hooks hold the calls, so nothing else would ever free it."""
        self.outputs = []
        self.calls = []

    @property
    def intact(self) -> bool:
        """Whether no input was written to since the forward."""
        return self.versions == tuple(tensor._version for tensor in tensors_in((self.args, self.kwargs)))


@dataclass
class Backward:
    """One backward pass: the loss it started from, and the forwards whose outputs it went through.

    ``loss`` is unscaled; ``given`` is the very tensor handed to backward, kept until the step ends. ``per_sample``
    (``[sample]``, with mean ``loss``) is what the user gave. ``node`` holds elements proportional to the parts of the
    loss, read from the autograd graph before it was freed; their order is sample-major.
    """

    given: Tensor | None
    loss: Tensor | None
    scale: Tensor | None
    trace: Trace | None
    forwards: list[Forward]
    per_sample: Tensor | None = None
    node: Tensor | None = None

    def release(self) -> None:
        """Let go of the graph."""
        self.given = self.trace = self.node = None
        for forward in self.forwards:
            forward.release()

    @property
    def samples(self) -> int | None:
        """The number of samples, where all forwards of this backward saw the same number."""
        sizes = {forward.samples for forward in self.forwards}
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def calls(self) -> list[Call]:
        """The calls that a gradient reached."""
        return [call for forward in self.forwards for call in forward.calls if call.arrived]
