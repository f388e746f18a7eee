"""How the board is laid out, in a real browser: nothing is cut off or lies over something else, and steps line up."""

from __future__ import annotations

import contextlib

import pytest
from page_server import page_server
from synthetic_runs import FullRun, SyntheticRun
from test_browser import trainer
from visiting import LAST, visit

pytestmark = pytest.mark.browser

CARDS = "[...document.querySelectorAll(':is(#vital, #board) [data-panel]')]"
CUT_TITLES = f"{CARDS}.map((card) => card.querySelector('h3')).filter((title) => title.scrollWidth > title.clientWidth)"
CUT_LABELS = """[...document.querySelectorAll(":is(#vital, #board) .chart-plot .drawing")].flatMap((plot) => {
    const left = plot.getBoundingClientRect().left;
    return [...plot.querySelectorAll(".ytick text")].filter((text) => text.getBoundingClientRect().left < left);
})"""
COLLIDING = """[...document.querySelectorAll(":is(#vital, #board) .drawing")].flatMap((plot) =>
    [".xtick text", ".ytick text"].flatMap((kind) => {
        const boxes = [...plot.querySelectorAll(kind)].map((text) => text.getBoundingClientRect());
        const overlap = (one, two) => one.left < two.right && two.left < one.right
            && one.top + 2 < two.bottom && two.top + 2 < one.bottom;
        return boxes.filter((box, place) => boxes.slice(0, place).some((other) => overlap(box, other)));
    }))"""
COVERED = """[...document.querySelectorAll(":is(#vital, #board) .chart-plot .drawing")].filter((plot) => {
    const legend = plot.querySelector("g.legend .bg");
    const area = plot.querySelector(".nsewdrag");
    return legend && legend.getBoundingClientRect().bottom > area.getBoundingClientRect().top + 1;
})"""
BARE = f"""{CARDS}.filter((card) => {{
    const chart = card.querySelector(".chart-plot .js-plotly-plot");
    return chart.layout.yaxis.type === "log" && chart.querySelectorAll(".ytick text").length < 2;
}})"""
RANGES = f"""{CARDS}.filter((card) => !card.classList.contains("joint")).map((card) =>
    card.querySelector(".chart-plot .js-plotly-plot")._fullLayout.xaxis.range.join(" "))"""
END = "chart._fullLayout.xaxis.range[1]"


@pytest.mark.parametrize("width", [390, 1280, 1600, 1920])
def test_nothing_is_cut_off_or_covered(browser, tmp_path, width):
    run = FullRun(tmp_path / "full.cockpit")
    run.write(700)
    run.writer.reading("hess_min_ev", 700, 2e-6)
    run.writer.layers("update_ratio", 700, ("conv1.weight",), [2e-6])
    run.finish()
    options = {"viewport": {"width": width, "height": 1000}}
    with page_server(tmp_path) as server, visit(browser, server.url, **options) as seen:
        seen.until_charts(len(run.panels))
        for what in (CUT_TITLES, CUT_LABELS, COLLIDING, COVERED, BARE):
            seen.until(f"{what}.length === 0")


def test_all_charts_show_the_same_steps(browser, tmp_path):
    run = FullRun(tmp_path / "sparse.cockpit")
    run.write(560)
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_charts(len(run.panels))
        seen.until(f"new Set({RANGES}).size === 1")
        assert seen.page.evaluate(f"{RANGES}[0]") == "0 559"


def test_a_chart_without_news_follows_the_others_and_its_value_says_how_old_it_is(browser, tmp_path):
    title = "α on the step's own batch"  # not measured from step 50 to step 500
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", 20, 70))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, server.url))
        seen.until_charts()
        seen.until_chart(title, f"{END} > 75")
        assert seen.chart(title, f"[{LAST}, chart.layout.xaxis.autorange]") == [45, True]
        card = seen.page.locator(".card", has=seen.page.get_by_role("heading", name=title))
        card.locator(".age", has_text="at step 45").wait_for()
        first = seen.chart(title, END)
        seen.until_chart(title, f"{END} > {first + 20}")


def test_values_that_differ_by_nothing_one_can_write_have_one_label(browser, tmp_path):
    run = SyntheticRun(tmp_path / "flat.cockpit")
    for step in range(30):
        run.writer.reading("alpha_curvature", step, 3.1e8)
    run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url) as seen:
        seen.until_chart("Curvature along the step", "chart.querySelectorAll('.ytick text').length > 0")
        words = "[...chart.querySelectorAll('.ytick text')].map((text) => text.textContent)"
        assert seen.chart("Curvature along the step", words) == ["3.1e8"]
