"""Where a model ends and its loss begins: the tensors the loss function is given, and the loss's curvature there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from cockpitlite.hooks import CallRecorder
from cockpitlite.precision import at_least_float32
from cockpitlite.records import Backward, Forward
from cockpitlite.replay import Replay, batched_gradients
from cockpitlite.tree import tensors_in

Column = list[Tensor]  # a vector over all heads: one tensor of each head's shape


class NoHeads(Exception):
    """The curvature of the loss in the model's output is not known; the message is the reason a user reads."""


@dataclass(frozen=True)
class Head:
    """A tensor that a loss function was given: logits along ``axis`` of a softmax, or elements that stand alone."""

    given: Tensor
    axis: int | None


class Evaluation:
    """A recorded batch evaluated once more at ``values``, with what its loss functions are given as ``heads``.

    Calls of the modules are recorded by ``recorder`` into ``forwards``. Raises NotReplayable with the reason.
    """

    def __init__(
        self,
        backward: Backward,
        parameters: Sequence[nn.Parameter],
        values: Sequence[Tensor],
        recorder: CallRecorder,
    ) -> None:
        self.forwards: list[Forward] = []
        self._recorder = recorder

        @contextlib.contextmanager
        def recorded(forward: Forward) -> Iterator[None]:
            with recorder.over(forward, activations=False) as again:
                self.forwards.append(again)
                yield

        self.replay, watcher = _watched_replay(backward, parameters, values, recorded)
        self.heads = [*watcher.heads, *_direct_outputs(self.replay, watcher.covered)]
        self._leaves = dict(zip(map(id, self.replay.leaves), parameters, strict=True))
        hidden = [leaf for leaf in self.replay.leaves if leaf.requires_grad and id(leaf) not in watcher.used]
        self._ends: list[Tensor | GradientEdge] = [*watcher.uses, *hidden]

    def send(self, column: Column) -> Mapping[int, Tensor]:
        """Send a column back from the heads: the recorded calls see it pass, and forget what they saw before.

        It goes as far as parameters are used; what it would make of their gradients is not computed. Returns the
        gradients, by sample, of parameters that are added to what the samples computed, as Backward.spread holds them.
        """
        self.forget_gradients()
        inputs = [head.given for head in self.heads]
        ends: Any = self._ends  # torch takes places in the graph beside tensors, its annotation either
        with self.replay.standing(), self._recorder.catching(self.forwards, self._leaves, inputs) as spread:
            torch.autograd.grad(inputs, ends, column, retain_graph=True, allow_unused=True)
        return spread

    def products(self, columns: Column) -> list[Tensor | None]:
        """Return Jᵀs for each parameter and each s of a batch of columns, ``[column, *parameter]``."""
        with self.unheard(), self.replay.standing():
            return batched_gradients([head.given for head in self.heads], self.replay.leaves, columns)

    @contextlib.contextmanager
    def unheard(self) -> Iterator[None]:
        """Let gradients pass without leaving anything at the recorded calls."""
        self.forget_gradients()
        try:
            yield
        finally:
            self.forget_gradients()

    def forget_gradients(self) -> None:
        """Take every recorded call as one that no gradient has reached."""
        for forward in self.forwards:
            forward.forget_gradients()


class Heads:
    """The heads of an evaluated batch, and a root of the loss's Hessian there.

    In a row of logits that Hessian is w(diag p − ppᵀ), p the softmax and w the row's weight in the loss; between
    elements that stand alone it is diagonal. w and the diagonal are measured by one product with it, and another one
    tests the form (``sound``; where it is not, columns are NaN). ``sign`` is −1 where the loss is maximised. Raises
    NoHeads with the reason.
    """

    def __init__(self, evaluation: Evaluation, generator: torch.Generator, sign: float) -> None:
        if not evaluation.heads:
            raise NoHeads(_NO_HEADS)
        self._sign = sign
        self._generator = generator
        self._replay, self.heads = evaluation.replay, evaluation.heads
        self.inputs = [head.given for head in self.heads]
        try:
            self._measure()
        except RuntimeError as error:
            if "derivative" not in str(error):
                raise
            raise NoHeads("the loss function has no second derivative here, so its curvature is not known") from error

    @property
    def rows(self) -> int:
        """How many labels, or random signs, one draw takes."""
        return sum(h.given.numel() // (1 if h.axis is None else max(1, h.given.shape[h.axis])) for h in self.heads)

    def drawn(self) -> Column:
        """Return a random s with E[ssᵀ] = H_L: labels drawn from the model's own distribution, or random signs."""
        return [self._drawn(head, weight) for head, weight in zip(self.heads, self._weights, strict=True)]

    def columns(self, samples: int) -> Iterator[Column]:
        """Yield columns of a root of H_L, each with one row or element of every sample: their squares sum to H_L."""
        for index, (head, weight) in enumerate(zip(self.heads, self._weights, strict=True)):
            for part in _all_columns(head, weight, samples):
                yield [part if index == place else torch.zeros_like(z) for place, z in enumerate(self.inputs)]

    def _measure(self) -> None:
        with torch.enable_grad():
            loss = self._sign * self._replay.loss / self._replay.scale
            slopes = torch.autograd.grad(loss, self.inputs, create_graph=True, allow_unused=True)

        def product(vectors: Column) -> Column:
            pairs = [(g, v) for g, v in zip(slopes, vectors, strict=True) if g is not None and g.requires_grad]
            zeros = [torch.zeros_like(z) for z in self.inputs]
            if not pairs:
                return zeros
            heads, tails = [g for g, _ in pairs], [v for _, v in pairs]
            found = torch.autograd.grad(heads, self.inputs, tails, retain_graph=True, allow_unused=True)
            return [zero if image is None else image for zero, image in zip(zeros, found, strict=True)]

        probe = [torch.ones_like(h.given) if h.axis is None else self._noise(h.given) for h in self.heads]
        images = product(probe)
        measured = zip(self.heads, probe, images, strict=True)
        self._weights = [_weight(head, vector, image) for head, vector, image in measured]
        test = [self._noise(head.given) for head in self.heads]
        pairs = zip(self.heads, self._weights, test, product(test), strict=True)
        gaps = [((_form(h, w, v) - image).norm(), image.norm()) for h, w, v, image in pairs]
        gap, whole = torch.stack([g for g, _ in gaps]).norm(), torch.stack([n for _, n in gaps]).norm()
        self.finite = gap.isfinite()
        self.sound = gap <= 100 * torch.finfo(gap.dtype).eps ** 0.75 * whole
        self._weights = [torch.where(self.sound, weight, torch.nan) for weight in self._weights]

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, device=like.device, dtype=like.dtype)

    def _drawn(self, head: Head, weight: Tensor) -> Tensor:
        z = at_least_float32(head.given.detach())  # half precision has too few numbers to draw from
        uniform = torch.rand(z.shape, generator=self._generator, device=z.device, dtype=z.dtype)
        if head.axis is None:
            return (weight.sqrt() * (1 - 2 * (uniform < 0.5).to(z))).to(head.given.dtype)
        gumbel = -torch.log(-torch.log(uniform.clamp(min=torch.finfo(z.dtype).tiny)))
        label = (z + gumbel).argmax(head.axis, keepdim=True)
        chosen = torch.zeros_like(z).scatter(head.axis, label, 1.0)
        return (weight.sqrt() * (z.softmax(head.axis) - chosen)).to(head.given.dtype)


def _form(head: Head, weight: Tensor, vector: Tensor) -> Tensor:
    """Return the product of the assumed form of H_L with a vector."""
    if head.axis is None:
        return weight * vector
    p = head.given.detach().softmax(head.axis)
    return weight * (p * vector - p * (p * vector).sum(head.axis, keepdim=True))


def _weight(head: Head, vector: Tensor, image: Tensor) -> Tensor:
    """Return the diagonal of H_L, or the weight of each row, from one product; never negative."""
    if head.axis is None:
        return image.detach().clamp(min=0)
    p = head.given.detach().softmax(head.axis)
    square = (p * vector.square()).sum(head.axis, keepdim=True) - (p * vector).sum(head.axis, keepdim=True).square()
    measured = (vector * image).sum(head.axis, keepdim=True) / square
    return torch.where(square > 0, measured, 0.0).detach().clamp(min=0)


def _all_columns(head: Head, weight: Tensor, samples: int) -> Iterator[Tensor]:
    z = head.given.detach()
    if head.axis is None:
        for place in range(z.numel() // samples):
            mask = torch.zeros_like(z).view(samples, -1)
            mask[:, place] = 1
            yield weight.sqrt() * mask.view_as(z)
        return
    p = z.softmax(head.axis)
    for mask in _row_masks(z, head.axis, samples):
        for label in range(z.shape[head.axis]):
            chosen = torch.zeros_like(z)
            chosen.select(head.axis, label).fill_(1)
            yield (weight * p.select(head.axis, label).unsqueeze(head.axis)).sqrt() * (chosen - p) * mask


def _row_masks(z: Tensor, axis: int, samples: int) -> Iterator[Tensor]:
    """Yield masks that keep one softmax of every sample, ``z``'s shape with 1 along ``axis``."""
    shape = list(z.shape)
    shape[axis] = 1
    flat = torch.zeros(shape, dtype=z.dtype, device=z.device).view(samples, -1)
    for row in range(flat.shape[1]):
        mask = flat.clone()
        mask[:, row] = 1
        yield mask.view(shape)


def replay_to_heads(
    backward: Backward, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]
) -> tuple[Replay, list[Head]]:
    """Evaluate a recorded batch once more, and find what its loss functions are given.

    Raises NoHeads where the model returns a loss of an unknown kind, and NotReplayable.
    """
    replay, watcher = _watched_replay(backward, parameters, values, contextlib.nullcontext)
    heads = [*watcher.heads, *_direct_outputs(replay, watcher.covered)]
    if not heads:
        raise NoHeads(_NO_HEADS)
    return replay, heads


_NO_HEADS = "the model returns its loss, and the loss function inside of it is not known"


def _watched_replay(
    backward: Backward,
    parameters: Sequence[nn.Parameter],
    values: Sequence[Tensor],
    around: Callable[[Forward], contextlib.AbstractContextManager[object]],
) -> tuple[Replay, _LossFunctions]:
    watcher = _LossFunctions()

    @contextlib.contextmanager
    def inside(forward: Forward) -> Iterator[None]:
        with around(forward), watcher.inside_model():
            yield

    with watcher:
        return Replay(backward, parameters, values, inside), watcher


def dealt_out(column: Tensor, some: Tensor, groups: int, samples: int) -> Tensor:
    """Return ``[some, *column]``: a copy for each of some groups of samples, with the rows of all others set to zero.

    The samples are dealt out to the groups in turn; with as many groups as samples, each stands alone.
    """
    rows = torch.arange(column.shape[0], device=column.device) // (column.shape[0] // samples) % groups
    mask = some.to(column.device, non_blocking=True)[:, None] == rows
    return column * mask.view(*mask.shape, *[1] * (column.dim() - 1))


def _direct_outputs(replay: Replay, covered: Sequence[Tensor]) -> list[Head]:
    """Return the model's outputs from which the loss is computed without a known loss function in between.

    ``covered`` are tensors that known loss functions begin from, or pass through.

    They are taken for elements that stand alone, as in a loss written by hand.
    """
    outputs = [out for outputs in replay.outputs for out in outputs if out.grad_fn is not None and out.dim()]
    ends = {out.grad_fn for out in outputs} | {tensor.grad_fn for tensor in covered}
    waiting, seen = [replay.loss.grad_fn], {replay.loss.grad_fn}
    while waiting:
        node = waiting.pop()
        if node is None or node in ends:
            continue
        following = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= following
        waiting.extend(following)
    known = {tensor.grad_fn for tensor in covered}
    return [Head(out, None) for out in outputs if out.grad_fn in seen and out.grad_fn not in known]


@dataclass
class _LossFunctions(TorchFunctionMode):
    """Notes what known loss functions are given while a batch is evaluated again, and where parameters are used.

    A softmax counts where a loss function takes its result, or where it is called after the model. ``uses`` are the
    places in the graph of what torch made of the parameters ``used``, by identity.
    """

    heads: list[Head] = field(default_factory=list)
    covered: list[Tensor] = field(default_factory=list)
    uses: list[GradientEdge] = field(default_factory=list)
    used: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._softmaxes: list[tuple[Tensor, Head]] = []
        self._inside = False

    @contextlib.contextmanager
    def inside_model(self) -> Iterator[None]:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = str(getattr(func, "__name__", "")).strip("_")
        if name == "get":  # a property
            return result
        given = args[0] if args else kwargs.get("input")
        if isinstance(given, Tensor) and given.requires_grad:
            self._note(name, given, args, kwargs, result)
        made = [part for part in tensors_in(result) if part.requires_grad and not part.is_leaf]
        leaves = (
            [id(part) for part in tensors_in((args, kwargs)) if part.requires_grad and part.is_leaf] if made else []
        )
        if leaves:
            self.uses += [get_gradient_edge(part) for part in made]
            self.used.update(leaves)
        return result

    def _note(self, name: str, given: Tensor, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        if name == "cross_entropy":
            self._take(Head(given, min(1, given.dim() - 1)))
        elif name in ("softmax", "log_softmax"):
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(axis, int):
                self._softmaxes.append((result, Head(given, axis % given.dim())))
        elif name in ("nll_loss", "kl_div") or not self._inside:
            source = next((head for made, head in self._softmaxes if made is given or made is given._base), None)
            if source is not None:
                self._take(source)
                self.covered.append(given)
            elif name in _ELEMENTWISE:
                self._take(Head(given, None))
        elif name in _ELEMENTWISE:
            self._take(Head(given, None))

    def _take(self, head: Head) -> None:
        if not any(known.given is head.given for known in self.heads):
            self.heads.append(head)
            self.covered.append(head.given)


_ELEMENTWISE = {
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "poisson_nll_loss",
    "soft_margin_loss",
}
