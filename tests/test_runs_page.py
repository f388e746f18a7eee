"""The table of runs: what it reads and when, and how it and the comparison behave in a real browser."""

from __future__ import annotations

import json
import math
import os
import time

import numpy as np
import pytest
from page_server import page_server
from synthetic_runs import PANELS, SyntheticRun, write_run
from test_browser import trainer
from visiting import visit

from cockpitlite.dashboard import listing, overlays, table, verdict
from cockpitlite.dashboard.listing import Listing
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.unopened import Unopened
from cockpitlite.dashboard.verdict import Judge
from cockpitlite.diagnosis.kept import last_kept
from cockpitlite.panel import Panel
from cockpitlite.store import RunWriter, describe_further, load, log_of


def listed(folder, judge=None):
    return Listing(Runs(folder), judge or Judge())


def swept(folder, rates=(0.01, 0.1, 1.0)):
    for rate in rates:
        with_rate = {"class": "SGD", "groups": [{"lr": rate, "momentum": 0.9}]}
        run = SyntheticRun(folder / f"rate-{rate}.cockpit")
        run.writer.meta(optimizer=with_rate)
        run.write(40)
        run.finish()
    return folder


def test_the_newest_values_are_those_of_the_last_steps(tmp_path):
    write_run(tmp_path / "run.cockpit", steps=30)
    run = load(tmp_path / "run.cockpit")
    run_names = run.names()
    newest = run.newest()
    assert "loss" in newest
    for name in newest:
        steps, values = run.series(name)
        assert newest[name][0] == steps[-1]
        assert newest[name][1] == values[-1] or (math.isnan(newest[name][1]) and math.isnan(values[-1]))
    assert set(newest) <= set(run_names)


def test_a_row_says_how_a_run_stands(tmp_path):
    swept(tmp_path)
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert set(rows) == {"rate-0.01", "rate-0.1", "rate-1.0"}
    row = rows["rate-0.1"]
    assert (row["state"], row["steps"], row["rate"], row["optimizer"]) == ("✓ Finished", 40, 0.1, "SGD")
    assert row["last loss"] > 0 and row["finding"] == listing.NOT_JUDGED


def test_a_value_that_is_no_number_is_shown_and_a_damaged_file_has_a_row(tmp_path):
    writer = RunWriter(tmp_path / "nan.cockpit")
    writer.reading("loss", 3, math.nan)
    writer.close()
    (tmp_path / "damaged.cockpit").write_bytes(b"no run")
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert rows["nan"]["last loss"] == "NaN" and rows["nan"]["steps"] == 4
    assert rows["damaged"]["state"] == "✕ Unreadable"


def test_only_what_has_changed_is_read_and_told(tmp_path, monkeypatch):
    swept(tmp_path)
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(5)
    read = []
    facts = listing._facts
    monkeypatch.setattr(listing, "_facts", lambda path: read.append(path.name) or facts(path))
    rows = listed(tmp_path)
    stand = rows.news(None).stand
    assert len(read) == 4
    assert rows.news(stand).stand == stand and len(read) == 4
    run.write(5)
    (tmp_path / "rate-1.0.cockpit").unlink()
    write_run(tmp_path / "later.cockpit", steps=3)
    news = rows.news(stand)
    assert read[4:] == ["live.cockpit", "later.cockpit"] or read[4:] == ["later.cockpit", "live.cockpit"]
    assert [row["key"] for row in news.added] == ["later.cockpit"]
    assert [(row["key"], row["steps"]) for row in news.changed] == [("live.cockpit", 10)]
    assert news.gone == ["rate-1.0.cockpit"] and not news.whole
    run.finish()


def test_a_page_of_another_server_gets_all_rows(tmp_path):
    swept(tmp_path)
    stand = listed(tmp_path).news(None).stand
    assert listed(tmp_path).news(stand).whole


def test_a_judged_run_shows_its_worst_finding(tmp_path):
    write_run(tmp_path / "run.cockpit", "small", steps=620)
    judge, runs = Judge(), Runs(tmp_path)
    judge.findings(runs.open("run.cockpit"))
    assert Listing(runs, judge).news(None).added[0]["finding"].startswith("! Warning: ")


FOUND = {
    "blew-up": [("R0", "error", "The loss is NaN"), ("R1", "warning", "Learning rate too large")],
    "slow": [("R2", "warning", "Learning rate too small")],
    "noted": [("R7", "info", "At the edge of stability")],
    "quiet": [],
    "unjudged": None,
}
SAID = {
    "blew-up": "✕ Error: The loss is NaN · 1 more",
    "slow": "! Warning: Learning rate too small",
    "noted": "i Note: At the edge of stability",
    "quiet": "✓ All well",
    "unjudged": "not judged yet",
}


def judged_by_themselves(folder):
    """Write runs whose trainings left in their files what they found."""
    for name, found in FOUND.items():
        run = SyntheticRun(folder / f"{name}.cockpit")
        run.write(60)
        if found is not None:
            run.writer.meta(findings=[{"code": c, "severity": s, "title": t, "since": 3} for c, s, t in found])
        run.finish()


def test_a_run_that_judged_itself_shows_what_it_found_and_no_run_is_judged(tmp_path, monkeypatch):
    judged_by_themselves(tmp_path)
    monkeypatch.setattr(verdict, "_diagnosed", lambda opened: pytest.fail("a run was judged for the table"))
    rows = {row["run"]: row for row in listed(tmp_path).news(None).added}
    assert {name: row["finding"] for name, row in rows.items()} == SAID
    assert sorted(rows, key=lambda name: -rows[name]["rank"]) == list(FOUND)
    assert not any("finding" in name for row in rows.values() for name in row if name.startswith("set "))


@pytest.fixture
def unopened(monkeypatch):
    monkeypatch.setattr("cockpitlite.dashboard.unopened.REST", 0)
    return Unopened()


def until_judged(listing_):
    """Look at the table again until no run waits; return its rows by their names."""
    end = time.monotonic() + 90
    while True:
        rows = {row["run"]: row for row in listing_.news(None).added}
        if all(row["finding"] != listing.NOT_JUDGED for row in rows.values()):
            return rows
        assert time.monotonic() < end, rows
        time.sleep(0.05)


def test_runs_that_nobody_opens_are_judged_meanwhile_and_keep_it(tmp_path, unopened):
    before = {}
    for name, kind in (("fine", "good"), ("broken", "nonfinite")):
        path = write_run(tmp_path / f"{name}.cockpit", kind, 300)
        os.utime(path, (1e9, 1e9))
        before[path] = path.stat().st_mtime_ns
    found = Listing(Runs(tmp_path), Judge(), unopened)
    rows = until_judged(found)
    assert rows["broken"]["finding"].startswith("✕ Error: ") and rows["broken"]["rank"] == listing.RANKS["error"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert last_kept(load(tmp_path / "broken.cockpit").meta)[0].severity == "error"
    again = {row["run"]: row["finding"] for row in listed(tmp_path).news(None).added}  # after a new start of the server
    assert again == {name: row["finding"] for name, row in rows.items()}


def test_the_file_of_a_run_that_has_not_finished_is_left_as_it_is(tmp_path, unopened):
    run = SyntheticRun(tmp_path / "live.cockpit", "nonfinite")
    run.write(300)
    contents = [path.read_bytes() for path in (run.path, log_of(run.path))]
    rows = until_judged(Listing(Runs(tmp_path), Judge(), unopened))
    assert rows["live"]["finding"].startswith("✕ Error: ")
    assert [path.read_bytes() for path in (run.path, log_of(run.path))] == contents
    assert not describe_further(run.path, findings=[])
    run.finish()
    assert describe_further(run.path, findings=[]) and last_kept(load(run.path).meta) == []


def test_a_run_that_cannot_be_judged_keeps_no_other_waiting(tmp_path, unopened):
    names = []
    for name in ("one", "two"):
        path = write_run(tmp_path / f"{name}.cockpit", "nonfinite", 300)
        names.append((name, path))
    names[0][1].write_bytes(b"damaged")
    unopened.want(names)
    end = time.monotonic() + 90
    while unopened.known("two") is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert unopened.known("one") is None
    assert unopened.known("two")[0].severity == "error"


def test_what_the_page_has_found_counts_before_what_the_training_left(tmp_path):
    judged_by_themselves(tmp_path)
    judge, runs = Judge(), Runs(tmp_path)
    judge.findings(runs.open("blew-up.cockpit"))
    rows = {row["run"]: row for row in Listing(runs, judge).news(None).added}
    assert "NaN" not in rows["blew-up"]["finding"]


@pytest.mark.parametrize(
    "entry", [3, "R0", [3], [{"code": "R0"}], [{"code": "R0", "severity": "grave", "title": "x", "since": 0}], {}]
)
def test_findings_that_no_training_wrote_are_none(tmp_path, entry):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(60)
    run.writer.meta(findings=entry)
    run.finish()
    assert listed(tmp_path).news(None).added[0]["finding"] == listing.NOT_JUDGED


def test_nothing_is_all_well_after_a_few_steps(tmp_path):
    run = SyntheticRun(tmp_path / "run.cockpit")
    run.write(3)
    run.writer.meta(findings=[])
    run.finish()
    assert listed(tmp_path).news(None).added[0]["finding"] == "… No verdict yet"


def test_only_settings_that_differ_have_columns(tmp_path):
    swept(tmp_path)
    fields = table._fields(table._columns(listed(tmp_path).news(None).added))
    assert "rate" in fields and "last loss" in fields
    assert "set optimizer.groups.0.momentum" not in fields


def test_runs_are_told_apart_by_colour_and_dashes():
    looks = {(overlays.colour(place), overlays.dash(place)) for place in range(24)}
    assert len(looks) == 24


def test_the_comparison_names_runs_as_text_and_says_what_differs(tmp_path):
    swept(tmp_path)
    runs = {f"<b>{place}</b>%{{x}}": load(path) for place, path in enumerate(sorted(tmp_path.iterdir()))}
    text = json.dumps([part.to_plotly_json() for part in overlays.comparison(runs, ["loss"])], default=_plain)
    assert "Last loss against the learning rate" in text and "optimizer.groups.0.lr" in text
    figure = overlays._overlay(overlays.shared(next(iter(runs.values())))[0], runs)
    assert len(figure.data) == 3
    assert all("<b>0" not in line.name and "</b>%{x}" not in line.hovertemplate for line in figure.data)
    assert overlays.Chart("loss", "Loss", figure).words.startswith("Loss: <b>0</b>%{x} ")  # a text, of no HTML


def _plain(thing):
    return thing.to_plotly_json() if hasattr(thing, "to_plotly_json") else str(thing)


ROWS = "document.querySelectorAll('.runs-table .ag-pinned-left-cols-container .ag-row').length"
NAMES = (
    "[...document.querySelectorAll('.runs-table .ag-pinned-left-cols-container .ag-row')]"
    ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
    ".map((row) => row.querySelector('[col-id=run]').textContent)"
)
CHECKED = "[...document.querySelectorAll('.runs-table .ag-row-selected')].map((row) => row.getAttribute('row-id'))"


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_sorting_filters_and_selection_survive_updates_and_a_click_opens_a_run(browser, tmp_path, scheme, width):
    swept(tmp_path)
    live = SyntheticRun(tmp_path / "other.cockpit")
    live.write(5)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs", **options) as seen:
        seen.until(f"{ROWS} === 4")
        field = seen.page.locator(".runs-table .ag-floating-filter input").first
        field.fill("rate")
        seen.until(f"{ROWS} === 3")
        header = seen.page.locator(".runs-table .ag-header-cell[col-id=run] .ag-header-cell-label")
        header.click()
        seen.until(f"{NAMES}.join() === 'rate-0.01,rate-0.1,rate-1.0'")
        header.click()
        seen.until(f"{NAMES}.join() === 'rate-1.0,rate-0.1,rate-0.01'")
        for place in range(3):
            seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place).click()
        seen.until("document.querySelectorAll('.overlay-plot .scatterlayer').length === 4")
        assert seen.page.locator(".differences th[scope=row]").all_inner_texts() == ["optimizer.groups.0.lr"]
        legend = seen.page.locator(".overlay-plot .legendtext").all_text_contents()
        assert {"rate-0.01", "rate-0.1", "rate-1.0"} <= set(legend)
        before = sorted(set(seen.page.evaluate(CHECKED)))
        swept(tmp_path, rates=(0.5,))
        live.write(5)
        seen.until(f"{NAMES}.join() === 'rate-1.0,rate-0.5,rate-0.1,rate-0.01'")  # in its place, as sorted
        assert sorted(set(seen.page.evaluate(CHECKED))) == before and len(before) == 3
        assert field.input_value() == "rate"
        background = "getComputedStyle(document.querySelector('.runs-table .ag-root-wrapper')).backgroundColor"
        assert seen.page.evaluate(background) == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 27, 35)"}[scheme]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        seen.page.locator(".runs-table [col-id=run].ag-cell", has_text="rate-0.1").click()
        seen.page.locator("#step", has_text="step 39").wait_for()
        seen.until("document.documentElement.dataset.page === 'overview'")
        assert "run=rate-0.1.cockpit" in seen.page.url and "page=" not in seen.page.url
        seen.page.go_back()
        seen.until("document.documentElement.dataset.page === 'runs'")
        assert sorted(set(seen.page.evaluate(CHECKED))) == before
    live.finish()


HEADER = ".runs-table .ag-header-cell[col-id={}] .ag-header-cell-label"


@pytest.mark.browser
def test_findings_sort_by_how_grave_they_are_and_are_filtered_by_their_words(browser, tmp_path):
    judged_by_themselves(tmp_path)
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 5")
        seen.page.locator(HEADER.format("finding")).click()
        seen.until(f"{NAMES}.join() === 'blew-up,slow,unjudged,noted,quiet'")  # the page has judged the run it shows
        seen.page.locator(HEADER.format("finding")).click()
        seen.until(f"{NAMES}.join() === 'quiet,noted,unjudged,slow,blew-up'")
        seen.page.locator(".runs-table .ag-floating-filter[col-id=finding] input").first.fill("warning")
        seen.until(f"{NAMES}.join() === 'slow'")
        assert seen.page.locator(".runs-table .warning-cell").count() == 1


@pytest.mark.browser
def test_names_from_files_are_text_in_the_table_the_findings_and_the_comparison(browser, tmp_path):
    markup = "<img src=x onerror=window.hurt=1>"
    for place in range(3):
        panel = Panel(markup, "gradients", layered=True).named(markup)
        run = SyntheticRun(tmp_path / f"{place}{markup}.cockpit", panels=(*PANELS, panel), layers=(markup, "b"))
        run.writer.meta(
            findings=[{"code": markup, "severity": "error", "title": markup, "since": 0}],
            model={"class": markup},
            device=markup,
            optimizer={"class": markup, "groups": [{"lr": 10.0**-place, markup: markup * (place + 1)}]},
            seed=f"{markup}{place}",
        )
        for step in range(40):
            run.writer.reading(markup, step, math.nan if step > 20 else 1.0)
            run.writer.layers(markup, step, [markup, "b"], np.array([math.nan, 1.0]))
        run.write(40)
        run.writer.event(20, "nonfinite", {"what": "gradient", "layer": markup, "sample": 1})
        run.finish()
    with page_server(tmp_path) as server, visit(browser, server.url + "?page=runs") as seen:
        seen.until(f"{ROWS} === 3")
        for place in range(3):
            seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place).click()
        seen.until("document.querySelectorAll('.overlay-plot .scatterlayer').length === 4")
        seen.page.locator(".instruments button").first.click()
        seen.page.get_by_role("option", name=markup).click()
        seen.page.keyboard.press("Escape")
        seen.until("document.querySelectorAll('.overlay-plot .scatterlayer').length === 5")
        seen.page.locator(".overlay-plot").first.hover()
        seen.page.locator(".runs-table [col-id=finding].ag-cell").last.hover()
        seen.page.locator(".ag-tooltip, .ag-tooltip-custom").first.wait_for()
        assert markup in seen.page.locator(".runs-table [col-id=finding].ag-cell").last.inner_text()
        assert markup in seen.page.locator(".differences").inner_text()
        unhurt(seen)
        seen.page.locator(".runs-table [col-id=run].ag-cell").first.click()
        seen.until("document.querySelectorAll('.finding').length > 0")
        seen.page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        seen.until_charts(2)
        unhurt(seen)


def unhurt(seen):
    assert seen.page.locator("img[src=x]").count() == 0
    assert seen.page.evaluate("window.hurt") is None


OVERLAY = "document.querySelector('.overlay-plot .js-plotly-plot')"
ENDS = f"{OVERLAY}._fullData.map((trace) => Number(trace.x.at(-1)))"
KEPT = f"[{OVERLAY}.layout.xaxis.range, {OVERLAY}._fullData.map((trace) => trace.visible), window.scrollY]"


@pytest.mark.browser
def test_a_comparison_grows_with_its_live_runs_and_stays_as_the_person_left_it(browser, tmp_path):
    write_run(tmp_path / "done.cockpit", steps=50)
    with (
        trainer(tmp_path / "live.cockpit", rate=40, head=100),
        page_server(tmp_path, wait=True) as server,
        visit(browser, server.url + "?page=runs") as seen,
    ):
        seen.until(f"{ROWS} === 2")
        for place in range(2):
            seen.page.locator(".runs-table .ag-row .ag-checkbox-input").nth(place).click()
        seen.until(f"{OVERLAY} && {OVERLAY}.data.length === 2")
        seen.page.locator(".overlay-plot").first.scroll_into_view_if_needed()
        box = seen.page.locator(".overlay-plot .nsewdrag").first.bounding_box()
        seen.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=6)
        seen.page.mouse.up()
        seen.until(f"!{OVERLAY}._fullLayout.xaxis.autorange")
        seen.page.locator(".overlay-plot .legendtoggle").first.click(force=True)
        seen.until(f"{OVERLAY}._fullData.some((trace) => trace.visible === 'legendonly')")
        before, ends = seen.page.evaluate(KEPT), seen.page.evaluate(ENDS)
        for _ in range(3):
            seen.until(f"Math.max(...{ENDS}) > {max(ends)}")
            ends = seen.page.evaluate(ENDS)
        assert min(ends) == 49  # of the run that is done
        assert seen.page.evaluate(KEPT) == before


def test_the_stand_of_runs_is_another_when_one_of_them_has_grown(tmp_path):
    run = SyntheticRun(tmp_path / "live.cockpit")
    run.write(5)
    write_run(tmp_path / "done.cockpit", steps=5)
    rows = listed(tmp_path)
    rows.news(None)
    both, done = rows.stand(["live.cockpit", "done.cockpit"]), rows.stand(["done.cockpit"])
    run.write(5)
    rows.news(None)
    assert rows.stand(["live.cockpit", "done.cockpit"]) != both
    assert rows.stand(["done.cockpit"]) == done
    run.finish()
