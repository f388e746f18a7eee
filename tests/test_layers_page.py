"""The page of layers in a real browser: the map, the search, the way to a layer's curves, and a run that goes on."""

from __future__ import annotations

import csv
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_server import page_server
from synthetic_runs import SyntheticRun, write_dying_run, write_run
from visiting import visit

from cockpitlite import Panel
from cockpitlite.store import RunWriter

pytestmark = pytest.mark.browser

WORDS = "(document.querySelector('#map-words')?.textContent || '')"
DRAWN = f"{WORDS}.includes('up to step')"
CARDS = "[...document.querySelectorAll('#layer-board .chart-plot .js-plotly-plot')]"
MARKED = f"{CARDS}.map((chart) => chart.data.find((trace) => trace.name === 'chosen')?.x[0])"
ROWS = "[...document.querySelectorAll('#map-rows > div')].map((row) => row.dataset.layer)"


def layers_page(url: str, query: str = "") -> str:
    return url.rstrip("/") + "/?page=layers" + query


def pixel(seen, x: float, y: float) -> list[int]:
    """The colour of the map's canvas at shares of its width and height."""
    return seen.page.evaluate(f"""(() => {{
        const canvas = document.querySelector("#map-canvas");
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {{ willReadFrequently: true }});
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData({x} * canvas.width, {y} * canvas.height, 1, 1).data];
    }})()""")


def point(seen, x: float, row: int) -> dict[str, float]:
    return {"x": x * seen.page.locator("#map-canvas").bounding_box()["width"], "y": row * 20 + 9}


@pytest.fixture
def full(tmp_path):
    return write_run(tmp_path / "run.cockpit", "nonfinite", steps=240, full=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_on_a_cell_leads_to_the_curves_of_its_layer_with_the_step_marked(browser, full, scheme):
    with page_server(full) as server, visit(browser, layers_page(server.url), color_scheme=scheme) as seen:
        seen.until(DRAWN)
        assert seen.page.locator("#map-quantity").input_value() == "update_ratio"
        finite, broken = pixel(seen, 0.3, 0.5), pixel(seen, 0.9, 0.53)
        assert finite[3] == 255 and finite != broken
        seen.page.locator("#map-canvas").hover(position=point(seen, 0.9, 2))
        assert "not finite" in seen.page.locator("#map-hover").inner_text()
        seen.page.locator("#map-canvas").click(position=point(seen, 0.5, 2))
        seen.until(f"{CARDS}.length > 8")
        assert seen.page.locator("#layer-board h2").inner_text() == "Layer conv2.weight"
        step = int(seen.page.url.split("at=")[1].split("&")[0])
        assert abs(step - 120) < 3 and "layer=conv2.weight" in seen.page.url
        seen.until(f"{MARKED}.every((step) => step === {step})")
        seen.until(f"{CARDS}.some((chart) => chart.data[0].type === 'heatmap')")
        assert seen.page.locator("#map-rows [aria-selected=true]").inner_text() == "conv2.weight"
        zoomed = f"{CARDS}[0]"
        seen.page.evaluate(f"void Plotly.relayout({zoomed}, {{'yaxis.range': [-1, 1], 'yaxis.autorange': false}})")
        seen.page.locator("#map-canvas").click(position=point(seen, 0.2, 2))
        seen.until(f"{MARKED}.every((step) => step < 60)")
        assert seen.page.evaluate(f"{zoomed}.layout.yaxis.range") == [-1, 1]  # the same board goes on


def test_back_leads_to_the_layer_before_and_to_the_map_alone(browser, full):
    layer = "new URLSearchParams(location.search).get('layer')"
    with page_server(full) as server, visit(browser, server.url) as seen:
        seen.page.locator("nav a[data-page=layers]").click()
        seen.until(DRAWN)
        for row in (2, 4):
            seen.page.locator("#map-canvas").click(position=point(seen, 0.5, row))
        seen.page.locator("#map-canvas").click(position=point(seen, 0.2, 4))  # another step of the same layer
        for key in ("ArrowDown", "ArrowUp", "ArrowUp"):
            seen.page.locator("#map-rows").press(key)
        seen.until(f"{layer} === 'conv2.bias'")
        for before in ("conv2.weight", None):
            seen.page.go_back()
            seen.until(f"{layer} === {json.dumps(before)}")
            marked = "document.querySelector('#map-rows [aria-selected=true]')?.dataset.layer ?? null"
            seen.until(f"{marked} === {json.dumps(before)}")
            heading = "document.querySelector('#layer-board h2')?.textContent ?? null"
            seen.until(f"{heading} === {json.dumps(before and 'Layer ' + before)}")
        assert seen.page.evaluate("document.documentElement.dataset.page") == "layers"
        seen.page.go_back()
        seen.until("document.documentElement.dataset.page === 'overview'")


def test_the_map_shows_all_rows_that_there_is_room_for_and_says_where_there_are_more(browser, tmp_path):
    for count in (26, 120):
        run = SyntheticRun(tmp_path / f"{count}.cockpit", layers=tuple(f"block{index}" for index in range(count)))
        run.write(60)
        run.finish()
    scroll = "document.querySelector('#map-scroll')"
    fits, goes_on = f"{scroll}.scrollHeight <= {scroll}.clientHeight", f"{scroll}.matches('.goes-on')"
    with page_server(tmp_path) as server, visit(browser, layers_page(server.url, "&run=26.cockpit")) as seen:
        seen.until(DRAWN)
        seen.until(f"{ROWS}.length === 26 && {fits} && !{goes_on}")
    with page_server(tmp_path) as server, visit(browser, layers_page(server.url, "&run=120.cockpit")) as seen:
        seen.until(DRAWN)
        seen.until(f"{ROWS}.length === 120 && {goes_on}")
        seen.page.locator("#map-scroll").evaluate("(part) => part.scrollTo(0, part.scrollHeight)")
        seen.until(f"!{goes_on}")


def test_what_comes_with_a_layer_and_with_its_marks_moves_no_cell(browser, full):
    place = "document.querySelector('#map-canvas').getBoundingClientRect().top"
    tools = "getComputedStyle(document.querySelector('#tools .smoothing')).visibility"
    with page_server(full) as server, visit(browser, layers_page(server.url)) as seen:
        seen.page.route("**/tick", lambda route: None)  # what the marks mean is slow to come
        seen.page.reload()
        seen.page.locator("#map-rows > div").first.wait_for()
        before = seen.page.evaluate(place)
        assert seen.page.evaluate("document.querySelector('#legend').childElementCount") == 0
        assert seen.page.evaluate(tools) == "hidden"
        seen.page.unroute("**/tick")
        seen.page.locator("#map-canvas").click(position=point(seen, 0.5, 2))
        seen.page.evaluate("window.cockpit.clock.ask()")
        seen.page.locator("#legend summary").wait_for()
        seen.until(f"{CARDS}.length > 8")
        assert seen.page.evaluate(f"[{place} + window.scrollY, {tools}]") == [before, "visible"]


def test_the_address_restores_the_map_and_the_layer(browser, full):
    asked = "&quantity=grad_norm&cells=least&find=fc&layer=fc1.weight&at=50&steps=20~90"
    with page_server(full) as server, visit(browser, layers_page(server.url, asked)) as seen:
        seen.until(DRAWN)
        seen.until(f"{MARKED}.length && {MARKED}[0] === 50")
        assert seen.page.locator("#map-quantity").input_value() == "grad_norm"
        assert seen.page.locator("#map-cells").input_value() == "least"
        assert seen.page.evaluate(ROWS) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
        assert seen.page.locator("#map-count").inner_text() == "4 of 8 layers"
        seen.until("document.querySelector('#map-axis').textContent.startsWith('step 20')")
        seen.page.locator("#map-rows").focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowRight"):
            seen.page.keyboard.press(key)
        seen.until("document.querySelector('#layer-board h2').textContent === 'Layer fc1.bias'")
        assert "layer=fc1.bias" in seen.page.url and "at=51" in seen.page.url
        assert seen.page.evaluate("document.activeElement.id") == "map-rows"


def test_keys_that_come_faster_than_pictures_all_count(browser, full):
    with page_server(full) as server, visit(browser, layers_page(server.url, "&layer=conv1.weight&at=50")) as seen:
        seen.until(DRAWN)
        seen.page.evaluate("""(() => {
            const rows = document.querySelector("#map-rows");
            const press = (key) => rows.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowRight", "ArrowRight"].forEach(press);
        })()""")
        assert seen.page.locator("#map-rows [aria-selected=true]").inner_text() == "conv2.weight"
        assert "layer=conv2.weight" in seen.page.url and "at=52" in seen.page.url


def test_no_cell_reaches_beyond_the_run(browser, full):
    with page_server(full) as server, visit(browser, layers_page(server.url)) as seen:
        seen.until(DRAWN)
        sparse = "{ starts: [0, 5, 10, 500, 541], stretch: 1, last: 599 }"
        assert seen.page.evaluate(f"window.cockpit.map.ends({sparse})")[-1] <= 600


def test_search_filters_rows_while_typing(browser, full):
    with page_server(full) as server, visit(browser, layers_page(server.url)) as seen:
        seen.until(DRAWN)
        seen.page.keyboard.press("/")
        for words, left in (("FC", 4), ("conv*bias", 2), ("1.w", 2), ("[", 0), ("", 8)):
            seen.page.locator("#map-find").fill(words)
            seen.until(f"document.querySelectorAll('#map-rows > div').length === {left}")
        assert "find=" not in seen.page.url


def test_a_drag_zooms_the_map_and_the_curves_and_a_double_click_shows_all(browser, full):
    with page_server(full) as server, visit(browser, layers_page(server.url, "&layer=conv1.weight")) as seen:
        seen.until(DRAWN)
        seen.until(f"{CARDS}.length > 8")
        box = seen.page.locator("#map-canvas").bounding_box()
        seen.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 10)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 15, steps=4)
        seen.page.mouse.up()
        seen.until(f"Math.abs({CARDS}[0].layout.xaxis.range[0] - 60) < 3")
        seen.until("document.querySelector('#map-axis').textContent.startsWith('step 60')")
        assert "layer=conv1.weight" in seen.page.url and "steps=" in seen.page.url
        seen.page.mouse.dblclick(box["x"] + 0.5 * box["width"], box["y"] + 30)
        seen.until("document.querySelector('#map-axis').textContent.startsWith('step 0')")


def test_a_live_map_grows_and_keeps_zoom_scroll_search_and_choice(browser, tmp_path):
    names = tuple(f"block{index}.weight" for index in range(120))
    run = SyntheticRun(tmp_path / "run.cockpit", layers=names)
    run.write(150)
    with page_server(run.path) as server, visit(browser, layers_page(server.url, "&quantity=grad_norm")) as seen:
        seen.until(DRAWN)
        seen.page.locator("#map-find").fill("block")
        seen.page.locator("#map-scroll").evaluate("(part) => part.scrollTo(0, 700)")
        seen.page.locator("#map-canvas").click(position=point(seen, 0.4, 3))
        seen.until(f"{CARDS}.length >= 4")
        before = seen.page.url
        row = seen.page.locator("#map-rows [aria-selected=true]").inner_text()
        answers = []
        seen.page.on("response", lambda answer: answers.append(answer) if "update-component" in answer.url else None)
        for count in range(1, 6):
            run.write(10)
            seen.until(f"{WORDS}.includes('step {149 + 10 * count},')")
        assert seen.page.url == before
        assert seen.page.locator("#map-scroll").evaluate("(part) => part.scrollTop") == 700
        assert seen.page.locator("#map-rows [aria-selected=true]").inner_text() == row
        sizes = [len(answer.body()) for answer in answers if "map-news" in (answer.request.post_data or "")]
        assert sizes and max(sizes) < 60_000
        answers.clear()
        seen.page.wait_for_timeout(3500)  # nothing is written: nothing is sent
        mapped = [answer for answer in answers if json.loads(answer.request.post_data)["output"] == "map-news.data"]
        assert mapped and all(answer.status == 204 or answer.json()["response"] == {} for answer in mapped)


def test_findings_mark_rows_and_lead_to_their_layer(browser, tmp_path):
    run = write_dying_run(tmp_path / "run.cockpit")
    with page_server(run) as server, visit(browser, server.url.rstrip("/") + "/?page=diagnosis") as seen:
        seen.page.locator(".finding").first.wait_for()
        closed = seen.page.locator("#findings > .finding:not([open]) > summary")
        while closed.count():
            closed.first.click()
        button = seen.page.locator("[data-to-layer]:visible").first
        layer = button.get_attribute("data-to-layer")
        assert layer == "fc1"
        button.click()
        seen.until(DRAWN)
        seen.until(f"document.querySelector('#layer-board h2')?.textContent === 'Layer {layer}'")
        marked = seen.page.locator(f"#map-rows [data-layer='{layer}']")
        assert marked.locator("i").inner_text() in ("✕", "!", "i")
        assert layer + ": " in marked.get_attribute("title")
        assert f"layer={layer}" in seen.page.url
        seen.page.go_back()
        seen.until("document.documentElement.dataset.page === 'diagnosis'")


def test_a_run_without_layers_says_so_and_the_next_run_is_drawn(browser, tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.panel(Panel("Loss", "performance").named("loss"))
    writer.reading("loss", 0, 1.0)
    writer.commit()
    with page_server(tmp_path / "run.cockpit") as server, visit(browser, layers_page(server.url)) as seen:
        seen.page.locator("#map-empty", has_text="no reading by layer").wait_for()
        assert seen.page.locator("#map").is_hidden()
        writer.layers("grad_norm", 1, ("<b>one</b>", "two"), np.array([1.0, 2.0]))
        writer.reading("grad_norm", 1, 3.0)
        writer.commit()
        seen.until(DRAWN)
        assert seen.page.evaluate(ROWS) == ["<b>one</b>", "two"]
        assert seen.page.locator("#map-empty").inner_text() == ""
        seen.page.locator("#map-rows > div").first.click()
        seen.page.locator("#layer-board h2", has_text="<b>one</b>").wait_for()


@pytest.mark.parametrize("width", [390, 768])
def test_the_page_of_layers_fits_the_screen(browser, full, width):
    size = {"width": width, "height": 844}
    with page_server(full) as server, visit(browser, layers_page(server.url), viewport=size) as seen:
        seen.until(DRAWN)
        seen.page.locator("#map-canvas").click(position=point(seen, 0.5, 1))
        seen.until(f"{CARDS}.length > 8")
        seen.until(f"document.documentElement.scrollWidth <= {width}")
        labels = "[...document.querySelectorAll('#map-axis span')].map((part) => part.getBoundingClientRect())"
        assert seen.page.evaluate(f"{labels}.every((box, place, all) => !place || box.left > all[place - 1].right)")


def test_a_run_that_is_trained_meanwhile_is_followed(browser, tmp_path):
    path = tmp_path / "run.cockpit"
    script = Path(__file__).with_name("synthetic_runs.py")
    command = [sys.executable, str(script), str(path), "--rate", "40", "--steps", "4000", "--head", "40"]
    with subprocess.Popen(command) as trainer:
        try:
            while not path.exists():
                pass
            with page_server(path) as server, visit(browser, layers_page(server.url, "&layer=fc1.weight")) as seen:
                seen.until(DRAWN)
                seen.until(f"{CARDS}.length >= 4")
                last = seen.page.evaluate(f"Math.max(...{CARDS}[0].data.map((trace) => trace.x.at(-1)))")
                seen.until(f"{CARDS}[0].data.some((trace) => trace.x.at(-1) > {last} + 60)")
                seen.until(f"/step \\d{{3}},/.test({WORDS})")
        finally:
            trainer.kill()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_the_map_gives_a_picture_its_values_and_a_link(browser, full, scheme, width):
    asked = layers_page("", "&quantity=grad_norm&find=fc*weight&steps=20~90")
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with page_server(full) as server, visit(browser, server.url.rstrip("/") + asked, **options) as seen:
        seen.until(DRAWN)
        seen.until("document.querySelector('#map-axis').textContent.includes('50')")
        menu = seen.page.get_by_label("More of the map of layers")
        menu.click()
        with seen.page.expect_download() as downloading:
            seen.page.locator("#map-card").get_by_role("button", name="CSV").click()
        assert downloading.value.suggested_filename == "run-layers-grad_norm.csv"
        rows = list(csv.DictReader(Path(downloading.value.path()).read_text().splitlines()))
        assert {row["layer"] for row in rows} == {"fc1.weight", "fc2.weight"}
        assert [int(row["step"]) for row in rows[::2]] == list(range(20, 91))
        assert not seen.page.locator("#map-card .menu").evaluate("(menu) => menu.open")
        menu.click()
        with seen.page.expect_download() as downloading:
            seen.page.locator("#map-card").get_by_role("button", name="PNG").click()
        assert downloading.value.suggested_filename == "run-layers-grad_norm.png"
        image = Path(downloading.value.path()).read_bytes()
        assert image[:4] == b"\x89PNG" and struct.unpack(">II", image[16:24]) == (2400, 2 * (64 + 2 * 20 + 92))
        shown = seen.page.evaluate(
            """async (bytes) => {
            const image = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
            const pen = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
            pen.drawImage(image, 0, 0);
            const colours = (x, y, w, h) => new Set(new Uint32Array(pen.getImageData(x, y, w, h).data.buffer)).size;
            return [[...pen.getImageData(1, 1, 1, 1).data.slice(0, 3)], colours(400, 130, 1900, 76)];
        }""",
            list(image),
        )
        assert shown[0] == ([255, 255, 255] if scheme == "light" else [22, 27, 35])
        assert shown[1] > 20  # cells in their colours
        menu.click()
        seen.page.locator("#map-card").get_by_role("button", name="link").click()
        seen.page.locator("#map-card .entries").get_by_text(re.compile("Copied|address bar")).wait_for()
