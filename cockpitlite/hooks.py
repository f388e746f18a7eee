"""The only file that registers torch hooks: it turns what passes through a training step into records."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cockpitlite.activity import activation
from cockpitlite.listening import listen, scale_of, unlisten
from cockpitlite.losses import read_decisions, read_graph
from cockpitlite.records import Backward, Call, Classified, Forward, Heard, Surroundings, Wish
from cockpitlite.spread import additions, by_sample, origin_of
from cockpitlite.trace import Trace, plain
from cockpitlite.tree import map_tensors, tensors_in

MOST_PROBES = 4  # parameters whose gradients tell whether a backward has reached the model
WAITING = 50  # backwards without a step, after which it is told each time
Shapes = list[torch.Size]  # of the tensors that a call returned


@dataclass(frozen=True)
class Owner:
    """A module whose calls are recorded; ``rerun`` says that its calls may have to be made again."""

    module: nn.Module
    name: str
    rerun: bool


Probe = Callable[["Forward", Sequence[Owner], int], Mapping[tuple[str, int], Shapes]]


@dataclass
class Meter:
    """What our hooks take of the training's time, and the first error in them: none reaches the training loop."""

    seconds: float = 0.0
    trouble: Exception | None = None


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let no error of ours reach the training loop: it is kept for the tracker to report. Add up the time it takes."""

    @functools.wraps(method)
    def body(self: Any, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.meter.trouble = self.meter.trouble or error
            return None
        finally:
            self.meter.seconds += time.perf_counter() - begin

    return body


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
            self._own_entry = _Entry(*_detached(args, kwargs), forward.modes, forward.surroundings, _buffers(forward))
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
            hooks = [(module, _Hook(functools.partial(self._after_leaf, name))) for name, module in leaves]
            self._handles += [module.register_forward_hook(hook) for module, hook in hooks]

    def _attach_to(self, owner: Owner) -> None:
        entries: list[_Entry] = []
        if owner.rerun:
            before = _Hook(functools.partial(self._before_call, entries))
            self._handles.append(owner.module.register_forward_pre_hook(before, with_kwargs=True))
        after = _Hook(functools.partial(self._after_call, owner, entries))
        self._handles.append(owner.module.register_forward_hook(after, with_kwargs=True))

    def _entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Entry:
        """Note all that a call has to be made again with."""
        inputs, versions = _detached(args, kwargs)
        return _Entry(inputs, versions, _modes(module), Surroundings.now(self.device), _copied_buffers(module))

    @_guarded
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
            forward.scanned.setdefault(("forward", name), _magnitude(first))
        if self._wish.activations and not any(True for _ in module.children()):
            self._units_first = _has_units_first(module, self._units_first)
            noted = activation(module, plain(first), self._units_first, self._wish.moments)
            forward.activations.setdefault(name, []).append(noted)

    @_guarded
    def _before_call(self, entries: list[_Entry], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        if self._accepting() and torch.is_grad_enabled():
            entries[:] = [self._entry(module, args, kwargs)]

    @_guarded
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
            owner, entries.pop() if entries else _Entry(*_detached(args, kwargs), _modes(module)), args, kwargs, output
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
        caught, found = _Caught(forwards, wanted, ends, self.meter), dict[int, Tensor]()
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

    @_guarded
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

    @_guarded
    def _arrived_at_base(self, call: Call, position: int, view: Any, gradient: Tensor) -> None:
        if call.backwards[position] != torch._C._current_graph_task_id():
            self._arrived(call, position, gradient.contiguous().as_strided(*view))


class _Caught:
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

    @_guarded
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


class Capture:
    """Everything seen of the step under way; its hooks on the modules and on backward.

    Step boundaries are told by the tracker (:meth:`begin`, :meth:`entered`); while ``busy`` nothing is recorded, so
    that our own re-evaluations are invisible. ``evaluated_again`` tells of a closure that was called more than once.
    ``versions`` are those of the parameters that the last forward was made with, and ``values`` copies of them where
    the capture ``keeps_values``. ``unused`` counts backwards that no step followed, ``skipped`` those of them whose
    loss a GradScaler had scaled: it skips the step where a gradient is not finite. ``since_step`` counts those since
    the last step, used or not, and ``on_waiting`` is called at each fiftieth. Where nothing is wished for, backwards
    are only ``heard``. ``called`` tells whether the model has been, for the step to come.
    """

    def __init__(
        self,
        root: nn.Module | None,
        owners: Sequence[Owner] | None,
        parameters: Sequence[nn.Parameter],
        batch_dim: int | Mapping[str, int],
        probe: Probe,
    ) -> None:
        self.root = root
        self.meter = Meter()
        self.calls: CallRecorder | None = None
        if root is not None and owners is not None:
            self.calls = self._new_recorder(root, owners, parameters, batch_dim, probe)
        self.parameters = list(parameters)
        self.batch_dim = batch_dim if isinstance(batch_dim, int) else batch_dim.get("", 0)
        self.wish = Wish()
        self.busy = False
        self.keeps_values = False
        self.seen_eval = False
        self.unused = self.skipped = 0
        self.since_step = 0
        self.on_waiting: Callable[[], None] = lambda: None
        self._old: list[tuple[int, int] | None] = []
        self._thread: int | None = None
        self.trace = Trace()
        self.forwards: list[Forward] = []
        self.backwards: list[Backward] = []
        self.heard: list[Heard] = []
        self.complete = self.called = False
        self._probes = self.parameters[:: -(-len(self.parameters) // MOST_PROBES)]
        self._reset(Wish())
        self._marks: list[tuple[int, int] | None] = self._gradient_marks()
        self._permanent: list[_Removable] = [] if root is None else self._attach_to(root)
        listen(self)

    def _attach_to(self, root: nn.Module) -> list[_Removable]:
        """See every call of the root, without getting into what torch.compile made of it."""
        if is_compiled_in_place(root):
            return [_AroundCompiled(root, self._before_forward, self._after_forward)]
        return [
            root.register_forward_pre_hook(_Hook(self._before_forward), with_kwargs=True),
            root.register_forward_hook(_Hook(self._after_forward), with_kwargs=True, always_call=True),
        ]

    def _new_recorder(
        self,
        root: nn.Module,
        owners: Sequence[Owner],
        parameters: Sequence[nn.Parameter],
        batch_dim: int | Mapping[str, int],
        probe: Probe,
    ) -> CallRecorder:
        return CallRecorder(
            root,
            owners,
            parameters[0].device,
            batch_dim,
            probe,
            self.meter,
            accepting=lambda: not self.busy and not self.complete,
            awaiting=lambda: not self.busy and (not self.complete or self._closure),
        )

    def begin(self, wish: Wish) -> None:
        """Start a step: forget the last one."""
        if wish or self.wish:
            self._reset(wish)
        else:  # nothing else was kept
            self._forget_backwards(used=self.complete)
        self.observed: Tensor | None = None
        if wish.gradient:
            self._marks = self._gradient_marks()  # whatever the gradients hold now is old
            self._old = _marks(self.parameters)
        self.complete = self.evaluated_again = self._closure = False
        self._marks_after_step = True
        self.since_step = 0

    def _reset(self, wish: Wish) -> None:
        if not self.trace.closed:
            self.trace.close()
        if self.calls is not None:
            self.calls.detach()
            self.calls.forget()
            self.calls.saw_no_grad = False
        self._forget()
        self.wish = wish
        self.trace = Trace(closed=not (wish.calls or wish.forwards))
        self.gradient: list[Tensor | None] | None = None
        self._copied: list[tuple[int, int] | None] = []
        self.stale: list[Tensor | None] | None = None
        self._nodes: list[Tensor | None] = []
        self._caught: _Caught | None = None
        self._decisions: Classified | None = None
        self.versions: list[int] | None = None
        self.values: list[Tensor] | None = None

    def entered(self, closure: bool) -> None:
        """The optimizer's step has begun; with a closure, forward and backward happen inside of it."""
        self._closure, self.evaluated_again = closure, False
        self.complete, self.called = not closure, False
        if closure:
            self._forget()

    def _begin_anew(self) -> None:
        """Start again where the last step never ended because it raised; a closure is called inside of a step."""
        if not self._closure and next(_stepping(sys._getframe(1)), None) is None:
            self.begin(self.wish)

    def close(self) -> None:
        """Remove every hook."""
        self.begin(Wish())
        for handle in self._permanent:
            handle.remove()
        self._permanent = []
        unlisten(self)

    def _before_forward(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.complete and not self.busy:
            self._begin_anew()
        if self.busy or self.complete or not torch.is_grad_enabled():
            return
        self._thread = threading.get_ident()
        self.called = not self._closure
        if self.wish.calls or self.wish.forwards:
            self._entered_root(root, args, kwargs)

    @_guarded
    def _entered_root(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wish = self.wish
        if getattr(root, "_is_replica", False) or torch.compiler.is_compiling() or _is_transformed():
            return
        self._note_values()
        inputs, versions = _detached(args, kwargs)
        sizes = (tensor.shape[self.batch_dim] for tensor in tensors_in(inputs) if tensor.dim() > self.batch_dim)
        device = self.parameters[0].device
        forward = Forward(
            root=root,
            args=inputs[0],
            kwargs=inputs[1],
            versions=versions,
            samples=next(sizes, None),
            surroundings=Surroundings.now(device),
            buffers=_copied_buffers(root) if wish.forwards else {},
            modes=_modes(root),
        )
        if wish.scan:
            self._scan_inputs(forward, inputs)
        self.forwards.append(forward)
        if (wish.calls or wish.activations) and self.calls is not None:
            self.calls.begin(forward, args, kwargs, wish)

    def _note_values(self) -> None:
        """Note which parameters a forward is made with, and keep them where they have moved before the step."""
        versions = versions_of(self.parameters)
        if versions != self.versions:
            self.versions = versions
            self.values = [p.detach().clone() for p in self.parameters] if self.keeps_values else None

    def _after_forward(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.busy or self.complete or not self.forwards or not torch.is_grad_enabled():
            return None
        return self._left_root(args, kwargs, output)

    @_guarded
    def _left_root(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if (self.wish.calls or self.wish.activations) and self.calls is not None:
            self.calls.end(args, kwargs, output)
            if not self.calls.saw_no_grad:  # a re-entrant checkpoint calls its modules again, in the backward
                self.calls.detach()
        if output is None or self.forwards[-1].outputs:
            return None
        followed, forward = self.trace.follow(output), self.forwards[-1]
        forward.outputs = list(tensors_in(followed))
        for tensor in forward.outputs:
            if tensor.requires_grad:
                forward.handles.append(tensor.register_hook(functools.partial(self._reached, forward)))
        return None if followed is output else followed

    def _reached(self, forward: Forward, gradient: Tensor) -> None:
        forward.reached = forward.reached or not self.busy

    def _scan_inputs(self, forward: Forward, inputs: Any) -> None:
        """Note the largest magnitude of each input, and which sample of the first has a value that is not finite."""
        floating = [tensor for tensor in tensors_in(inputs) if tensor.is_floating_point() and tensor.numel()]
        for index, tensor in enumerate(floating):
            forward.scanned["input", str(index) if index else ""] = _magnitude(tensor)
            if index == 0 and tensor.dim() > self.batch_dim:
                whole = tensor.movedim(self.batch_dim, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]
                bad = ~whole.isfinite().all(1)
                forward.spoilt = torch.where(bad.any(), bad.to(torch.uint8).argmax(), -1)

    @_guarded
    def before_backward(self, given: Any) -> None:
        """Backward is about to run from ``given``."""
        if self._elsewhere:
            return
        if self.complete and not self.busy:
            self._begin_anew()
            self.evaluated_again = self.complete
        if self.busy or self.complete:
            return
        for forward in self.forwards:  # what torch.autograd.grad has sent through them belongs to no gradient
            forward.forget_gradients()
        marks = self._gradient_marks()
        if marks != self._marks or all(mark is None for mark in marks):
            self._forget_backwards()  # the gradients were cleared since: a new sum begins
        if self._marks_after_step and self.wish.gradient:
            self.stale = self._left_over()
        self._marks_after_step = False
        self._marks = marks
        if not self.wish:
            return
        givens = _scalars(given)
        self._nodes = [read_graph(one) if self.wish.calls else None for one in givens]
        followed = self.wish.calls or self.wish.forwards
        self._decisions = read_decisions(givens[0]) if followed and givens else None
        if self.wish.calls and self.calls is not None:
            self._caught = _Caught(self.forwards, {id(p): p for p in self.calls.free}, givens, self.meter)

    @_guarded
    def after_backward(self, given: Any) -> None:
        """Backward has run from ``given``: if it reached our parameters it belongs to this step."""
        caught, self._caught = self._caught, None
        if self.busy or self.complete or self._elsewhere:
            return
        marks = self._gradient_marks()
        reached = marks != self._marks
        self._marks = marks
        if not reached:
            return
        self._count()
        if not self.wish:
            self.heard.append(_heard(_scalars(given)))
            self.complete = self._closure
            return
        self._keep(_scalars(given), {} if caught is None else caught.settled())
        self.forwards = [forward for forward in self.forwards if not _was_reached(forward)]  # whose backward is to come
        self.observed = None
        self._nodes, self._decisions = [], None
        if self._closure:
            self.complete = True
        if self.calls is not None and not self.forwards:
            self.calls.detach()
        if self.wish.gradient:
            self.gradient = self._gradient_copy()
            self._copied = _marks(self.parameters)

    def _count(self) -> None:
        """Count a backward that may never be followed by a step; inside of a step it has been."""
        if not self._closure:
            self.since_step += 1
            if self.since_step % WAITING == 0:
                self.on_waiting()

    @property
    def unchanged(self) -> bool:
        """Whether the gradients are sure to be still what was copied of them.

        A GradScaler, and kernels of other people's on a GPU, write to them without leaving a mark.
        """
        marked = self.parameters[0].device.type == "cpu" and not any(b.scale is not None for b in self.backwards)
        return marked and self.gradient is not None and self._copied == _marks(self.parameters)

    def _keep(self, givens: list[Tensor], spread: Mapping[int, Tensor]) -> None:
        """Record a backward; one that went through the forwards of an earlier one again is a part of that."""
        scales = [scale_of(one) for one in givens]
        scale = scales[0] if scales else None
        losses = [_unscaled(plain(one), s).reshape(()) for one, s in zip(givens, scales, strict=True)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum() if losses else None
        again = self._gone_through_again()
        if again is not None:
            again.givens += givens
            again.nodes += self._nodes
            again.spread = {}  # of the first of them alone
            again.loss = None if loss is None or again.loss is None else again.loss + loss
            return
        forwards = [forward for forward in self.forwards if forward.outputs and _was_reached(forward)]
        backward = Backward(
            givens,
            loss,
            scale,
            self.trace,
            forwards,
            per_sample=self.observed,
            nodes=self._nodes,
            decisions=self._decisions,
            spread=spread,
        )
        for call in backward.calls:
            call.fresh = False
        self.backwards.append(backward)
        self.seen_eval = self.seen_eval or not all(forward.training for forward in backward.forwards)

    def _gone_through_again(self) -> Backward | None:
        """Return the one earlier backward whose forwards this one has gone through, and no other, or None."""
        touched = [backward for backward in self.backwards if any(call.fresh for call in backward.calls)]
        for backward in touched:
            for call in backward.calls:
                call.fresh = False
        fresh = any(call.fresh for forward in self.forwards for call in forward.calls)
        return touched[0] if len(touched) == 1 and not fresh else None

    @property
    def _elsewhere(self) -> bool:
        """Whether this is another thread than the one that trains our model."""
        return self._thread is not None and self._thread != threading.get_ident()

    @property
    def losses(self) -> list[Tensor | float | None]:
        """The losses of this step's backwards, unscaled; None for one that is not a scalar."""
        return [heard.loss for heard in self.heard] + [backward.loss for backward in self.backwards]

    def _forget(self) -> None:
        for forward in self.forwards:
            forward.release()
        self.forwards = []
        self._forget_backwards(used=self.complete)

    def _forget_backwards(self, used: bool = False) -> None:
        if not used:
            scaled = sum(heard.scaled for heard in self.heard) + sum(b.scale is not None for b in self.backwards)
            self.skipped += scaled
            self.unused += len(self.heard) + len(self.backwards) - scaled
        for backward in self.backwards:
            backward.release()
        self.heard, self.backwards = [], []
        self.gradient = None
        self.stale = None

    def _gradient_marks(self) -> list[tuple[int, int] | None]:
        """Tell, without looking at a value, whether the gradients are the ones last seen."""
        return _marks(self._probes)

    def _left_over(self) -> list[Tensor | None] | None:
        """Return copies of the gradients that nobody has cleared since the last step, None where all were."""
        marks = _marks(self.parameters)
        kept = [mark is not None and mark == old for mark, old in zip(marks, self._old, strict=True)]
        copies = zip(self.parameters, kept, strict=True)
        return [_copy(p.grad) if left else None for p, left in copies] if any(kept) else None

    def _gradient_copy(self) -> list[Tensor | None]:
        return [_copy(p.grad) for p in self.parameters]


def _marks(parameters: Sequence[nn.Parameter]) -> list[tuple[int, int] | None]:
    gradients = [parameter.grad for parameter in parameters]
    return [None if gradient is None else (id(gradient), gradient._version) for gradient in gradients]


def versions_of(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Return the numbers that tell whether parameters have been written to."""
    return [parameter._version for parameter in parameters]


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


class _Removable(Protocol):
    def remove(self) -> None: ...


def is_compiled_in_place(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called: hooks on it would be compiled in."""
    return getattr(module, "_compiled_call_impl", None) is not None


class _AroundCompiled:
    """Stands around the compiled call of a module that was compiled in place; copies of the module leave it behind."""

    def __init__(self, root: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self._root, self._before, self._after = root, before, after
        self._compiled: Callable[..., Any] = root._compiled_call_impl  # type: ignore[assignment]
        root._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._before(self._root, args, kwargs)
        output = self._compiled(*args, **kwargs)
        followed = self._after(self._root, args, kwargs, output)
        return output if followed is None else followed

    def remove(self) -> None:
        if self._root._compiled_call_impl is self:
            self._root._compiled_call_impl = self._compiled


class _Hook:
    """A hook that vanishes when its module is copied or pickled, for copies are not watched, or compiled."""

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return None
        return self.body(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return contextlib.nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")  # takes anything, does nothing, loads without us


def changes_gradients(root: nn.Module | None, parameters: Sequence[nn.Parameter]) -> bool:
    """Whether hooks of the user may make the gradients other than those of the loss."""
    on_parameters = any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in parameters)
    modules = () if root is None else root.modules()
    return on_parameters or any(module._backward_hooks or module._backward_pre_hooks for module in modules)


def _copied_buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def _buffers(forward: Forward) -> dict[str, Tensor]:
    """Return copies of the buffers that a forward is made with."""
    return dict(forward.buffers) or _copied_buffers(forward.root)


def _modes(root: nn.Module) -> dict[int, bool]:
    """Return whether each part of a module is in train mode, by identity."""
    return {id(part): part.training for part in root.modules()}


def _is_transformed() -> bool:
    """Whether this runs inside of vmap, grad or another transform of torch.func, where tensors must not be kept."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _has_units_first(module: nn.Module, before: bool) -> bool:
    """Whether units are counted by axis 1 rather than the last one in what a module returns, and those after it."""
    if isinstance(module, _UNITS_FIRST):
        return True
    return False if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding | nn.RNNBase) else before


_UNITS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


def _magnitude(tensor: Tensor) -> Tensor:
    """Return the largest magnitude of a floating-point tensor: NaN or infinite where any of its values is."""
    return torch.linalg.vector_norm(tensor.detach().as_subclass(Tensor), torch.inf)


def _copy(gradient: Tensor | None) -> Tensor | None:
    """Return a dense copy, outside of any graph."""
    if gradient is None:
        return None
    return (gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()).clone()


def _scalars(given: Any) -> list[Tensor]:
    """Return the scalar losses given to backward, none where anything else is among them."""
    tensors = list(given) if isinstance(given, list | tuple) else [given]
    return tensors if all(isinstance(tensor, Tensor) and tensor.numel() == 1 for tensor in tensors) else []


def _unscaled(loss: Tensor, scale: Tensor | None) -> Tensor:
    return loss.clone() if scale is None else loss / scale


def _heard(givens: Sequence[Tensor]) -> Heard:
    """Return what is kept of a backward where nothing is wished for; no device is waited for."""
    scales = [scale_of(one) for one in givens]
    if not givens:
        return Heard(None, False)
    if len(givens) == 1 and givens[0].device.type == "cpu" and scales[0] is None:
        return Heard(givens[0].item(), False)
    losses = [_unscaled(plain(one), scale).reshape(()) for one, scale in zip(givens, scales, strict=True)]
    return Heard(losses[0] if len(losses) == 1 else torch.stack(losses).sum(), scales[0] is not None)


def _was_reached(forward: Forward) -> bool:
    return forward.reached or any(call.arrived for call in forward.calls)


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


def _detached(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[int, ...]]:
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


# --- the optimizer -------------------------------------------------------------------------------------------------


def attach_to_steps(
    optimizer: torch.optim.Optimizer, before: Callable[[bool], None], after: Callable[[], None]
) -> list[RemovableHandle]:
    """Call ``before(closure given?)`` and ``after()`` around every step really taken, once where steps nest.

    Of a step that ends by an exception torch calls no second hook: whether one is still under way is told by its frame.
    """
    depth, outermost = 0, None

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth, outermost
        stepping = _stepping(sys._getframe(1))
        innermost = next(stepping, None)
        depth = depth + 1 if depth and any(frame is outermost for frame in stepping) else 1
        if depth == 1:
            outermost = innermost
            given = (*args, kwargs.get("closure"))
            before(any(callable(item) for item in given))

    def leaving(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth, outermost
        depth = max(0, depth - 1)
        if depth == 0:
            outermost = None
            after()

    hidden = torch._disable_dynamo  # type: ignore[attr-defined]  # a compiled step is not to be traced into our hooks
    return [
        optimizer.register_step_pre_hook(hidden(entering)),
        optimizer.register_step_post_hook(hidden(leaving)),
    ]


def _stepping(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames that torch calls a step's hooks from, innermost first."""
    while frame is not None:
        if frame.f_globals.get("__name__") == torch.optim.Optimizer.__module__:
            yield frame
        frame = frame.f_back


# --- the silence around a re-evaluation ----------------------------------------------------------------------------

_HOOK_DICTIONARIES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextlib.contextmanager
def hooks_bypassed(root: nn.Module) -> Iterator[None]:
    """Call no hook of anybody inside ``root``, but those of torch.nn.utils, which compute parameters."""
    saved: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in root.modules():
            for attribute in _HOOK_DICTIONARIES:
                hooks = getattr(module, attribute)
                if hooks:
                    saved.append((module, attribute, hooks))
                    kept = {key: hook for key, hook in hooks.items() if _computes_parameters(hook)}
                    object.__setattr__(module, attribute, OrderedDict(kept))
        yield
    finally:
        for module, attribute, hooks in saved:
            object.__setattr__(module, attribute, hooks)


@contextlib.contextmanager
def recorded_shapes(owners: Sequence[Owner]) -> Iterator[dict[tuple[str, int], Shapes]]:
    """Record the output shapes of the owners' calls inside, by owner and how often it was called before."""
    found: dict[tuple[str, int], Shapes] = {}
    handles: list[RemovableHandle] = []

    def record(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        found[name, sum(key[0] == name for key in found)] = [tensor.shape for tensor in tensors_in(output)]

    try:
        hooks = [(owner.module, functools.partial(record, owner.name)) for owner in owners]
        handles += [module.register_forward_hook(hook) for module, hook in hooks]
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _computes_parameters(hook: Any) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")
