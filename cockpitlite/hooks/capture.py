"""Everything seen of a training step: the model's forwards, the backwards, the gradients."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cockpitlite.hooks.calls import CallRecorder, Caught, Owner, Probe, copied_buffers, detached, magnitude, modes_of
from cockpitlite.hooks.compiled import CompiledLoss, is_compiled_in_place
from cockpitlite.hooks.guard import Hook, Meter, guarded
from cockpitlite.hooks.steps import stepping
from cockpitlite.listening import listen, scale_of, unlisten
from cockpitlite.losses import read_decisions, read_graph
from cockpitlite.records import Backward, Classified, Forward, Heard, Surroundings, Wish
from cockpitlite.trace import Trace, plain
from cockpitlite.tree import tensors_in

MOST_PROBES = 4  # parameters whose gradients tell whether a backward has reached the model
WAITING = 50  # backwards without a step, after which it is told each time


class Capture:
    """Everything seen of the step under way; its hooks on the modules and on backward.

    Step boundaries are told by the tracker (:meth:`begin`, :meth:`entered`); while ``busy`` nothing is recorded, so
    that our own re-evaluations are invisible. ``evaluated_again`` tells of a closure that was called more than once.
    ``versions`` are those of the parameters that the last forward was made with, and ``values`` copies of them where
    the capture ``keeps_values``. ``unused`` counts backwards that no step followed, ``skipped`` those of them whose
    loss a GradScaler had scaled: it skips the step where a gradient is not finite. ``since_step`` counts those since
    the last step, used or not, and ``on_waiting`` is called at each fiftieth. ``on_arrival`` is called as the first
    forward after a step begins. Where nothing is wished for, backwards are only ``heard``.
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
        self.on_arrival: Callable[[], None] = lambda: None
        self._arrived = False
        self._old: list[tuple[int, int] | None] = []
        self._thread: int | None = None
        self._compiled = CompiledLoss(root)
        self.trace = Trace()
        self.forwards: list[Forward] = []
        self.backwards: list[Backward] = []
        self.heard: list[Heard] = []
        self.complete = False
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
            root.register_forward_pre_hook(Hook(self._before_forward), with_kwargs=True),
            root.register_forward_hook(Hook(self._after_forward), with_kwargs=True, always_call=True),
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
        self._arrived = False

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
        self._caught: Caught | None = None
        self._decisions: Classified | None = None
        self.versions: list[int] | None = None
        self.values: list[Tensor] | None = None

    def entered(self, closure: bool) -> None:
        """The optimizer's step has begun; with a closure, forward and backward happen inside of it."""
        self._closure, self.evaluated_again = closure, False
        self.complete = not closure
        if closure:
            self._forget()

    def _begin_anew(self) -> None:
        """Start again where the last step never ended because it raised; a closure is called inside of a step."""
        if not self._closure and next(stepping(sys._getframe(1)), None) is None:
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
        if self.busy or self.complete:
            return
        if not self._arrived:
            self._arrived = True
            self.on_arrival()
        if not torch.is_grad_enabled():
            return
        self._thread = threading.get_ident()
        if self.wish.calls or self.wish.forwards:
            self._entered_root(root, args, kwargs)

    @guarded
    def _entered_root(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wish = self.wish
        if getattr(root, "_is_replica", False) or torch.compiler.is_compiling() or _is_transformed():
            return
        self._note_values()
        inputs, versions = detached(args, kwargs)
        sizes = (tensor.shape[self.batch_dim] for tensor in tensors_in(inputs) if tensor.dim() > self.batch_dim)
        device = self.parameters[0].device
        forward = Forward(
            root=root,
            args=inputs[0],
            kwargs=inputs[1],
            versions=versions,
            samples=next(sizes, None),
            surroundings=Surroundings.now(device),
            buffers=copied_buffers(root) if wish.forwards else {},
            modes=modes_of(root),
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

    @guarded
    def _left_root(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if (self.wish.calls or self.wish.activations) and self.calls is not None:
            self.calls.end(args, kwargs, output)
            if not self.calls.saw_no_grad:  # a re-entrant checkpoint calls its modules again, in the backward
                self.calls.detach()
        if output is None or self.forwards[-1].outputs:
            return None
        followed, forward = output, self.forwards[-1]
        if not self._compiled.is_possible():
            followed = self.trace.follow(output)
        forward.outputs = list(tensors_in(followed))
        self._compiled.left(forward.outputs)
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
            forward.scanned["input", str(index) if index else ""] = magnitude(tensor)
            if index == 0 and tensor.dim() > self.batch_dim:
                whole = tensor.movedim(self.batch_dim, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]
                bad = ~whole.isfinite().all(1)
                forward.spoilt = torch.where(bad.any(), bad.to(torch.uint8).argmax(), -1)

    @guarded
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
        self._compiled.look(givens)
        self._nodes = [read_graph(one) if self.wish.calls else None for one in givens]
        followed = self.wish.calls or self.wish.forwards
        self._decisions = read_decisions(givens[0]) if followed and givens else None
        if self.wish.calls and self.calls is not None:
            self._caught = Caught(self.forwards, {id(p): p for p in self.calls.free}, givens, self.meter)

    @guarded
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


class _Removable(Protocol):
    def remove(self) -> None: ...


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


def changes_gradients(root: nn.Module | None, parameters: Sequence[nn.Parameter]) -> bool:
    """Whether hooks of the user may make the gradients other than those of the loss."""
    on_parameters = any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in parameters)
    modules = () if root is None else root.modules()
    return on_parameters or any(module._backward_hooks or module._backward_pre_hooks for module in modules)


def _is_transformed() -> bool:
    """Whether this runs inside of vmap, grad or another transform of torch.func, where tensors must not be kept."""
    return torch._C._functorch.peek_interpreter_stack() is not None


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
