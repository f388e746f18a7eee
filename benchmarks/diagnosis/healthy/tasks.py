"""Healthy trainings of another kind: fine-tuning, imbalanced classes, a generator against a discriminator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..kind import ALL, CLASSES, healthy
from ..training import Training


@healthy(programs=ALL)
def frozen_trunk(training: Training, level: float) -> None:
    """Fine-tuning: stem and body are trained already and frozen, a new head is trained."""
    _pretrain(training)
    training.model.stem.requires_grad_(False)
    training.model.body.requires_grad_(False)
    training.model.head.reset_parameters()


@healthy(programs=ALL)
def frozen_trunk_in_optimizer(training: Training, level: float) -> None:
    """The same, but the optimizer holds the frozen parameters too."""
    frozen_trunk.change(training, level)
    training.optimizer = training.make_optimizer(training.model.parameters(), lr=training.rate)


@healthy(programs=ALL)
def frozen_stem(training: Training, level: float) -> None:
    """The first layer of a trained model is frozen, the rest goes on."""
    _pretrain(training)
    training.model.stem.requires_grad_(False)


@healthy(programs=ALL)
def fine_tuning(training: Training, level: float) -> None:
    """A trained model goes on with a third of the learning rate."""
    _pretrain(training)
    training.rate /= 3


@healthy(programs=CLASSES[:2])
def classes_imbalanced(training: Training, level: float) -> None:
    """One class is four times as frequent as the others."""
    more = torch.nonzero(training.targets == 0).flatten().repeat(3)
    order = torch.cat([torch.arange(len(training.targets)), more])
    training.inputs, training.targets = training.inputs[order], training.targets[order]


@healthy(programs=("mlp",), levels=(1, 2))
def adversarial(training: Training, level: float) -> None:
    """A small GAN: points on a ring (level: which of the two networks is watched)."""
    generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    discriminator = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    optimizers = [torch.optim.Adam(net.parameters(), lr=3e-3, betas=(0.5, 0.9)) for net in (generator, discriminator)]
    training.model = (generator, discriminator)[int(level) - 1]
    training.optimizer = optimizers[int(level) - 1]
    training.steps = 800

    def points(count: int) -> Tensor:
        angle = 2 * torch.pi * torch.rand(count)
        return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)

    def take(batches: Iterator[Tensor]) -> None:
        true, made = points(64), generator(torch.randn(64, 4))
        optimizers[1].zero_grad()
        ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
        right = functional.binary_cross_entropy_with_logits
        (right(discriminator(true), ones) + right(discriminator(made.detach()), zeros)).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        right(discriminator(generator(torch.randn(64, 4))), ones).backward()
        optimizers[0].step()

    def score() -> float:
        with torch.no_grad():
            return float((generator(torch.randn(512, 4)).norm(dim=1) - 1).abs().mean())

    training.take, training.score, training.limit = take, score, 0.5


def _pretrain(training: Training) -> None:
    """Train the model unwatched, as the program says."""
    before = Training(training.program, training.seed + 500)
    before.model = training.model
    before.run()
    training.model.train()
