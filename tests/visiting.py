"""Visits to the page in Chromium: a page with everything it said and asked for."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator

from synthetic_runs import PANELS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 90
SELECTED = "JSON.stringify(window.cockpit.compared.chosen().runs)"


def missing() -> str:
    """Return why there is no browser to test with, or nothing."""
    if CHROMIUM is None:
        return "there is no chromium on the PATH"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return ""


class Visit:
    """A page with everything it said and asked for."""

    def __init__(self, page, url: str) -> None:
        self.page = page
        self.said: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
        page.goto(url)

    def tick(self, box) -> None:
        """Tick a box of the table of runs until the page knows: of two at once the table may take one back."""
        before, was, end = self.page.evaluate(SELECTED), box.is_checked(), time.monotonic() + PATIENCE
        while self.page.evaluate(SELECTED) == before:
            assert time.monotonic() < end, f"still selected: {before}"
            if box.is_checked() == was:
                box.click()
            self.page.wait_for_timeout(500)

    def until(self, expression: str) -> None:
        """Wait until an expression is true; asked from outside, because the page's own policy forbids eval."""
        end = time.monotonic() + PATIENCE
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"still not: {expression}"
            self.page.wait_for_timeout(100)

    def until_charts(self, count: int = len(PANELS)) -> None:
        drawn = "(plot) => plot.querySelector('.scatterlayer, .heatmaplayer')"
        self.until(f"[...document.querySelectorAll('.chart-plot')].filter({drawn}).length >= {count}")

    def chart(self, title: str, expression: str):
        """Evaluate an expression about a panel's chart, called ``chart``; null while there is none."""
        return self.page.evaluate(_about(title, expression))

    def until_chart(self, title: str, expression: str) -> None:
        self.until(_about(title, expression))

    def until_growth(self, title: str) -> None:
        self.until_chart(title, f"{LAST} > {self.chart(title, LAST)}")


def _about(title: str, expression: str) -> str:
    return f"""(() => {{
        const card = [...document.querySelectorAll("[data-panel]")].find(
            (card) => card.querySelector("h3").textContent === {json.dumps(title)});
        const chart = card && card.querySelector(".chart-plot .js-plotly-plot");
        return chart ? {expression} : null;
    }})()"""


MAIN = "chart.data.find((trace) => !trace.yaxis && trace.line && trace.line.width === 1.6)"
LENGTH = f"{MAIN}.x.length"
LAST = f"{MAIN}.x.at(-1)"


@contextlib.contextmanager
def visit(browser, url: str, **options: object) -> Iterator[Visit]:
    """Open a page; afterwards it must not have complained, nor asked anybody but its server."""
    context = browser.new_context(**({"viewport": {"width": 1440, "height": 1000}} | options))
    opened = Visit(context.new_page(), url)
    try:
        yield opened
    finally:
        context.close()
    assert opened.said == [], opened.said
    assert opened.hosts == {url.split("/")[2]}
