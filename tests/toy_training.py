"""Small trainings in numpy that write the readings of a watched run, with slopes computed exactly.

As a script it prints the verdict on every problem, optimizer and learning rate beside what came of the run:
``python toy_training.py``.
"""

import argparse
import contextlib
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cockpitlite.diagnosis import diagnose
from cockpitlite.store import RunWriter

SAMPLES, TRAINING = 1024, 512  # in all, and those trained on
HELD_OUT = np.arange(TRAINING, SAMPLES)
RATES = tuple(10.0**exponent for exponent in np.arange(-5, 2.01, 0.5))
STEPS = 300


def diagnosed(step):
    """Whether the paired step lengths are measured at this step."""
    return step % 5 == 0 if step < 50 else step >= 500 and step % 500 < 10


@dataclass
class Quadratic:
    """Least squares with features of unequal scale and noisy targets: convex, and noisy from batch to batch."""

    seed: int
    name: str = "least squares"
    batch: int = 32

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        self.x = random.normal(size=(SAMPLES, 12)) * np.geomspace(1.5, 0.3, 12)
        self.y = self.x @ (0.6 * random.normal(size=12)) + 0.5 * random.normal(size=SAMPLES)
        self.start = np.zeros(12)

    def losses(self, w, rows):
        return 0.5 * (self.x[rows] @ w - self.y[rows]) ** 2

    def gradient(self, w, rows):
        return self.x[rows].T @ (self.x[rows] @ w - self.y[rows]) / len(rows)


@dataclass
class Logistic:
    """Logistic regression on ten classes that overlap."""

    seed: int
    name: str = "logistic regression"
    batch: int = 32
    classes: int = 10
    features: int = 20

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        centres = 0.6 * random.normal(size=(self.classes, self.features))
        self.y = random.integers(self.classes, size=SAMPLES)
        self.x = centres[self.y] + random.normal(size=(SAMPLES, self.features))
        self.start = np.zeros(self.features * self.classes)

    def _probabilities(self, w, rows):
        logits = self.x[rows] @ w.reshape(self.features, self.classes)
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def losses(self, w, rows):
        right = self._probabilities(w, rows)[np.arange(len(rows)), self.y[rows]]
        return -np.log(np.maximum(right, 1e-300))

    def gradient(self, w, rows):
        p = self._probabilities(w, rows)
        p[np.arange(len(rows)), self.y[rows]] -= 1
        return (self.x[rows].T @ p).ravel() / len(rows)


@dataclass
class Network:
    """A network of one hidden tanh layer that tells four interleaved rings of points apart."""

    seed: int
    name: str = "tanh network"
    batch: int = 32
    hidden: int = 32

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        self.y = random.integers(4, size=SAMPLES)
        radius = 0.5 + 0.5 * self.y + 0.15 * random.normal(size=SAMPLES)
        angle = random.uniform(0, 2 * np.pi, size=SAMPLES)
        self.x = np.stack([radius * np.cos(angle), radius * np.sin(angle), radius**2, np.ones(SAMPLES)], axis=1)
        first = random.normal(size=(4, self.hidden)) / 2
        second = random.normal(size=(self.hidden, 4)) / math.sqrt(self.hidden)
        self.start = np.concatenate([first.ravel(), second.ravel()])

    def _forward(self, w, rows):
        first, second = w[: 4 * self.hidden].reshape(4, self.hidden), w[4 * self.hidden :].reshape(self.hidden, 4)
        hidden = np.tanh(self.x[rows] @ first)
        logits = hidden @ second
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        return second, hidden, p / p.sum(axis=1, keepdims=True)

    def losses(self, w, rows):
        p = self._forward(w, rows)[2]
        return -np.log(np.maximum(p[np.arange(len(rows)), self.y[rows]], 1e-300))

    def gradient(self, w, rows):
        second, hidden, p = self._forward(w, rows)
        p[np.arange(len(rows)), self.y[rows]] -= 1
        back = (p @ second.T) * (1 - hidden**2)
        return np.concatenate([(self.x[rows].T @ back).ravel(), (hidden.T @ p).ravel()]) / len(rows)


PROBLEMS = (Quadratic, Logistic, Network)


class Sgd:
    """Plain descent, or with heavy-ball momentum."""

    def __init__(self, momentum=0.0):
        self.momentum = momentum
        self.velocity = 0.0
        self.family = "momentum" if momentum else "sgd"

    def step(self, gradient, rate):
        self.velocity = self.momentum * self.velocity + gradient
        return -rate * self.velocity


class Adam:
    """Adam with its usual settings."""

    family = "adam"

    def __init__(self):
        self.first = self.second = 0.0
        self.count = 0

    def step(self, gradient, rate):
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        return -rate * first / (np.sqrt(second) + 1e-8)


OPTIMIZERS = {"sgd": Sgd, "momentum": lambda: Sgd(0.9), "adam": Adam}


@np.errstate(all="ignore")
def train(path, problem, optimizer, rate, steps=STEPS):
    """Train, write the run file, and return the final loss on held-out data.

    ``rate`` is a number or a function from steps to numbers.
    """
    random = np.random.default_rng([problem.seed, 1])
    order = [random.choice(TRAINING, problem.batch, replace=False) for _ in range(steps + 1)]
    rate_of = rate if callable(rate) else lambda step: rate
    rows = {}
    w = problem.start.copy()
    for step in range(steps):
        gradient = problem.gradient(w, order[step])
        d = optimizer.step(gradient, rate_of(step))
        losses = problem.losses(w, order[step])
        put(rows, step, loss=losses.mean(), loss_std=losses.std(ddof=1), batch_size=problem.batch)
        put(rows, step, learning_rate=rate_of(step), grad_norm=np.linalg.norm(gradient))
        put(rows, step, update_size=np.linalg.norm(d), update_ratio=np.linalg.norm(d) / max(np.linalg.norm(w), 1e-30))
        if diagnosed(step):
            for name, batch in (("same", order[step]), ("next", order[step + 1])):
                start, end = (float(d @ problem.gradient(at, batch)) for at in (w, w + d))
                put(rows, step, **{f"slope_{name}_start": start, f"slope_{name}_end": end})
        w = w + d
    write(path, rows, optimizer.family, rate_of(0))
    return float(problem.losses(w, HELD_OUT).mean())


def put(rows, step, **values):
    """Note values of readings at a step."""
    for name, value in values.items():
        rows.setdefault(name, []).append((step, float(value)))


def write(path, rows, family, rate):
    """Write the readings to a run file."""
    with contextlib.closing(RunWriter(path)) as writer:
        writer.meta(status="finished", optimizer={"class": family, "family": family, "groups": [{"lr": rate}]})
        for name, points in rows.items():
            writer.readings(name, points)


def labels(losses, initial):
    """Label each learning rate of a grid by the final losses alone: small, good, large or diverged.

    Good are the rates from the first to the last whose final loss is within 1.1 times the best; above them, a final
    loss above 1.05 times the initial one has diverged.
    """
    losses = np.array([loss if math.isfinite(loss) else math.inf for loss in losses])
    good = np.flatnonzero(losses <= 1.1 * losses.min())
    low, high = good[0], good[-1]
    return [
        "good" if low <= i <= high else "small" if i < low else "diverged" if loss > 1.05 * initial else "large"
        for i, loss in enumerate(losses)
    ]


SAYS = {"R0": "large", "R1": "large", "R1b": "large", "R2": "large", "R3": "small"}


def sweep(folder, make, kind, seed, rates=RATES):
    """Train with every rate; return for each the rate, its label, what the first finding says, and its distance.

    The distance is the factor by which the rate lies outside the good ones, 1 within.
    """
    problem = make(seed)
    initial = float(problem.losses(problem.start, HELD_OUT).mean())
    paths = [folder / f"{problem.name}-{kind}-{seed}-{index}.cockpit" for index in range(len(rates))]
    losses = [train(path, problem, OPTIMIZERS[kind](), rate) for path, rate in zip(paths, rates, strict=True)]
    truth = labels(losses, initial)
    good = [rate for rate, label in zip(rates, truth, strict=True) if label == "good"]
    return [
        (rate, label, next(iter(diagnose(path)), None), max(good[0] / rate, rate / good[-1], 1.0))
        for rate, label, path in zip(rates, truth, paths, strict=True)
    ]


def says(finding):
    """Return what a finding says of the learning rate: small, ok or large."""
    return "ok" if finding is None else SAYS.get(finding.code, "ok")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in OPTIMIZERS:
            for make in PROBLEMS:
                results = [sweep(Path(folder), make, kind, seed) for seed in range(arguments.seeds)]
                print(f"\n{make.name}, {kind}")
                for column in zip(*results, strict=True):
                    cells = [f"{label}: {finding.code if finding else '-'}" for _, label, finding, _ in column]
                    print(f"{column[0][0]:9.1e}  " + "".join(f"{cell:16}" for cell in cells))


if __name__ == "__main__":
    main()
