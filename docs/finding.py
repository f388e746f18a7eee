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
HEAD = """# Reading a finding

Made by `python docs/finding.py`, which trains the three networks below on scikit-learn's digits; the pictures are taken
by `python docs/shots.py`.

A finding has a **severity** (an *error* must be put right, a *warning* is likely to cost you something, a *note* needs
nothing), a **code** that stands for its rule in [the list of rules](diagnosis.md), a **title** with what is wrong, and
how sure that is. Below it stand

1. what was seen, in numbers, with standard errors where they are estimates,
2. the **evidence**: which reading had which value at which step,
3. **what to do** about it,
4. since when it stands. One that has cleared says when, and is shown by `--history`.

The most likely root cause comes first. *Not judged* lists the rules that could not look, with the reason; every other
rule has looked and found nothing.

Two readings turn up again and again. **alpha_same** says where a step ends on the way down in its own direction,
measured on the batch that the step was made from: −1 is no part of the way, 0 the lowest point, 1 the other side at the
same height. **alpha_next** is the same on the next batch, which the step has not seen.
"""
CASES = {
    "too-small": """## A learning rate that is too small

Plain SGD with a learning rate of 0.0001. The loss hardly falls, and nothing looks broken.
""",
    "blow-up": """## A learning rate that is too large

The same network with a learning rate of 5. The loss jumped within the first ten steps; later it is a flat line that
does not tell why. The second finding is a consequence of the first, and says so.
""",
    "not-cleared": """## A forgotten zero_grad()

A learning rate of 0.05, and `optimizer.zero_grad()` left out. While this stands, nothing is advised on the learning
rate.
""",
}
ON_THE_PAGE = """## On the page

Findings unfold on a click. Each piece of evidence has a button that leads to the chart of its reading, zoomed to the
steps in question, which are shaded, with a ring around each value; where a reading has a value for each layer, around
those of the layer that the finding names. *Back to the finding* restores the chart, and a double click on the chart
shows all of it again. This works by keyboard too, and while the run goes on. A reading without a chart has its values
in the finding.

| | light | dark |
|---|---|---|
| a finding | ![A finding, light](finding-light.png) | ![A finding, dark](finding-dark.png) |
| its evidence | ![Its evidence, light](evidence-light.png) | ![Its evidence, dark](evidence-dark.png) |

What has cleared is folded away below the list. In a run of fewer than 25 steps the page says that it is too early to
tell, unless something is wrong already.
"""


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


def page(folder: Path) -> str:
    """Return the page."""
    parts = [HEAD]
    for name, run in trained(folder).items():
        parts.append(f"{CASES[name]}\n```console\n{said(run)}\n```\n")
    return "\n".join([*parts, ON_THE_PAGE])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        PAGE.write_text(page(Path(made)), encoding="utf-8")
    print(f"wrote {PAGE}")  # noqa: T201
