"""What the page says and does when the trainer or the server ends in the middle, in a real browser."""

from __future__ import annotations

import pytest
from page_server import page_server
from synthetic_runs import SyntheticRun, write_run
from test_browser import trainer
from visiting import LAST, Visit, visit

pytestmark = pytest.mark.browser

NETWORK = "Failed to load resource"  # what a browser says of a server that is gone; a page cannot keep it from doing so
LOST = "document.querySelector('#silence').checkVisibility()"


def test_a_killed_training_is_told_and_what_it_wrote_is_shown(browser, tmp_path):
    with page_server(tmp_path, wait=True) as server:
        with visit(browser, server.url) as seen:
            with trainer(tmp_path / "live.cockpit") as process:
                seen.until_charts()
                seen.page.locator(".badge.live").wait_for()
                assert seen.page.locator("#notice").inner_text() == ""
            notice = seen.page.locator("#notice", has_text="Nothing has been written to this run since")
            notice.wait_for()
            assert f"(process {process.pid}) is gone. It was killed, or it crashed" in notice.inner_text()
            seen.page.locator(".badge.ended").wait_for()
            assert seen.chart("Gradient norm", LAST) > 0
        assert server.end() == (0, "", "")


def test_a_server_that_ends_is_told_and_the_page_goes_on_when_it_is_back(browser, tmp_path):
    run = SyntheticRun(tmp_path / "live.cockpit")
    other = SyntheticRun(tmp_path / "other.cockpit")
    for each in (other, run):
        each.write(60)
    with page_server(tmp_path) as first:
        opened = browser.new_context(viewport={"width": 1280, "height": 900})
        seen = Visit(opened.new_page(), first.url)
        seen.until_charts()
        assert not seen.page.evaluate(LOST)
        port = first.port
        first.process.kill()
        first.process.wait()
        seen.until(LOST)
        assert "goes on when the server is back" in seen.page.locator("#silence").inner_text()
        assert seen.chart("Gradient norm", LAST) == 59
        seen.page.locator("nav a", has_text="Runs").click()  # asked in vain, and answered later
        run.write(20)
        with page_server(tmp_path, port=port) as second:
            assert second.port == port
            seen.until(f"!{LOST}")
            seen.page.locator(".runs-table .ag-row").first.wait_for()
            seen.page.locator("nav a", has_text="Overview").click()
            seen.until_chart("Gradient norm", f"{LAST} === 79")
            assert [words for words in seen.said if NETWORK not in words] == []
            opened.close()
            assert second.end() == (0, "", "")
    run.finish()
    other.finish()


def test_a_server_with_a_new_token_is_told(browser, tmp_path):
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(60)
    run.finish()
    with page_server(tmp_path, host="0.0.0.0") as first:
        address = first.url.replace(first.url.split("/")[2].split(":")[0], "127.0.0.1")
        opened = browser.new_context(viewport={"width": 390, "height": 844})
        seen = Visit(opened.new_page(), address)
        seen.until_charts()
        first.process.kill()
        first.process.wait()
        seen.until(LOST)
        with page_server(tmp_path, host="0.0.0.0", port=first.port) as second:
            seen.page.locator("#silence", has_text="open the address that it printed").wait_for()
            assert [words for words in seen.said if NETWORK not in words] == []
            opened.close()
            assert second.end() == (0, "", "")


def test_a_damaged_file_leaves_the_findings_and_no_green_light(browser, tmp_path):
    path = write_run(tmp_path / "run.cockpit", steps=300)
    write_run(tmp_path / "other.cockpit", steps=300)
    whole = path.read_bytes()
    with page_server(tmp_path) as server:
        with visit(browser, f"{server.url}?run=run.cockpit") as seen:
            seen.until_charts()
            seen.page.locator(".verdict.good .word", has_text="All well").wait_for()
            found = seen.page.locator("#findings").inner_text()
            path.write_bytes(whole[:3000])
            seen.page.locator(".verdict.unknown .sentence", has_text="can no longer be read").wait_for()
            seen.page.locator("#notice", has_text="The page shows what it had read").wait_for()
            assert seen.page.title().startswith("… The file of this run can no longer be read")
            assert seen.page.locator("#findings").inner_text() == found
            assert seen.chart("Gradient norm", LAST) == 299
            seen.page.reload()
            seen.page.locator("#notice", has_text="cannot be read now").wait_for()
            seen.page.locator(".verdict.unknown .sentence", has_text="cannot be judged").wait_for()
            assert "shows" not in seen.page.locator("#notice").inner_text()
            path.write_bytes(whole)
            seen.page.locator(".verdict.good").wait_for()
            seen.until_charts()
        assert server.end()[0] == 0


def test_the_charts_of_a_run_do_not_stand_for_one_that_cannot_be_read(browser, tmp_path):
    write_run(tmp_path / "fine.cockpit", steps=300)
    (tmp_path / "damaged.cockpit").write_bytes(b"no run file" * 1000)
    with page_server(tmp_path) as server:
        with visit(browser, f"{server.url}?run=fine.cockpit") as seen:
            seen.until_charts()
            seen.page.locator("#picker").click()
            seen.page.get_by_role("option", name="damaged").click()
            seen.page.locator("#notice", has_text="cannot be read now").wait_for()
            seen.until("!document.querySelector('#board [data-panel], #vital [data-panel]')")
            assert seen.page.locator("#step").inner_text() == "" == seen.page.locator("#facts").inner_text()
        assert server.end()[0] == 0
