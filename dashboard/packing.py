"""Answers on fewer bytes: what is new of the charts is mostly digits, and goes into half the room; files are kept."""

from __future__ import annotations

import gzip

from flask import Flask, Response, request

WORTH_PACKING = 2000  # bytes of an answer, below which it is sent as it is
KEPT = "private, max-age=31536000, immutable"


def pack(server: Flask) -> None:
    """Compress whole answers for browsers that read them so; what is streamed or came from a file stays as it is."""

    @server.after_request
    def compress(answer: Response) -> Response:
        known = "gzip" in request.headers.get("Accept-Encoding", "") and "Content-Encoding" not in answer.headers
        if known and answer.status_code == 200 and not answer.is_streamed and len(answer.get_data()) >= WORTH_PACKING:
            answer.set_data(gzip.compress(answer.get_data(), compresslevel=1))
            answer.headers["Content-Encoding"] = "gzip"
            answer.vary.add("Accept-Encoding")
        return answer


def keep(server: Flask, assets: str) -> None:
    """Have browsers keep the files below a path: an address with ``m`` in it is another one when its file changes."""

    @server.after_request
    def say(answer: Response) -> Response:
        if request.path.startswith(assets) and "m" in request.args and answer.status_code == 200:
            answer.headers["Cache-Control"] = KEPT
        return answer
