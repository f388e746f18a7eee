"""Records the calls of modules, one forward at a time, and the gradients that reach what they returned."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cockpitlite.activity import activation
from cockpitlite.hooks.guard import Hook, Meter, guarded
from cockpitlite.records import Call, Forward, Surroundings, Wish
from cockpitlite.spread import additions, by_sample, origin_of
from cockpitlite.trace import plain
from cockpitlite.tree import map_tensors, tensors_in

Shapes = list[torch.Size]  # of the tensors that a call returned


@dataclass(frozen=True)
class Owner:
    """A module whose calls are recorded; ``rerun`` says that its calls may have to be made again."""

    module: nn.Module
    name: str
    rerun: bool


Probe = Callable[["Forward", Sequence[Owner], int], Mapping[tuple[str, int], Shapes]]


class CallRecorder:
    """Records the calls of a root's owners, one forward of the root at a time, and the gradients that reach them.

    ``told`` are axes that the user named. A call is recorded while ``accepting()``, and its gradients are while
    ``awaiting()``. The axes that count samples are looked for by ``probe`` on the first forward.
    """

    def __init__(
        self,
        root: nn.Module,
        owners: Sequence[Owner],
        device: torch.device,
        batch_dim: int | Mapping[str, int],
        probe: Probe,
        meter: Meter,
        accepting: Callable[[], bool] = lambda: True,
        awaiting: Callable[[], bool] = lambda: True,
    ) -> None:
        self.root = Owner(root, "", True)
        self.owners = [owner for owner in owners if owner.module is not root]
        self.meter = meter
        self.device = device
        self.batch_dim = batch_dim if isinstance(batch_dim, int) else batch_dim.get("", 0)
        self.saw_no_grad = False
        self._told: Mapping[str, int] = {} if isinstance(batch_dim, int) else batch_dim
        self._probe = probe
        self._accepting = accepting
        self._awaiting = awaiting
        self._leaves = _plain_leaves(root, self.owners)
        generic = [owner.module for owner in (self.root, *self.owners) if owner.rerun]
        self.free = [p for module in generic for p in module.parameters(recurse=False) if p.requires_grad]
        self._wider: Mapping[tuple[str, int], Shapes] | None = None
        self._axes: dict[tuple[str, int], tuple[int | None, ...]] = {}
        self._forward: Forward | None = None
        self._own_entry: _Entry | None = None
        self._wish = Wish()
        self._units_first = False
        self._handles: list[RemovableHandle] = []

    def begin(self, forward: Forward, args: tuple[Any, ...], kwargs: Mapping[str, Any], wish: Wish) -> None:
        """The root is about to be called: put hooks on its owners."""
        if wish.calls and self._wider is None and (forward.samples or 0) > 1:
            self._wider = {}
            self._wider = self._probe(forward, [*self.owners, self.root], self.batch_dim)
        self._forward = forward
        if wish.calls:
            self._own_entry = _Entry(*detached(args, kwargs), forward.modes, forward.surroundings, _buffers(forward))
        self._wish = wish
        if not self._handles:
            self._attach()

    def end(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """The root has returned: its own call is a record too."""
        if self._own_entry is not None and output is not None:
            self._record(self.root, self._own_entry, args, kwargs, output)
        self._own_entry = None

    @contextlib.contextmanager
    def over(self, forward: Forward, activations: bool = True) -> Iterator[Forward]:
        """Record the calls inside, the root's own among them, in a new record of the forward that is made again."""
        again = replace(forward, outputs=[], calls=[], scanned={}, activations={}, handles=[])
        wish = Wish(calls=True, activations=activations, moments=activations)
        self.begin(again, forward.args, forward.kwargs, wish)
        self._own_entry = None
        self._attach_to(self.root)
        try:
            yield again
        finally:
            self.detach()
            self.forget()

    def forget(self) -> None:
        """Let go of the forward that was recorded last."""
        self._forward = self._own_entry = None

    def detach(self) -> None:
        """Take the hooks off the owners; gradients are still waited for."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _attach(self) -> None:
        for owner in self.owners if self._wish.calls else ():
            self._attach_to(owner)
        if self._wish.scan or self._wish.activations:
            owned = [] if self._wish.calls else [(owner.name, owner.module) for owner in self.owners]
            leaves = [*self._leaves, *owned]
            hooks = [(module, Hook(functools.partial(self._after_leaf, name))) for name, module in leaves]
            self._handles += [module.register_forward_hook(hook) for module, hook in hooks]

    def _attach_to(self, owner: Owner) -> None:
        entries: list[_Entry] = []
        if owner.rerun:
            before = Hook(functools.partial(self._before_call, entries))
            self._handles.append(owner.module.register_forward_pre_hook(before, with_kwargs=True))
        after = Hook(functools.partial(self._after_call, owner, entries))
        self._handles.append(owner.module.register_forward_hook(after, with_kwargs=True))

    def _entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Entry:
        """Note all that a call has to be made again with."""
        inputs, versions = detached(args, kwargs)
        return _Entry(inputs, versions, modes_of(module), Surroundings.now(self.device), copied_buffers(module))

    @guarded
    def _after_leaf(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._forward is None or not self._accepting():
            return
        if torch.is_grad_enabled():
            self._look_at(self._forward, name, module, output)
        else:
            self.saw_no_grad = True

    def _look_at(self, forward: Forward, name: str, module: nn.Module, output: Any) -> None:
        first = next(tensors_in(output), None)
        if first is None or not first.is_floating_point() or not first.numel():
            return
        if self._wish.scan:
            forward.scanned.setdefault(("forward", name), magnitude(first))
        if self._wish.activations and not any(True for _ in module.children()):
            self._units_first = _has_units_first(module, self._units_first)
            noted = activation(module, plain(first), self._units_first, self._wish.moments)
            forward.activations.setdefault(name, []).append(noted)

    @guarded
    def _before_call(self, entries: list[_Entry], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        if self._accepting() and torch.is_grad_enabled():
            entries[:] = [self._entry(module, args, kwargs)]

    @guarded
    def _after_call(
        self, owner: Owner, entries: list[_Entry], module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any
    ) -> None:
        if self._forward is None or not self._accepting():
            return
        if not torch.is_grad_enabled():
            self.saw_no_grad = True
            return
        if owner.name:
            self._look_at(self._forward, owner.name, owner.module, output)
        self._record(
            owner, entries.pop() if entries else _Entry(*detached(args, kwargs), modes_of(module)), args, kwargs, output
        )

    def _record(self, owner: Owner, entry: _Entry, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
        """Keep a call, and wait for the gradients of what it returned."""
        outputs = list(tensors_in(output))
        if not any(tensor.requires_grad for tensor in outputs):
            return
        forward = self._forward
        assert forward is not None
        folds = _folds_samples(next(tensors_in((args, kwargs)), None), forward.samples)
        call = Call(
            modes=entry.modes,
            module=owner.module,
            name=owner.name,
            samples=forward.samples,
            args=entry.inputs[0],
            kwargs=entry.inputs[1],
            versions=entry.versions,
            surroundings=entry.surroundings,
            buffers=entry.buffers,
            gradients=[None] * len(outputs),
            backwards=[None] * len(outputs),
            axes=self._axes_of(owner, forward, outputs, folds),
        )
        if call.axes == (None,):
            call.origin, call.shape = origin_of(outputs[0]), outputs[0].shape
        forward.calls.append(call)
        for position, tensor in enumerate(outputs):
            if tensor.requires_grad:
                forward.handles += self._tapped(call, position, tensor)

    def _axes_of(
        self, owner: Owner, forward: Forward, outputs: Sequence[Tensor], folds: bool
    ) -> tuple[int | None, ...]:
        """Return which axis of each output counts samples."""
        key = owner.name, sum(call.module is owner.module for call in forward.calls)
        if key not in self._axes or len(self._axes[key]) != len(outputs):
            wider = (self._wider or {}).get(key)
            samples = forward.samples or 0
            if owner.name and owner.name in self._told:
                self._axes[key] = (self._told[owner.name],) * len(outputs)
            elif wider is not None and len(wider) == len(outputs):
                pairs = zip(outputs, wider, strict=True)
                self._axes[key] = tuple(_grown_axis(out.shape, more, samples) for out, more in pairs)
            else:
                self._axes[key] = tuple(_only_axis(out.shape, samples) for out in outputs)
        return tuple(
            axis if axis is None or out.shape[axis] == forward.samples or (axis == 0 and folds) else None
            for axis, out in zip(self._axes[key], outputs, strict=True)
        )

    @contextlib.contextmanager
    def catching(
        self, forwards: Sequence[Forward], leaves: Mapping[int, nn.Parameter], ends: Sequence[Tensor]
    ) -> Iterator[dict[int, Tensor]]:
        """Catch what one backward from ``ends`` brings to what is added to the samples, as Backward.spread holds it.

        ``leaves`` are the parameters by the identity of what stands for each. The mapping is filled on leaving.
        """
        free = {id(parameter) for parameter in self.free}
        wanted = {leaf: parameter for leaf, parameter in leaves.items() if id(parameter) in free}
        caught, found = Caught(forwards, wanted, ends, self.meter), dict[int, Tensor]()
        try:
            yield found
        finally:
            found.update(caught.settled())

    def _tapped(self, call: Call, position: int, output: Tensor) -> Iterator[RemovableHandle]:
        """Record the gradient of an output; an in-place operation on a view moves it to the view's base."""
        yield output.register_hook(functools.partial(self._arrived, call, position))
        base = output._base
        if base is not None and base.requires_grad and base.is_contiguous():
            view = (output.size(), output.stride(), output.storage_offset())
            yield base.register_hook(functools.partial(self._arrived_at_base, call, position, view))

    @guarded
    def _arrived(self, call: Call, position: int, gradient: Tensor) -> None:
        if not self._awaiting():
            return
        if call.spread:  # another backward goes through it again, and what it brings is no longer seen by sample
            call.axes = (None,)
            return
        known = call.gradients[position]
        call.gradients[position] = gradient.detach() if known is None else known + gradient.detach()
        call.backwards[position] = torch._C._current_graph_task_id()
        call.fresh = True

    @guarded
    def _arrived_at_base(self, call: Call, position: int, view: Any, gradient: Tensor) -> None:
        if call.backwards[position] != torch._C._current_graph_task_id():
            self._arrived(call, position, gradient.contiguous().as_strided(*view))


class Caught:
    """Gradients of what has no axis of samples, caught in one backward where it is added to what has one."""

    def __init__(
        self, forwards: Sequence[Forward], free: Mapping[int, nn.Parameter], losses: Sequence[Tensor], meter: Meter
    ) -> None:
        """Wait for what the graph of ``losses`` adds; ``free`` are parameters by the leaf that stands for each."""
        self.meter = meter
        made = [call for forward in forwards for call in forward.calls]
        self._calls = {call.origin: call for call in made if call.origin and type(call.module) is nn.Embedding}
        self._samples = forwards[0].samples if len(forwards) == 1 else None
        self._free = free if self._samples else {}
        self._parts: dict[int, list[Tensor | None]] = {}
        self._handles: list[RemovableHandle] = []
        wanted = self._calls.keys() | self._free.keys()
        for origin, adders in additions(losses, wanted).items() if wanted else ():
            self._parts[origin] = [None] * len(adders)
            for place, (node, factor) in enumerate(adders):
                caught = functools.partial(self._arrived, origin, place, factor)
                self._handles.append(node.register_prehook(caught))

    @guarded
    def _arrived(self, origin: int, place: int, factor: float, gradients: tuple[Tensor | None, ...]) -> None:
        if gradients[0] is not None:
            call = self._calls.get(origin)
            shape, samples = (self._free[origin].shape, self._samples) if call is None else (call.shape, call.samples)
            part = by_sample(gradients[0].detach(), shape, samples or 0)
            self._parts[origin][place] = part if part is None or factor == 1 else part * factor

    def settled(self) -> dict[int, Tensor]:
        """Return the gradients of parameters, by identity, and give the calls theirs, where all of it was caught."""
        for handle in self._handles:
            handle.remove()
        found: dict[int, Tensor] = {}
        for origin, parts in self._parts.items():
            caught = [part for part in parts if part is not None]
            if len(caught) < len(parts):
                continue
            whole = sum(caught[1:], caught[0])
            if origin in self._calls:
                _spread(self._calls[origin], whole)
            else:
                found[id(self._free[origin])] = whole
        return found


def _spread(call: Call, gradient: Tensor) -> None:
    """Take a call for one that was made for every sample."""
    assert call.samples is not None
    count, shape = call.samples, call.shape
    (index,) = tensors_in((call.args, call.kwargs))
    if not call.spread:
        call.args, call.kwargs = (index.expand(count, *index.shape),), {}
    call.gradients, call.axes, call.versions = [gradient.reshape(count, *shape)], (0,), (index._version,)
    call.spread = True


def _grown_axis(shape: torch.Size, wider: Sequence[int], samples: int) -> int | None:
    """Return the one axis that grew by a sample's share when the batch grew by a sample."""
    if len(shape) != len(wider):
        return None
    grown = [axis for axis, (size, more) in enumerate(zip(shape, wider, strict=True)) if size != more]
    if len(grown) != 1 or shape[grown[0]] * (samples + 1) != wider[grown[0]] * samples:
        return None
    return grown[0]


def _only_axis(shape: torch.Size, samples: int) -> int | None:
    """Return the one axis as long as the batch, or the first where it holds several rows of each sample."""
    fitting = [axis for axis, size in enumerate(shape) if size == samples]
    if fitting:
        return fitting[0] if len(fitting) == 1 else None
    return 0 if samples and len(shape) and shape[0] % samples == 0 else None


@dataclass
class _Entry:
    """What a call was entered with."""

    inputs: tuple[tuple[Any, ...], Mapping[str, Any]]
    versions: tuple[int, ...]
    modes: Mapping[int, bool]
    surroundings: Surroundings | None = None
    buffers: dict[str, Tensor] = field(default_factory=dict)


def copied_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's buffers, by name."""
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def _buffers(forward: Forward) -> dict[str, Tensor]:
    """Return copies of the buffers that a forward is made with."""
    return dict(forward.buffers) or copied_buffers(forward.root)


def modes_of(root: nn.Module) -> dict[int, bool]:
    """Return whether each part of a module is in train mode, by identity."""
    return {id(part): part.training for part in root.modules()}


def _has_units_first(module: nn.Module, before: bool) -> bool:
    """Whether units are counted by axis 1 rather than the last one in what a module returns, and those after it."""
    if isinstance(module, _UNITS_FIRST):
        return True
    return False if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding | nn.RNNBase) else before


_UNITS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


def magnitude(tensor: Tensor) -> Tensor:
    """Return the largest magnitude of a floating-point tensor: NaN or infinite where any of its values is."""
    return torch.linalg.vector_norm(tensor.detach().as_subclass(Tensor), torch.inf)


def _plain_leaves(root: nn.Module | None, owners: Sequence[Owner]) -> list[tuple[str, nn.Module]]:
    """Return the modules without parts of their own and without parameters, where there is nothing compiled."""
    if root is None or any(hasattr(part, "_orig_mod") for part in root.modules()):
        return []
    owned = {id(owner.module) for owner in owners}
    return [
        (name, module)
        for name, module in root.named_modules()
        if module is not root and id(module) not in owned and not any(True for _ in module.children())
    ]


_RESHAPES = ("ViewBackward0", "ReshapeAliasBackward0", "UnsafeViewBackward0")


def detached(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[int, ...]]:
    """Return inputs outside of any graph, and what their versions were."""
    inputs = map_tensors(plain, (args, kwargs))
    return inputs, tuple(tensor._version for tensor in tensors_in(inputs))


def _folds_samples(source: Tensor | None, samples: int | None) -> bool:
    """Whether a tensor was seen to be a reshape of one whose first axis is the batch: rows are then sample-major."""
    if source is None:
        return False
    if source._base is not None and source._base.dim() and source._base.is_contiguous() and source.is_contiguous():
        return source._base.shape[0] == samples
    node = source.grad_fn
    if node is None or node.name() not in _RESHAPES:
        return False
    sizes: Sequence[int] = getattr(node, "_saved_self_sym_sizes", ())
    return len(sizes) > 0 and sizes[0] == samples
