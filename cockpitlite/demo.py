"""The demo: one small network, trained with three learning rates under the panel."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

import cockpitlite
from cockpitlite.attach import Cockpit
from cockpitlite.diagnosis import Finding
from cockpitlite.diagnosis.light import STYLES, light
from cockpitlite.diagnosis.words import verdict

EPOCHS, BATCH, EVERY = 24, 64, 2


@dataclass(frozen=True)
class Trial:
    """One of the three runs: what it is called and the learning rate it gets."""

    name: str
    learning_rate: float


TRIALS = (Trial("too-small", 1e-4), Trial("good", 0.3), Trial("too-large", 3.0))


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: last training loss, share of the held-out digits read right, what the diagnosis says."""

    trial: Trial
    run: Path
    picture: Path
    loss: float
    accuracy: float
    findings: list[Finding]


def main(argv: Sequence[str] | None = None) -> int:
    """Train three times with the page open, say what the diagnosis found, and serve the page until Ctrl-C."""
    arguments = _parser().parse_args(argv)
    console = Console()
    try:
        digits = _digits()
    except ImportError:
        console.print("cockpitlite: the demo needs scikit-learn's digits: pip install 'cockpitlite[demo]'", style="red")
        return 2
    folder = _fresh_folder(Path(arguments.output))
    console.print(
        f"A small CNN on scikit-learn's digits, three times: learning rates {_rates()} with SGD.\n"
        "The loss curves of the first and the last look the same. The panel tells them apart.\n",
        highlight=False,
    )
    torch.set_num_threads(1)  # so small a network gains nothing from a second core, and the page needs one
    serve = console.is_terminal and not arguments.no_serve
    with _page(folder, arguments.port, browser=serve and not arguments.no_browser) as page:
        with _progress(console) as progress:
            outcomes = [_train(trial, digits, folder, progress) for trial in TRIALS]
        _report(console, outcomes, folder)
        if serve and page.poll() is None:
            console.print("The page stays open until Ctrl-C.")
            page.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cockpitlite demo", description=main.__doc__)
    parser.add_argument("--no-serve", action="store_true", help="end when the training has ended")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument("-o", "--output", default="demo", metavar="FOLDER", help="where run files and plots go")
    parser.add_argument("--port", type=int, default=8050, help="port of the live page")
    return parser


def _rates() -> str:
    return ", ".join(f"{trial.learning_rate:g}" for trial in TRIALS)


def _fresh_folder(parent: Path) -> Path:
    """Make a folder of this demo's own, so that nothing recorded earlier is in the way."""
    folder = parent / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def _page(folder: Path, port: int, browser: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the live page from a process of its own while the body runs."""
    command = [sys.executable, "-m", "cockpitlite", "dashboard", str(folder), "--wait", "--port", str(port)]
    process = subprocess.Popen([*command, *([] if browser else ["--no-browser"])], stdin=subprocess.DEVNULL)
    try:
        yield process
    except KeyboardInterrupt:
        print(file=sys.stderr)  # noqa: T201  # the prompt begins on a line of its own
    finally:
        process.terminate()
        process.wait()


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _digits() -> tuple[Tensor, Tensor]:
    """Return the 1797 images ``[image, 1, 8, 8]`` in [0, 1] and their digits, in a fixed random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)[order], torch.tensor(labels)[order]


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def _train(trial: Trial, digits: tuple[Tensor, Tensor], folder: Path, progress: Progress) -> Outcome:
    """Train once under the panel; one line watches, the loop is plain torch."""
    images, labels = digits
    held_out = len(labels) // 5
    torch.manual_seed(0)
    model = _network()
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.learning_rate)
    path = folder / f"{trial.name}.cockpit"
    cockpit: Cockpit = cockpitlite.watch(optimizer, model, run=path, every=EVERY).cockpit  # type: ignore[attr-defined]
    batches = len(labels[held_out:]) // BATCH
    task = progress.add_task(f"learning rate {trial.learning_rate:g}", total=EPOCHS * batches, loss=float("nan"))
    loss = torch.tensor(float("nan"))
    for epoch in range(EPOCHS):
        for index in torch.randperm(batches * BATCH).view(batches, BATCH) + held_out:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[index]), labels[index])
            loss.backward()
            optimizer.step()
            progress.update(task, advance=1, loss=loss.item())
        accuracy = _accuracy(model, images[:held_out], labels[:held_out])
        cockpit.log(valid_accuracy=accuracy, epoch=epoch)
    findings = cockpit.findings()
    cockpit.close()
    picture = path.with_suffix(".png")
    cockpitlite.plot(path, picture)
    return Outcome(trial, path, picture, loss.item(), accuracy, findings)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).float().mean().item()
    model.train()
    return right


def _report(console: Console, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Print what a loss curve would have shown, what the diagnosis says, and where everything lies."""
    for outcome in outcomes:
        console.print(
            f"\n[bold]learning rate {outcome.trial.learning_rate:g}[/bold]: loss {outcome.loss:.3f}, "
            f"{outcome.accuracy:.0%} of the held-out digits right"
        )
        style = STYLES[light(outcome.findings)]
        console.print(f"  {verdict(outcome.findings)}", style=style, markup=False, highlight=False)
        if outcome.findings and outcome.findings[0].suggestion:
            console.print(f"  {outcome.findings[0].suggestion}", markup=False, highlight=False)
    console.print("\nRun files and plots, drawn from the run files alone:", highlight=False)
    for outcome in outcomes:
        console.print(f"  {outcome.run}  {outcome.picture}", highlight=False, soft_wrap=True)
    console.print(f"\nLater:  cockpitlite dashboard {folder}\n", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
