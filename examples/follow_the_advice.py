"""A training that starts at any learning rate, and is led to a good one by what the diagnosis says.

    python examples/follow_the_advice.py --optimizer momentum --lr 1e-5 --compare

The loop asks for the findings a few times after each change. The first one that is likelier right than wrong and has
an `lr_factor` changes the learning rate. After one that was too large training starts again, as going on from a damaged
network does not help. Where nothing asks for another rate, training goes on with this one to the end.

Every learning rate gets a run file of its own, as the diagnosis knows the first steps of a run best.
`cockpitlite dashboard runs` shows them side by side while they are made.
"""

import argparse
import contextlib
import copy
import functools
import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import cockpitlite

CLOSE = 4  # a rate that was too small and one that was too large: what lies between them cannot be told apart
QUESTIONS = (10, 25, 50, 75)  # after how many steps at a rate; after ten only a blow-up shows itself


def advice(optimizer):
    """Return the first finding that asks for another learning rate and is likelier right than wrong, or None."""
    findings = optimizer.cockpit.findings()
    return next((f for f in findings if f.lr_factor is not None and f.confidence > 0.5), None)


def no_advice(optimizer):
    """Leave the learning rate as it is."""


def train(optimizer, next_loss, steps, ask):
    """Take up to `steps` steps; return how many were taken, and the finding that asks for another rate, or None."""
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        next_loss().backward()
        optimizer.step()
        if step in QUESTIONS and (told := ask(optimizer)):
            return step, told
    return steps, None


def lead(model, optimizer, next_loss, steps, ask=advice, say=print):
    """Train for `steps` steps in all, those that are thrown away included, at the rates that are advised."""
    initial = copy.deepcopy(model.state_dict())
    too_small, too_large = 0.0, math.inf
    taken = 0
    while taken < steps:
        cockpitlite.watch(optimizer, model)  # the one line, with a new run file
        with contextlib.closing(optimizer.cockpit):
            more, told = train(optimizer, next_loss, steps - taken, ask)
        taken += more
        if told is None or taken == steps:
            break
        rate = optimizer.param_groups[0]["lr"]
        if told.lr_factor > 1:
            too_small = rate
        else:
            too_large = rate
            model.load_state_dict(initial)
            optimizer.state.clear()
        better = rate * told.lr_factor
        if not too_small < better <= too_large / 2:  # then it is between what was too small and what was too large
            better = math.sqrt(too_small * too_large)
        for group in optimizer.param_groups:
            group["lr"] *= better / rate
        if too_large < CLOSE * too_small:
            ask = no_advice
        say(f"step {taken}, learning rate {rate:.3g}: {told.title} ({told.confidence:.0%} sure)")
        say(f"  {'went on' if told.lr_factor > 1 else 'started again'} with {better:.3g}")


OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


class Digits:
    """A small network that learns to read digits, 64 at a time; every fifth digit is held out."""

    def __init__(self):
        torch.manual_seed(0)
        digits = load_digits()
        images, classes = torch.tensor(digits.data / 8 - 1, dtype=torch.float32), torch.tensor(digits.target)
        held_out = torch.arange(len(images)) % 5 == 0
        self.images, self.classes = images[~held_out], classes[~held_out]
        self.held_out = images[held_out], classes[held_out]
        self.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.batches = self.shuffled()

    def shuffled(self):
        """Yield the numbers of the digits in each batch, without an end."""
        while True:
            yield from torch.randperm(len(self.images)).split(64)[:-1]

    def next_loss(self):
        """Return the loss of the next batch."""
        batch = next(self.batches)
        return F.cross_entropy(self.model(self.images[batch]), self.classes[batch])

    def held_out_loss(self):
        """Return the loss of the digits that are held out."""
        images, classes = self.held_out
        with torch.no_grad():
            return F.cross_entropy(self.model(images), classes).item()


def fixed(make_optimizer, rate, steps):
    """Train with one learning rate throughout, and return the held-out loss."""
    digits = Digits()
    train(make_optimizer(digits.model.parameters(), lr=rate), digits.next_loss, steps, no_advice)
    return digits.held_out_loss()


def main(argv=None):
    """Train, say what was told and done, and compare with fixed learning rates if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--lr", type=float, default=1e-5, help="where to start, such as from 1e-5 to 10")
    parser.add_argument("--steps", type=int, default=400, help="in all, those that are thrown away included")
    parser.add_argument("--compare", action="store_true", help="also train with fixed rates from 1e-5 to 10")
    options = parser.parse_args(argv)
    make_optimizer, digits = OPTIMIZERS[options.optimizer], Digits()
    optimizer = make_optimizer(digits.model.parameters(), lr=options.lr)
    try:
        lead(digits.model, optimizer, digits.next_loss, options.steps)
        rate = optimizer.param_groups[0]["lr"]
        print(f"held-out loss {digits.held_out_loss():.3g} after {options.steps} steps, the last ones with {rate:.3g}")
        if options.compare:
            losses = {
                10 ** (half / 2): fixed(make_optimizer, 10 ** (half / 2), options.steps) for half in range(-10, 3)
            }
            best = min(losses, key=losses.get)
            print(f"the best of {len(losses)} fixed learning rates, {best:.3g}, ends with {losses[best]:.3g}")
    except KeyboardInterrupt:
        print("stopped; what was measured until then is in runs/")


if __name__ == "__main__":
    main()
