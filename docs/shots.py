"""Take the pictures of docs/reading-a-finding.md in Chromium: a finding on the page, and its evidence in a chart.

python docs/shots.py
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from finding import trained
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
SIZE = {"width": 1280, "height": 700}
COLOURS = 200  # a picture of a page needs no more, and takes a third of the bytes


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
        with served(runs["blow-up"]) as url:
            for scheme in ("light", "dark"):
                with opened(browser, url, scheme) as page:
                    keep(page, f"finding-{scheme}.png")
                    page.locator(".finding .show").first.click()
                    keep(page, f"evidence-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
