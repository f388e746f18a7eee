"""Products with the Hessian of a recorded batch's loss, and what is estimated from them: traces and eigenvalues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cockpitlite.precision import wide_sum, widest
from cockpitlite.records import Backward
from cockpitlite.replay import NotReplayable, Replay, bare, dense, gradients_of, loss_gradient

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

    The batch is evaluated once more with kernels that can be differentiated twice, and the graph is kept. Where
    something in it cannot, ``by_differences`` says what, and products are central differences of two gradients.
    Raises NotReplayable where the batch cannot be evaluated again.
    """

    def __init__(
        self, backwards: Sequence[Backward], parameters: Sequence[nn.Parameter], values: Sequence[Tensor]
    ) -> None:
        if not backwards:
            raise NotReplayable("no backward was seen in this step, so its batch cannot be evaluated again")
        self.by_differences: str | None = None
        self._backwards = backwards
        self._parameters = parameters
        self._values = [value.detach() for value in values]
        self._graphs: list[tuple[Replay, list[Tensor | None]]] = []
        with _twice_differentiable(backwards):
            try:
                for backward in backwards:
                    replay = Replay(backward, parameters, values)
                    with replay.standing():
                        gradients = gradients_of([replay.loss], replay.leaves, create_graph=True)
                    self._graphs.append((replay, gradients))
                self.by_differences = _closed_node([g for _, gradients in self._graphs for g in gradients])
            except RuntimeError as error:
                if "derivative" not in str(error):
                    raise
                self.by_differences = str(error).splitlines()[0]
        if self.by_differences is not None:
            self._graphs = []

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return Hv."""
        if self.by_differences is None:
            try:
                return self._products(vectors)
            except RuntimeError as error:
                if "derivative" not in str(error):
                    raise
                self.by_differences, self._graphs = str(error).splitlines()[0], []
        return self._differences(vectors)

    def gradient(self) -> Vectors:
        """Return ∇L at the same place, of the same evaluation."""
        if self.by_differences is not None:
            parts = [loss_gradient(backward, self._parameters, self._values)[1] for backward in self._backwards]
        else:
            parts = [
                [
                    torch.zeros_like(value) if g is None else dense(g.detach()) / replay.scale
                    for g, value in zip(gradients, self._values, strict=True)
                ]
                for replay, gradients in self._graphs
            ]
        return [torch.stack(list(of_each)).sum(0) for of_each in zip(*parts, strict=True)]

    def _products(self, vectors: Vectors) -> Vectors:
        """Differentiate the gradient along v."""
        total = [torch.zeros_like(value) for value in self._values]
        with _twice_differentiable(self._backwards):
            for replay, gradients in self._graphs:
                pairs = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g.requires_grad]
                if not pairs:
                    continue
                with replay.standing():
                    heads, tails = [g for g, _ in pairs], [v.to(g.dtype) for g, v in pairs]
                    products = gradients_of(heads, replay.leaves, tails, retain_graph=True)
                total = [t if p is None else t + dense(p) / replay.scale for t, p in zip(total, products, strict=True)]
        return total

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


def norm(vectors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm over all tensors."""
    return torch.stack(torch._foreach_norm(list(vectors))).norm()


def random_signs(like: Sequence[Tensor], generator: torch.Generator) -> Vectors:
    """Return ±1 with equal odds, from a random stream of our own."""
    return [
        torch.randint(0, 2, value.shape, generator=generator, device=value.device).to(value) * 2 - 1 for value in like
    ]


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
        traces.append(torch.stack([wide_sum(v * w) for v, w in zip(signs, image, strict=True)]))
        squares.append(widest(norm(image)).square())
    variance = 2 * torch.stack(squares).mean() / probes
    by_tensor = torch.stack(traces).mean(0)
    return TraceEstimate(by_tensor.sum(), by_tensor, variance.sqrt())


@dataclass(frozen=True)
class Extremes:
    """The largest and smallest eigenvalue found, their residuals ‖Hx − λx‖, and the vectors x (flat, ``[D]``).

    Within a residual of each there is an eigenvalue of H.
    """

    largest: Tensor
    smallest: Tensor
    largest_residual: Tensor
    smallest_residual: Tensor
    vectors: tuple[Tensor, Tensor]


def extreme_eigenvalues(
    product: Product,
    like: Sequence[Tensor],
    products: int,
    generator: torch.Generator,
    before: tuple[Tensor, Tensor] | None,
) -> Extremes:
    """Return both ends of the spectrum by Lanczos' method with full reorthogonalisation, then Rayleigh and Ritz.

    It starts from the sum of the two vectors found ``before`` (a random one without), and takes ``products`` products.
    Nothing waits for the device but the eigenvalues of the small projected matrix.
    """
    sizes = [value.numel() for value in like]
    shapes = [value.shape for value in like]
    total = sum(sizes)

    def flat_product(vector: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
        return torch.cat([image.flatten() for image in product(parts)])

    def fresh() -> Tensor:
        return torch.randn(total, generator=generator, device=like[0].device, dtype=like[0].dtype)

    start = fresh()
    if before is not None and before[0].numel() == total:
        known = before[0] + before[1]
        start = torch.where(known.isfinite().all(), known, start)
    basis: list[Tensor] = []
    images: list[Tensor] = []
    following = start
    for _ in range(min(products, total)):
        basis.append(_next_direction(following, basis, fresh))
        images.append(flat_product(basis[-1]))
        following = images[-1]
    return _ritz(torch.stack(basis), torch.stack(images))


def _next_direction(vector: Tensor, basis: list[Tensor], fresh: Callable[[], Tensor]) -> Tensor:
    """Return a unit vector orthogonal to the basis: the rest of ``vector``, or of a random one where that has none."""
    rest = _orthogonal(vector, basis)
    scale = vector.norm()
    dead = ~(rest.norm() > 10 * torch.finfo(vector.dtype).eps * scale)
    rest = torch.where(dead, _orthogonal(fresh(), basis), rest)
    return rest / rest.norm()


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    if basis:
        matrix = torch.stack(basis)
        for _ in range(2):
            vector = vector - matrix.T @ (matrix @ vector)
    return vector


def _ritz(basis: Tensor, images: Tensor) -> Extremes:
    projected = widest(basis @ images.T)
    projected = (projected + projected.T) / 2
    sound = projected.isfinite().all()
    values, coordinates = torch.linalg.eigh(torch.where(sound, projected, 0.0))
    found = []
    for place in (-1, 0):
        weights = coordinates[:, place].to(basis)
        vector = weights @ basis
        residual = widest((weights @ images - values[place].to(basis) * vector).norm())
        found.append((torch.where(sound, values[place], torch.nan), torch.where(sound, residual, torch.nan), vector))
    (largest, largest_residual, top), (smallest, smallest_residual, bottom) = found
    return Extremes(largest, smallest, largest_residual, smallest_residual, (top, bottom))


@contextlib.contextmanager
def _twice_differentiable(backwards: Sequence[Backward]) -> Iterator[None]:
    """Choose kernels with a second derivative: plain attention, and no fused recurrent layers."""
    modules = (part for b in backwards for forward in b.forwards for part in bare(forward.root).modules())
    recurrent = any(isinstance(part, nn.RNNBase) for part in modules)
    with sdpa_kernel(SDPBackend.MATH), contextlib.ExitStack() as stack:
        if recurrent and torch.backends.cudnn.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _closed_node(gradients: Sequence[Tensor | None]) -> str | None:
    """Return what in a graph of first derivatives has no second one, None where all have."""
    waiting = [gradient.grad_fn for gradient in gradients if gradient is not None and gradient.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node.name() in _CLOSED:
            return f"{_CLOSED[node.name()]} has no second derivative"
        following = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= following
        waiting.extend(following)
    return None
