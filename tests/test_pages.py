"""The four pages in a real browser: which one is shown, and the address that says so."""

from __future__ import annotations

import contextlib
import json

import pytest
from page_server import page_server
from synthetic_runs import write_run
from test_browser import trainer
from visiting import visit

pytestmark = pytest.mark.browser

PAGE = "document.documentElement.dataset.page"
CURRENT = "[...document.querySelectorAll('nav a[aria-current=page]')].map((link) => link.textContent).join()"


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "older.cockpit", steps=60)
    write_run(tmp_path / "newer.cockpit", "small", steps=620)
    return tmp_path


def at(url: str, query: str) -> str:
    return url.rstrip("/") + "/" + query


def test_pages_are_switched_without_the_server_and_back_leads_back(browser, folder):
    with page_server(folder) as server, visit(browser, server.url) as seen:
        seen.until_charts()
        assert seen.page.evaluate(CURRENT) == "Overview"
        assert "run=newer.cockpit" in seen.page.url
        plots = seen.page.evaluate("document.querySelectorAll('.js-plotly-plot').length")
        for name in ("Layers", "Diagnosis", "Runs"):
            link = seen.page.get_by_role("navigation").get_by_role("link", name=name)
            link.focus()
            seen.page.keyboard.press("Enter")
            assert seen.page.evaluate(CURRENT) == name
            assert seen.page.locator(f"#{name.lower()}").evaluate("(part) => getComputedStyle(part).display") != "none"
            assert not seen.page.locator("#board").is_visible()
            assert f"page={name.lower()}" in seen.page.url
            assert f"page={name.lower()}" in link.get_attribute("href") and "run=newer" in link.get_attribute("href")
        assert seen.page.locator("#verdict").is_hidden()
        seen.page.go_back()
        seen.until(f"{PAGE} === 'diagnosis'")
        assert seen.page.locator("#verdict").is_visible()
        seen.page.go_back()
        seen.until(f"{PAGE} === 'layers'")
        seen.page.go_back()
        seen.until(f"{PAGE} === 'overview'")
        seen.page.locator("#board .card").first.wait_for()
        assert seen.page.evaluate("document.querySelectorAll('.js-plotly-plot').length") == plots  # not drawn anew
        seen.until_chart("Gradient norm", "chart.clientWidth > 100")


def test_the_address_restores_the_page_and_the_run(browser, folder):
    asked = "?page=diagnosis&run=older.cockpit&other=kept"
    with page_server(folder) as server, visit(browser, at(server.url, asked)) as seen:
        seen.page.locator("#step", has_text="step 59").wait_for()
        assert seen.page.evaluate(f"[{PAGE}, {CURRENT}]") == ["diagnosis", "Diagnosis"]
        assert "older" in seen.page.locator("#picker").inner_text()
        seen.until("document.querySelector('#follow').getAttribute('aria-pressed') === 'false'")
        assert seen.page.locator(".js-plotly-plot").count() == 0  # only what is shown is drawn
        seen.page.get_by_role("navigation").get_by_role("link", name="Overview").click()
        seen.until_charts()
        assert seen.page.url.endswith("?run=older.cockpit&other=kept")
        seen.page.locator("#picker").click()
        seen.page.locator(".dash-dropdown-option", has_text="newer").click()
        seen.until("document.querySelector('#step').textContent === 'step 619'")
        assert "run=newer.cockpit" in seen.page.url
        seen.page.go_back()
        seen.until("document.querySelector('#step').textContent === 'step 59'")


def test_what_the_address_asks_in_vain_is_told(browser, folder):
    asked = "?page=%3Cb%3Enone&run=..%2Flost.cockpit"
    with page_server(folder) as server, visit(browser, at(server.url, asked)) as seen:
        seen.until_charts()
        said = seen.page.locator("#astray")
        assert "no page “<b>none”" in said.inner_text() and "no run “../lost.cockpit” here" in said.inner_text()
        assert seen.page.url.endswith("?run=newer.cockpit")
        seen.page.locator("#picker").click()
        seen.page.locator(".dash-dropdown-option", has_text="older").click()
        seen.until("document.querySelector('#astray').textContent === ''")


def test_evidence_leads_from_the_diagnosis_to_its_chart_and_back(browser, folder):
    own = "α on the step's own batch"
    with page_server(folder) as server, visit(browser, at(server.url, "?page=diagnosis")) as seen:
        seen.page.locator(".finding .show").first.click()
        seen.page.locator("[data-marked] .back").wait_for()
        assert seen.page.evaluate(PAGE) == "overview"
        seen.until_chart(own, "(chart.layout.shapes || []).some((shape) => shape.name === 'evidence')")
        seen.page.locator("[data-marked] .back").click()
        seen.until("document.activeElement === document.querySelector('.finding .show')")
        assert seen.page.evaluate(PAGE) == "diagnosis"


OPEN = "[...document.querySelectorAll('#findings > .finding')].map((part) => part.open)"


def test_the_first_findings_are_open_on_their_own_page_until_a_person_closes_them(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer(tmp_path / "live.cockpit", 40, 60, "--kind", "large"))
        server = stack.enter_context(page_server(tmp_path, wait=True))
        seen = stack.enter_context(visit(browser, at(server.url, "?page=diagnosis")))
        seen.page.locator("#findings > .finding").first.wait_for()
        seen.until(f"{OPEN}.slice(0, 3).every(Boolean) && !{OPEN}.slice(3).some(Boolean)")
        key = seen.page.locator("#findings > .finding").first.get_attribute("data-key")
        closed = f"document.querySelector('#findings > [data-key=\"{key}\"]')"
        seen.page.locator("#findings > .finding > summary").first.click()
        said = seen.page.evaluate(f"{closed}.textContent")
        seen.until(f"{closed}.textContent !== {json.dumps(said)}")  # it was drawn anew
        assert not seen.page.evaluate(f"{closed}.open")
        seen.page.locator("nav a[data-page=overview]").click()
        seen.until(f"!{OPEN}.some(Boolean)")
        seen.page.locator("nav a[data-page=diagnosis]").click()
        seen.until(f"{OPEN}.slice(0, 3).filter(Boolean).length >= Math.min({OPEN}.length, 3) - 1")
        assert not seen.page.evaluate(f"{closed}.open")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_every_page_fits_the_screen(browser, folder, width):
    with page_server(folder) as server, visit(browser, server.url, viewport={"width": width, "height": 844}) as seen:
        seen.until_charts()
        for link in seen.page.get_by_role("navigation").get_by_role("link").all():
            link.click()
            seen.until(f"document.documentElement.scrollWidth <= {width}")
