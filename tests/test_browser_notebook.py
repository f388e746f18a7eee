"""The page in the frame of a notebook, and in that of a stranger, in a real browser."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from page_server import page_server
from synthetic_runs import write_run
from test_browser import trainer
from visiting import PATIENCE

import cockpitlite
from cockpitlite import notebook

pytestmark = pytest.mark.browser

CHARTS = "document.querySelectorAll('.chart-plot .scatterlayer, .chart-plot .heatmaplayer').length"
STEP = "Number(document.querySelector('#step').textContent.replace(/[^0-9]/g, ''))"


@contextlib.contextmanager
def cell(content: str) -> Iterator[int]:
    """Serve a notebook of one cell with this output; yields the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            icon = '<link rel="icon" href="data:,">'
            self.wfile.write(f"<!DOCTYPE html><title>Notebook</title>{icon}<body>{content}".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def visited(browser, address: str, **options: object) -> Iterator[tuple]:
    """Open a page with a frame; yields the page, and what the browser said."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
    context.add_init_script(NO_STORAGE)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        page.goto(address)
        yield page, said
    finally:
        context.close()


def until(frame, expression: str) -> None:
    end = time.monotonic() + PATIENCE
    while not frame.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        frame.page.wait_for_timeout(100)


@pytest.fixture
def shown(tmp_path):
    """A page that is shown, of a folder of runs in which one is live."""
    write_run(tmp_path / "digits.cockpit", steps=60)
    with trainer(tmp_path / "live.cockpit"):
        yield cockpitlite.show(tmp_path)
        notebook._end_all()
        notebook._servers.clear()


# As with cookies and all other storage shut off for frames of other sites.
NO_STORAGE = (
    "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
)


@pytest.mark.parametrize(("name", "scheme"), [("localhost", "light"), ("127.0.0.1", "dark")])
def test_the_page_lives_in_the_frame_of_a_notebook(browser, shown, name, scheme):
    frame_of = shown._repr_mimebundle_()["text/html"]
    with cell(frame_of) as port, visited(browser, f"http://{name}:{port}/", color_scheme=scheme) as (page, said):
        (frame,) = page.frames[1:]
        until(frame, f"document.querySelector('#step') && {CHARTS} > 3")
        until(frame, f"{STEP} > {frame.evaluate(STEP)}")
        background = frame.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
        assert (sum(background) > 600) == (scheme == "light")
        card = frame.locator(".card", has_text="Batch size").first
        card.locator(".chart-plot .scatterlayer").wait_for()
        card.locator("summary", has_text="⋯").click()
        with page.expect_download() as download:
            card.get_by_text("CSV").click()
        assert download.value.path().read_text().startswith("step,reading,layer,value")
        frame.locator("nav a", has_text="Runs").click()
        frame.locator(".runs-table .ag-row", has_text="digits").locator("[col-id=run]").first.click()
        until(frame, f"{STEP} === 59 && {CHARTS} > 3")
        assert page.context.cookies() == []
        assert said == []


def test_no_stranger_frames_the_page(browser, shown, tmp_path):
    with page_server(tmp_path) as server:
        for url in (shown.url, server.url):
            with (
                cell(f'<iframe src="{url}"></iframe>') as port,
                visited(browser, f"http://stranger.localhost:{port}/") as (page, said),
            ):
                (frame,) = page.frames[1:]
                until(frame, "document.readyState === 'complete'")
                assert frame.evaluate("document.querySelector('#step')") is None
                assert any("frame-ancestors" in word for word in said)


def test_a_name_that_was_bent_to_this_machine_leads_nowhere(browser, shown):
    port = shown._server.port
    with visited(browser, f"http://stranger.localhost:{port}/") as (page, _):
        assert "This page is not where it was asked for" in page.inner_text("body")
