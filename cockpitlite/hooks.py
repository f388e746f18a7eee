"""The only file that registers torch hooks: it turns what passes through a training step into records."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cockpitlite.listening import listen, scale_of, unlisten
from cockpitlite.losses import read_graph
from cockpitlite.records import Backward, Call, Forward, Surroundings, Wish
from cockpitlite.trace import Trace
from cockpitlite.tree import map_tensors, tensors_in

Shapes = list[torch.Size]  # of the tensors that a call returned


@dataclass(frozen=True)
class Owner:
    """A module whose calls are recorded; ``rerun`` says that its calls may have to be made again."""

    module: nn.Module
    name: str
    rerun: bool


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let no error of ours reach the training loop: it is kept for the tracker to report. Add up the time it takes."""

    @functools.wraps(method)
    def body(self: Capture, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.trouble = self.trouble or error
            return None
        finally:
            self.seconds += time.perf_counter() - begin

    return body


class Capture:
    """Everything seen of the step under way; its hooks on the modules and on backward.

    Step boundaries are told by the tracker (:meth:`begin`, :meth:`entered`); while ``busy`` nothing is recorded, so
    that our own re-evaluations are invisible. ``unused`` counts backwards that no step followed, ``skipped`` those of
    them whose loss a GradScaler had scaled: it skips the step where a gradient is not finite.
    """

    def __init__(
        self,
        root: nn.Module | None,
        owners: Sequence[Owner],
        parameters: Sequence[nn.Parameter],
        batch_dim: int | Mapping[str, int],
        probe: Callable[[Forward, Sequence[Owner], int], Mapping[tuple[str, int], Shapes]],
    ) -> None:
        self.root = root
        self._probe = probe
        self._wider: Mapping[tuple[str, int], Shapes] | None = None
        self._axes: dict[tuple[str, int], tuple[int | None, ...]] = {}
        self.owners = [owner for owner in owners if owner.module is not root]
        self._own = None if root is None else Owner(root, "", True)
        self._own_entry: _Entry | None = None
        self._leaves = _plain_leaves(root, self.owners)
        self.parameters = list(parameters)
        self.batch_dim = batch_dim if isinstance(batch_dim, int) else batch_dim.get("", 0)
        self._told: Mapping[str, int] = {} if isinstance(batch_dim, int) else batch_dim
        self.wish = Wish()
        self.busy = False
        self.trouble: Exception | None = None
        self.seen_eval = False
        self.seconds = 0.0
        self.unused = self.skipped = 0
        self._thread: int | None = None
        self.trace = Trace()
        self._children: list[RemovableHandle] = []
        self.forwards: list[Forward] = []
        self.backwards: list[Backward] = []
        self.complete = False
        self.begin(Wish())
        self._probes = self.parameters[:: max(1, len(self.parameters) // 4)]
        self._marks: list[tuple[int, int] | None] = self._gradient_marks()
        self._permanent: list[RemovableHandle] = []
        if root is not None:
            self._permanent = [
                root.register_forward_pre_hook(_Hook(self._before_forward), with_kwargs=True),
                root.register_forward_hook(_Hook(self._after_forward), with_kwargs=True, always_call=True),
            ]
        listen(self)

    def begin(self, wish: Wish) -> None:
        """Start a step: forget the last one."""
        self.trace.close()
        self._detach_children()
        self._forget()
        self.wish = wish
        self.trace = Trace()
        self.gradient: list[Tensor | None] | None = None
        self.stale: list[Tensor | None] | None = None
        self.observed: Tensor | None = None
        self._node: Tensor | None = None
        self.complete = False
        self.aborted = False
        self._closure = False
        self._no_grad_inside = False
        self._marks_after_step = True

    def entered(self, closure: bool) -> None:
        """The optimizer's step has begun; with a closure, forward and backward happen inside of it."""
        self._closure = closure
        if closure:
            self._forget()
        else:
            self.complete = True

    def close(self) -> None:
        """Remove every hook."""
        self.begin(Wish())
        for handle in self._permanent:
            handle.remove()
        self._permanent = []
        unlisten(self)

    @_guarded
    def _before_forward(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wish = self.wish
        if self.busy or self.complete or not torch.is_grad_enabled():
            return
        self._thread = threading.get_ident()
        if not (wish.calls or wish.forwards):
            return
        if getattr(root, "_is_replica", False) or torch.compiler.is_compiling() or _is_transformed():
            return
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
            buffers={name: buffer.detach().clone() for name, buffer in root.named_buffers()} if wish.forwards else {},
            training=root.training,
        )
        if wish.scan:
            self._scan_inputs(forward, inputs)
        self.forwards.append(forward)
        if wish.calls and self._wider is None and (forward.samples or 0) > 1:
            self._look_for_axes(forward)
        if wish.calls:
            self._own_entry = self._entry(root, args, kwargs) if self._own is not None else None
            if not self._children:
                self._attach_children()

    def _look_for_axes(self, forward: Forward) -> None:
        """Call the model once with one sample more; our own hooks look away."""
        self._wider = {}
        self.busy = True
        try:
            every = [*self.owners, *([] if self._own is None else [self._own])]
            self._wider = self._probe(forward, every, self.batch_dim)
        finally:
            self.busy = False

    @_guarded
    def _after_forward(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.busy or self.complete or not self.forwards or not torch.is_grad_enabled():
            return None
        if self._own is not None and self._own_entry is not None and output is not None:
            self._record(self._own, self._own_entry, args, kwargs, output)
            self._own_entry = None
        if not self._no_grad_inside:  # a re-entrant checkpoint calls its modules again, in the backward
            self._detach_children()
        if output is None or self.forwards[-1].outputs:
            return None
        followed = self.trace.follow(output)
        self.forwards[-1].outputs = list(tensors_in(followed))
        return None if followed is output else followed

    def _attach_children(self) -> None:
        for owner in self.owners:
            entries: list[_Entry] = []
            if owner.rerun:
                before = _Hook(functools.partial(self._before_call, entries))
                self._children.append(owner.module.register_forward_pre_hook(before, with_kwargs=True))
            after = _Hook(functools.partial(self._after_call, owner, entries))
            self._children.append(owner.module.register_forward_hook(after, with_kwargs=True))
        if self.wish.scan:
            hooks = [(module, _Hook(functools.partial(self._after_leaf, name))) for name, module in self._leaves]
            self._children += [module.register_forward_hook(hook) for module, hook in hooks]

    def _detach_children(self) -> None:
        for handle in self._children:
            handle.remove()
        self._children = []

    def _entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry:
        """Note all that a call has to be made again with."""
        buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        inputs, versions = _detached(args, kwargs)
        return _Entry(inputs, versions, Surroundings.now(self.parameters[0].device), buffers)

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
    def _after_leaf(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self.busy and not self.complete and self.forwards and torch.is_grad_enabled():
            self._scan_output(name, output)

    def _scan_output(self, name: str, output: Any) -> None:
        first = next(tensors_in(output), None)
        if first is not None and first.is_floating_point() and first.numel():
            self.forwards[-1].scanned.setdefault(("forward", name), _magnitude(first))

    @_guarded
    def _before_call(self, entries: list[_Entry], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        if not self.busy and torch.is_grad_enabled():
            entries[:] = [self._entry(module, args, kwargs)]

    @_guarded
    def _after_call(
        self, owner: Owner, entries: list[_Entry], module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any
    ) -> None:
        if self.busy or self.complete or not self.forwards:
            return
        if not torch.is_grad_enabled():
            self._no_grad_inside = True
            return
        self._record(owner, entries.pop() if entries else _Entry(*_detached(args, kwargs)), args, kwargs, output)

    def _record(self, owner: Owner, entry: _Entry, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
        """Keep a call, and wait for the gradients of what it returned."""
        outputs = list(tensors_in(output))
        if not any(tensor.requires_grad for tensor in outputs):
            return
        forward = self.forwards[-1]
        folds = _folds_samples(next(tensors_in((args, kwargs)), None), forward.samples)
        call = Call(
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
        if self.wish.scan:
            self._scan_output(owner.name, output)
        forward.calls.append(call)
        for position, tensor in enumerate(outputs):
            if tensor.requires_grad:
                self._tap(call, position, tensor)

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

    def _tap(self, call: Call, position: int, output: Tensor) -> None:
        """Record the gradient of an output; an in-place operation on a view moves it to the view's base."""
        output.register_hook(functools.partial(self._arrived, call, position))
        base = output._base
        if base is not None and base.requires_grad and base.is_contiguous():
            view = (output.size(), output.stride(), output.storage_offset())
            base.register_hook(functools.partial(self._arrived_at_base, call, position, view))

    @_guarded
    def _arrived(self, call: Call, position: int, gradient: Tensor) -> None:
        if self.busy or (self.complete and not self._closure):
            return
        known = call.gradients[position]
        call.gradients[position] = gradient.detach() if known is None else known + gradient.detach()
        call.backwards[position] = torch._C._current_graph_task_id()

    @_guarded
    def _arrived_at_base(self, call: Call, position: int, view: Any, gradient: Tensor) -> None:
        if call.backwards[position] != torch._C._current_graph_task_id():
            self._arrived(call, position, gradient.contiguous().as_strided(*view))

    @_guarded
    def before_backward(self, given: Any) -> None:
        """Backward is about to run from ``given``."""
        if self._elsewhere:
            return
        if self.complete and not self._closure and not self.busy:  # the step never ended: it raised
            self.aborted = True
            self.begin(self.wish)
        if self.busy or self.complete:
            return
        marks = self._gradient_marks()
        if marks != self._marks or all(mark is None for mark in marks):
            self._forget_backwards()  # the gradients were cleared since: a new sum begins
        elif self._marks_after_step and self.wish.gradient:
            self.stale = self._gradient_copy()  # nobody cleared the gradients of the last step
        self._marks_after_step = False
        self._marks = marks
        if self.wish.calls and isinstance(given, Tensor) and given.numel() == 1:
            self._node = read_graph(given)

    @_guarded
    def after_backward(self, given: Any) -> None:
        """Backward has run from ``given``: if it reached our parameters it belongs to this step."""
        if self.busy or self.complete or self._elsewhere:
            return
        marks = self._gradient_marks()
        reached = marks != self._marks
        self._marks = marks
        if not reached:
            return
        loss = given if isinstance(given, Tensor) and given.numel() == 1 else None
        scale = scale_of(loss)
        backward = Backward(
            given=loss,
            loss=_summed(given) if loss is None else _unscaled(loss.detach().as_subclass(Tensor), scale),
            scale=scale,
            trace=self.trace,
            forwards=[forward for forward in self.forwards if forward.outputs and _reached(forward)],
            per_sample=self.observed,
            node=self._node,
        )
        self.backwards.append(backward)
        self.seen_eval = self.seen_eval or not all(forward.training for forward in backward.forwards)
        self.forwards = []
        self.observed = None
        self._node = None
        if self._closure:
            self.complete = True
        self._detach_children()
        if self.wish.gradient:
            self.gradient = self._gradient_copy()

    @property
    def _elsewhere(self) -> bool:
        """Whether this is another thread than the one that trains our model."""
        return self._thread is not None and self._thread != threading.get_ident()

    def stepped(self) -> None:
        """The optimizer's step is over: whatever the gradients hold now is old."""
        self._marks = self._gradient_marks()

    def _forget(self) -> None:
        for forward in self.forwards:
            forward.release()
        self.forwards = []
        self._forget_backwards(used=self.complete)

    def _forget_backwards(self, used: bool = False) -> None:
        if not used:
            scaled = sum(backward.scale is not None for backward in self.backwards)
            self.skipped += scaled
            self.unused += len(self.backwards) - scaled
        for backward in self.backwards:
            backward.release()
        self.backwards = []
        self.gradient = None
        self.stale = None

    def _gradient_marks(self) -> list[tuple[int, int] | None]:
        """Tell, without looking at a value, whether the gradients are the ones last seen."""
        gradients = [parameter.grad for parameter in self._probes]
        return [None if gradient is None else (id(gradient), gradient._version) for gradient in gradients]

    def _gradient_copy(self) -> list[Tensor | None]:
        return [None if p.grad is None else _dense(p.grad.detach()).clone() for p in self.parameters]


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
    surroundings: Surroundings | None = None
    buffers: dict[str, Tensor] = field(default_factory=dict)


class _Hook:
    """A hook that vanishes when its module is copied or pickled: copies are not watched."""

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body

    def __call__(self, *args: Any) -> Any:
        return self.body(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return contextlib.nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")  # takes anything, does nothing, loads without us


def _is_transformed() -> bool:
    """Whether this runs inside of vmap, grad or another transform of torch.func, where tensors must not be kept."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _magnitude(tensor: Tensor) -> Tensor:
    """Return the largest magnitude of a floating-point tensor: NaN or infinite where any of its values is."""
    return torch.linalg.vector_norm(tensor.detach().as_subclass(Tensor), torch.inf)


def _dense(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if tensor.is_sparse else tensor


def _summed(given: Any) -> Tensor | None:
    """Return the sum of several scalar losses given to backward at once, None for anything else."""
    if not isinstance(given, list | tuple) or not all(isinstance(t, Tensor) and t.numel() == 1 for t in given):
        return None
    return torch.stack([tensor.detach().as_subclass(Tensor).reshape(()) for tensor in given]).sum() if given else None


def _unscaled(loss: Tensor, scale: Tensor | None) -> Tensor:
    return loss.clone() if scale is None else loss / scale


def _reached(forward: Forward) -> bool:
    return not forward.calls or any(call.arrived for call in forward.calls)


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


def _detached(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[int, ...]]:
    """Return inputs outside of any graph, and what their versions were."""
    inputs = map_tensors(Tensor.detach, (args, kwargs))
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
    optimizer: torch.optim.Optimizer,
    before: Callable[[bool], None],
    after: Callable[[], None],
    aborted: Callable[[], bool],
) -> list[RemovableHandle]:
    """Call ``before(closure given?)`` and ``after()`` around every step really taken, once where steps nest.

    ``aborted`` tells that the last step ended by an exception, in which case torch calls no hook.
    """
    depth = 0

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        depth = 1 if aborted() else depth + 1
        if depth == 1:
            given = (*args, kwargs.get("closure"))
            before(any(callable(item) for item in given))

    def leaving(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        depth = max(0, depth - 1)
        if depth == 0:
            after()

    return [optimizer.register_step_pre_hook(entering), optimizer.register_step_post_hook(leaving)]


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
