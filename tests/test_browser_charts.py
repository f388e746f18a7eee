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


FILLED = """(() => {
    const [low, high] = chart._fullLayout.xaxis.range, [bottom, top] = chart._fullLayout.yaxis.range;
    const scaled = chart.layout.yaxis.type === "log" ? Math.log10 : Number;
    const lines = chart.data.filter((trace) => !trace.yaxis && trace.visible !== "legendonly");
    const values = lines.flatMap((line) => line.y.filter((_, at) => low <= line.x[at] && line.x[at] <= high));
    const heights = values.filter((value) => value !== null).map(scaled).filter(Number.isFinite);
    return (Math.max(...heights) - Math.min(...heights)) / (top - bottom);
})()"""
FITS = f"{FILLED} > 0.7 && {FILLED} < 1"
TALL = "chart.layout.yaxis.autorange !== false"


def test_a_zoom_into_steps_shows_the_values_of_these_steps(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        card(seen, "Loss").scroll_into_view_if_needed()
        seen.until_chart("Loss", TALL)
        drag(seen, "Loss", 0.6, 0.9)
        seen.until_chart("Loss", f"!({WHOLE}) && {FITS}")
        card(seen, NORM).scroll_into_view_if_needed()
        seen.until_chart(NORM, f"!({WHOLE}) && {FITS}")  # on a log axis, zoomed by the other
        labels = "chart.layout.yaxis.tickvals.map(Math.log10)"
        within = "chart.layout.yaxis.range[0] <= height && height <= chart.layout.yaxis.range[1]"
        assert seen.chart(NORM, f"{labels}.every((height) => {within})")
        before = seen.chart(NORM, "chart.layout.yaxis.range")
        card(seen, NORM).locator(".legendtoggle").first.click()  # the layers
        seen.until_chart(NORM, f"chart.layout.yaxis.range[0] > {before[0]} && {FITS}")
        seen.page.keyboard.press("Escape")
        seen.until_chart(NORM, f"{WHOLE} && {TALL}")
        other = "Update size"
        card(seen, other).scroll_into_view_if_needed()
        seen.until_chart(other, f"{WHOLE} && {TALL}")
        box = card(seen, other).locator(".nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        seen.page.mouse.up()
        seen.until_chart(other, f"!({WHOLE}) && !({TALL})")
        chosen = seen.chart(other, "chart.layout.yaxis.range")
        card(seen, NORM).scroll_into_view_if_needed()
        seen.until_chart(NORM, f"!({WHOLE}) && {FITS}")
        drag(seen, NORM, 0.2, 0.5)
        card(seen, other).scroll_into_view_if_needed()
        seen.until_chart(other, f"{RANGE}[0] === {seen.chart(NORM, RANGE)[0]}")
        assert seen.chart(other, "chart.layout.yaxis.range") == chosen  # a person chose it


def test_the_end_of_a_growing_run_is_shown_with_its_values(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", rate=40, head=150))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url + "?last=30"))
        seen.until_charts()
        card(seen, NORM).scroll_into_view_if_needed()
        for _ in range(3):
            seen.until_growth(NORM)
            seen.until_chart(NORM, f"!({WHOLE}) && {FITS}")
        tool(seen, "All steps").click()
        seen.until_chart(NORM, f"{WHOLE} && {TALL}")


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def swipe(seen, part, right=0, down=0):
    """Move a finger across a part of the page, from its middle."""
    box = part.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    device = seen.page.context.new_cdp_session(seen.page)
    device.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for share in range(1, 9):
        finger = {"x": x + right * share / 8, "y": y + down * share / 8}
        device.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [finger]})
    device.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_scrolls_the_page_and_a_tap_shows_values(browser, tmp_path):
    with finished(browser, tmp_path, **PHONE) as seen:
        for part in (card(seen, NORM).locator(".nsewdrag").first, seen.page.locator(".gauge-plot .nsewdrag").first):
            part.evaluate("(part) => part.scrollIntoView({ block: 'center' })")
            before = seen.page.evaluate("window.scrollY")
            swipe(seen, part, down=-200)
            seen.until(f"window.scrollY > {before} + 100")
            swipe(seen, part, right=120)
        chart = card(seen, NORM).locator(".nsewdrag").first
        chart.scroll_into_view_if_needed()
        chart.tap()
        card(seen, NORM).locator(".hoverlayer .hovertext").first.wait_for()
        assert "steps=" not in seen.page.url and seen.chart(NORM, WHOLE)
        small = """[...document.querySelectorAll(".card .help summary, .card .menu summary")].filter((part) => {
            const ends = [-15, 15];
            part.scrollIntoView({ block: "center" });
            const box = part.getBoundingClientRect();
            const [left, top] = [box.x + box.width / 2, box.y + box.height / 2];
            return !ends.every((at) => [[at, 0], [0, at]].every(([right, down]) =>
                part.contains(document.elementFromPoint(left + right, top + down))));
        }).length"""
        assert seen.page.evaluate(small) == 0
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_legend_is_clicked_without_a_tip_of_plotly(browser, tmp_path):
    with finished(browser, tmp_path) as seen:
        card(seen, NORM).locator(".legendtoggle").last.click()
        seen.until("location.search.includes('hidden=')")
        assert seen.page.locator(".plotly-notifier").count() == 0


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
    with finished(browser, tmp_path, "#panel-13") as seen:  # which is in the last row
        box = "document.querySelector('#panel-13').getBoundingClientRect()"
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
        seen.page.locator(".dash-dropdown-option").first.wait_for()  # the key itself is not searched for
        assert seen.page.locator(".dash-dropdown-search").input_value() == ""
        seen.page.locator(".dash-dropdown-search").focus()
        seen.page.keyboard.type("g o ? d")
        assert seen.page.evaluate("!document.querySelector('#shortcuts').open")
        assert seen.page.evaluate(paused) == "false"


def test_a_run_is_chosen_by_keys_alone(browser, tmp_path):
    for name in ("first", "second"):
        write_run(tmp_path / f"{name}.cockpit", steps=60)
    expanded = "document.querySelector('#picker').getAttribute('aria-expanded')"
    here = "document.activeElement.id"
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        assert seen.page.locator("#picker").inner_text() == "second"
        seen.page.locator("nav a[data-page=runs]").focus()
        seen.until("document.querySelector('#picker').tabIndex === 0")
        for key, part in (("Tab", "picker"), ("Tab", "follow"), ("Shift+Tab", "picker")):
            seen.page.keyboard.press(key)
            assert seen.page.evaluate(here) == part
        for key in ("Space", "Enter"):
            seen.page.keyboard.press(key)
            seen.until(f"{expanded} === 'true' && document.activeElement.matches('.dash-options-list-option-checkbox')")
            seen.page.keyboard.press("Escape")
            seen.until(f"{expanded} === 'false' && {here} === 'picker'")
        option = "document.activeElement.closest('label')?.innerText"
        seen.page.keyboard.press("Enter")
        seen.until(f"{option} === 'second'")
        seen.page.keyboard.press("ArrowDown")
        seen.until(f"{option} === 'first'")
        seen.page.keyboard.press("Space")
        seen.until("location.search.includes('run=first.cockpit')")
        seen.page.goto(server.url + "?page=runs")
        seen.page.locator(".runs-table .ag-row").first.wait_for()
        seen.page.keyboard.press("/")
        seen.page.keyboard.type("second")
        seen.until("document.querySelectorAll('.runs-table .ag-center-cols-container .ag-row').length === 1")
        assert seen.page.locator(".ag-floating-filter[col-id=run] input").input_value() == "second"
