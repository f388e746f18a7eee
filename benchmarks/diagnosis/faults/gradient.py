"""Faults between the loss and the parameters: gradients that are not cleared, get lost, or reach no optimizer."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .. import surgery
from ..kind import ALL, fault
from ..training import Training

MOVES = "every step changes the parameters"
CLEARED = "gradients are cleared between steps"
TRAINED = "every trainable parameter gets a gradient and is in the optimizer"
NOT_TRAINED = ("F9a", "F9b", "F9c", "F9d")


@fault("F7", programs=ALL, breaks=CLEARED)
def gradients_never_cleared(training: Training, level: float) -> None:
    """`zero_grad` is never called: gradients of all steps add up."""
    training.clear = lambda: None


@fault("F7", programs=ALL, breaks=CLEARED)
def gradients_cleared_of_head_only(training: Training, level: float) -> None:
    """`zero_grad` is called on a part of the model only."""
    training.clear = training.model.head.zero_grad


@fault("F0c", programs=ALL, breaks=MOVES)
def step_never_called(training: Training, level: float) -> None:
    """`optimizer.step` is never called."""
    training.update = lambda: None


@fault("F0", "F9b", programs=ALL, levels=(0, 1), breaks=MOVES)
def gradients_cleared_before_step(training: Training, level: float) -> None:
    """`zero_grad` stands between `backward` and `step` (level 0: it sets gradients to 0, level 1: to None)."""
    step = training.update

    def cleared() -> None:
        training.optimizer.zero_grad(set_to_none=bool(level))
        step()

    training.update = cleared


@fault("F1", programs=ALL, levels=(0, 1, 2), breaks="a step goes down the slope of its own batch")
def sign_of_loss_wrong(training: Training, level: float) -> None:
    """The loss is maximised (level 0: backward of -loss, 1: `maximize=True`, 2: gradients with the wrong sign)."""
    step = training.update

    def uphill() -> None:
        for parameter in training.model.parameters():
            parameter.grad.neg_()
        step()

    if level == 0:
        training.backward = lambda loss: (-loss).backward()
    elif level == 1:
        training.make_optimizer = functools.partial(training.make_optimizer, maximize=True)
    else:
        training.update = uphill


@fault("F10", programs=ALL, levels=(1e-1, 1e-3))
def clipped_far_too_tight(training: Training, level: float) -> None:
    """Gradients are clipped to a norm far below theirs on every step."""
    step = training.update

    def clipped() -> None:
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), level)
        step()

    training.update = clipped


@fault("F0", "F9b", programs=ALL, breaks=MOVES)
def loss_rebuilt_from_a_number(training: Training, level: float) -> None:
    """The loss goes through `.item()` and a new tensor that asks for a gradient: nothing reaches the model."""
    loss = training.loss
    training.loss = lambda outputs, targets: torch.tensor(loss(outputs, targets).item(), requires_grad=True)


@fault("F9b", programs=ALL, levels=(0, 1), breaks=TRAINED)
def graph_cut_in_forward(training: Training, level: float) -> None:
    """`detach` in the middle of the model (level 0: behind the stem, level 1: before the head)."""
    cut = surgery.Apply(torch.detach)
    if level:
        surgery.before_head(training.model, cut)
    else:
        training.model.stem = nn.Sequential(training.model.stem, cut)


@fault("F9c", programs=ALL, breaks=TRAINED)
def head_replaced_after_optimizer(training: Training, level: float) -> None:
    """The head is replaced after the optimizer was made."""
    _ = training.optimizer
    head = training.model.head
    training.model.head = nn.Linear(head.in_features, head.out_features)


@fault("F9c", "refused", programs=ALL, breaks=TRAINED)
def model_made_anew_after_optimizer(training: Training, level: float) -> None:
    """The optimizer holds the parameters of an earlier copy of the model (`watch` may refuse it, with the reason)."""
    _ = training.optimizer
    training.model = training.program.model()


@fault(*NOT_TRAINED, programs=ALL, breaks="a frozen tensor precedes every trainable one")
def body_frozen_by_accident(training: Training, level: float) -> None:
    """The body is frozen between a stem and a head that are trained."""
    training.model.body.requires_grad_(False)
    training.optimizer = training.make_optimizer(training.model.parameters(), lr=training.rate)


@fault("F9b", programs=ALL, breaks=TRAINED)
def module_never_called(training: Training, level: float) -> None:
    """A module of the model is in the optimizer but never called in `forward`."""
    training.model.head.forgotten = nn.Linear(16, 16)


@fault("F9a", "F11", programs=ALL)
def group_at_rest(training: Training, level: float) -> None:
    """The stem and body are in a parameter group whose learning rate is 0."""
    head = list(training.model.head.parameters())
    below = [*training.model.stem.parameters(), *training.model.body.parameters()]
    groups = [{"params": below, "lr": 0.0}, {"params": head}]
    training.optimizer = training.make_optimizer(groups, lr=training.rate)


@fault("F0b", programs=ALL, breaks=MOVES)
def weights_put_back(training: Training, level: float) -> None:
    """After each step the old weights are loaded again, as by an average that is swapped in and never out."""
    take = training.take

    def put_back(batches: Iterator[Tensor]) -> None:
        old = {name: value.clone() for name, value in training.model.state_dict().items()}
        take(batches)
        training.model.load_state_dict(old)

    training.take = put_back
