"""Answers on fewer bytes: what is new of the charts is mostly digits, and goes into half the room; files are kept."""

from __future__ import annotations

import functools
import gzip

from flask import Flask, Response, request

WORTH_PACKING = 2000  # bytes of an answer, below which it is sent as it is
SAME_FOR_ALL = ("text/javascript", "application/javascript", "text/css")  # packed once
KEPT = "private, max-age=31536000, immutable"


def pack(server: Flask) -> None:
    """Compress whole answers, scripts and styles for browsers that read them so; what is streamed stays as it is."""

    @server.after_request
    def compress(answer: Response) -> Response:
        known = "gzip" in request.headers.get("Accept-Encoding", "") and "Content-Encoding" not in answer.headers
        shared = answer.mimetype in SAME_FOR_ALL
        if not known or answer.status_code != 200 or (answer.is_streamed and not shared):
            return answer
        answer.direct_passthrough = False  # a file is read
        data = answer.get_data()
        if len(data) >= WORTH_PACKING:
            answer.set_data(_packed_once(data) if shared else gzip.compress(data, compresslevel=1))
            answer.headers["Content-Encoding"] = "gzip"
            answer.vary.add("Accept-Encoding")
        return answer


@functools.lru_cache(maxsize=64)
def _packed_once(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=3)


def keep(server: Flask, assets: str) -> None:
    """Have browsers keep the files below a path: an address with ``m`` in it is another one when its file changes."""

    @server.after_request
    def say(answer: Response) -> Response:
        if request.path.startswith(assets) and "m" in request.args and answer.status_code == 200:
            answer.headers["Cache-Control"] = KEPT
        return answer
