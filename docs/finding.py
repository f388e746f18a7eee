"""Train three networks with something wrong and write docs/reading-a-finding.md, the page on what is said of them.

python docs/finding.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import cockpitlite

PAGE = Path(__file__).with_name("reading-a-finding.md")
STEPS, BATCH = 600, 64


def batches() -> list[tuple[Tensor, Tensor]]:
    """Return batches of scikit-learn's digits, shuffled anew in each epoch."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32)
    x, y = (x - x.mean()) / x.std(), torch.tensor(labels)
    found: list[tuple[Tensor, Tensor]] = []
    while len(found) < STEPS:
        found += [(x[rows], y[rows]) for rows in torch.randperm(len(x)).split(BATCH)]
    return found[:STEPS]


def train(path: Path, lr: float, clears: bool = True) -> Path:
    """Train a small network with plain SGD; it clears its gradients between steps unless told otherwise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=lr), model, run=path, every=5)
    for x, y in batches():
        if clears:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.cockpit.close()
    return path


def trained(folder: Path) -> dict[str, Path]:
    """Return the three runs by name."""
    return {
        "too-small": train(folder / "too-small.cockpit", 1e-4),
        "blow-up": train(folder / "blow-up.cockpit", 5.0),
        "not-cleared": train(folder / "not-cleared.cockpit", 0.05, clears=False),
    }


def said(path: Path) -> str:
    """Return what the command line says of a run."""
    command = [sys.executable, "-m", "cockpitlite", "diagnose", path.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False)
    return f"$ cockpitlite diagnose {path.name}\n{done.stdout}".rstrip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for run in trained(Path(made)).values():
            print(said(run))  # noqa: T201
