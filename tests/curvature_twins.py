"""The slow twins of curvature, histograms, activations and class readings: whole matrices in float64, no products.

The Hessian of a step's loss is written out entry by entry, by differentiating the gradient once for each parameter; the
generalised Gauss-Newton matrix (GGN) is J'H_L J from the whole Jacobian J of the outputs at which the loss is split.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from models import Problem, mean_cross_entropy
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map
from twins import (
    Evaluation,
    Journey,
    Part,
    Rule,
    Step,
    Truth,
    Vectors,
    doubled,
    evaluate_step,
    float_leaves,
    random_state,
    stand_in,
)

# One forward in float64 -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """One forward of a step's part at a place, with its graph."""

    model: nn.Module
    parameters: Vectors
    output: Any
    labels: Tensor
    loss: Tensor
    inputs: Any


def passed(part: Part, place: Vectors) -> Pass:
    """Run a part's forward with kernels that can be differentiated twice."""
    x, y = tree_map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, part.batch)
    model = stand_in(part.problem, place, part.before.buffers)
    with random_state(part.before.random), sdpa_kernel(SDPBackend.MATH):
        output = part.problem.forward(model, x, y)
        loss = part.problem.loss(output, y)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return Pass(model, parameters, output, y, loss, x)


def jacobian(outputs: Tensor, parameters: Vectors, *, create_graph: bool = False) -> Tensor:
    """Return the derivative of each entry of ``outputs`` by each parameter, ``[entry, D]``."""
    entries = outputs.flatten()
    each = torch.eye(len(entries), dtype=entries.dtype)
    options = {"retain_graph": True, "create_graph": create_graph, "allow_unused": True}
    wanted = list(parameters.values())
    try:
        found = list(torch.autograd.grad(entries, wanted, each, is_grads_batched=True, **options))
    except RuntimeError:  # some derivatives cannot be taken of many directions at once
        rows = [torch.autograd.grad(entries, wanted, one, **options) for one in each]
        found = [None if column[0] is None else torch.stack(column) for column in zip(*rows, strict=True)]
    pairs = zip(found, wanted, strict=True)
    return torch.cat(
        [(each.new_zeros(len(each), *p.shape) if g is None else g).reshape(len(each), -1) for g, p in pairs], 1
    )


# Curvature matrices ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curvature:
    """The Hessian of a step's loss, and its gradient; ``names`` and ``sizes`` say whose rows they are."""

    hessian: Tensor
    gradient: Tensor
    sizes: Mapping[str, int]

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Return which rows belong to which tensor."""
        start = 0
        for name, size in self.sizes.items():
            yield name, slice(start, start + size)
            start += size


def curvature_of(parts: Sequence[Part], place: Vectors) -> Curvature:
    """Return the Hessian and the gradient of the weighted sum of the parts' losses at one place."""
    hessian: Tensor | float = 0.0
    gradient: Tensor | float = 0.0
    for part in parts:
        one = passed(part, place)
        g = jacobian(one.loss, one.parameters, create_graph=True)[0]
        hessian = hessian + part.weight * (
            jacobian(g, one.parameters) if g.requires_grad else torch.zeros(len(g), len(g), dtype=g.dtype)
        )
        gradient = gradient + part.weight * g.detach()
        sizes = {name: p.numel() for name, p in one.parameters.items()}
    return Curvature((hessian + hessian.T) / 2, gradient, sizes)


@dataclass(frozen=True)
class GaussNewton:
    """The GGN as columns: ``columns[k]`` is the gradient of the k-th direction of the outputs, ``[K, D]``.

    The GGN is the sum over k of ``signs[k]`` times a column's square; ``samples[k]`` is the sample whose outputs the
    direction lies in.
    """

    columns: Tensor
    signs: Tensor
    samples: Tensor

    def diagonal(self) -> Tensor:
        return (self.signs[:, None] * self.columns**2).sum(0)

    def sampled_diagonals(self, draws: int) -> Tensor:
        """Return Monte-Carlo diagonals, ``[draw, D]``: for each sample one random sum of its columns, squared."""
        generator = torch.Generator().manual_seed(11)
        found = []
        count = int(self.samples.max()) + 1
        for _ in range(draws):
            weights = torch.randn(len(self.columns), 1, generator=generator, dtype=torch.float64)
            sums = torch.zeros(count, self.columns.shape[1], dtype=torch.float64)
            sums.index_add_(0, self.samples, weights * self.columns)
            found.append((sums**2).sum(0))
        return torch.stack(found)


def label_diagonals(parts: Sequence[Part], place: Vectors, draws: int) -> Tensor:
    """Return Monte-Carlo diagonals of the GGN of a classification, ``[draw, D]``, with labels drawn from the model.

    Of a mean of N T cross entropies, N T times the summed squares of the samples' contributions for drawn labels.
    """
    generator = torch.Generator().manual_seed(11)
    total = torch.zeros(draws, 1, dtype=torch.float64)
    for part in parts:
        one = passed(part, place)
        logits = logits_of(part.problem)(one.output, one.labels)[0].detach()
        outputs, _ = split(part.problem, one)
        J = jacobian(outputs, one.parameters).unflatten(0, (len(one.labels), -1))
        rows = []
        for _ in range(draws):
            drawn = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
            drawn = drawn.view(one.labels.shape).to(one.labels.dtype)
            _, loss_at = split(part.problem, replace(one, labels=drawn))
            vector = outputs.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(loss_at(vector), vector)
            each = torch.einsum("no,nod->nd", slopes.view(len(one.labels), -1), J)
            rows.append(part.weight * len(logits) * (each**2).sum(0))
        total = total + torch.stack(rows)
    return total


def logits_of(problem: Problem) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """Return how a problem's raw scores and labels are found; None where it is no classification."""
    if problem.logits is None and problem.loss is mean_cross_entropy:
        return lambda output, y: (output, y)
    return problem.logits


def gauss_newton_of(parts: Sequence[Part], place: Vectors) -> GaussNewton:
    """Return the GGN of the weighted sum of the parts' losses."""
    columns, signs, samples = [], [], []
    offset = 0
    for part in parts:
        one = passed(part, place)
        outputs, loss_at = split(part.problem, one)
        J = jacobian(outputs, one.parameters)
        H_L = output_hessian(outputs, loss_at)
        for sample, rows in enumerate(torch.arange(len(outputs)).chunk(len(one.labels))):
            values, vectors = torch.linalg.eigh(H_L[rows][:, rows])
            columns.append((part.weight * values.abs()).sqrt()[:, None] * (vectors.T @ J[rows]))
            signs.append(values.sign())
            samples.append(torch.full((len(rows),), offset + sample))
        offset += len(one.labels)
    return GaussNewton(torch.cat(columns), torch.cat(signs), torch.cat(samples))


def split(problem: Problem, one: Pass) -> tuple[Tensor, Any]:
    """Return the outputs at which the loss is split off, as one vector of N equal parts, and the loss of it."""
    if problem.split is not None:
        return problem.split(one.output, one.labels)
    leaves, samples = float_leaves(one.output), len(one.labels)
    shapes = [leaf.shape for leaf in leaves]
    flats = [leaf.reshape(samples, -1) for leaf in leaves]
    sizes = [piece.shape[1] for piece in flats]

    def loss_at(vector: Tensor) -> Tensor:
        pieces = vector.view(samples, -1).split(sizes, 1)
        swapped = iter([piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)])
        swap = lambda leaf: next(swapped) if isinstance(leaf, Tensor) and leaf.requires_grad else leaf  # noqa: E731
        return problem.loss(tree_map(swap, one.output), one.labels)

    return torch.cat(flats, 1).flatten(), loss_at


def output_hessian(outputs: Tensor, loss_at: Any) -> Tensor:
    """Return the loss's second derivatives by the outputs."""
    return torch.autograd.functional.hessian(loss_at, outputs.detach(), vectorize=True)


# Readings of curvature ------------------------------------------------------------------------------------------------


def trace_variance(curvature: Curvature) -> tuple[float, dict[str, float]]:
    """Return the variance of one Hutchinson probe with random signs, in total and for each tensor.

    A probe of a tensor is z_p'(Hz)_p: pairs inside it count twice, pairs across its border once.
    """
    squares = curvature.hessian**2
    squares = squares - torch.diag(squares.diagonal())
    layers = {}
    for name, span in curvature.spans():
        inside = squares[span, span].sum().item()
        layers[name] = 2 * inside + squares[span].sum().item() - inside
    return 2 * squares.sum().item(), layers


def edge_of(curvature: Curvature, rule: Rule) -> float:
    """Return how far the largest eigenvalue is to the edge of stability, 1 being the edge; NaN for an unknown rule.

    Cohen et al. 2021 and 2022: heavy ball converges on a quadratic where lr h < (2 + 2 beta) / (1 - dampening),
    Nesterov where lr h < (2 + 2 beta) / (1 + 2 beta), Adam at frozen preconditioner P where lr h / P < (2 + 2 beta1)
    / (1 - beta1). Rates that differ between parameters scale H from both sides.
    """
    scales, factors = [], set()
    for name, span in curvature.spans():
        options, state = rule.options[name], rule.state.get(name, {})
        scale, factor = stiffness(rule.kind, options, state)
        if factor is None:
            return math.nan
        scales.append(scale.flatten() if isinstance(scale, Tensor) else torch.full((span.stop - span.start,), scale))
        factors.add(factor)
    assert len(factors) == 1, "groups that differ in more than their rate have no common edge"
    root = torch.cat([scale.double() for scale in scales]).sqrt()
    return factors.pop() * torch.linalg.eigvalsh(root[:, None] * curvature.hessian * root).max().item()


def stiffness(kind: str, options: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, float | None]:
    """Return a parameter's rate, divided by its preconditioner, and the factor from there to the edge."""
    lr = float(options["lr"])
    if kind == "SGD":
        beta = options["momentum"]
        if options["nesterov"]:
            return lr, (1 + 2 * beta) / (2 + 2 * beta)
        return lr, (1 - options["dampening"]) / (2 + 2 * beta) if beta else 0.5
    if kind in ("Adam", "AdamW", "NAdam"):
        beta1, beta2 = options["betas"]
        if not state:
            return 0.0, (1 - beta1) / (2 + 2 * beta1)
        t = float(state["step"])
        second = state["max_exp_avg_sq"] if options.get("amsgrad") else state["exp_avg_sq"]
        P = (1 - beta1**t) * ((second.double() / (1 - beta2**t)).sqrt() + options["eps"])
        return lr / P, (1 - beta1) / (2 + 2 * beta1)
    if kind == "RMSprop":
        if not state:
            return 0.0, 0.5
        square = state["square_avg"].double()
        if options["centered"]:
            square = square - state["grad_avg"].double() ** 2
        return lr / (square.sqrt() + options["eps"]), 1 / (2 + 2 * options["momentum"])
    return math.nan, None


def rayleigh(matrix: Tensor, direction: Tensor) -> float:
    square = torch.dot(direction, direction).item()
    return torch.dot(direction, matrix @ direction).item() / square if square > 0 else math.nan


@dataclass(frozen=True)
class Estimates:
    """The distribution of what is estimated, at one step: its centre and one probe's standard deviation."""

    centre: float
    deviation: float
    layers: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Diagonals:
    """What the readings of a diagonal are made of at one step: the GGN's, that of H, and the mean of g_n squared."""

    ggn_exact: Tensor
    diag_h: Tensor
    second: Tensor

    def readings(self, curvature: str) -> dict[str, float]:
        """Return the trace and both information criteria with a diagonal that is known exactly."""
        diagonal = getattr(self, curvature)
        return {
            "hess_trace": diagonal.sum().item(),
            "tic_diag": information(self.second, diagonal),
            "tic_trace": trace_information(self.second, diagonal),
        }


@dataclass(frozen=True)
class Spreads:
    """What is known of curvature beside the readings: how estimates scatter, by name and step, and the diagonals."""

    estimates: dict[tuple[str, int], Estimates] = field(default_factory=dict)
    diagonals: dict[int, Diagonals] = field(default_factory=dict)


def put_curvature(found: Truth, problem: Problem, journey: Journey) -> Spreads:
    """Work out every reading of curvature at every step, and the spread of those that are estimated."""
    places = journey.places()
    spreads = Spreads()
    for index, step in enumerate(journey.steps):
        here, there, parts = places[index], places[index + 1], step.parts_for(problem)
        uphill = curvature_of(parts, here)
        curvature = Curvature(step.sign * uphill.hessian, step.sign * uphill.gradient, uphill.sizes)
        values = torch.linalg.eigvalsh(curvature.hessian)
        radius = values.abs().max().item()
        moved = torch.cat([(there[name] - here[name]).flatten() for name in curvature.sizes])
        found.put(
            index,
            hess_max_ev=values.max().item(),
            hess_min_ev=values.min().item(),
            step_curvature=rayleigh(curvature.hessian, moved),
            grad_curvature=rayleigh(curvature.hessian, curvature.gradient),
        )
        for name in ("hess_max_ev", "hess_min_ev", "step_curvature", "grad_curvature"):
            found.scale[name, index] = radius
        if step.rule is not None:
            edge = edge_of(curvature, step.rule)
            found.put(index, edge_of_stability=edge)
        diagonal = curvature.hessian.diagonal()
        traces = {name: diagonal[span].sum().item() for name, span in curvature.spans()}
        found.put_layers("hess_trace", index, traces, diagonal.sum().item())
        total, layers = trace_variance(curvature)
        deviations = {name: (traces[name], math.sqrt(layers[name])) for name in traces}
        spreads.estimates["hess_trace", index] = Estimates(diagonal.sum().item(), math.sqrt(total), deviations)
        put_information(found, spreads, index, problem, step, here, diagonal)
    return spreads


def put_information(
    found: Truth, spreads: Spreads, index: int, problem: Problem, step: Step, here: Vectors, diagonal: Tensor
) -> None:
    """The Takeuchi information criterion, from the exact GGN, and the spread of its logarithm from sampled ones."""
    evaluation = evaluate_step(problem, here, step)
    parts = step.parts_for(problem)
    ggn = gauss_newton_of(parts, here)
    exact = Diagonals(step.sign * ggn.diagonal(), diagonal, (evaluation.per_sample() ** 2).mean(0))
    spreads.diagonals[index] = exact
    readings = exact.readings("ggn_exact")
    found.put(index, tic_diag=readings["tic_diag"], tic_trace=readings["tic_trace"])
    known = logits_of(parts[0].problem) is not None
    sampled = label_diagonals(parts, here, 100) if known else ggn.sampled_diagonals(200)
    for name, formula in (("tic_diag", information), ("tic_trace", trace_information)):
        logs = np.log([formula(exact.second, one) for one in sampled])
        spreads.estimates[name, index] = Estimates(float(logs.mean()), float(logs.std()), {})


def information(second: Tensor, diagonal: Tensor) -> float:
    return (second / (diagonal + 1e-7)).sum().item()


def trace_information(second: Tensor, diagonal: Tensor) -> float:
    return (second.sum() / (diagonal.sum() + 1e-7)).item()


# Histograms -----------------------------------------------------------------------------------------------------------


def bounds_of_counts(values: np.ndarray, edges: np.ndarray, slack: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest counts that are right when each value is known to ``slack`` times its scale.

    Bins are half open, the last one closed, as in ``numpy.histogram``.
    """
    margin = slack * max(float(np.abs(values).max(initial=0.0)), 1e-300)
    lower = np.array([((values > a + margin) & (values < b - margin)).sum() for a, b in pairwise(edges)])
    upper = np.array([((values >= a - margin) & (values <= b + margin)).sum() for a, b in pairwise(edges)])
    return lower, upper


def bounds_of_joint_counts(
    values: tuple[np.ndarray, np.ndarray], edges: tuple[np.ndarray, np.ndarray], slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`bounds_of_counts`, for pairs of values."""
    inside, near = [], []
    for axis, marks in zip(values, edges, strict=True):
        margin = slack * max(float(np.abs(axis).max(initial=0.0)), 1e-300)
        pairs = list(pairwise(marks))
        inside.append(np.array([(axis > a + margin) & (axis < b - margin) for a, b in pairs], dtype=np.int64))
        near.append(np.array([(axis >= a - margin) & (axis <= b + margin) for a, b in pairs], dtype=np.int64))
    return inside[0] @ inside[1].T, near[0] @ near[1].T


def elements_of(evaluation: Evaluation, place: Vectors, sign: float = 1.0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each tensor's elements of all per-sample gradients, and beside each the parameter it belongs to."""
    found = {}
    for name, parts in evaluation.contributions.items():
        each = (sign * evaluation.size * parts).reshape(evaluation.size, -1)
        found[name] = (each.flatten().numpy(), place[name].flatten().expand_as(each).flatten().numpy())
    return found


# What modules and classes do ------------------------------------------------------------------------------------------

RECTIFIERS = (nn.ReLU, nn.ReLU6)
SQUASHES = (nn.Tanh, nn.Sigmoid)


def put_activations(found: Truth, index: int, problem: Problem, step: Step, here: Vectors) -> None:
    """Work out what modules without children returned first, in all of their calls in the step's forwards."""
    outputs = outputs_of(step.parts_for(problem))
    readings = {
        "activation_mean": {name: tensor.mean().item() for name, (_, tensor) in outputs.items()},
        "activation_std": {name: tensor.std(unbiased=False).item() for name, (_, tensor) in outputs.items()},
        "dead_units": {name: dead(tensor) for name, (module, tensor) in outputs.items() if type(module) in RECTIFIERS},
        "saturated_units": {
            name: saturated(module, tensor) for name, (module, tensor) in outputs.items() if type(module) in SQUASHES
        },
    }
    for name, layers in readings.items():
        if layers:
            found.put_layers(name, index, layers, sum(layers.values()) / len(layers))
    for name in ("activation_mean", "activation_std"):
        if name in found.series and index in found.series[name]:
            found.scale[name, index] = max(found.layers["activation_std"][index].values())


def outputs_of(parts: Sequence[Part]) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return each childless module with the floating tensors it returned, all of its calls after each other."""
    found: dict[str, list[Tensor]] = {}
    modules: dict[str, nn.Module] = {}
    for part in parts:
        x, y = tree_map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, part.batch)
        model = stand_in(part.problem, doubled(part.before.parameters), part.before.buffers)
        names = {module: name for name, module in model.named_modules() if not list(module.children())}

        def note(module: nn.Module, args: Any, output: Any, names: dict[nn.Module, str] = names) -> None:
            first = next(iter(floating(output)), None)
            if first is not None:
                found.setdefault(names[module], []).append(first.detach().clone())
                modules[names[module]] = module

        for module in names:
            module.register_forward_hook(note)
        with random_state(part.before.random):
            part.problem.forward(model, x, y)
    return {name: (modules[name], torch.cat(tensors)) for name, tensors in found.items()}


def floating(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def dead(output: Tensor) -> float:
    """Return the share of units that are 0 on the whole batch: channels of images, else the last axis."""
    axis = 1 if output.dim() >= 4 else output.dim() - 1
    return (output == 0).all(dim=[a for a in range(output.dim()) if a != axis]).double().mean().item()


def saturated(module: nn.Module, output: Tensor) -> float:
    if isinstance(module, nn.Tanh):
        return (output.abs() > 0.97).double().mean().item()
    return ((output < 0.02) | (output > 0.98)).double().mean().item()


def put_classes(found: Truth, index: int, problem: Problem, step: Step) -> None:
    """Accuracy, the mean over classes of each class's accuracy, and each class's mean loss."""
    parts = step.parts_for(problem)
    scored = logits_of(parts[0].problem)
    if scored is None:
        return
    scores, labels = [], []
    for part in parts:
        one = passed(part, doubled(part.before.parameters))
        pair = scored(one.output, one.labels)
        scores.append(pair[0].detach())
        labels.append(pair[1])
    logits, truth = torch.cat(scores), torch.cat(labels)
    right = (logits.argmax(1) == truth.long()).double()
    surprise = -logits.log_softmax(1).gather(1, truth[:, None].long())[:, 0]
    seen = truth.unique().tolist()
    found.put(index, accuracy=right.mean().item())
    found.put(index, balanced_accuracy=sum(right[truth == label].mean().item() for label in seen) / len(seen))
    losses = {str(int(label)): surprise[truth == label].mean().item() for label in seen}
    found.put_layers("class_loss", index, losses, sum(losses.values()) / len(losses))
