"""What the page costs while it follows a fast training: ``python benchmarks/live_page.py``, in Chromium."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from page import CHARTS, DRAWN, serving, until
from playwright.sync_api import CDPSession, sync_playwright
from rich.console import Console
from rich.table import Table

from cockpitlite import Panel
from cockpitlite.panel import GROUPS
from cockpitlite.store import Column, RunWriter, load

COMMIT_SECONDS = 0.5  # as a watched training does
CLOCK = 1000.0  # a reading is the time in seconds modulo this, which a chart holds to 0.1 ms
HURRY = "void window.setInterval(() => window.cockpit.clock.ask(), 50)"  # a tick as soon as the last one is drawn
WATCH = """(() => {
    const chart = document.querySelector("[data-panel='0'] .chart-plot .js-plotly-plot");
    const line = () => chart.data.find((trace) => !trace.yaxis && trace.x.length > 1);
    window.seen = [];
    let last = line().x.at(-1);
    window.setInterval(() => {
        const trace = line();
        const now = (Date.now() / 1000) % 1000;
        for (let place = trace.x.length - 1; place >= 0 && trace.x[place] > last; place--) {
            window.seen.push((now - trace.y[place] + 1000) % 1000);
        }
        last = trace.x.at(-1);
    }, 20);
})()"""


def main() -> None:
    """Follow a training in a browser for some ticks, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=120)
    parser.add_argument("--rate", type=int, default=200, help="tracked steps in a second")
    parser.add_argument("--readings", type=int, default=30)
    parser.add_argument("--hurry", action="store_true", help="tick as fast as charts are drawn: for the heap alone")
    parser.add_argument("--query", default="", help="of the page's address, such as smooth=0.9&axis=time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.cockpit"
        context = multiprocessing.get_context("spawn")
        end = context.Event()
        trainer = context.Process(target=train, args=(path, options.rate, options.readings, end))
        trainer.start()
        try:
            found = follow(path, options.ticks, options.query, options.hurry, end)
        finally:
            end.set()
            trainer.join()
    table = Table(
        title=f"{options.rate} steps of {options.readings} readings a second: {found['ticks']} ticks, "
        f"{found['charts']} charts on the screen",
        box=None,
    )
    for heading in ("what", "measured", "goal"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    late = found["late"]
    table.add_row("bytes received per tick", f"{found['bytes'] / found['ticks'] / 1000:.1f} kB", "≤ 60 kB")
    table.add_row("main thread busy", f"{1000 * found['busy']:.0f} ms/s", "≤ 150 ms/s")
    table.add_row("written to on screen, median", f"{statistics.median(late):.2f} s", "≤ 1 s")
    table.add_row("written to on screen, 95 %", f"{np.quantile(late, 0.95):.2f} s", "")
    table.add_row(
        "heap at the begin and the end", " and ".join(f"{size / 1e6:.1f} MB" for size in found["heap"]), "flat"
    )
    table.add_row("steps written, and followed", f"{found['written']:,} and {found['followed']:,}", "all")
    Console().print(table, f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")


def train(path: Path, rate: int, readings: int, end: Any) -> None:
    """Write so many steps a second until told to end; the first reading is the time at which it was written."""
    writer, random = RunWriter(path), np.random.default_rng(0)
    names = [f"reading_{index:02d}" for index in range(readings)]
    for index, name in enumerate(names):
        writer.panel(Panel(name.replace("_", " ").capitalize(), GROUPS[index % len(GROUPS)]).named(name))
    writer.meta(status="running", started=time.time())
    columns, begin, step, committed = tuple(map(Column, names)), time.monotonic(), 0, 0.0
    while not end.is_set():
        values = random.standard_normal(readings)
        values[0] = time.time() % CLOCK
        writer.frame(step, columns, values)
        writer.clock(step, time.monotonic() - begin)
        step += 1
        if time.monotonic() - committed > COMMIT_SECONDS:
            writer.commit()
            committed = time.monotonic()
        time.sleep(max(begin + step / rate - time.monotonic(), 0.0))
    writer.meta(status="finished")
    writer.close()


def follow(path: Path, ticks: int, query: str, hurry: bool, end: Any) -> dict[str, Any]:
    """Open the page and follow; return what came, how busy it was, and how late readings were, in seconds."""
    while not path.exists() or load(path).last_step is None:
        time.sleep(0.1)
    with serving(path) as (url, _), sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"{url}?{query}")
        until(page, f"{CHARTS}.length > 3 && {DRAWN}")
        until(page, "window.cockpit.view.isComplete()")
        page.wait_for_timeout(5000)
        session = page.context.new_cdp_session(page)
        received: list[float] = []
        asked: list[Any] = []
        session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        page.on("request", lambda request: asked.append(1) if request.url.endswith("/tick") else None)
        for domain in ("Network", "Performance", "HeapProfiler"):
            session.send(f"{domain}.enable")
        page.evaluate(WATCH)
        if hurry:
            page.evaluate(HURRY)
        charts = page.evaluate(f"{CHARTS}.length")
        before, begin = metrics(session), time.monotonic()
        received.clear()
        asked.clear()
        while len(asked) < ticks:
            page.wait_for_timeout(200)
        taken, size, after, passed = len(asked), sum(received), metrics(session), time.monotonic() - begin
        late = page.evaluate("window.seen")
        end.set()
        page.wait_for_timeout(5000)
        words = page.evaluate("document.querySelector('[data-panel=\"0\"] .caption').textContent")
        followed = int(words.split(" of ")[1].split(" ")[0].replace(",", ""))
        browser.close()
    return {
        "ticks": taken,
        "charts": charts,
        "bytes": size,
        "busy": (after["TaskDuration"] - before["TaskDuration"]) / passed,
        "heap": (before["JSHeapUsedSize"], after["JSHeapUsedSize"]),
        "late": late,
        "written": (load(path).last_step or 0) + 1,
        "followed": followed,
    }


def metrics(session: CDPSession) -> dict[str, float]:
    """Return Chromium's counters, after it has collected what is not used any more."""
    session.send("HeapProfiler.collectGarbage")
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
