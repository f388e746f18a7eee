"""What the first screen of a run needs is read, and drawn once, while the browser still starts the page's scripts."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from flask import Flask, Response, request

from cockpitlite.dashboard import live
from cockpitlite.dashboard.live import Asked
from cockpitlite.dashboard.runs import UNREADABLE, Runs, panels
from cockpitlite.dashboard.updates import View
from cockpitlite.dashboard.verdict import DiagnosisError, Judge
from cockpitlite.panel import Group, Panel

NAME = "reading ahead"  # of the threads that do
FIRST = 4  # panels of each group, about as many as a screen shows


def begin(server: Flask, runs: Runs, judge: Judge) -> None:
    """Begin to read a run as soon as the page is sent that will show it."""
    known: set[str] = set()

    @server.after_request
    def sent(response: Response) -> Response:
        if response.status_code == HTTPStatus.OK and response.mimetype == "text/html":
            key = request.args.get("run") or next((entry.key for entry in runs.entries()), None)
            if key is not None:
                threading.Thread(target=_read, args=(runs, judge, key, known), name=NAME, daemon=True).start()
        return response


def finish(patience: float) -> None:
    """Wait for what is being read, so many seconds at most."""
    for thread in [thread for thread in threading.enumerate() if thread.name == NAME]:
        thread.join(patience)


def _read(runs: Runs, judge: Judge, key: str, known: set[str]) -> None:
    with contextlib.suppress(DiagnosisError, *UNREADABLE):  # the page says so
        opened = runs.open(key)
        if opened.identity in known:
            return
        known.add(opened.identity)
        for place in _first(panels(opened.run)):
            live.news(opened, {place: Asked(View())})  # one at a time, so that nobody who asks has to wait for all
        judge.findings(opened)


def _first(drawn: Sequence[Panel]) -> Iterator[int]:
    seen: Counter[Group] = Counter()
    for place, panel in enumerate(drawn):
        seen[panel.group] += 1
        if seen[panel.group] <= FIRST:
            yield place
