"""How soon a long run, a zoom, a map of layers and a table of runs are there: ``python benchmarks/page.py``."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, Playwright, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cockpitlite import Panel
from cockpitlite.panel import GROUPS
from cockpitlite.store import Column, RunWriter

PORT = 8765
PATIENCE = 120.0  # seconds
BLOCK = 1000  # steps that are written at once
CHARTS = (
    "[...document.querySelectorAll('[data-panel]')].filter((card) => card.getBoundingClientRect().top < innerHeight)"
)
DRAWN = f"{CHARTS}.every((card) => card.querySelector('.scatterlayer path.js-line'))"

WORDS = "(document.querySelector('#map-words')?.textContent || '')"
MAPPED = f"{WORDS}.includes('up to step')"
LAYER_DRAWN = "document.querySelectorAll('#layer-board .scatterlayer path.js-line').length >= 2"
EVERY_STEP = "chart.data.some((trace) => trace.x.filter((x) => x >= low && x <= high).length >= 500)"


def main() -> None:
    """Write long runs, open them in Chromium some times, zoom in, and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--readings", type=int, default=30)
    parser.add_argument("--layers", type=int, default=300)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.cockpit"
        writing = write(path, options.steps, options.readings)
        size = path.stat().st_size
        visits = [visit(path, options.steps) for _ in range(options.visits)]
        path.unlink()
        wide = Path(folder) / "wide.cockpit"
        write_layers(wide, options.steps, options.layers)
        wide_size = wide.stat().st_size
        maps = [visit_layers(wide) for _ in range(options.visits)]
        wide.unlink()
        listings = [listing(many(Path(folder) / "many", options.runs)) for _ in range(options.visits)]
    table = Table(title=f"{options.steps:,} steps of {options.readings} readings, {size / 1e6:,.0f} MB", box=None)
    for heading in ("what", "median", "range", "goal"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    table.add_row("write a step", f"{1e6 * writing / options.steps:.0f} µs", "", "")
    for name, goal in (("opened", "≤ 2 s"), ("opened again", "≤ 2 s"), ("zoomed in", "≤ 0.5 s")):
        took = [each[name] for each in visits]
        table.add_row(name, *taken(took, "s"), goal)
    table.add_row(f"{options.layers} layers of {options.steps:,} steps, {wide_size / 1e6:,.0f} MB")
    for name, goal in (("mapped", "≤ 2 s"), ("another reading mapped", "≤ 2 s"), ("a layer's curves", "≤ 2 s")):
        table.add_row(name, *taken([each[name] for each in maps], "s"), goal)
    table.add_row("memory of the server", *taken([each["memory"] for each in maps], "MB", ".0f"), "≤ 500 MB")
    table.add_row(f"{options.runs} runs listed", *taken(listings, "s"), "≤ 1 s")
    Console().print(table, f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")


def taken(found: Sequence[float], unit: str, form: str = ".2f") -> tuple[str, str]:
    """Return the median and the range of what was measured, for the table."""
    return f"{statistics.median(found):{form}} {unit}", f"{min(found):{form}} to {max(found):{form}}"


def write(path: Path, steps: int, readings: int) -> float:
    """Write a run whose readings wander; return the seconds that took."""
    writer, random = RunWriter(path), np.random.default_rng(0)
    names = [f"reading_{index:02d}" for index in range(readings)]
    for index, name in enumerate(names):
        writer.panel(Panel(name.replace("_", " ").capitalize(), GROUPS[index % len(GROUPS)]).named(name))
    columns, begin = tuple(map(Column, names)), time.perf_counter()
    for start in track(range(0, steps, BLOCK), description="writing", transient=True):
        for step, row in enumerate(random.standard_normal((min(BLOCK, steps - start), readings)), start):
            writer.frame(step, columns, row)
        writer.commit()
    writer.meta(status="finished", started=0.0)
    writer.close()
    return time.perf_counter() - begin


def write_layers(path: Path, steps: int, layers: int) -> None:
    """Write a run of two readings of every layer."""
    writer, random = RunWriter(path), np.random.default_rng(0)
    names = tuple(f"blocks.{index}.weight" for index in range(layers))
    columns = (Column("update_ratio", names), Column("grad_norm", names))
    for column in columns:
        words = column.name.replace("_", " ").capitalize()
        writer.panel(Panel(words, "gradients", scale="log", layered=True).named(column.name))
    shape = (BLOCK, 2 * (1 + layers))
    for start in track(range(0, steps, BLOCK), description="writing layers", transient=True):
        for step, row in enumerate(np.exp(random.standard_normal(shape)[: steps - start]), start):
            writer.frame(step, columns, row)
        writer.commit()
    writer.meta(status="finished", started=0.0)
    writer.close()


def visit_layers(path: Path) -> dict[str, float]:
    """Open the page of layers of a server that has just begun, map another reading, and choose a layer.

    Returns what each took, in seconds, and the most memory that the server held, in MB (NaN where no ``/proc`` tells).
    """
    found: dict[str, float] = {}
    with sync_playwright() as playwright, begun(playwright) as page, serving(path) as (url, server):
        begin = time.perf_counter()
        page.goto(f"{url}?page=layers")
        until(page, MAPPED)
        found["mapped"] = time.perf_counter() - begin
        page.wait_for_timeout(3000)  # the verdict comes meanwhile
        before, begin = page.evaluate(WORDS), time.perf_counter()
        page.select_option("#map-quantity", "grad_norm")
        until(page, f"{WORDS} !== {json.dumps(before)} && {MAPPED}")
        found["another reading mapped"] = time.perf_counter() - begin
        begin = time.perf_counter()
        page.locator("#map-canvas").click(position={"x": 300, "y": 50})
        until(page, LAYER_DRAWN)
        found["a layer's curves"] = time.perf_counter() - begin
        found["memory"] = most_memory(server)
    return found


def visit(path: Path, steps: int) -> dict[str, float]:
    """Open the page of a server that has just begun, once more, and zoom in; return what each took, in seconds."""
    found: dict[str, float] = {}
    with sync_playwright() as playwright, begun(playwright) as page, serving(path) as (url, _):
        for name in ("opened", "opened again"):
            begin = time.perf_counter()
            page.goto(url)
            until(page, f"{CHARTS}.length > 3 && {DRAWN}")
            found[name] = time.perf_counter() - begin
        page.wait_for_timeout(3000)  # the verdict comes meanwhile
        low, high = steps // 3, steps // 3 + min(10_000, steps // 50)
        chart = "document.querySelector('[data-panel] .chart-plot .js-plotly-plot')"
        begin = time.perf_counter()
        drag = json.dumps({"xaxis.range[0]": low, "xaxis.range[1]": high})  # as a drag across the chart tells it
        page.evaluate(f"void Plotly.relayout({chart}, {drag})")
        until(page, f"((chart, [low, high]) => {EVERY_STEP})({chart}, [{low}, {high}])")
        found["zoomed in"] = time.perf_counter() - begin
    return found


def many(folder: Path, runs: int) -> Path:
    """Write a folder of short runs, unless it is there."""
    if not folder.exists():
        folder.mkdir()
        random = np.random.default_rng(0)
        for index in range(runs):
            writer = RunWriter(folder / f"run-{index:03d}.cockpit")
            writer.panel(Panel("Loss", "performance").named("loss"))
            writer.readings("loss", enumerate(random.random(100).tolist()))
            rate = float(10 ** random.uniform(-4, 0))
            optimizer = {"class": "SGD", "groups": [{"lr": rate, "momentum": 0.9}]}
            writer.meta(status="finished", started=float(index), model={"class": "Net"}, optimizer=optimizer)
            if index % 2:
                title = "Learning rate probably too small"
                writer.meta(findings=[{"code": "R2", "severity": "warning", "title": title, "since": 0}])
            writer.close()
    return folder


def listing(folder: Path) -> float:
    """Return the seconds from a click on "Runs" to the rows of a table that its server has not read before."""
    with sync_playwright() as playwright, begun(playwright) as page, serving(folder) as (url, _):
        page.goto(url)
        until(page, f"{CHARTS}.length > 0 && {DRAWN}")
        page.wait_for_timeout(3000)  # the verdict comes meanwhile
        begin = time.perf_counter()
        page.evaluate("document.querySelector('nav a[data-page=runs]').click()")
        until(page, "document.querySelectorAll('.runs-table .ag-row').length > 10")
        return time.perf_counter() - begin


@contextlib.contextmanager
def begun(playwright: Playwright) -> Iterator[Page]:
    """Start Chromium with an empty page; it rests a while, as a browser does that a person has open."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.wait_for_timeout(1000)
    yield page
    browser.close()


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true."""
    end = time.perf_counter() + PATIENCE
    while not page.evaluate(expression):
        if time.perf_counter() > end:
            raise TimeoutError(f"after {PATIENCE:.0f} s still not: {expression}")
        page.wait_for_timeout(10)


def most_memory(process: int) -> float:
    """Return the most memory that a process held so far, in MB, NaN where no ``/proc`` tells."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), float("nan"))


@contextlib.contextmanager
def serving(path: Path) -> Iterator[tuple[str, int]]:
    """Serve the page in a process of its own; give its address, which nobody has asked yet, and the process's id."""
    command: list[Any] = [sys.executable, "-m", "cockpitlite", "dashboard", path, "--port", str(PORT), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(word for word in process.stdout.readline().split() if word.startswith("http")), process.pid
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
