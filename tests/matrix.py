"""The rows of the matrix: small models of every architecture, training loops of every style, as users write them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from models import (
    ANSWERS,
    AUTOENCODER,
    CHECKPOINTED,
    CHECKPOINTED_PLAINLY,
    CHECKPOINTED_REENTRANT,
    CNN,
    DROPOUT_TRANSFORMER,
    EXPERTS,
    FREE,
    FROZEN,
    GRU,
    LABELS,
    LSTM,
    MLP,
    NORMED,
    OWN_LOSS,
    RESIDUAL,
    RETURNING,
    REUSED,
    RNN,
    ROUTED,
    SIAMESE,
    TIED_AUTOENCODER,
    TRANSFORMER,
    TRANSLATOR,
    UNET,
    VARIATIONAL,
    VIT,
    WAVES,
    Batch,
    Problem,
    cross_entropies,
    shaken,
)
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from twins import Part, Recorder, Taken, stand_in

Watch = Callable[..., Optimizer]
Trained = list[tuple[nn.Module, Optimizer]]
Loop = Callable[[nn.Module, Optimizer, list[Batch], Problem], None]
Parts = Callable[["Row", int, Taken, list[Batch], Recorder], tuple[Part, ...]]


@dataclass(frozen=True)
class Row:
    """A way to train, and what its truth is made of.

    ``loop`` is the training loop; ``script`` is the whole script where one loop is not enough, with ``watch`` as the
    one line in it, and returns what it trained. ``parts`` tells the forwards of the index-th step that make its
    gradient; with ``paired`` they are about the same samples. ``twin`` is the problem as the truth knows it: the same
    function, plainly written. ``run`` names the run file that is judged. ``tolerance`` is what is allowed of relative
    error. With ``evaluated_inside`` the optimizer calls a closure, so the gradient before its step says nothing.
    """

    name: str
    problem: Problem
    optimizer: Callable[[nn.Module], Optimizer]
    loop: Loop
    parts: Parts
    sizes: Sequence[int] = (6,) * 4
    dtype: torch.dtype = torch.float64
    tolerance: float = 1e-8
    twin: Problem | None = None
    script: Callable[["Row", Watch, list[Batch]], Trained] | None = None
    run: str = "run"
    paired: bool = False
    evaluated_inside: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def right_problem(self) -> Problem:
        return self.twin or self.problem

    def batches(self) -> list[Batch]:
        generator = torch.Generator().manual_seed(3)
        return [tuple(cast(self.problem.draw(size, generator), self.dtype)) for size in self.sizes]

    def build(self) -> nn.Module:
        torch.manual_seed(3)
        return self.problem.build().to(self.dtype)

    def train(self, watch: Watch) -> Trained:
        """Train from a fixed state of all random streams; ``watch`` is the one line."""
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        if self.script is not None:
            return self.script(self, watch, self.batches())
        model = self.build()
        optimizer = watch(self.optimizer(model), model)
        self.loop(model, optimizer, self.batches(), self.problem)
        return [(model, optimizer)]


def cast(tree: Any, dtype: torch.dtype) -> Any:
    if isinstance(tree, tuple):
        return tuple(cast(leaf, dtype) for leaf in tree)
    return tree.to(dtype) if tree.is_floating_point() else tree


# Which forwards make a step -------------------------------------------------------------------------------------------


def only_forward(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    (one,) = taken.passes
    return (Part(row.right_problem, batches[index], one),)


def first_forward(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    return (Part(row.right_problem, batches[index], taken.passes[0]),)


def last_forward(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    return (Part(row.right_problem, batches[index], taken.passes[-1]),)


def each_chunk(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    """One forward for each micro-batch, all of the same weight."""
    count = len(taken.passes)
    x, y = batches[index]
    chunks = zip(x.chunk(count), y.chunk(count), taken.passes, strict=True)
    return tuple(Part(row.right_problem, (one_x, one_y), before, 1 / count) for one_x, one_y, before in chunks)


# Optimizers -----------------------------------------------------------------------------------------------------------


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1)


def momentum(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.05, momentum=0.9)


def dampened(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.8, dampening=0.3, weight_decay=0.01)


def nesterov(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)


def adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.01)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def amsgrad(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.01, betas=(0.8, 0.99), amsgrad=True)


def rmsprop(model: nn.Module) -> Optimizer:
    return RMSprop(model.parameters(), lr=0.005)


# Loops ----------------------------------------------------------------------------------------------------------------


def ordinary(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        loss = problem.loss(problem.forward(model, x, y), y)
        loss.backward()
        optimizer.step()


def accumulating(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        for part_x, part_y in zip(x.chunk(4), y.chunk(4), strict=True):
            loss = F.cross_entropy(model(part_x), part_y) / 4
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def two_losses(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        loss = F.cross_entropy(output, y) + 0.5 * F.mse_loss(output, F.one_hot(y, 4).to(output))
        loss.backward()
        optimizer.step()


def two_backwards(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        F.cross_entropy(output, y).backward(retain_graph=True)
        (0.5 * F.mse_loss(output, F.one_hot(y, 4).to(output))).backward()
        optimizer.step()


def scaled(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for x, y in batches:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


def half_precision(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    """The first scale is too large for float16, so the first step is left out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, backoff_factor=2.0**-10)
    for x, y in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        scaler.step(optimizer)
        scaler.update()


def autocast(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()


def clipping_norm(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        optimizer.step()


def clipping_value(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.05)
        optimizer.step()


def with_closure(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)


def scheduled(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    scheduler = StepLR(optimizer, 1, 0.5)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()


def clearing_anywhere(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    """Before the forward, before the backward pass, after the step; by the model; to zero and to none."""
    for index, (x, y) in enumerate(batches):
        if index == 2:
            model.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        if index == 1:
            optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        if index == 2:
            for parameter in model.parameters():
                parameter.grad = None


def thawing(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    model[0].requires_grad_(False)
    for index, (x, y) in enumerate(batches):
        if index == 2:
            model[0].requires_grad_(True)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def averaging(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        averaged.update_parameters(model)
        with torch.no_grad():
            averaged(x)


def evaluating(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:
        model.train()
        optimizer.zero_grad()
        problem.loss(problem.forward(model, x, y), y).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            problem.loss(problem.forward(model, x[:3], y[:3]), y[:3])


class SAM(Optimizer):
    """Sharpness-aware minimisation (Foret et al. 2021) as it is passed around: uphill, gradient there, back, step."""

    def __init__(self, parameters: Any, base: Callable[..., Optimizer], rho: float = 0.05, **options: Any) -> None:
        super().__init__(parameters, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        scale = self.param_groups[0]["rho"] / torch.stack([p.grad.norm() for p in parameters]).norm()
        for p in parameters:
            self.state[p]["uphill"] = p.grad * scale
            p.add_(self.state[p]["uphill"])
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self.state[p]["uphill"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        assert closure is not None
        self.first_step(zero_grad=True)
        with torch.enable_grad():
            closure()
        self.second_step()


def sam(model: nn.Module) -> Optimizer:
    return SAM(model.parameters(), SGD, lr=0.1, momentum=0.9)


def two_steps(row: Row, watch: Watch, batches: list[Batch]) -> Trained:
    """Two calls instead of one step; the optimizer that steps is the one inside."""
    model = row.build()
    optimizer = sam(model)
    watch(optimizer.base_optimizer, model)
    for x, y in batches:
        F.cross_entropy(model(x), y).backward()
        optimizer.first_step(zero_grad=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.second_step(zero_grad=True)
    return [(model, optimizer)]


def one_closure(model: nn.Module, optimizer: Optimizer, batches: list[Batch], problem: Problem) -> None:
    for x, y in batches:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
        optimizer.zero_grad()


# Scripts --------------------------------------------------------------------------------------------------------------


def continued(row: Row, watch: Watch, batches: list[Batch]) -> Trained:
    """Two steps, a checkpoint, and the rest by a new model and optimizer: in the run file ``row.run`` if it exists."""
    model = row.build()
    optimizer = watch(row.optimizer(model), model)
    ordinary(model, optimizer, batches[:2], row.problem)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    finish(optimizer)
    model = row.build()
    optimizer = row.optimizer(model)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    watch(optimizer, model, run=row.run, resume=True)
    ordinary(model, optimizer, batches[2:], row.problem)
    return [(model, optimizer)]


def finish(optimizer: Optimizer) -> None:
    """End the first script's watch, as leaving its process would."""
    if hasattr(optimizer, "cockpit"):
        optimizer.cockpit.close()


def continued_forward(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    first = 0 if row.run == "run" else 2
    return (Part(row.right_problem, batches[first + index], *taken.passes),)


def compiled(row: Row, watch: Watch, batches: list[Batch]) -> Trained:
    model = torch.compile(row.build(), backend="aot_eager")
    optimizer = watch(row.optimizer(model), model)
    ordinary(model, optimizer, batches, row.problem)
    return [(model, optimizer)]


def noise_and_truth(count: int, generator: torch.Generator) -> Batch:
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    true = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return noise, 1.0 + true.cumsum(1)


def believed(output: Tensor, y: Tensor) -> Tensor:
    return F.softplus(-output).mean()


def doubted(output: Tensor, y: Tensor) -> Tensor:
    return F.softplus(output).mean()


JUDGE_OF_TRUE = Problem(
    "judge",
    lambda: shaken(nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1))),
    noise_and_truth,
    believed,
    lambda output, y: F.softplus(-output)[:, 0],
)
JUDGE_OF_FAKE = replace(JUDGE_OF_TRUE, loss=doubted, losses=lambda output, y: F.softplus(output)[:, 0])
MAKER = Problem("maker", lambda: shaken(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))), noise_and_truth)


def duel(row: Row, watch: Watch, batches: list[Batch]) -> Trained:
    """A generative adversarial pair; each backward pass also reaches the other model."""
    torch.manual_seed(3)
    maker, judge = (problem.build().to(row.dtype) for problem in (MAKER, JUDGE_OF_TRUE))
    making = watch(Adam(maker.parameters(), lr=0.01, betas=(0.5, 0.99)), maker, run="maker")
    judging = watch(Adam(judge.parameters(), lr=0.01, betas=(0.5, 0.99)), judge, run="judge")
    for noise, true in batches:
        judging.zero_grad()
        fake = maker(noise).detach()
        (F.softplus(judge(fake)).mean() + F.softplus(-judge(true)).mean()).backward()
        judging.step()
        making.zero_grad()
        F.softplus(-judge(maker(noise))).mean().backward()
        making.step()
    return [(maker, making), (judge, judging)]


def judged(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    """What the generator made at its place, and what is true; a sample is one of each."""
    noise, true = batches[index]
    maker = stand_in(MAKER, recorder.runs["maker"][0].places()[index], {})
    of_fake, of_true = taken.passes[-2:]
    return (
        Part(JUDGE_OF_FAKE, (maker(noise).detach(), true), of_fake),
        Part(JUDGE_OF_TRUE, (true, true), of_true),
    )


def made(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    """The generator's loss is what the discriminator says after its step."""
    judge = stand_in(JUDGE_OF_TRUE, recorder.runs["judge"][0].places()[index + 1], {}).requires_grad_(False)
    problem = replace(
        MAKER,
        loss=lambda output, y: F.softplus(-judge(output)).mean(),
        losses=lambda output, y: F.softplus(-judge(output))[:, 0],
    )
    return (Part(problem, batches[index], taken.passes[-1]),)


# What the truth needs to know otherwise -------------------------------------------------------------------------------


def wrong_by(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y) + 0.5 * F.mse_loss(output, F.one_hot(y, 4).to(output))


def each_wrong_by(output: Tensor, y: Tensor) -> Tensor:
    return cross_entropies(output, y) + 0.5 * (output - F.one_hot(y, 4)).square().mean(1)


TWO_LOSSES = replace(MLP, loss=wrong_by, losses=each_wrong_by, logits=lambda output, y: (output, y))
NEGATIVE = replace(
    MLP,
    loss=lambda output, y: -F.cross_entropy(output, y),
    losses=lambda output, y: -cross_entropies(output, y),
    logits=lambda output, y: (output, y),
)


def after_the_skipped(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    return (Part(row.right_problem, batches[index + 1], taken.passes[-1]),)


def frozen_at_first(row: Row, index: int, taken: Taken, batches: list[Batch], recorder: Recorder) -> tuple[Part, ...]:
    return (Part(FROZEN if index < 2 else MLP, batches[index], *taken.passes),)


def grouped(model: nn.Module) -> Optimizer:
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": weights, "lr": 0.02, "weight_decay": 0.1}, {"params": biases, "lr": 0.1}]
    return AdamW(groups, lr=0.01, weight_decay=0.0)


def architecture(problem: Problem, optimizer: Callable[[nn.Module], Optimizer], **options: Any) -> Row:
    return Row(problem.name, problem, optimizer, ordinary, only_forward, **options)


def style(name: str, loop: Loop, optimizer: Callable[[nn.Module], Optimizer] = momentum, **options: Any) -> Row:
    return Row(name, **{"problem": MLP, "optimizer": optimizer, "loop": loop, "parts": only_forward, **options})


ROWS = [
    architecture(MLP, sgd),
    architecture(CNN, momentum),
    replace(architecture(RESIDUAL, nesterov), name="ResNet with BatchNorm"),
    architecture(UNET, adamw),
    architecture(VIT, adam),
    replace(architecture(TRANSFORMER, adamw), name="GPT, tied weights, free positions"),
    replace(architecture(DROPOUT_TRANSFORMER, adamw), name="GPT with dropout"),
    replace(architecture(TRANSLATOR, adamw), name="encoder and decoder with attention"),
    replace(architecture(LSTM, rmsprop), name="LSTM"),
    architecture(GRU, nesterov),
    replace(architecture(RNN, sgd), name="RNN, squared error"),
    replace(architecture(WAVES, momentum), name="conv1d and its transpose"),
    replace(architecture(EXPERTS, adam), name="mixture of experts, weighted"),
    replace(architecture(ROUTED, sgd), name="mixture of experts, routed"),
    replace(architecture(SIAMESE, momentum), name="Siamese"),
    replace(architecture(REUSED, dampened), name="a layer used twice"),
    replace(architecture(FREE, amsgrad), name="free parameters"),
    architecture(AUTOENCODER, adam),
    replace(architecture(TIED_AUTOENCODER, sgd), name="autoencoder with tied weights"),
    replace(architecture(VARIATIONAL, adam), name="variational autoencoder, dictionary of outputs"),
    replace(architecture(LABELS, rmsprop), name="several labels, binary cross entropy"),
    replace(architecture(NORMED, momentum), name="GroupNorm, InstanceNorm, RMSNorm"),
    style("GAN, discriminator", ordinary, problem=JUDGE_OF_TRUE, parts=judged, script=duel, run="judge", paired=True),
    style("GAN, generator", ordinary, problem=MAKER, parts=made, script=duel, run="maker"),
    style("gradient accumulation", accumulating, parts=each_chunk, sizes=(8,) * 4),
    style("two losses, one backward", two_losses, twin=TWO_LOSSES),
    style("two losses, two backwards", two_backwards, adamw, twin=TWO_LOSSES),
    style("GradScaler", scaled, adamw),
    style(
        "GradScaler, float16, a skipped step",
        half_precision,
        parts=after_the_skipped,
        sizes=(6,) * 5,
        dtype=torch.float32,
        tolerance=1e-2,
    ),
    style("autocast, bfloat16", autocast, sgd, dtype=torch.float32, tolerance=5e-2),
    style("clipping by norm", clipping_norm),
    style("clipping by value", clipping_value, adam),
    style(
        "maximize",
        ordinary,
        lambda model: SGD(model.parameters(), lr=0.1, maximize=True),
        problem=NEGATIVE,
    ),
    style("parameter groups", ordinary, grouped),
    style(
        "closure, LBFGS",
        with_closure,
        lambda model: LBFGS(model.parameters(), lr=0.1, max_iter=3),
        parts=first_forward,
        evaluated_inside=True,
    ),
    style("closure, SGD", with_closure, evaluated_inside=True),
    style("SAM, one closure", one_closure, sam, parts=last_forward, evaluated_inside=True),
    style("SAM, two steps", ordinary, sam, script=two_steps, parts=last_forward),
    style("learning-rate schedule", scheduled),
    style("zero_grad anywhere", clearing_anywhere),
    style("frozen layer, unfrozen later", thawing, adamw, parts=frozen_at_first),
    style("moving average of the weights", averaging),
    replace(style("evaluation between steps", evaluating), problem=RESIDUAL),
    style("resumed in the same run file", ordinary, script=continued, parts=continued_forward),
    style("resumed in a new run file", ordinary, script=continued, parts=continued_forward, run="second"),
    style("torch.compile", ordinary, script=compiled),
    style("checkpointed activations", ordinary, problem=CHECKPOINTED, twin=CHECKPOINTED_PLAINLY),
    style("checkpointed activations, reentrant", ordinary, problem=CHECKPOINTED_REENTRANT, twin=CHECKPOINTED_PLAINLY),
    style("batches of one", ordinary, sizes=(1,) * 4),
    style("a last short batch", ordinary, sizes=(6, 6, 6, 2)),
    style("a model that returns its loss", ordinary, problem=RETURNING[0]),
    style("GPT that returns its loss alone", ordinary, adamw, problem=OWN_LOSS, twin=TRANSFORMER),
    style("outputs in a dictionary", ordinary, problem=ANSWERS[0]),
    style("outputs in a dataclass", ordinary, problem=ANSWERS[1]),
]
