"""When charts are drawn, in a real browser: those on the screen first, all of them soon, and live only what is seen."""

from __future__ import annotations

import contextlib

import pytest
from page_server import page_server
from synthetic_runs import PANELS, write_run
from test_browser import trainer
from visiting import LAST, visit

pytestmark = pytest.mark.browser

LOW = {"width": 1440, "height": 600}  # a screen that most cards are below
PLACES = """(seen) => [...document.querySelectorAll(":is(#vital, #board) [data-panel]")].filter((card) => {
    const box = card.getBoundingClientRect();
    return (box.top < innerHeight + 100 && box.bottom > -100) === seen;
}).map((card) => card.dataset.panel)"""
DRAWN = f"""[...document.querySelectorAll(":is(#vital, #board) .chart-plot")].filter(
    (plot) => plot.querySelector(".scatterlayer path.js-line, .scatterlayer path.point")).length === {len(PANELS)}"""


def ticks_of(seen):
    """What the page asks its server for at each tick from now on."""
    found = []
    seen.page.on("request", lambda request: found.append(request.post_data_json) if "/tick" in request.url else None)
    return found


def test_what_is_on_the_screen_is_drawn_first_and_the_rest_without_scrolling(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=60)
    with page_server(tmp_path) as server, visit(browser, server.url, viewport=LOW) as seen:
        asked = ticks_of(seen)
        seen.page.reload()
        seen.until(DRAWN)
        first = next(each["charts"] for each in asked if each["charts"])
        on_screen = seen.page.evaluate(PLACES, True)
        assert set(first) == set(on_screen) and 0 < len(first) < len(PANELS)
        assert all(shown is None for *_, shown in first.values())
        assert seen.page.evaluate("window.scrollY") == 0
        for card in seen.page.locator(".card").all():
            assert "steps 0 to" in card.locator(".unseen").inner_text()
        seen.page.emulate_media(media="print")
        sizes = (
            "[...document.querySelectorAll(':is(#vital, #board) .chart-plot .main-svg')].map((svg) => svg.clientHeight)"
        )
        assert min(seen.page.evaluate(sizes)) > 80


def test_only_charts_that_are_seen_follow_and_the_others_catch_up_when_they_are(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", rate=20))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url, viewport=LOW))
        seen.until_charts()
        seen.until("window.cockpit && window.cockpit.view.isComplete()")
        seen.page.wait_for_timeout(500)
        left, asked = seen.chart("Batch size", LAST), ticks_of(seen)
        for _ in range(2):
            seen.until_growth("Normalized step length α")
        unseen = set(seen.page.evaluate(PLACES, False))
        assert asked and unseen and not any(unseen & set(each["charts"]) for each in asked)
        assert seen.chart("Batch size", LAST) == left
        seen.page.locator(".card", has_text="Batch size").get_by_label("More of Batch size").focus()  # as the tab key
        seen.until_growth("Batch size")
        assert seen.chart("Batch size", LAST) > left


def test_nothing_is_asked_while_nobody_looks(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=60)
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s}); "
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until(DRAWN)
        seen.page.evaluate(hide % "true" + "document.dispatchEvent(new Event('visibilitychange'))")
        seen.page.wait_for_timeout(1000)
        asked = ticks_of(seen)
        seen.page.wait_for_timeout(2500)
        assert asked == []
        seen.page.evaluate(hide % "false" + "document.dispatchEvent(new Event('visibilitychange'))")
        seen.page.wait_for_timeout(500)
        assert asked


def test_a_card_gives_its_picture_by_the_keyboard_alone(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=60)
    with page_server(tmp_path) as server, visit(browser, server.url, viewport=LOW) as seen:
        seen.until_charts()
        card = seen.page.locator(".card", has=seen.page.get_by_role("heading", name="Loss", exact=True))
        card.get_by_label("More of Loss").focus()
        seen.page.keyboard.press("Enter")
        seen.page.keyboard.press("Tab")
        with seen.page.expect_download() as downloading:
            seen.page.keyboard.press("Enter")
        assert downloading.value.suggested_filename == "digits-loss.png"


def test_a_damaged_answer_is_no_answer(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=60)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until(DRAWN)
        seen.page.route("**/tick", lambda route: route.fulfill(body="<html>", content_type="text/html"))
        seen.until("document.documentElement.classList.contains('silent')")
        seen.page.unroute("**/tick")
        seen.until("!document.documentElement.classList.contains('silent')")
        assert seen.page.evaluate(DRAWN)
