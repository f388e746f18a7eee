"""What a person does with the charts, in a real browser: it outlasts updates, and the address restores it."""

from __future__ import annotations

import contextlib
import csv
import struct
from pathlib import Path

import pytest
from page_server import page_server
from synthetic_runs import FULL_PANELS, SyntheticRun, write_run
from test_browser import RANGE, WHOLE, trainer
from visiting import LAST, visit

pytestmark = pytest.mark.browser

NORM, TEST = "Gradient norm", "Gradient tests"
BEHIND = "chart.data.find((trace) => trace.name === 'single values')"
SCALE = "chart.layout.yaxis.type"


def card(seen, title):
    return seen.page.locator(".card", has=seen.page.get_by_role("heading", name=title, exact=True))


def drag(seen, title, start=0.3, end=0.7):
    """Zoom into a chart's steps by the mouse."""
    box = card(seen, title).locator(".nsewdrag").first.bounding_box()
    height = box["y"] + 0.5 * box["height"]
    seen.page.mouse.move(box["x"] + start * box["width"], height)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + end * box["width"], height, steps=6)
    seen.page.mouse.up()


def tool(seen, name):
    return seen.page.locator("#tools").get_by_role("button", name=name, exact=True)


@contextlib.contextmanager
def finished(browser, tmp_path, query="", steps=600, **options):
    run = SyntheticRun(tmp_path / "digits.cockpit")
    run.write(steps)
    for step in range(0, steps, 10):
        run.writer.clock(step, float(step))
    for epoch in range(3):
        run.writer.reading("epoch", 200 * epoch + 199, epoch)
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + query, **options) as seen:
        seen.until_charts()
        yield seen


def test_what_a_person_did_is_the_same_after_fifty_updates(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", rate=40, head=300))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url + "?smooth=0.5"))
        seen.until_charts()
        card(seen, NORM).scroll_into_view_if_needed()
        seen.until_chart(NORM, f"{BEHIND} && {LAST} > 300")
        drag(seen, NORM)
        seen.until_chart(TEST, f"!({WHOLE})")
        card(seen, NORM).get_by_text("clipped").locator("..").locator(".legendtoggle").first.click(force=True)
        line = "chart._fullData.find((trace) => trace.name === 'clipped').visible"
        seen.until_chart(NORM, f"{line} === 'legendonly'")
        seen.page.wait_for_timeout(1500)
        state = f"[{RANGE}, {line}, window.scrollY]"
        before, other = seen.chart(NORM, state), seen.chart(TEST, RANGE)
        assert before[0] == other
        for _ in range(50):
            seen.until_growth(NORM)
        assert seen.chart(NORM, state) == before
        assert seen.chart(TEST, RANGE) == other


def test_a_zoom_is_shared_unless_it_is_not_wished_and_a_double_click_ends_it(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        card(seen, NORM).scroll_into_view_if_needed()
        drag(seen, NORM)
        seen.until_chart(TEST, f"!({WHOLE})")
        assert seen.chart(TEST, RANGE) == seen.chart(NORM, RANGE)
        card(seen, "Loss").scroll_into_view_if_needed()
        seen.until_chart("Loss", f"!({WHOLE})")  # it was off the screen
        assert seen.chart("Loss", RANGE) == seen.chart(NORM, RANGE)
        card(seen, "Loss").locator(".nsewdrag").first.dblclick()
        for title in ("Loss", NORM, TEST):
            card(seen, title).scroll_into_view_if_needed()
            seen.until_chart(title, WHOLE)
        tool(seen, "Linked").click()
        card(seen, NORM).scroll_into_view_if_needed()
        drag(seen, NORM)
        seen.until_chart(NORM, f"!({WHOLE})")
        seen.page.wait_for_timeout(1500)
        assert seen.chart(TEST, WHOLE)


def test_the_address_restores_the_view(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        card(seen, NORM).scroll_into_view_if_needed()
        drag(seen, NORM)
        seen.page.locator("#smoothing").focus()
        for _ in range(3):
            seen.page.keyboard.press("ArrowRight")
        tool(seen, "Time").click()
        card(seen, TEST).get_by_role("button", name="log axis").click()
        card(seen, NORM).locator(".legendtoggle").last.click()
        seen.until("location.search.includes('hidden=')")
        visible = "chart.data.map((trace) => trace.visible)"
        state = f"[{RANGE}.map(Math.round), {SCALE}, {visible}, chart.layout.xaxis.ticktext]"
        seen.until_chart(TEST, f"{SCALE} === 'linear' && {BEHIND} && chart.layout.xaxis.ticktext.length > 1")
        seen.until_chart(NORM, f"{BEHIND} && chart.layout.xaxis.ticktext.length > 1")
        seen.page.wait_for_timeout(2500)
        before = {title: seen.chart(title, state) for title in (NORM, TEST)}
        assert "legendonly" in before[NORM][2]
        with visit(browser, seen.page.url) as again:
            again.until_charts()
            for title in (NORM, TEST):
                card(again, title).scroll_into_view_if_needed()
                again.until_chart(title, f"{BEHIND} && {SCALE} === {before[title][1]!r} && !({WHOLE})")
            again.page.wait_for_timeout(2500)
            assert {title: again.chart(title, state) for title in (NORM, TEST)} == before
            assert again.page.locator("#smoothing").input_value() == "0.03"


@pytest.mark.parametrize(
    "query", ["?steps=a~b&smooth=7&axis=%3Cb%3E&scale=x&hidden=%25:%25&last=-3", "?steps=9~2&scale=%25:log"]
)
def test_an_address_that_says_nothing_sensible_is_passed_over(browser, tmp_path, query):
    with finished(browser, tmp_path, query, steps=60) as seen:
        seen.page.wait_for_timeout(1500)
        assert seen.chart("Normalized step length α", WHOLE)
        assert tool(seen, "Steps").get_attribute("aria-pressed") == "true"


def test_a_paused_page_says_how_far_it_is_behind_and_catches_up(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", rate=40, head=100))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url))
        seen.until_charts()
        card(seen, NORM).scroll_into_view_if_needed()
        seen.until_growth(NORM)
        seen.page.keyboard.press("Space")
        seen.until("/^[1-9]\\d* steps behind$/.test(document.querySelector('#behind').textContent)")
        last = seen.chart(NORM, LAST)
        seen.until("parseInt(document.querySelector('#behind').textContent) > 60")
        assert seen.chart(NORM, LAST) == last
        tool(seen, "Pause").click()
        seen.until_chart(NORM, f"{LAST} > {last + 60}")
        assert seen.page.locator("#behind").inner_text() == ""
        tool(seen, "Follow the end").click()
        seen.until_chart(NORM, f"!({WHOLE})")
        width, end = seen.chart(NORM, f"[{RANGE}[1] - {RANGE}[0], {RANGE}[1]]")
        seen.until_chart(NORM, f"{RANGE}[1] > {end + 60}")
        assert seen.chart(NORM, f"{RANGE}[1] - {RANGE}[0]") == pytest.approx(width)
        seen.page.keyboard.press("Escape")
        seen.until_chart(NORM, WHOLE)


def test_a_card_gives_a_picture_its_values_and_a_link(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        card(seen, NORM).scroll_into_view_if_needed()
        drag(seen, NORM)
        seen.until_chart(NORM, f"!({WHOLE})")
        low, high = seen.chart(NORM, RANGE)
        menu = card(seen, NORM).get_by_label(f"More of {NORM}")
        menu.click()
        with seen.page.expect_download() as downloading:
            card(seen, NORM).get_by_role("button", name="CSV").click()
        steps = [int(row[0]) for row in list(csv.reader(Path(downloading.value.path()).read_text().splitlines()))[1:]]
        assert low <= min(steps) < low + 1 and high - 1 < max(steps) <= high
        assert downloading.value.suggested_filename == "digits-grad_norm.csv"
        menu.click()
        with seen.page.expect_download() as downloading:
            card(seen, NORM).get_by_role("button", name="PNG").click()
        image = Path(downloading.value.path()).read_bytes()
        assert image[:4] == b"\x89PNG" and struct.unpack(">II", image[16:24]) == (2400, 1350)
        menu.click()
        card(seen, NORM).get_by_role("button", name="link").click()
        card(seen, NORM).locator(".entries", has_text="Copied").or_(
            card(seen, NORM).locator(".entries", has_text="address bar")
        ).wait_for()


def test_a_picture_has_the_gauge_of_its_card_and_what_its_colours_mean(browser, tmp_path):
    gauged, heated = "Normalized step length α", "Gradient elements"
    write_run(tmp_path / "digits.cockpit", steps=60, full=True)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(len(FULL_PANELS))
        seen.page.evaluate(
            """() => {
                const draw = window.Plotly.toImage;
                window.drawn = [];
                window.Plotly.toImage = function (figure, size) {
                    const hasScale = (trace) => Boolean(trace.marker && trace.marker.showscale);
                    window.drawn.push(figure.data.map((trace) => [trace.type, hasScale(trace)]));
                    return draw.call(this, figure, size);
                };
            }"""
        )
        sizes = {}
        for title in (gauged, heated):
            card(seen, title).get_by_label(f"More of {title}").click()
            with seen.page.expect_download() as downloading:
                card(seen, title).get_by_role("button", name="PNG").click()
            sizes[title] = struct.unpack(">II", Path(downloading.value.path()).read_bytes()[16:24])
        assert sizes == {gauged: (2400, 2010), heated: (2400, 1350)}
        gauge, curve, heat = seen.page.evaluate("window.drawn")
        assert ["bar", False] in gauge and ["bar", False] not in curve
        assert heat[0][0] == "heatmap" and heat[-1] == ["scatter", True]


def test_a_link_leads_to_its_chart(browser, tmp_path):
    with finished(browser, tmp_path, "#panel-0") as seen:  # which is in the last row
        box = "document.querySelector('#panel-0').getBoundingClientRect()"
        seen.until(f"window.scrollY > 0 && {box}.top > 0 && {box}.bottom < window.innerHeight")


def test_keys_act_but_never_while_one_writes(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        paused = "document.querySelector('[data-toggle=paused]').getAttribute('aria-pressed')"
        seen.page.keyboard.press("Space")
        seen.until(f"{paused} === 'true'")
        seen.page.keyboard.press("Space")
        seen.page.keyboard.press("?")
        seen.page.get_by_role("heading", name="Keyboard shortcuts").wait_for()
        seen.page.keyboard.press("Space")  # presses the button that has the focus, which closes the list
        seen.until("!document.querySelector('#shortcuts').open")
        assert seen.page.evaluate(paused) == "false"
        seen.page.keyboard.press("/")
        seen.page.locator(".dash-dropdown-search").wait_for()
        seen.page.keyboard.type("g o ? d")
        assert seen.page.evaluate("!document.querySelector('#shortcuts').open")
        assert seen.page.evaluate(paused) == "false"
