"""The live page in a real browser, while a made-up training writes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page_server import page_server
from synthetic_runs import FULL_PANELS, NONFINITE_STEP, PANELS, FullRun, SyntheticRun, write_run
from visiting import LAST, LENGTH, MAIN, visit

from cockpitlite.dashboard.figures import COLUMNS
from cockpitlite.panel import Panel
from cockpitlite.store import RunWriter

pytestmark = pytest.mark.browser


@contextlib.contextmanager
def trainer(path: Path, rate: int = 20, head: int = 0, *more: str) -> Iterator[subprocess.Popen]:
    """Write a run in another process until the block ends."""
    script = Path(__file__).with_name("synthetic_runs.py")
    command = [
        sys.executable,
        str(script),
        str(path),
        "--rate",
        str(rate),
        "--steps",
        "1000000",
        "--head",
        str(head),
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_page_shows_the_verdict_the_groups_and_every_panel(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=120)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        page = seen.page
        groups = [heading.inner_text().lower() for heading in page.locator(".group > h2").all()]
        assert groups == ["step size", "gradients", "curvature", "performance"]
        assert {heading.inner_text() for heading in page.locator(".card h3").all()} == {p.title for p in PANELS}
        assert page.locator("#step").inner_text() == "step 119"
        assert page.locator("#state").inner_text().strip() == "Finished"
        page.locator(".verdict:not(.unknown) .sentence").wait_for()
        assert page.locator("#verdict").get_attribute("role") == "status"
        assert "digits" in page.locator("#picker").inner_text()
        assert page.locator(".gauge-plot .barlayer").count() == 4
        zones = page.locator(".card", has_text="Normalized step length").locator(".gauge-plot").inner_text()
        assert all(zone in zones for zone in ("too small", "good", "too large"))
        assert "DigitsCNN" in page.locator("#facts").inner_text()


def test_curves_move_while_a_trainer_writes(browser, tmp_path):
    path = tmp_path / "live.cockpit"
    with trainer(path), page_server(tmp_path, wait=True) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        seen.page.locator(".badge.live").wait_for()
        for _ in range(3):
            seen.until_growth("Gradient norm")
            seen.until_growth("Normalized step length α")
        steps = seen.chart("Gradient norm", f"{MAIN}.x")
        assert steps == sorted(set(steps))  # none twice, and none left out before the chart has to reduce them
        assert len(steps) == steps[-1] + 1 or steps[-1] > COLUMNS
        seen.page.locator("#panel-0").scroll_into_view_if_needed()
        seen.until_growth("Loss")


def test_zoom_legend_and_scroll_survive_updates(browser, tmp_path):
    title = "Gradient norm"
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", rate=150))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url))
        seen.until_charts()
        seen.until_chart(title, f"{LAST} > 100")
        seen.page.locator(".card", has_text=title).first.evaluate("(card) => card.scrollIntoView({ block: 'center' })")
        seen.until("window.scrollY > 0")
        box = seen.page.locator(".card", has_text=title).locator(".nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        seen.page.mouse.up()
        seen.until_chart(title, "chart.layout.xaxis.autorange === false")
        seen.page.locator(".card", has_text=title).locator(".legendtoggle").first.click()
        layer = "chart._fullData.find((trace) => trace.name === 'fc1.weight').visible"
        seen.until_chart(title, f"{layer} === 'legendonly'")
        state = f"[chart.layout.xaxis.range, chart.layout.yaxis.range, {layer}, window.scrollY]"
        before = seen.chart(title, state)
        seen.until_chart(title, f"{LENGTH} > 600 || {LAST} > 900")  # past at least one new reduction
        for _ in range(3):
            seen.until_growth(title)
        assert seen.chart(title, state) == before
        seen.page.locator(".card", has_text=title).locator(".nsewdrag").first.dblclick()
        seen.until_chart(title, "chart.layout.xaxis.range[0] <= 0 && chart.layout.xaxis.range[1] > 900")


MARKS = "(chart.layout.shapes || []).filter((shape) => shape.name === 'evidence')"
RANGE = "chart.layout.xaxis.range"
WHOLE = "chart.layout.xaxis.autorange !== false"
IN_VIEW = """(() => {
    const box = document.querySelector("[data-marked] .chart-plot").getBoundingClientRect();
    return box.top >= 0 && box.bottom <= window.innerHeight;
})()"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_evidence_leads_to_its_chart_and_back_by_keyboard(browser, tmp_path, scheme, width):
    write_run(tmp_path / "digits.cockpit", "small", steps=620)
    own, other = "α on the step's own batch", "α on the next batch"
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with page_server(tmp_path) as server, visit(browser, server.url, **options) as seen:
        seen.until_charts()
        seen.page.locator(".finding > summary").first.focus()
        seen.page.keyboard.press("Enter")
        links = seen.page.locator(".finding .show")
        assert links.count() == 2
        links.first.focus()
        seen.page.keyboard.press("Enter")
        seen.until_chart(own, f"{RANGE}[0] > 480 && {RANGE}[0] < 500 && {RANGE}[1] > 509 && {RANGE}[1] < 620")
        seen.until(IN_VIEW)
        assert seen.chart(own, f"{MARKS}.map((mark) => mark.type)") == ["rect"] + ["circle"] * 10
        assert seen.chart(own, f"{MARKS}.slice(1).map((mark) => mark.xanchor)") == list(range(500, 510))
        assert seen.chart(other, f"{WHOLE} && {MARKS}.length === 0")
        marked = seen.page.locator("[data-marked]")
        assert "alpha_same, steps 500 to 509" in marked.locator(".marked").inner_text()
        background = seen.page.evaluate(
            "getComputedStyle(document.querySelector('[data-marked] .back')).backgroundColor"
        )
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(28, 35, 45)"}[scheme]
        seen.page.keyboard.press("Enter")  # what leads back has the focus
        seen.until_chart(own, f"{WHOLE} && {MARKS}.length === 0")
        assert marked.count() == 0
        seen.until("document.activeElement === document.querySelector('.finding .show')")
        links.last.click()
        seen.until_chart(other, f"{MARKS}.length === 11")
        links.first.click()  # one at a time
        seen.until_chart(own, f"{MARKS}.length === 11")
        seen.until_chart(other, f"{WHOLE} && {MARKS}.length === 0")
        assert marked.count() == 1


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_the_address_restores_the_evidence_that_is_shown(browser, tmp_path, scheme, width):
    write_run(tmp_path / "digits.cockpit", "small", steps=620)
    write_run(tmp_path / "other.cockpit", "small", steps=30)
    own = "α on the step's own batch"
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}, "reduced_motion": "reduce"}
    here = "?run=digits.cockpit"
    with page_server(tmp_path) as server, visit(browser, server.url + here + "&page=diagnosis", **options) as seen:
        seen.page.locator(".finding .show").first.click()  # it is open there
        seen.until_chart(own, f"{MARKS}.length === 11")
        state = f"[{RANGE}, {MARKS}.length]"
        before, url = seen.chart(own, state), seen.page.url
        assert "evidence=" in url and "page=" not in url
        with visit(browser, url, **options) as again:
            again.until_chart(own, f"{MARKS}.length === 11")
            again.until(IN_VIEW)
            assert again.chart(own, state) == before and again.page.url == url
            assert "alpha_same, steps 500 to 509" in again.page.locator("[data-marked] .marked").inner_text()
            again.page.locator("[data-marked] .back").click()
            again.until("!document.querySelector('[data-marked]')")
            assert "evidence=" not in again.page.url
        seen.page.go_back()
        seen.until("document.documentElement.dataset.page === 'diagnosis' && !location.search.includes('evidence=')")
        seen.page.go_forward()
        seen.until_chart(own, f"{MARKS}.length === 11")
        assert seen.page.url == url
        seen.page.evaluate("window.cockpit.address.open('other.cockpit')")
        seen.page.locator("#step", has_text="step 29").wait_for()
        seen.until("!document.querySelector('[data-marked]') && !location.search.includes('evidence=')")
        with visit(browser, server.url + here + "&evidence=R999+0", **options) as again:
            words = "The finding whose evidence the address shows is not among those of this run."
            again.page.locator("#astray", has_text=words).wait_for()
            again.until("!location.search.includes('evidence=')")


def test_marked_evidence_survives_updates_and_a_double_click_ends_it(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", 40, 60, "--kind", "large"))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url, reduced_motion="reduce"))
        seen.until_charts()
        seen.page.locator(".finding.error > summary").first.click()
        seen.page.locator(".finding.error .show").first.click()
        seen.until_chart("Loss", f"{MARKS}.length > 1")
        state = f"[{RANGE}, {MARKS}]"
        before = seen.chart("Loss", state)
        seen.until(IN_VIEW)
        said = seen.page.locator(".finding.error .body > p").first.inner_text()
        for _ in range(4):
            seen.until_growth("Loss")
        assert seen.chart("Loss", state) == before
        seen.until(f"document.querySelector('.finding.error .body > p').textContent !== {json.dumps(said)}")
        assert seen.page.locator(".finding.error .show").first.is_visible()  # drawn anew, and still open
        assert seen.page.evaluate(IN_VIEW)
        seen.page.locator("[data-marked] .nsewdrag").first.dblclick()
        seen.until_chart("Loss", f"{MARKS}.length === 0 && {RANGE}[1] >= {LAST}")
        seen.until("!document.querySelector('[data-marked]')")
        for _ in range(2):
            seen.until_growth("Loss")
        assert seen.chart("Loss", f"{MARKS}.length") == 0


def test_evidence_of_one_layer_is_marked_at_its_values(browser, tmp_path):
    run = FullRun(tmp_path / "digits.cockpit")
    run.write(60)
    for step in range(57, 60):
        run.writer.layers("dead_units", step, ("conv1", "conv2", "fc1"), np.array([0.1, 0.97, 0.2]))
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(len(FULL_PANELS))
        finding = seen.page.locator(".finding", has_text="of layer conv2 are dead")
        finding.locator("summary").click()
        finding.locator(".show").click()
        seen.until_chart("Dead units", f"{MARKS}.length === 4")
        rings = seen.chart("Dead units", f"{MARKS}.slice(1).map((mark) => [mark.xanchor, mark.yanchor])")
        assert rings == [[57, 0.97], [58, 0.97], [59, 0.97]]
        assert "dead_units of layer conv2" in seen.page.locator("[data-marked] .which").inner_text()


HEAT = "chart.data.find((trace) => trace.type === 'heatmap')"
END = f"{HEAT}.x.at(-1)"


def test_zoom_and_scroll_of_a_heat_map_survive_its_updates_and_new_bins(browser, tmp_path):
    title, joint = "Gradient elements", "Gradient elements × parameters"
    with contextlib.ExitStack() as stack:
        # Gradients shrink, and with them come new bins, up to about step 500: slowly, so that no page comes too late.
        stack.enter_context(trainer(tmp_path / "live.cockpit", 10, 60, "--full"))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url))
        seen.until_charts(len(FULL_PANELS))
        card = seen.page.locator(".group.gradients .card", has_text=title).first
        card.scroll_into_view_if_needed()
        seen.until_chart(title, f"{END} > 60")
        box = card.locator(".nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        seen.page.mouse.up()
        seen.until_chart(title, "chart.layout.xaxis.autorange === false")
        state = "[chart.layout.xaxis.range, window.scrollY]"
        before, bins = seen.chart(title, state), seen.chart(title, f"{HEAT}.y.length")
        step = seen.chart(joint, "chart.closest('.card').querySelector('.value').textContent")
        seen.until_chart(title, f"{HEAT}.y.length !== {bins} && {END} > 250")  # smaller gradients came with other bins
        assert seen.chart(title, state) == before
        labels = "[...chart.querySelectorAll('.ytick text')].map((label) => label.textContent)"
        assert seen.chart(title, labels) == seen.chart(title, "chart.layout.yaxis.ticktext")
        seen.until_chart(joint, f"chart.closest('.card').querySelector('.value').textContent !== '{step}'")
        box = card.locator(".nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"])
        seen.page.locator(".hoverlayer .hovertext", has_text="of the values").first.wait_for()


def test_a_long_run_is_reduced_and_its_spike_and_its_nan_are_still_there(browser, tmp_path):
    writer = RunWriter(tmp_path / "long.cockpit")
    writer.panel(PANELS[0])
    losses = np.random.default_rng(0).normal(1, 0.01, 50_000)
    losses[33_333], losses[12_345] = 100.0, np.nan
    writer.readings("loss", enumerate(losses.tolist()))
    writer.close()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(1)
        assert seen.chart("Loss", LENGTH) < 3000  # two points for each pixel column of the screen
        assert seen.chart("Loss", f"Math.max(...{MAIN}.y)") == 100
        assert seen.chart("Loss", "chart.data.find((trace) => trace.name === 'non-finite').x") == [12_345]
        assert "of 50,000 points shown" in seen.page.locator(".caption").inner_text()


def test_both_themes_and_the_choice_between_them(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=30)
    background = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.chart-plot .xtick text')).fill"
    colours = {}
    with page_server(tmp_path) as server:
        for scheme in ("light", "dark"):
            with visit(browser, server.url, color_scheme=scheme) as seen:
                seen.until_charts()
                colours[scheme] = seen.page.evaluate(f"[{background}, {ink}]")
        assert colours["light"][0] != colours["dark"][0]
        assert colours["light"][1] != colours["dark"][1]
        with visit(browser, server.url, color_scheme="light") as seen:
            seen.until_charts()
            button = seen.page.locator("#theme")
            seen.until("document.querySelector('#theme').textContent === 'Theme: system'")
            button.click()
            button.click()
            seen.until("document.querySelector('#theme').textContent === 'Theme: dark'")
            assert seen.page.evaluate(f"[{background}, {ink}]") == colours["dark"]
            seen.page.reload()
            seen.until_charts()
            assert seen.page.evaluate(f"[{background}, {ink}]") == colours["dark"]


@pytest.mark.parametrize("full", [False, True])
def test_nothing_leaves_the_screen_and_nothing_overlaps(browser, tmp_path, full):
    write_run(tmp_path / "digits.cockpit", "nonfinite", steps=NONFINITE_STEP + 60, full=full)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(len(FULL_PANELS if full else PANELS))
        for width in (390, 768, 1280, 1920):
            seen.page.set_viewport_size({"width": width, "height": 844})
            seen.until(f"document.documentElement.scrollWidth <= {width}")
            seen.until_chart("Loss", "Math.abs(chart.clientWidth - chart.querySelector('.main-svg').clientWidth) <= 1")
            for card in seen.page.locator(".card").all():
                box = card.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= width
                assert box["width"] > 240
            parts = ".card, .verdict-card, .findings-card, .group > h2, .bar"
            boxes = [part.bounding_box() for part in seen.page.locator(parts).all()]
            for place, one in enumerate(boxes):
                assert not any(_overlap(one, other) for other in boxes[place + 1 :])


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return (
        one["x"] + 1 < other["x"] + other["width"]
        and other["x"] + 1 < one["x"] + one["width"]
        and one["y"] + 1 < other["y"] + other["height"]
        and other["y"] + 1 < one["y"] + one["height"]
    )


def test_names_from_a_run_file_are_text(browser, tmp_path):
    markup = "<img src=x onerror='window.hurt=1'><b>bold</b>"
    hostile = Panel(
        markup,
        "gradients",
        unit=markup,
        help=markup,
        layered=True,
        marks=((1.0, markup),),
        readings=(markup, markup + "2"),
    ).named(markup)
    parabola = Panel(markup + "2", "step size", kind="parabola", marks=((0.0, markup),)).named(markup + "2")
    run = SyntheticRun(
        tmp_path / f"{markup.replace('/', '')}.cockpit", panels=(hostile, parabola), layers=(markup, "b")
    )
    for step in range(40):
        run.writer.reading(markup, step, float(step % 7))
        run.writer.reading(markup + "2", step, float("nan") if step == 20 else 1.0)
        run.writer.layers(markup, step, [markup, "%{x}"], np.array([1.0, 2.0]))
    run.writer.event(3, "unavailable", {"reading": markup, "reason": markup})
    run.writer.meta(model={"class": markup}, optimizer={"class": markup}, device=markup)
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(2)
        area = seen.page.locator(".group.gradients .card").locator(".chart-plot .nsewdrag").first.bounding_box()
        for share in (0.2, 0.5, 0.8):  # over lines and marks, for what hovering shows
            seen.page.mouse.move(area["x"] + share * area["width"], area["y"] + 0.5 * area["height"])
            seen.page.locator(".hoverlayer .hovertext, .hoverlayer .legend").first.wait_for()
        assert seen.page.locator("h3").first.inner_text().startswith("<img")
        assert seen.page.locator("main img").count() == 0
        assert seen.page.locator(".js-plotly-plot b, .js-plotly-plot image").count() == 0
        assert seen.page.evaluate("window.hurt") is None


def test_a_lost_or_damaged_run_is_told_and_the_page_goes_on(browser, tmp_path):
    path = write_run(tmp_path / "digits.cockpit", steps=60)
    other = tmp_path / "elsewhere"
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        notice = seen.page.locator("#notice")
        verdict, lost = seen.page.locator("#verdict .sentence"), "The file of this run can no longer be read."
        seen.page.locator(".verdict.good").wait_for()
        found = seen.page.locator("#findings").inner_text()
        path.rename(other)
        notice.get_by_text("deleted or moved").wait_for()
        seen.page.locator("#state", has_text="Unreadable").wait_for()
        verdict.get_by_text(lost).wait_for()
        assert seen.page.locator("#findings").inner_text() == found
        assert seen.chart("Gradient norm", LENGTH) == 60
        path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
        notice.get_by_text("not a cockpitlite run file").wait_for()
        assert seen.chart("Gradient norm", LENGTH) == 60
        path.unlink()
        other.rename(path)
        seen.until("document.querySelector('#notice').textContent === ''")
        seen.page.locator("#state", has_text="Finished").wait_for()
        seen.page.locator(".verdict.good").wait_for()
        whole = path.read_bytes()
        os.truncate(path, len(whole) // 2)
        notice.get_by_text("is cut off").wait_for()
        path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
        notice.get_by_text("malformed").wait_for()
        assert seen.chart("Gradient norm", LENGTH) == 60
        path.write_bytes(whole)
        seen.until("document.querySelector('#notice').textContent === ''")
        path.unlink()
        write_run(path, "large", steps=90)  # another training under the same name
        seen.until("document.querySelector('#step').textContent === 'step 89'")
        seen.until_chart("Gradient norm", f"{LENGTH} === 90")


def test_a_waiting_page_opens_the_first_run_and_follows_the_next(browser, tmp_path):
    folder = tmp_path / "runs"
    with page_server(folder, wait=True) as server, visit(browser, server.url) as seen:
        seen.page.get_by_text("Waiting for the first run").wait_for()
        with trainer(folder / "first.cockpit"):
            seen.until_charts()
            seen.page.locator("#picker", has_text="first").wait_for()
        with trainer(folder / "second.cockpit"):
            seen.page.locator("#picker", has_text="second").wait_for()
            seen.until_charts()
            seen.until_growth("Gradient norm")
            seen.page.locator("#picker").click()
            seen.page.locator(".dash-dropdown-option", has_text="first").click()
            seen.until("document.title.includes('first')")
            toggle = seen.page.get_by_role("button", name="Follow the newest")
            seen.until("document.querySelector('#follow').getAttribute('aria-pressed') === 'false'")
            seen.page.wait_for_timeout(4000)  # longer than it takes to look for runs
            assert "first" in seen.page.locator("#picker").inner_text()
            toggle.click()
            seen.page.locator("#picker", has_text="second").wait_for()


def test_of_two_live_runs_the_page_stays_at_the_one_that_its_address_names(browser, tmp_path):
    with trainer(tmp_path / "first.cockpit"), trainer(tmp_path / "second.cockpit"), page_server(tmp_path) as server:
        with visit(browser, server.url) as seen:
            seen.until_charts()
            picked = seen.page.locator("#picker").inner_text()
            seen.page.wait_for_timeout(5000)  # longer than it takes to look for runs
            assert seen.page.locator("#picker").inner_text() == picked
        for name in ("first", "second"):
            with visit(browser, f"{server.url}?run={name}.cockpit") as seen:
                seen.until_charts()
                seen.until(f"document.title.includes('{name}')")
                seen.page.wait_for_timeout(3000)
                assert name in seen.page.locator("#picker").inner_text() and f"run={name}" in seen.page.url


def test_a_panel_that_comes_while_the_page_is_open_appears_in_its_group(browser, tmp_path):
    run = SyntheticRun(tmp_path / "digits.cockpit")
    run.write(20)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        run.writer.panel(Panel("Validation accuracy", "performance").named("valid_accuracy"))
        run.writer.reading("valid_accuracy", 19, 0.93)
        run.writer.commit()
        seen.page.locator(".group.performance .card", has_text="Validation accuracy").wait_for()
        seen.until_charts(len(PANELS) + 1)
        run.writer.reading("valid_accuracy", 20, 0.95)
        run.write(1)
        seen.page.locator(".card", has_text="Validation accuracy").scroll_into_view_if_needed()
        seen.until_chart("Validation accuracy", f"{LENGTH} === 2")
    run.finish()


def test_a_reading_that_is_not_available_says_why(browser, tmp_path):
    run = SyntheticRun(tmp_path / "digits.cockpit", panels=(*PANELS, Panel("Trace", "curvature").named("hess_trace")))
    run.write(5)
    run.writer.event(0, "unavailable", {"reading": "hess_trace", "reason": "the kernel has no second derivative"})
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        note = seen.page.locator(".card", has_text="Trace").locator(".note")
        assert note.inner_text() == "Not available. hess_trace: the kernel has no second derivative"


def test_charts_have_headings_and_words_for_those_who_do_not_see_them(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=30)
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        for card in seen.page.locator(".card").all():
            assert card.get_by_role("heading", level=3).count() == 1
            assert "steps 0 to" in card.locator(".unseen").inner_text()
        assert seen.page.get_by_role("heading", level=1).inner_text() == "Cockpitlite"
        assert seen.page.locator("html").get_attribute("lang") == "en"
        assert seen.page.get_by_role("status").count() == 1
        assert seen.page.evaluate("document.querySelectorAll('.plot:not([aria-hidden])').length") == 0
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the panel"
