"""The training problems on which two programs are compared: same parameters, same batches, same optimizer in both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

STEPS = 8


def linear() -> nn.Sequential:
    """Cockpit's first example: 28 x 28 images, one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))


def curved() -> nn.Sequential:
    """A network that bends: its Hessian has negative curvature, also on its diagonal, which the GGN has not."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 10))


def cnn() -> nn.Sequential:
    """Cockpit's second example."""
    return nn.Sequential(
        nn.Conv2d(1, 11, 5),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(11, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 80),
        nn.ReLU(),
        nn.Linear(80, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


@dataclass(frozen=True)
class Problem:
    """A classifier of ``side`` x ``side`` images in ten classes, in float64, trained by SGD with these settings."""

    build: Callable[[], nn.Sequential]
    side: int
    batch_size: int
    settings: dict[str, float | bool]

    def model(self) -> nn.Sequential:
        """Build the model with parameters that depend on nothing but their shapes."""
        model = self.build().double()
        generator = np.random.default_rng(1)
        with torch.no_grad():
            for parameter in model.parameters():
                fan_in = parameter[0].numel()
                values = generator.uniform(-1.0, 1.0, tuple(parameter.shape)) / fan_in**0.5
                parameter.copy_(torch.from_numpy(values))
        return model

    def optimizer(self, model: nn.Module) -> Optimizer:
        return SGD(model.parameters(), **self.settings)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (float64 ``[N, 1, side, side]``) around ten class means, and their classes (int64 ``[N]``)."""
        generator = np.random.default_rng(2)
        shape = (1, self.side, self.side)
        means = generator.normal(size=(10, *shape))
        for _ in range(STEPS):
            classes = generator.integers(0, 10, self.batch_size)
            images = means[classes] + 2.0 * generator.normal(size=(self.batch_size, *shape))
            yield torch.from_numpy(images), torch.from_numpy(classes)


PROBLEMS: dict[str, Problem] = {
    "linear": Problem(linear, side=28, batch_size=64, settings={"lr": 1e-2}),
    "cnn": Problem(cnn, side=28, batch_size=64, settings={"lr": 5e-1}),
    "mlp": Problem(mlp, side=8, batch_size=33, settings={"lr": 0.1}),
    "momentum": Problem(
        mlp, side=8, batch_size=33, settings={"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}
    ),
    "curved": Problem(curved, side=4, batch_size=21, settings={"lr": 2.0}),
}

# The histograms and the diagonals of the curvature are read every so many steps: on the largest network they take long.
COSTLY_EVERY = {"linear": 1, "cnn": STEPS - 1, "mlp": 1, "momentum": 1, "curved": 1}

# Where the parameters of every step are read, and at the probed ones both ends of the spectrum. The large networks take
# too long, and the loss of the linear one is convex: its smallest eigenvalue is 0, thousands of times, and no iteration
# finds it.
SMALL = ("mlp", "curved")
PROBED = (0, 3, STEPS - 1)

# One batch at parameters that stay where they are, measured again and again: the draws of a stochastic reading. From 64
# samples on we draw one label for each, as Cockpit does for any number.
STILL = Problem(curved, side=4, batch_size=64, settings={"lr": 0.0})
DRAWS = 150
