"""The path that the page is reached under, where a proxy shows it below one of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from werkzeug.utils import redirect

PATH = re.compile(r"/([\w.~@%+-]+/)*", re.ASCII)


def path(prefix: str) -> str:
    """Return a prefix with a slash at both ends; ValueError for what is no path."""
    found = f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"
    if not PATH.fullmatch(found):
        raise ValueError(f"a prefix is a path such as /panel/, not {prefix!r}")
    return found


def under(server: Flask, prefix: str) -> None:
    """Answer below a prefix, whether the proxy takes it off the path of what it passes on, or leaves it there."""
    if prefix == "/":
        return
    inner = server.wsgi_app

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ["PATH_INFO"]
        if f"{asked}/" == prefix:
            return redirect(prefix)(environ, start_response)
        if asked.startswith(prefix):
            environ["PATH_INFO"] = asked[len(prefix) - 1 :]
        return inner(environ, start_response)

    server.wsgi_app = outer  # type: ignore[method-assign]
