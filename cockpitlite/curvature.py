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
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return (2.0 * bits - 1).to(device)


@dataclass(frozen=True)
class TraceEstimate:
    """Hutchinson's estimate: the trace ``by_tensor`` (``[parameter]``), their sum, and its standard error."""

    total: Tensor
    by_tensor: Tensor
    standard_error: Tensor


def hutchinson(product: Product, like: Sequence[Tensor], probes: int, generator: torch.Generator) -> TraceEstimate:
    """Estimate a trace from vᵀHv with random signs v (Hutchinson 1990).

    The variance of a probe is 2(‖H‖² − Σh_jj²); E‖Hv‖² = ‖H‖² bounds it from above without a second probe.
    """
    traces, squares = [], []
    for _ in range(probes):
        signs = random_signs(like, generator)
        image = product(signs)
        products = torch._foreach_mul(image, signs)
        traces.append(widest(torch.stack([at_least_float32(part).sum() for part in products])))
        squares.append(widest(norm(image)).square())
    variance = 2 * torch.stack(squares).mean() / probes
    by_tensor = torch.stack(traces).mean(0)
    return TraceEstimate(by_tensor.sum(), by_tensor, variance.sqrt())


@dataclass(frozen=True)
class Extreme:
    """An eigenvalue at one end of a spectrum: within the residual ‖Hx − λx‖ of ``value`` there is one.

    ``ahead`` is where a search on a similar matrix may begin (flat, ``[D]``).
    """

    value: Tensor
    residual: Tensor
    ahead: Tensor


class Search:
    """A subspace that grows by products with a symmetric matrix H, by Lanczos' method with full reorthogonalisation.

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
        self._basis = self._images = self._like.new_empty(0, self.dimension)  # [vector, D]
        self._ritz: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def size(self) -> int:
        """How many products were taken."""
        return len(self._basis)

    def grow(self, products: int, start: Tensor | None = None) -> None:
        """Take products of H, from ``start`` on (a random vector without)."""
        known, whole = self.size, min(self.size + products, self.dimension)
        basis, images = (torch.cat([old, old.new_empty(whole - known, self.dimension)]) for old in self._both)
        random = self._random()
        following = random if start is None else torch.where(start.isfinite().all(), start, random)
        for place in range(known, whole):
            basis[place] = _next_direction(following, basis[:place], random.roll(place))
            following = images[place]
            self._take(basis[place], following)
        self._basis, self._images, self._ritz = basis, images, None

    def end(self, sign: int, before: Tensor | None) -> Extreme:
        """Return the largest eigenvalue (``sign`` 1) or the smallest one (−1), as far as it is known.

        The next search begins at a mean of the vectors found lately, and ``before`` is where this one began: batches
        differ, and what they have in common is steep in the next one too.
        """
        sound, values, coordinates = self._on_subspace()
        place = -1 if sign > 0 else 0
        weights, value = coordinates[:, place].to(self._basis), values[place]
        vector = weights @ self._basis
        residual = widest((weights @ self._images - value.to(vector) * vector).norm())
        ahead = vector
        if before is not None:
            turned = torch.lerp(before, torch.where(vector @ before < 0, -vector, vector), _NEWS)
            ahead = torch.where(sound & before.isfinite().all(), turned / turned.norm(), vector)
        return Extreme(torch.where(sound, value, torch.nan), torch.where(sound, residual, torch.nan), ahead)

    @property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self._basis, self._images

    def _take(self, vector: Tensor, image: Tensor) -> None:
        """Write Hv to ``image``."""
        parts = [part.view(shape) for part, shape in zip(vector.split(self._sizes), self._shapes, strict=True)]
        torch.cat([part.flatten() for part in self._product(parts)], out=image)

    def _random(self) -> Tensor:
        """Return a vector of small random numbers, never 0."""
        words = torch.empty(-(-self.dimension // 8), dtype=torch.int64, device=self._like.device)
        drawn = words.random_(-(2**63), None, generator=self._generator).view(torch.int8)
        return drawn[: self.dimension].to(self._like.dtype) + 0.5

    def _on_subspace(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether H is finite on the subspace, its eigenvalues there, and their vectors' coordinates."""
        if self._ritz is None:
            projected = widest(self._basis @ self._images.T)
            projected = (projected + projected.T) / 2
            sound = projected.isfinite().all()
            self._ritz = (sound, *torch.linalg.eigh(torch.where(sound, projected, 0.0)))
        return self._ritz


_NEWS = 0.3  # how much the last batch counts beside those before: batches differ


def _next_direction(vector: Tensor, basis: Tensor, instead: Tensor) -> Tensor:
    """Return a unit vector orthogonal to the basis: the rest of ``vector``, or of another where that has none."""
    rest = _rest(vector, basis)
    dead = ~(rest.norm() > 10 * torch.finfo(vector.dtype).eps * vector.norm())
    rest = _rest(_rest(torch.where(dead, instead, rest), basis), basis)
    return rest / rest.norm()


def _rest(vector: Tensor, basis: Tensor) -> Tensor:
    return vector - (basis @ vector) @ basis if len(basis) else vector


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
