"""The page behind a proxy that shows it under a path of its own, in a real browser."""

from __future__ import annotations

import pytest
from page_server import page_server
from reverse_proxy import reverse_proxy
from synthetic_runs import PANELS, write_run
from test_browser import trainer
from visiting import visit

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("strips", "guarded"), [(False, False), (True, True)])
def test_all_of_the_page_works_below_a_prefix(browser, tmp_path, strips, guarded):
    write_run(tmp_path / "digits.cockpit", steps=60)
    with (
        trainer(tmp_path / "live.cockpit"),
        page_server(tmp_path, prefix="/user/me/{port}", guarded=guarded) as server,
        reverse_proxy(f"/user/me/{server.port}/", server.port, strips=strips, host="hub" if guarded else None) as url,
        visit(browser, f"{url}?{server.url.partition('?')[2]}") as seen,
    ):
        page = seen.page
        seen.until_charts()
        assert "token" not in page.url
        seen.until_growth("Gradient norm")
        page.locator("nav a", has_text="Runs").click()
        page.locator(".runs-table .ag-row", has_text="digits").first.wait_for()
        assert page.url.startswith(url + "?")
        page.locator(".runs-table .ag-row", has_text="digits").locator("[col-id=run]").first.click()
        seen.until("document.querySelector('#step').textContent === 'step 59'")
        page.reload()
        seen.until_charts(len(PANELS))
        assert page.locator("#step").inner_text() == "step 59"
        card = page.locator(".card", has_text="Batch size").first
        card.locator("summary", has_text="⋯").click()
        with page.expect_download() as download:
            card.get_by_text("CSV").click()
        assert download.value.path().read_text().startswith("step,reading,layer,value")
        page.goto(url.rstrip("/"))  # as people type it
        seen.until_charts()
        assert page.url.startswith(url)


def test_the_address_that_is_printed_works_without_the_proxy(browser, tmp_path):
    write_run(tmp_path / "digits.cockpit", steps=60)
    with page_server(tmp_path, prefix="panel") as server, visit(browser, server.url) as seen:
        assert server.url == f"http://127.0.0.1:{server.port}/panel/"
        seen.until_charts()
