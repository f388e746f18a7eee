"""Take pictures: the page, a map of layers and the plot for the README, a finding for docs/reading-a-finding.md.

python docs/shots.py
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from finding import batches, trained
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from torch import nn

import cockpitlite

HERE = Path(__file__).parent
SIZE = {"width": 1280, "height": 700}
PHONE: ViewportSize = {"width": 390, "height": 844}
MAP: ViewportSize = {"width": 1280, "height": 1000}
PAGE: ViewportSize = {"width": 1440, "height": 1000}
LAYER, STEP = "6.0.weight", 160  # chosen on the map
DEPTH = 12  # of the network whose layers are mapped
COLOURS = 200  # a picture of a page needs no more, and takes a third of the bytes


def demonstrated(folder: Path) -> dict[str, Path]:
    """Return the runs of the demo by name."""
    command = [sys.executable, "-m", "cockpitlite", "demo", "--no-serve", "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {path.stem: path for path in folder.rglob("*.cockpit")}


def deep(path: Path) -> Path:
    """Train a network that is deep for its initialisation: the gradient hardly reaches its first layers."""
    torch.manual_seed(0)
    widths = [64, *[32] * DEPTH, 10]
    blocks = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths[:-1])]
    model = nn.Sequential(*blocks, nn.Linear(widths[-2], widths[-1]))
    panel = ["economy", "dead_units"]
    optimizer = cockpitlite.watch(torch.optim.Adam(model.parameters(), lr=0.002), model, panel=panel, run=path, every=2)
    for x, y in batches():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.cockpit.close()
    return path


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    """Serve a run's page and give its address."""
    command = [sys.executable, "-m", "cockpitlite", "dashboard", str(run), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield next(iter(re.findall(r"http://\S+", line)))
        finally:
            server.terminate()


@contextlib.contextmanager
def opened(browser: Browser, url: str, scheme: str) -> Iterator[Page]:
    """Open a page in a colour scheme, with its first finding unfolded."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    page.locator(".finding").first.wait_for()
    page.locator(".scatterlayer").first.wait_for()
    page.locator(".finding > summary").first.click()
    yield page
    context.close()


@contextlib.contextmanager
def overviewed(browser: Browser, url: str, scheme: str, size: ViewportSize) -> Iterator[Page]:
    """Open the overview of a run."""
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    page.locator(".finding").first.wait_for()
    page.locator(".scatterlayer").first.wait_for()
    yield page
    context.close()


@contextlib.contextmanager
def mapped(browser: Browser, url: str, scheme: str, size: ViewportSize) -> Iterator[Page]:
    """Open the page of layers, with a layer chosen."""
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url.rstrip("/") + f"/?page=layers&quantity=grad_norm&layer={LAYER}&at={STEP}")
    page.locator("#layer-board .card").first.wait_for()
    page.wait_for_timeout(3000)  # for its charts, where they are on the screen
    yield page
    context.close()


def keep(page: Page, name: str) -> None:
    """Keep what is on the screen as a small picture."""
    path = HERE / name
    page.wait_for_timeout(1500)  # for charts that are still being drawn
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201


def main() -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        runs = trained(Path(made))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        demo = demonstrated(Path(made) / "demo")
        shown = (
            ("too-small", "dark", "dark", PAGE),
            ("good", "light", "light", PAGE),
            ("good", "phone", "dark", PHONE),
        )
        for run, name, scheme, size in shown:
            with served(demo[run]) as url, overviewed(browser, url, scheme, size) as page:
                keep(page, f"page-{name}.png")
        cockpitlite.plot(cockpitlite.load(demo["good"]), HERE / "plot.png")
        with served(runs["blow-up"]) as url:
            for scheme in ("light", "dark"):
                with opened(browser, url, scheme) as page:
                    keep(page, f"finding-{scheme}.png")
                    page.locator(".finding .show").first.click()
                    keep(page, f"evidence-{scheme}.png")
        with served(deep(Path(made) / "deep.cockpit")) as url:
            for name, scheme, size in (("light", "light", MAP), ("dark", "dark", MAP), ("phone", "dark", PHONE)):
                with mapped(browser, url, scheme, size) as page:
                    keep(page, f"layers-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
