"""An instrument of your own: one class in your script, measured on every tracked step and drawn everywhere.

    python examples/own_instrument.py

trains a small classifier of digits, and writes the plot own_instrument.png. On the live page and in `cockpitlite plot`,
`compare` and `export` the two new panels stand beside those that come with Cockpitlite: how they are drawn travels in
the run file, so that nobody who reads it needs this script.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import cockpitlite
from cockpitlite.instrument import Instrument, Layered
from cockpitlite.panel import Panel
from cockpitlite.statistics import Displacement, Hessian, MeanGradient, PerSampleNorms


class Agreement(Instrument):
    """‖g‖²/mean ‖g_n‖²: 1 where all samples pull the same way, 1/N where they have nothing in common."""

    panel = Panel(
        "Agreement of samples",  # its title
        "gradients",  # its column
        scale="log",
        healthy=(1e-2, None),
        help="Squared length of the mean gradient over the mean squared length of the samples' gradients.",
    )

    def read(self, mean: MeanGradient, norms: PerSampleNorms) -> Tensor:
        """Return a number on the device; the annotations above say what is needed, and it is computed once a step."""
        return mean.squared_norm / norms.squared.mean()


class NewtonDecrease(Instrument):
    """How much of the step's descent its curvature takes back: −½ dᵀHd / gᵀd, and the descent of each tensor.

    0: the loss falls as its slope promises; 1: the curvature takes all of it back.
    """

    panel = Panel("Descent taken back by curvature", "curvature", marks=((1.0, "all of it"),), layered=True)

    def __init__(self, half: float = 0.5) -> None:
        """Options of an instrument are its own arguments."""
        self.half = half

    def read(self, gradient: MeanGradient, step: Displacement, hessian: Hessian) -> Layered:
        """Return a total and a value for each tensor."""
        slopes = torch.stack([(g * d).sum() for g, d in zip(gradient.each, step.each, strict=True)])
        images = hessian.product(list(step.each))
        bends = torch.stack([(d * image).sum() for d, image in zip(step.each, images, strict=True)])
        return Layered(-self.half * bends.sum() / slopes.sum(), step.names, -self.half * bends / slopes)


def main() -> None:
    """Train, and plot the panel with both instruments on it."""
    torch.manual_seed(0)
    digits = load_digits()
    images, classes = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = cockpitlite.watch(
        torch.optim.SGD(model.parameters(), lr=0.3),
        model,
        panel=["economy", Agreement, NewtonDecrease(half=0.5)],
        every=1,
    )
    for _ in range(2):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), classes[batch]).backward()
            optimizer.step()
    optimizer.cockpit.close()
    run = cockpitlite.load(optimizer.cockpit.run)
    for name in ("agreement", "newton_decrease"):
        steps, values = run.series(name)
        print(f"{name}: {values[0]:.3g} at step {steps[0]}, {values[-1]:.3g} at step {steps[-1]}")
    cockpitlite.plot(run, "own_instrument.png")
    print(f"wrote own_instrument.png from {run.path}")


if __name__ == "__main__":
    main()
