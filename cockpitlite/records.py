"""What is kept of a training step as it passes: forwards, calls of modules, backwards."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cockpitlite.trace import Trace
from cockpitlite.tree import tensors_in


@dataclass(frozen=True)
class Wish:
    """What the step now under way is to leave behind.

    ``calls``: inputs and output gradients of modules. ``forwards``: what a re-evaluation of the root module needs.
    ``gradient``: a copy of the gradient before anything clips it. ``scan``: the largest magnitudes on the way.
    ``activations``: which units of the layers do nothing, and with ``moments`` how their outputs are distributed.
    """

    calls: bool = False
    forwards: bool = False
    gradient: bool = False
    scan: bool = False
    activations: bool = False
    moments: bool = False

    def __bool__(self) -> bool:
        """Whether anything at all is wished for."""
        return self.calls or self.forwards or self.gradient or self.scan or self.activations


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

    ``modes`` tells which of its parts were in train mode, by identity. ``gradients`` has one entry per tensor among the
    outputs, ``None`` until (or unless) a gradient arrives, and ``backwards`` the pass it came with; ``axes`` says which
    axis of each counts samples (or rows of samples one after another), None where none does. The output itself is never
    held: it would keep the record alive through its own hooks for ever. A call none of whose output's axes counts
    samples has the ``origin`` and ``shape`` of its output, by which it is found where it is added to other tensors.
    """

    module: nn.Module
    modes: Mapping[int, bool]
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
    origin: int = 0  # of the output, where none of its axes counts samples
    shape: torch.Size = field(default_factory=torch.Size)
    spread: bool = False  # whether its gradient was caught where the output is added to others, sample by sample
    fresh: bool = False  # whether a gradient has arrived since the last backward was recorded

    @property
    def training(self) -> bool:
        """Whether the module was in train mode."""
        return self.modes[id(self.module)]

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


@dataclass(frozen=True)
class Activation:
    """How the output of one call of a layer is distributed: sums over its ``count`` elements and of their squares.

    Those are None where nobody wants them. ``extent`` is the largest magnitude of each unit on all samples, ``[unit]``,
    and ``saturated`` how many elements are, each None for layers of another kind.
    """

    count: int
    total: Tensor | None
    squares: Tensor | None
    extent: Tensor | None
    saturated: Tensor | None
    dtype: torch.dtype


@dataclass
class Forward:
    """One grad-mode call of the root module: all that a re-evaluation needs, and the calls inside it.

    ``modes`` tells which parts were in train mode, by identity.

    ``scanned`` are the largest magnitudes in its inputs and in what its layers returned, by what and which, in the
    order they were met, and ``spoilt`` the sample with a non-finite input (−1 for none), where that was asked for.
    ``activations`` are by module name. ``reached`` tells that a gradient has reached what it returned.
    """

    root: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    versions: tuple[int, ...]
    samples: int | None
    surroundings: Surroundings
    buffers: Mapping[str, Tensor]
    modes: Mapping[int, bool]
    outputs: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    scanned: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    spoilt: Tensor | None = None
    activations: dict[str, list[Activation]] = field(default_factory=dict)
    reached: bool = False
    handles: list[RemovableHandle] = field(default_factory=list)

    @property
    def training(self) -> bool:
        """Whether the root module was in train mode."""
        return self.modes[id(self.root)]

    def forget_gradients(self) -> None:
        """Take it and its calls as ones that no gradient has reached."""
        self.reached = False
        for call in self.calls:
            call.gradients = [None] * len(call.gradients)
            call.backwards = [None] * len(call.backwards)
            call.fresh = False

    def release(self) -> None:
        """Let go of the graph, and take away its hooks: where somebody keeps the loss they would keep every call."""
        for handle in self.handles:
            handle.remove()
        self.outputs, self.calls, self.handles = [], [], []

    @property
    def intact(self) -> bool:
        """Whether no input was written to since the forward."""
        return self.versions == tuple(tensor._version for tensor in tensors_in((self.args, self.kwargs)))


@dataclass(frozen=True)
class Classified:
    """Decisions between classes: ``logits`` ``[decision, class]``, ``targets`` ``[decision]``, the target ignored.

    ``given`` tells what the loss function takes and was given: scores, logarithms of probabilities, or one score for
    each choice between off and on; ``unseen`` where ``logits`` are not what it was given but what it made of that.
    """

    logits: Tensor
    targets: Tensor
    ignored: int = -100
    given: Literal["scores", "log-probabilities", "switches", "unseen"] = "scores"


class Heard(NamedTuple):
    """A backward pass of a step that leaves nothing but its loss: a number where the host may know it at once.

    ``scaled`` tells whether a GradScaler had scaled it; the loss is unscaled.
    """

    loss: Tensor | float | None
    scaled: bool


@dataclass
class Backward:
    """A backward pass, or several through the same forwards: where they started, and the forwards they went through.

    ``loss`` is unscaled, the sum over all; ``givens`` are the very tensors handed to backward, kept until the step
    ends. ``per_sample`` (``[sample]``, with mean ``loss``) is what the user gave. Two things are read from the autograd
    graph before it is freed: for each of the ``givens``, ``nodes`` hold elements proportional to its parts, in
    sample-major order, and ``decisions`` what a classifying loss was given. ``spread`` are gradients of parameters that
    are added to what the samples computed, by identity: ``[sample, *parameter]``.
    """

    givens: list[Tensor]
    loss: Tensor | None
    scale: Tensor | None
    trace: Trace | None
    forwards: list[Forward]
    per_sample: Tensor | None = None
    nodes: list[Tensor | None] = field(default_factory=list)
    decisions: Classified | None = None
    spread: Mapping[int, Tensor] = field(default_factory=dict)

    def release(self) -> None:
        """Let go of the graph."""
        self.givens, self.nodes, self.decisions, self.trace = [], [], None, None
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
