"""What axe finds on each page, in both themes and on a phone."""

from __future__ import annotations

import pytest
from page_server import page_server
from synthetic_runs import PANELS, write_dying_run, write_run
from test_browser_charts import tool
from visiting import visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]),
]


def violations(page):
    """What axe finds that is serious or critical: its rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    page.locator('.dash-dropdown-focus-target[tabindex="0"]').first.wait_for(state="detached")  # page.js sees to it
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], node["html"][:160], node["failureSummary"][:200])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def seen_as(browser, url: str, query: str, scheme: str, width: int):
    address = url.rstrip("/") + "/" + query
    return visit(browser, address, color_scheme=scheme, viewport={"width": width, "height": 844})


def test_the_overview_has_nothing_serious(browser, tmp_path, scheme, width):
    write_run(tmp_path / "digits.cockpit", "large", steps=300)
    with page_server(tmp_path) as server, seen_as(browser, server.url, "?smooth=0.5", scheme, width) as seen:
        seen.until_charts(len(PANELS))
        seen.page.locator(".verdict:not(.unknown) .sentence").wait_for()
        seen.page.locator(".finding > summary").first.click()
        seen.page.locator("details.menu > summary").first.click()
        assert violations(seen.page) == []
        seen.page.keyboard.press("Escape")
        tool(seen, "Keyboard shortcuts").click()
        assert violations(seen.page) == []


def test_the_layers_have_nothing_serious(browser, tmp_path, scheme, width):
    write_dying_run(tmp_path / "digits.cockpit")
    query = "?page=layers&quantity=dead_units&layer=fc1&at=120"
    with page_server(tmp_path) as server, seen_as(browser, server.url, query, scheme, width) as seen:
        seen.until("document.querySelectorAll('#layer-board .chart-plot .js-plotly-plot').length > 3")
        seen.until("document.querySelectorAll('#map-rows > div:is(.error, .warning)').length > 0")
        assert violations(seen.page) == []
        seen.page.locator("#map-find").fill("none of that name")
        seen.until("!document.querySelector('#map-rows > div')")
        assert violations(seen.page) == []


def test_the_diagnosis_has_nothing_serious(browser, tmp_path, scheme, width):
    write_dying_run(tmp_path / "digits.cockpit")
    with page_server(tmp_path) as server, seen_as(browser, server.url, "?page=diagnosis", scheme, width) as seen:
        seen.page.locator(".finding").first.wait_for()
        closed = seen.page.locator("#findings > .finding:not([open]) > summary")
        while closed.count():
            closed.first.click()
        assert violations(seen.page) == []


def test_the_runs_have_nothing_serious(browser, tmp_path, scheme, width):
    for index, kind in enumerate(("small", "good", "large")):
        write_run(tmp_path / f"digits-{index}.cockpit", kind, steps=120)
    with page_server(tmp_path) as server, seen_as(browser, server.url, "?page=runs", scheme, width) as seen:
        seen.page.locator(".runs-table .ag-row").first.wait_for()
        assert violations(seen.page) == []
        for place in range(2):
            seen.tick(seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place))
        seen.until("document.querySelectorAll('#comparison .scatterlayer').length > 1")
        assert violations(seen.page) == []
