"""The slow twin of every reading: a plain training run, and each definition worked out on it by brute force in float64.

Nothing here is clever. A run is trained without being watched, and what it passed through is kept. Then, for each step,
a float64 copy of the model is put where the run was, and the batch is evaluated again: one backward pass for each
sample and each call of a module that owns parameters, with the gradient of the call's output masked to that sample.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import mpmath
import torch
from models import Batch, Problem
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils._pytree import tree_leaves, tree_map

Vectors = dict[str, Tensor]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda parameters: SGD(parameters, lr=0.1),
    "momentum": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: AdamW(parameters, lr=0.01, weight_decay=0.1),
}

# The run --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A training run: ``sizes`` gives the batch sizes, one per step; ``parts`` is the number of micro-batches."""

    problem: Problem
    optimizer: str | Callable[..., Optimizer] = "sgd"
    clip: float | None = None
    sizes: Sequence[int] = (6,) * 7
    dtype: torch.dtype = torch.float64
    parts: int = 1
    seed: int = 3

    def batches(self) -> list[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        return [tree_map(self._cast, self.problem.draw(size, generator)) for size in self.sizes]

    def make_model(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return self.problem.build().to(self.dtype)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        make = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        return make(model.parameters())

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


@dataclass(frozen=True)
class Photograph:
    """Where a run stands before a step."""

    parameters: Vectors
    buffers: Vectors
    random: Tensor


@dataclass(frozen=True)
class Part:
    """One forward of a step: where it took place, on what, and its loss's weight in the loss of the step."""

    problem: Problem
    batch: Batch
    before: Photograph
    weight: float = 1.0


@dataclass(frozen=True)
class Rule:
    """How an optimizer of a kind moved: each parameter's options before the step, and its state after it."""

    kind: str
    options: dict[str, dict[str, Any]]
    state: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """What a run did in one step: its batch, the gradients its optimizer saw, the learning rate it used.

    ``parts`` are its forwards where there was not just one at ``before``; with ``paired`` their samples are the same.
    ``sign`` is -1 where the optimizer goes uphill.
    """

    before: Photograph
    batch: Batch
    clipped: dict[str, Tensor | None]
    learning_rate: float
    parts: tuple[Part, ...] = ()
    paired: bool = False
    rule: Rule | None = None
    learning_rates: dict[str, float] = field(default_factory=dict)

    def parts_for(self, problem: Problem) -> tuple[Part, ...]:
        return self.parts or (Part(problem, self.batch, self.before),)

    @property
    def sign(self) -> float:
        maximize = self.rule is not None and any(o.get("maximize", False) for o in self.rule.options.values())
        return -1.0 if maximize else 1.0


@dataclass
class Journey:
    """A whole run, with the objects it ended with."""

    model: nn.Module
    optimizer: Optimizer
    steps: list[Step] = field(default_factory=list)
    start: Vectors | None = None  # where it was watched from, if not where its first step was taken

    def places(self) -> list[Vectors]:
        """Return the parameters before each step and after the last one, in float64."""
        places = [step.before.parameters for step in self.steps] + [photograph(self.model).parameters]
        return [{name: tensor.double() for name, tensor in place.items()} for place in places]


def photograph(model: nn.Module) -> Photograph:
    return Photograph(
        {plain(name): parameter.detach().clone() for name, parameter in model.named_parameters()},
        {plain(name): buffer.detach().clone() for name, buffer in model.named_buffers()},
        torch.get_rng_state(),
    )


def plain(name: str) -> str:
    """Return a parameter's name without the wrapping of a compiled model."""
    return name.replace("_orig_mod.", "")


def train(setting: Setting, watch: Callable[[Optimizer, nn.Module], Optimizer] | None = None) -> Journey:
    """Train as a user would; ``watch`` puts the one line into the loop."""
    model = setting.make_model()
    optimizer = setting.make_optimizer(model)
    if watch is not None:
        optimizer = watch(optimizer, model)
    journey = Journey(model, optimizer)
    for x, y in setting.batches():
        before = photograph(model)
        optimizer.zero_grad()
        for part_x, part_y in zip(x.chunk(setting.parts), y.chunk(setting.parts), strict=True):
            loss = setting.problem.loss(setting.problem.forward(model, part_x, part_y), part_y)
            (loss if setting.parts == 1 else loss / setting.parts).backward()
        if setting.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        clipped = {name: None if grad is None else grad.clone() for name, grad in gradients.items()}
        journey.steps.append(Step(before, (x, y), clipped, optimizer.param_groups[0]["lr"]))
        optimizer.step()
    return journey


@dataclass(frozen=True)
class Taken:
    """A step as a recorder saw it: the forwards since the one before, and what the optimizer was given and kept."""

    before: Photograph
    passes: tuple[Photograph, ...]
    clipped: dict[str, Tensor | None]
    rule: Rule


@dataclass
class Leg:
    """One watch, from the outside: every step, and the model and optimizer that took them."""

    model: nn.Module
    optimizer: Optimizer
    start: Vectors
    taken: list[Taken] = field(default_factory=list)
    passes: list[Photograph] = field(default_factory=list)

    def places(self) -> list[Vectors]:
        return [doubled(taken.before.parameters) for taken in self.taken] + [doubled(photograph(self.model).parameters)]


class Recorder:
    """Stands where ``cockpitlite.watch`` would, and writes down what a run passes through without touching it."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Leg]] = {}

    def watch(self, optimizer: Optimizer, model: nn.Module, run: str = "run", resume: bool = False) -> Optimizer:
        leg = Leg(model, optimizer, doubled(photograph(model).parameters))
        self.runs.setdefault(run, []).append(leg)
        opened: list[tuple[Photograph, dict[str, Tensor | None], dict[str, dict[str, Any]]]] = []
        names = {id(parameter): plain(name) for name, parameter in model.named_parameters()}

        def forward(module: nn.Module, args: Any, kwargs: Any) -> None:
            if module is model and module.training and torch.is_grad_enabled():
                leg.passes.append(photograph(model))

        def begin(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            gradients = {plain(name): parameter.grad for name, parameter in model.named_parameters()}
            clipped = {name: None if grad is None else grad.clone() for name, grad in gradients.items()}
            opened.append((photograph(model), clipped, options_of(optimizer, names)))

        def end(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            before, clipped, options = opened.pop()
            rule = Rule(type(optimizer).__name__, options, state_of(optimizer, names))
            leg.taken.append(Taken(before, tuple(leg.passes), clipped, rule))
            leg.passes.clear()

        model.register_forward_pre_hook(forward, with_kwargs=True)
        optimizer.register_step_pre_hook(begin)
        optimizer.register_step_post_hook(end)
        return optimizer


def options_of(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Return what the optimizer does to each parameter of the model, by its name."""
    found = {}
    for group in optimizer.param_groups:
        options = {key: value for key, value in group.items() if key != "params"}
        found.update({names[id(p)]: options for p in group["params"] if id(p) in names})
    return found


def state_of(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    return {
        names[id(parameter)]: copy.deepcopy(dict(state))
        for parameter, state in optimizer.state.items()
        if isinstance(parameter, Tensor) and id(parameter) in names
    }


# One batch at one place -----------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One call of a module: what it was given, the state of the random stream, and its output's tensors."""

    module: nn.Module
    args: Any
    kwargs: Any
    random: Tensor
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """A batch at one place: ``contributions`` are the gradient's parts that belong to each sample, ``[N, ...]``."""

    loss: float
    losses: Tensor
    gradient: Vectors
    contributions: Vectors

    @property
    def size(self) -> int:
        return len(self.losses)

    def flat_gradient(self) -> Tensor:
        return flat(self.gradient)

    def per_sample(self) -> Tensor:
        """Return the per-sample gradients g_n = N c_n, ``[N, D]``."""
        return self.size * torch.cat([c.reshape(self.size, -1) for c in self.contributions.values()], 1)


def flat(vectors: Vectors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in vectors.values()])


def stand_in(problem: Problem, place: Vectors, buffers: Vectors, *, train: bool = True) -> nn.Module:
    """Return a float64 copy of the model at a place."""
    with torch.random.fork_rng():
        model = problem.build().double().train(train)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, tensor in (place | buffers).items():
            state[name].copy_(tensor)
    return model


def evaluate(problem: Problem, place: Vectors, before: Photograph, batch: Batch) -> Evaluation:
    """Evaluate a batch with its loss, its per-sample losses, its gradient and what each sample contributes to it."""
    x, y = tree_map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, batch)
    model = stand_in(problem, place, before.buffers)
    with recorded_calls(model) as calls, random_state(before.random):
        output = problem.forward(model, x, y)
        loss = problem.loss(output, y)
    losses = problem.losses(output, y).detach()
    assert math.isclose(losses.mean().item(), loss.item(), rel_tol=1e-12, abs_tol=1e-15), "not the per-sample losses"
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, parameters.values(), retain_graph=True, allow_unused=True)
    gradient = {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), gradients, strict=True)
    }
    if problem.scattered:
        return Evaluation(loss.item(), losses, gradient, parts_of_own_losses(parameters, problem.losses(output, y)))
    return Evaluation(loss.item(), losses, gradient, contributions(problem, model, calls, loss, len(y)))


def parts_of_own_losses(parameters: Vectors, losses: Tensor) -> Vectors:
    """Return each sample's contribution where nothing passes from one sample to another: that of its own loss."""
    rows = [
        torch.autograd.grad(one / len(losses), parameters.values(), retain_graph=True, allow_unused=True)
        for one in losses
    ]
    return {
        name: torch.stack([torch.zeros_like(p) if row[i] is None else row[i] for row in rows])
        for i, (name, p) in enumerate(parameters.items())
    }


def evaluate_step(problem: Problem, place: Vectors, step: Step) -> Evaluation:
    """Evaluate all forwards of a step, each where it took place, as one batch."""
    if not step.parts:
        return evaluate(problem, place, step.before, step.batch)
    pieces = [
        (part.weight, evaluate(part.problem, doubled(part.before.parameters), part.before, part.batch))
        for part in step.parts
    ]
    return paired(pieces) if step.paired else joined(pieces)


def joined(pieces: Sequence[tuple[float, Evaluation]]) -> Evaluation:
    """Put the samples of several evaluations after each other; the loss is their weighted sum."""
    total = sum(one.size for _, one in pieces)
    return Evaluation(
        sum(weight * one.loss for weight, one in pieces),
        torch.cat([weight * total / one.size * one.losses for weight, one in pieces]),
        {name: sum(weight * one.gradient[name] for weight, one in pieces) for name in pieces[0][1].gradient},
        {
            name: torch.cat([weight * one.contributions[name] for weight, one in pieces])
            for name in pieces[0][1].contributions
        },
    )


def paired(pieces: Sequence[tuple[float, Evaluation]]) -> Evaluation:
    """Take the n-th samples of several evaluations for one sample."""
    return Evaluation(
        sum(weight * one.loss for weight, one in pieces),
        sum(weight * one.losses for weight, one in pieces),
        {name: sum(weight * one.gradient[name] for weight, one in pieces) for name in pieces[0][1].gradient},
        {name: sum(weight * one.contributions[name] for weight, one in pieces) for name in pieces[0][1].contributions},
    )


def doubled(vectors: Vectors) -> Vectors:
    return {name: tensor.double() for name, tensor in vectors.items()}


def slope_of_parts(parts: Sequence[Part], place: Vectors, direction: Tensor) -> float:
    return sum(part.weight * slope(part.problem, place, part.before, part.batch, direction) for part in parts)


def slope(problem: Problem, place: Vectors, before: Photograph, batch: Batch, direction: Tensor) -> float:
    """Return the slope of a batch's loss at a place along a direction, with the forward's own randomness."""
    x, y = tree_map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, batch)
    model = stand_in(problem, place, before.buffers)
    with random_state(before.random):
        loss = problem.loss(problem.forward(model, x, y), y)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    zipped = zip(gradients, parameters, strict=True)
    return torch.dot(
        flat({str(i): torch.zeros_like(p) if g is None else g for i, (g, p) in enumerate(zipped)}), direction
    ).item()


@contextlib.contextmanager
def random_state(state: Tensor) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.set_rng_state(state)
        yield


@contextlib.contextmanager
def recorded_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Record every call of every module; outputs are handed on as copies, so that nothing edits them in place."""
    calls: list[Call] = []
    open_calls: list[Call] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        open_calls.append(Call(module, *kept((args, kwargs)), torch.get_rng_state()))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        call = open_calls.pop()
        call.outputs = float_leaves(output)
        calls.append(call)
        return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def kept(tree: Any) -> Any:
    """Copy the tensors of a tree; what was one tensor in two places stays one (attention asks whether it is)."""
    copies: dict[int, Tensor] = {}

    def copied(leaf: Any) -> Any:
        return copies.setdefault(id(leaf), leaf.detach().clone()) if isinstance(leaf, Tensor) else leaf

    return tree_map(copied, tree)


def float_leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.requires_grad]


def contributions(problem: Problem, model: nn.Module, calls: list[Call], loss: Tensor, samples: int) -> Vectors:
    """Return c_n of every parameter: what reaches it through sample n's rows of its modules' outputs, over all calls.

    Each call is run again on its own recorded input, cut off from what went before: a parameter that another call of
    the same or of another module also uses would else be reached through that call's output as well.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts = {
        name: torch.zeros(samples, *p.shape, dtype=p.dtype) for name, p in model.named_parameters() if p.requires_grad
    }
    axes = {model.get_submodule(name): axis for name, axis in problem.sample_axis.items()}
    owned = parameters_to_answer_for(
        model, {call.module for call in calls} - {model.get_submodule(name) for name in problem.without_samples}
    )
    calls = [call for call in calls if call.module in owned]
    for call in calls:
        own = [parameter for parameter in owned[call.module] if id(parameter) in names]
        if not own:
            continue
        gradients = torch.autograd.grad(loss, call.outputs, retain_graph=True, allow_unused=True)
        outputs = run_again(model, call)
        pairs = [(output, grad) for output, grad in zip(outputs, gradients, strict=True) if grad is not None]
        for sample in range(samples):
            masked = [mask(grad, axes.get(call.module, 0), sample, samples) for _, grad in pairs]
            found = torch.autograd.grad(
                [output for output, _ in pairs], own, masked, retain_graph=True, allow_unused=True
            )
            for parameter, part in zip(own, found, strict=True):
                if part is not None:
                    parts[names[id(parameter)]][sample] += part
    if problem.shared:
        whole = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], retain_graph=True)
        for name, gradient in zip(parts, whole, strict=True):
            parts[name] += (gradient - parts[name].sum(0)) / samples
    return parts


def parameters_to_answer_for(model: nn.Module, called: set[nn.Module]) -> Mapping[nn.Module, list[nn.Parameter]]:
    """Return each called module's own parameters, and those of its children that are never called themselves."""
    owned: dict[nn.Module, list[nn.Parameter]] = {module: [] for module in called}

    def visit(module: nn.Module, answering: nn.Module) -> None:
        answering = module if module in called else answering
        owned[answering].extend(module.parameters(recurse=False))
        for child in module.children():
            visit(child, answering)

    visit(model, model)
    return owned


def run_again(model: nn.Module, call: Call) -> list[Tensor]:
    with random_state(call.random), lent_buffers(model):
        args, kwargs = kept((call.args, call.kwargs))
        outputs = float_leaves(call.module(*args, **kwargs))
    for output, recorded in zip(outputs, call.outputs, strict=True):
        assert torch.equal(output, recorded), "the call did not repeat itself"
    return outputs


@contextlib.contextmanager
def lent_buffers(model: nn.Module) -> Iterator[None]:
    """Let the model write into copies of its buffers."""
    own = {module: dict(module._buffers) for module in model.modules()}
    for module, buffers in own.items():
        module._buffers.update(copy.deepcopy(buffers))
    try:
        yield
    finally:
        for module, buffers in own.items():
            module._buffers.update(buffers)


def mask(gradient: Tensor, axis: int, sample: int, samples: int) -> Tensor:
    """Keep one sample's rows; an axis of k N rows holds k rows of each sample, one sample after the other."""
    rows = gradient.shape[axis] // samples
    assert rows * samples == gradient.shape[axis], "the output has no axis of samples there"
    masked = torch.zeros_like(gradient)
    masked.narrow(axis, rows * sample, rows).copy_(gradient.narrow(axis, rows * sample, rows))
    return masked


# The readings ---------------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What a watched run must say: ``series[name][step]``, and ``layers[name][step][layer]``.

    ``condition`` widens the tolerance of values that are small differences of large ones, by how much larger they are.
    ``unweighted`` holds each step's fit for a run that does not know the variances. ``scale`` is what the error of a
    value is held against where that is not the value itself; ``choices`` are other values that are right as well.
    """

    series: dict[str, dict[int, float]] = field(default_factory=dict)
    layers: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    condition: dict[tuple[str, int], float] = field(default_factory=dict)
    unweighted: dict[int, "Fit"] = field(default_factory=dict)
    scale: dict[tuple[str, int], float] = field(default_factory=dict)
    choices: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def put(self, step: int, **readings: float) -> None:
        for name, value in readings.items():
            self.series.setdefault(name, {})[step] = float(value)

    def put_layers(self, name: str, step: int, values: Mapping[str, float], total: float) -> None:
        self.put(step, **{name: total})
        self.layers.setdefault(name, {})[step] = dict(values)


def without_variances(right: Truth) -> Truth:
    """Return the truth for a run to which the spread over samples is hidden: the fit is the ratio of its slopes."""
    series = dict(right.series)
    series["alpha"] = {step: fit.alpha for step, fit in right.unweighted.items()}
    series["alpha_curvature"] = {step: fit.curvature for step, fit in right.unweighted.items()}
    series["alpha_std"] = dict.fromkeys(right.unweighted, math.nan)
    return replace(right, series=series)


def truth(problem: Problem, journey: Journey) -> Truth:
    """Work out every reading of a run at every step."""
    found = Truth()
    places = journey.places()
    evaluations = [evaluate_step(problem, place, step) for place, step in zip(places[:-1], journey.steps, strict=True)]
    for index, (step, evaluation) in enumerate(zip(journey.steps, evaluations, strict=True)):
        here, there = places[index], places[index + 1]
        moved = {name: there[name] - here[name] for name in here}
        put_loss(found, index, evaluation, step)
        put_movement(found, index, here, moved, places[0] if journey.start is None else journey.start)
        put_gradients(found, index, evaluation, step)
        put_spread(found, index, evaluation)
        put_ratios(found, index, evaluation, step)
        direction = flat({name: moved[name] for name in evaluation.gradient})
        parts = step.parts_for(problem)
        slopes = [step.sign * slope_of_parts(parts, place, direction) for place in (here, there)]
        found.put(index, uphill=float(slopes[0] > 0), slope_same_start=slopes[0], slope_same_end=slopes[1])
        found.put(index, alpha_same=ratio(-slopes[1], slopes[0]))
        for name in ("slope_same_start", "slope_same_end"):
            found.scale[name, index] = evaluation.flat_gradient().norm().item() * flat(moved).norm().item()
        put_choices(found, index, ("alpha_same", "slope_same_start", "slope_same_end"), parts, (here, there), direction)
    for index, (one, other) in enumerate(pairwise(evaluations)):
        here, there, following = places[index], places[index + 1], journey.steps[index + 1]
        moved = {name: there[name] - here[name] for name in here}
        put_alpha(found, index, moved, one, other, following.sign)
        direction = flat({name: moved[name] for name in other.gradient})
        parts = following.parts_for(problem)
        slopes = [following.sign * slope_of_parts(parts, place, direction) for place in (here, there)]
        found.put(index, slope_next_start=slopes[0], slope_next_end=slopes[1], alpha_next=ratio(-slopes[1], slopes[0]))
        for name in ("slope_next_start", "slope_next_end"):
            found.scale[name, index] = other.flat_gradient().norm().item() * flat(moved).norm().item()
        put_choices(found, index, ("alpha_next", "slope_next_start", "slope_next_end"), parts, (here, there), direction)
    return found


def put_choices(
    found: Truth,
    index: int,
    names: tuple[str, str, str],
    parts: Sequence[Part],
    ends: tuple[Vectors, Vectors],
    direction: Tensor,
) -> None:
    """A step of several forwards may be judged on any one of them."""
    if len(parts) == 1:
        return
    for part in parts:
        start, end = (slope(part.problem, place, part.before, part.batch, direction) for place in ends)
        for name, value in zip(names, (ratio(-end, start), start, end), strict=True):
            found.choices.setdefault((name, index), []).append(value)


def ratio(numerator: float, denominator: float) -> float:
    if denominator == 0.0:
        return math.nan if numerator == 0.0 else math.copysign(math.inf, numerator)
    return numerator / denominator


def put_loss(found: Truth, index: int, evaluation: Evaluation, step: Step) -> None:
    found.put(
        index,
        loss=step.sign * evaluation.loss,
        loss_std=evaluation.losses.std().item() if evaluation.size > 1 else math.nan,
        batch_size=evaluation.size,
        learning_rate=step.learning_rate,
    )


def put_movement(found: Truth, index: int, here: Vectors, moved: Vectors, start: Vectors) -> None:
    away = {name: here[name] - start[name] for name in here}
    found.put_layers("update_size", index, norms(moved), flat(moved).norm().item())
    found.put_layers("distance", index, norms(away), flat(away).norm().item())
    ratios = {name: ratio(moved[name].norm().item(), here[name].norm().item()) for name in here}
    found.put_layers("update_ratio", index, ratios, flat(moved).norm().item() / flat(here).norm().item())


def put_gradients(found: Truth, index: int, evaluation: Evaluation, step: Step) -> None:
    seen = step.clipped or dict(evaluation.gradient)  # without a record the optimizer saw the gradient as it was
    missing = {name: math.nan for name, grad in seen.items() if grad is None}
    clipped = {name: grad.double() for name, grad in seen.items() if grad is not None}
    total = evaluation.flat_gradient().norm().item()
    found.put_layers("grad_norm", index, norms(evaluation.gradient) | missing, total)
    found.put_layers("grad_norm_clipped", index, norms(clipped) | missing, flat(clipped).norm().item())


def norms(vectors: Vectors) -> dict[str, float]:
    return {name: tensor.norm().item() for name, tensor in vectors.items()}


def put_spread(found: Truth, index: int, evaluation: Evaluation) -> None:
    """The three tests by their published formulas, the noise scale by its unbiased parts."""
    N = evaluation.size
    if N == 1:
        found.put(index, norm_test=math.nan, inner_test=math.nan, ortho_test=math.nan)
        found.put(index, noise_trace=math.nan, grad_signal=math.nan, noise_scale=math.nan)
        return
    each, g = evaluation.per_sample(), evaluation.flat_gradient()
    square = torch.dot(g, g)
    about = ((each - g) ** 2).sum()
    along = ((each @ g - square) ** 2).sum()
    across = (each**2).sum() - ((each @ g) ** 2).sum() / square
    found.put(
        index,
        norm_test=torch.sqrt(about / (N * (N - 1) * square)),
        inner_test=torch.sqrt(along / (N * (N - 1) * square**2)),
        ortho_test=torch.sqrt(across / (N * (N - 1) * square)),
    )
    trace = (about / (N - 1)).item()
    signal = square.item() - trace / N
    found.put(index, noise_trace=trace, grad_signal=signal, noise_scale=trace / signal)
    for name in ("grad_signal", "noise_scale"):
        found.condition[name, index] = max(1.0, 0.05 * square.item() / abs(signal))


def put_ratios(found: Truth, index: int, evaluation: Evaluation, step: Step) -> None:
    """The readings that divide by a variance or by the loss."""
    N = evaluation.size
    squares = {name: gradient**2 for name, gradient in evaluation.gradient.items()}
    each = {name: N * parts for name, parts in evaluation.contributions.items()}
    biased = {name: each[name].var(0, unbiased=False) for name in each}
    gsnr = {name: squares[name] / (biased[name] + 1e-5) for name in each}
    found.put_layers("mean_gsnr", index, means(gsnr), flat(gsnr).mean().item())
    if N == 1:
        found.put_layers("early_stopping", index, dict.fromkeys(each, math.nan), math.nan)
    else:
        stopping = {name: 1 - N * squares[name] / (each[name].var(0) + 1e-5) for name in each}
        found.put_layers("early_stopping", index, means(stopping), flat(stopping).mean().item())
        found.scale["early_stopping", index] = 1 + abs(found.series["early_stopping"][index])
    rates = {name: step.learning_rates.get(name, step.learning_rate) for name in each}
    spread = sum(rates[name] * biased[name].sum().item() for name in each)
    loss = step.sign * evaluation.loss
    found.put(index, cabs=spread / loss if loss > 0 else math.nan)
    if loss > 0:
        found.scale["cabs", index] = sum(rates[name] * (each[name] ** 2).sum().item() for name in each) / N / loss


def means(vectors: Vectors) -> dict[str, float]:
    return {name: tensor.mean().item() for name, tensor in vectors.items()}


def put_alpha(found: Truth, index: int, moved: Vectors, one: Evaluation, other: Evaluation, sign: float = 1.0) -> None:
    """Fit the parabola to what is minimised: the negative of the loss where the optimizer goes uphill."""
    length = flat(moved).norm().item()
    if length == 0.0:
        found.put(index, alpha=math.nan, alpha_std=math.nan)
        return
    along = [flat({name: moved[name] for name in e.gradient}) / length for e in (one, other)]
    slopes = [torch.dot(e.flat_gradient(), unit).item() for e, unit in zip((one, other), along, strict=True)]
    observed = [sign * value for value in (one.loss, other.loss, *slopes)]
    samples = [one.losses, other.losses, one.per_sample() @ along[0], other.per_sample() @ along[1]]
    variances = [x.var().item() / len(x) if len(x) > 1 else math.nan for x in samples]
    fit = fit_parabola(length, observed, variances)
    found.unweighted[index] = fit_parabola(length, observed, [math.nan] * 4)
    found.put(index, alpha=fit.alpha, alpha_curvature=fit.curvature)
    if fit.curvature > 0:  # a clamped value has no standard error to speak of
        found.put(index, alpha_std=fit.std)
    for name, value, variance in zip(("f0", "f1", "d0", "d1"), observed, variances, strict=True):
        found.put(index, **{f"alpha_{name}": value, f"alpha_{name}_var": variance})
    for name, evaluation in (("alpha_d0", one), ("alpha_d1", other)):
        found.scale[name, index] = evaluation.flat_gradient().norm().item()


@dataclass(frozen=True)
class Fit:
    """A parabola through four observations: ``alpha`` is clamped to -1 where it has no minimum."""

    alpha: float
    std: float
    curvature: float


def fit_parabola(length: float, observed: Sequence[float], variances: Sequence[float]) -> Fit:
    """Fit by weighted least squares, the normal equations solved with fifty digits.

    ``observed`` and ``variances`` are in the order f(0), f(length), f'(0), f'(length).
    """
    if any(math.isnan(v) or v == 0.0 for v in variances):
        start, end = observed[2:]
        curvature = (end - start) / length
        return Fit(-end / start if curvature > 0 else -1.0, math.nan, curvature)
    with mpmath.workdps(50):
        t = mpmath.mpf(length)
        rows = mpmath.matrix([[1, 0, 0], [1, t, t**2], [0, 1, 0], [0, 1, 2 * t]])
        weights = mpmath.diag([1 / mpmath.mpf(v) for v in variances])
        covariance = mpmath.inverse(rows.T * weights * rows)
        _, w1, w2 = covariance * rows.T * weights * mpmath.matrix(list(observed))
        alpha = -2 * w2 * t / w1 - 1
        jacobian = mpmath.matrix([[0, 2 * w2 * t / w1**2, -2 * t / w1]])
        variance = (jacobian * covariance * jacobian.T)[0]
        return Fit(float(alpha) if w2 > 0 else -1.0, float(mpmath.sqrt(variance)), float(2 * w2))


# The comparison -------------------------------------------------------------------------------------------------------

ALPHAS = ("alpha", "alpha_same", "alpha_next")
FIT = tuple(f"alpha_{name}{end}" for name in ("f0", "f1", "d0", "d1") for end in ("", "_var"))
SAME = ("alpha_same", "slope_same_start", "slope_same_end")
RATIOS = ("mean_gsnr", "early_stopping", "cabs")
NEXT = ("alpha_next", "slope_next_start", "slope_next_end")
PER_SAMPLE = ("norm_test", "inner_test", "ortho_test", "noise_scale", "noise_trace", "grad_signal")
MOVEMENT = ("update_size", "distance", "update_ratio")
GRADIENTS = ("grad_norm", "grad_norm_clipped")
READINGS = (
    "loss", "loss_std", "learning_rate", "batch_size", "uphill", "alpha", "alpha_std", "alpha_curvature",
    *FIT, *SAME, *NEXT, *PER_SAMPLE, *MOVEMENT, *GRADIENTS,
)  # fmt: skip


def diagnosed(step: int) -> bool:
    """Whether the paired step lengths are measured: every fifth of the first fifty steps, then ten in five hundred."""
    return step % 5 == 0 if step < 50 else step >= 500 and step % 500 < 10


def mistakes(
    run: Any,
    right: Truth,
    tolerance: float,
    readings: Sequence[str] = READINGS,
    tracked: Callable[[int], bool] = lambda step: True,
) -> list[str]:
    """Return what a run file says wrongly or fails to say about ``readings``, one line each."""
    found = []
    for name in readings:
        expected = {step: right.series[name][step] for step in due(right, name, tracked)}
        try:
            steps, values = run.series(name)
        except KeyError:
            if expected:
                found.append(f"{name}: missing ({run.unavailable().get(name, 'without a reason')})")
            continue
        said = dict(zip(steps.tolist(), values.tolist(), strict=True))
        found += wrong_steps(name, set(said), set(expected), right)
        for step in sorted(said.keys() & right.series[name].keys()):
            allowed = tolerance * right.condition.get((name, step), 1.0)
            found += wrong_value(f"{name}[{step}]", said[step], right.series[name][step], allowed, name in ALPHAS)
        if name in right.layers:
            found += wrong_layers(run, right, name, tolerance)
    return found


def due(right: Truth, name: str, tracked: Callable[[int], bool]) -> list[int]:
    """Return the steps that a reading must have a value for."""
    last = max(right.series["loss"])
    steps = sorted(right.series[name])
    if name == "loss":
        return steps
    if name in SAME + NEXT:
        return [step for step in steps if diagnosed(step) and step < last]
    return [step for step in steps if tracked(step) or (name == "learning_rate" and diagnosed(step))]


def wrong_steps(name: str, said: set[int], expected: set[int], right: Truth) -> list[str]:
    last = max(right.series["loss"])
    free = {last} if name in SAME else set()  # the last step's own end may be measured or not
    if name == "uphill":
        free = set(right.series[name])  # wherever it is known
    if name == "alpha_std":
        free = set(right.series["alpha"])  # nothing is asked of a fit without a minimum
    found = []
    if expected - said:
        found.append(f"{name}: no value at steps {sorted(expected - said)}")
    if said - expected - free:
        found.append(f"{name}: a value at steps {sorted(said - expected - free)}")
    return found


def wrong_value(where: str, said: float, right: float, allowed: float, absolute: bool = False) -> list[str]:
    """Judge the relative error; with ``absolute``, relative to at least one."""
    if math.isnan(said) or math.isnan(right) or math.isinf(said) or math.isinf(right):
        same = said == right or (math.isnan(said) and math.isnan(right))
        return [] if same else [f"{where}: {said} instead of {right}"]
    error = abs(said - right)
    if error <= allowed * (max(1.0, abs(right)) if absolute else abs(right)):
        return []
    return [f"{where}: {said!r} instead of {right!r} (relative error {error / max(abs(right), 1e-300):.1e})"]


def wrong_layers(run: Any, right: Truth, name: str, tolerance: float) -> list[str]:
    try:
        steps, layers, values = run.layers(name)
    except KeyError:
        return [f"{name}: no layers"]
    found = []
    for row, step in enumerate(steps.tolist()):
        expected = right.layers[name][step]
        if set(layers) != set(expected):
            return [f"{name}[{step}]: layers {sorted(layers)} instead of {sorted(expected)}"]
        for layer, said in zip(layers, values[row].tolist(), strict=True):
            # Rounding is all there is of a gradient that vanishes by symmetry, as a bias's before BatchNorm.
            small = 1e-6 * right.series[name][step] / abs(expected[layer]) if expected[layer] else 1.0
            found += wrong_value(f"{name}[{step}, {layer}]", said, expected[layer], tolerance * max(1.0, small))
    return found
