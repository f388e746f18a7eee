"""Products with the Hessian of a recorded batch's loss, and what is estimated from them: traces and eigenvalues."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cockpitlite.precision import at_least_float32, widest
from cockpitlite.records import Backward
from cockpitlite.replay import Replay, bare, dense, gradients_of, loss_gradient, nodes_before

Vectors = list[Tensor]  # one tensor per parameter
Product = Callable[[Vectors], Vectors]

# Nodes of the autograd graph that a second derivative cannot, or silently does not, go through.
_CLOSED = {
    "ScaledDotProductFlashAttentionForCpuBackward0": "fused attention",
    "ScaledDotProductFlashAttentionBackward0": "fused attention",
    "ScaledDotProductEfficientAttentionBackward0": "fused attention",
    "CtcLossBackward0": "the CTC loss",
    "CudnnRnnBackward0": "a fused recurrent layer",
    "MiopenRnnBackward0": "a fused recurrent layer",
    "CompiledFunctionBackward": "a compiled function",
    "torch::autograd::Error": "a function that is differentiable only once",
}


class HessianProduct:
    """v ↦ Hv, H being the Hessian of the loss of recorded backwards with respect to ``parameters``, at ``values``.

    ``replays`` are the batch evaluated once more with kernels that can be differentiated twice; their graphs are kept.
    Where something in them cannot, ``by_differences`` says what, and products are central differences of two gradients.
    """

    def __init__(
        self,
        backwards: Sequence[Backward],
        parameters: Sequence[nn.Parameter],
        values: Sequence[Tensor],
        replays: Sequence[Replay],
    ) -> None:
        self.by_differences: str | None = None
        self._backwards = backwards
        self._parameters = parameters
        self._values = [value.detach() for value in values]
        self._graphs: list[tuple[Replay, list[Tensor | None]]] = []
        try:
            for replay in replays:
                with _standing(replay):
                    self._graphs.append((replay, gradients_of([replay.loss], replay.leaves, create_graph=True)))
            self.by_differences = next(filter(None, (_closed_node(*graph) for graph in self._graphs)), None)
        except RuntimeError as error:
            self._give_up(error)
        if self.by_differences is not None:
            self._graphs = []

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return Hv."""
        if self.by_differences is None:
            try:
                return self._products(vectors)
            except RuntimeError as error:
                self._give_up(error)
        return self._differences(vectors)

    def _give_up(self, error: RuntimeError) -> None:
        """Turn to differences where an operation has no second derivative."""
        if "derivative" not in str(error):
            raise error
        self.by_differences, self._graphs = str(error).splitlines()[0], []

    def gradient(self) -> Vectors:
        """Return ∇L at the same place, of the same evaluation."""
        if self.by_differences is not None:
            parts = [loss_gradient(backward, self._parameters, self._values)[1] for backward in self._backwards]
        else:
            parts = [
                self._unscaled(replay, [None if g is None else g.detach() for g in gradients])
                for replay, gradients in self._graphs
            ]
        return _summed(parts)

    def _products(self, vectors: Vectors) -> Vectors:
        """Differentiate the gradient along v."""
        parts = []
        for replay, gradients in self._graphs:
            pairs = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g.requires_grad]
            products: list[Tensor | None] = [None] * len(vectors)
            if pairs:
                with _standing(replay):
                    heads, tails = [g for g, _ in pairs], [v.to(g.dtype) for g, v in pairs]
                    products = gradients_of(heads, replay.leaves, tails, retain_graph=True)
            parts.append(self._unscaled(replay, products))
        return _summed(parts)

    def _unscaled(self, replay: Replay, found: Sequence[Tensor | None]) -> Vectors:
        filled = [torch.zeros_like(v) if f is None else dense(f) for f, v in zip(found, self._values, strict=True)]
        return filled if replay.backward.scale is None else [each / replay.scale for each in filled]

    def _differences(self, vectors: Vectors) -> Vectors:
        """Return (∇L(θ + hv) − ∇L(θ − hv)) / 2h, h such that the step is a small part of θ."""
        length = norm(vectors).clamp(min=torch.finfo(vectors[0].dtype).tiny)
        step = torch.finfo(vectors[0].dtype).eps ** (1 / 3) * (1 + norm(self._values)) / length
        total = [torch.zeros_like(value) for value in self._values]
        for backward in self._backwards:
            ends = []
            for way in (step, -step):
                moved = [value + way.to(value) * v for value, v in zip(self._values, vectors, strict=True)]
                ends.append(loss_gradient(backward, self._parameters, moved)[1])
            for index, (ahead, behind) in enumerate(zip(*ends, strict=True)):
                total[index] = total[index] + (ahead - behind) / (2 * step.to(ahead))
        return total


def _summed(parts: Sequence[Vectors]) -> Vectors:
    return parts[0] if len(parts) == 1 else [torch.stack(list(of_each)).sum(0) for of_each in zip(*parts, strict=True)]


@contextlib.contextmanager
def _standing(replay: Replay) -> Iterator[None]:
    """Let gradients be taken of a replay; what it recomputes meanwhile it recomputes with the kernels it used."""
    with (
        twice_differentiable([replay.backward]) if replay.calls_python else contextlib.nullcontext(),
        replay.standing(),
    ):
        yield


def norm(vectors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm over all tensors."""
    return torch.stack(torch._foreach_norm(list(vectors))).norm()


def random_signs(like: Sequence[Tensor], generator: torch.Generator) -> Vectors:
    """Return ±1 with equal odds, from a random stream of our own: one random bit for each."""
    sizes = [value.numel() for value in like]
    device, words = like[0].device, -(-sum(sizes) // 64)
    drawn = torch.empty(words, dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    signs = _signs_of_bytes(device).index_select(0, drawn.view(torch.uint8).int()).flatten()
    parts = signs[: sum(sizes)].split(sizes)
    return [part.view(value.shape).to(value) for part, value in zip(parts, like, strict=True)]


@functools.cache
def _signs_of_bytes(device: torch.device) -> Tensor:
    """Return the eight signs that the bits of each byte stand for, ``[byte, bit]``."""
    bits = torch.arange(256, device="cpu")[:, None] >> torch.arange(7, -1, -1, device="cpu") & 1
    return (2.0 * bits - 1).to(device, non_blocking=True)


@dataclass(frozen=True)
class TraceEstimate:
    """An estimated trace ``by_tensor`` (``[parameter]``), their sum, and its standard error."""

    total: Tensor
    by_tensor: Tensor
    standard_error: Tensor


def hutchinson(
    product: Product, like: Sequence[Tensor], probes: int, generator: torch.Generator, before: Tensor | None
) -> tuple[TraceEstimate, Tensor]:
    """Estimate a trace from vᵀHv with random signs v (Hutchinson 1990).

    The variance of a probe is 2(‖H‖² − Σh_jj²); E‖Hv‖² = ‖H‖² bounds it from above without a second probe. A probe
    that misses what is steep knows neither the trace nor its own error: the mean of the steps ``before`` counts where
    it is the larger. That mean of ‖Hv‖², with these probes in it, is returned too.
    """
    traces, squares = [], []
    for _ in range(probes):
        signs = random_signs(like, generator)
        image = product(signs)
        products = torch._foreach_mul(image, signs)
        traces.append(widest(torch.stack([at_least_float32(part).sum() for part in products])))
        squares.append(widest(norm(image)).square())
    now, square = no_less_than_usual(torch.stack(squares).mean(), before)
    by_tensor = torch.stack(traces).mean(0)
    return TraceEstimate(by_tensor.sum(), by_tensor, (2 * now / probes).sqrt()), square


_NEWS = 0.2  # how much a step counts beside those before


def no_less_than_usual(now: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a square of this step or, where that is larger, the fading mean over steps; and that mean.

    ``before`` is the mean up to the step before, None at the first.
    """
    if before is None:
        return now, now
    mean = torch.lerp(before, now, _NEWS)
    return torch.maximum(now, mean), torch.where(mean.isfinite(), mean, before)


@dataclass(frozen=True)
class Extreme:
    """An eigenvalue at one end of a spectrum: within the residual ‖Hx − λx‖ of ``value`` there is one.

    ``ahead`` is where a search on a similar matrix may begin: x and the vector of the eigenvalue next to it, flat
    (``[2, D]``). Batches differ, and what comes second in one of them leads in another.
    """

    value: Tensor
    residual: Tensor
    ahead: Tensor


class Search:
    """A subspace that grows by products with a symmetric matrix H, orthonormal; ``size`` products were taken.

    What H is on the subspace tells of the ends of its spectrum (Rayleigh and Ritz). Nothing waits for the device but
    the eigenvalues of that small matrix.
    """

    def __init__(self, product: Product, like: Sequence[Tensor], generator: torch.Generator) -> None:
        self._product = product
        self._sizes = [value.numel() for value in like]
        self._shapes = [value.shape for value in like]
        self._generator = generator
        self._like = like[0]
        self.dimension = sum(self._sizes)
        self.size = 0
        self._basis = self._images = self._like.new_empty(0, self.dimension)  # [product, D]
        self._projected = self._like.new_empty(0, 0)

    def can_start_from(self, vectors: Tensor) -> bool:
        """Whether vectors that were found before are of the same kind as those that are looked for."""
        like = self._basis
        return vectors.shape[1:] == like.shape[1:] and (vectors.dtype, vectors.device) == (like.dtype, like.device)

    def anywhere(self, products: int) -> None:
        """Take products by Lanczos' method from a random vector on: they approach both ends of the spectrum."""
        for place, random in self._places(products):
            self._take(random if place == 0 else self._images[place - 1], random)

    def towards(self, sign: int, products: int, starts: Tensor) -> None:
        """Take products towards the largest eigenvalue (``sign`` 1) or the smallest (−1), with ``starts`` to begin.

        The further ones are taken of what is left of the best vector's image, its residual; the second of them of that
        of the second best: a direction that gets steeper than the best is not seen from there.
        """
        begun = self.size + len(starts)
        for place, random in self._places(products):
            if place < begun:
                self._take(starts[place - begun], random)
            else:
                rank = 1 if place == begun + 1 else 0
                best = _leading(sign * self._projected[:place, :place], rank).to(self._images)
                self._take(best @ self._images[:place], random)

    def end(self, sign: int) -> Extreme:
        """Return the largest eigenvalue (``sign`` 1) or the smallest one (−1), as far as it is known."""
        sound = self._projected.isfinite().all()
        values, coordinates = torch.linalg.eigh(widest(torch.where(sound, self._projected, 0.0)))
        order = [-1, -2] if sign > 0 else [0, 1]
        weights = coordinates.T[order[: self.size]].to(self._basis)  # [vector, product]
        vectors, value = weights @ self._basis, values[order[0]]
        residual = widest((weights[0] @ self._images - value.to(vectors) * vectors[0]).norm())
        return Extreme(torch.where(sound, value, torch.nan), torch.where(sound, residual, torch.nan), vectors)

    def _places(self, products: int) -> Iterator[tuple[int, Tensor]]:
        """Make room for products and yield their places, each with a random vector of its own."""
        known, whole = self.size, min(self.size + products, self.dimension)
        self._basis, self._images = (_with_room(each, whole) for each in (self._basis, self._images))
        self._projected = torch.nn.functional.pad(self._projected, [0, whole - known] * 2)
        random = self._random(self.dimension + whole)
        for place in range(known, whole):
            yield place, random[place : place + self.dimension]

    def _take(self, vector: Tensor, instead: Tensor) -> None:
        """Take the product of what of a vector is new, or of another one where nothing is."""
        place = self.size
        basis, self.size = self._basis[:place], place + 1
        direction, image = self._basis[place], self._images[place]
        _put_direction(vector, basis, instead, direction)
        parts = [part.view(shape) for part, shape in zip(direction.split(self._sizes), self._shapes, strict=True)]
        torch.cat([part.flatten() for part in self._product(parts)], out=image)
        self._projected[place, : place + 1] = self._projected[: place + 1, place] = self._basis[: place + 1] @ image

    def _random(self, length: int) -> Tensor:
        """Return small random numbers, never 0."""
        words = torch.empty(-(-length // 8), dtype=torch.int64, device=self._like.device)
        drawn = words.random_(-(2**63), None, generator=self._generator).view(torch.int8)
        return drawn[:length].to(self._like.dtype) + 0.5


def _with_room(rows: Tensor, count: int) -> Tensor:
    room = rows.new_empty(count, rows.shape[1])
    room[: len(rows)] = rows
    return room


def _put_direction(vector: Tensor, basis: Tensor, instead: Tensor, out: Tensor) -> None:
    """Write a unit vector orthogonal to the basis: the rest of ``vector``, or of another where that has none."""
    known = basis @ vector
    rest = torch.addmv(vector, basis.T, known, alpha=-1)
    length = rest.norm()
    dead = ~(length > torch.finfo(vector.dtype).eps ** 0.75 * known.norm())  # else it is rounding
    rest = torch.where(dead, instead, rest)
    rest.addmv_(basis.T, basis @ rest, alpha=-1)
    torch.div(rest, rest.norm(), out=out)


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Return the vector of the largest eigenvalue of a small symmetric matrix, or of the next one for ``rank`` 1.

    About; nothing waits for the device.
    """
    size = matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    none_negative = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    shifted = matrix / size + none_negative
    vector = _dominant(shifted)
    for _ in range(rank):
        shifted = shifted - (vector @ shifted @ vector) * torch.outer(vector, vector)
        vector = _dominant(shifted)
    return vector


def _dominant(power: Tensor) -> Tensor:
    """Return the vector of the largest eigenvalue of a matrix that has no negative ones, about."""
    for _ in range(10):  # its 1024th power
        power = power @ power
        power = power / power.norm()
    vector = power.index_select(1, power.diagonal().argmax()).flatten()
    return vector / vector.norm()


@contextlib.contextmanager
def twice_differentiable(backwards: Sequence[Backward]) -> Iterator[None]:
    """Choose kernels with a second derivative: plain attention, and no fused recurrent layers."""
    modules = (part for b in backwards for forward in b.forwards for part in bare(forward.root).modules())
    recurrent = any(isinstance(part, nn.RNNBase) for part in modules)
    with sdpa_kernel(SDPBackend.MATH), contextlib.ExitStack() as stack:
        if recurrent and torch.backends.cudnn.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _closed_node(replay: Replay, gradients: Sequence[Tensor | None]) -> str | None:
    """Return what in a graph of first derivatives has no second one, None where all have.

    Of torch's own operations the forward's tell; others have to be looked at as they were differentiated.
    """
    nodes = set(replay.nodes)
    if replay.has_foreign_nodes:
        nodes |= {node for gradient in gradients if gradient is not None for node in nodes_before(gradient)}
    closed = {node.name() for node in nodes} & _CLOSED.keys()
    return f"{_CLOSED[min(closed)]} has no second derivative" if closed else None
