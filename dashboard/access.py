"""Who may see the page: on this machine anybody, elsewhere whoever has the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, redirect, request

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
FOREIGN = (
    "The name {!r} is not one this page is served under. A proxy in front of it must send the name that the page "
    "listens on (Host: 127.0.0.1)."
)
# Who may show the page in a frame: itself, and what runs on the visitor's machine, as notebooks and editors do.
NEIGHBOURS = ("'self'", "http://localhost:*", "http://127.0.0.1:*", "vscode-webview:", "vscode-file:")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token nobody guesses."""
    return secrets.token_urlsafe(24)


def guard(server: Flask, *, token: str | None, host: str | None, policy: Callable[[], str], prefix: str = "/") -> None:
    """Refuse requests that do not bring the token; where there is none, those that come by a foreign name.

    A page elsewhere can point a name of its own at this machine and so read what is served here; it cannot do so
    without that name in the Host header, and it never has the token, with which the page may be reached by whatever
    name a proxy has. The token comes once in the address (``?token=``) and then as a cookie. Without a ``host`` no name
    is foreign.
    """

    @server.before_request
    def check() -> Response | None:
        if token is None:
            known = host is None or _is_known_name(_host_name(request.host), host)
            return None if known else _refusal(FOREIGN.format(request.host))
        if _same(request.cookies.get(_cookie(token), ""), token):
            return None
        if not _same(request.args.get("token", ""), token):
            return _refusal("This page needs its token: open the address that was printed when it was started.")
        answer = redirect(_without_token())
        answer.set_cookie(_cookie(token), token, path=prefix, httponly=True, samesite="Lax")
        return answer  # type: ignore[return-value]  # a redirect is a response of werkzeug's

    @server.after_request
    def harden(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        answer.headers["Content-Security-Policy"] = policy()
        return answer


def hide(server: Flask, secret: str, page: str) -> None:
    """Answer only what is asked for below a first part of the path that is secret; ``page`` is the whole path to it.

    It does what a token does, where the browser keeps no cookies: in the frame of a page from elsewhere.
    """
    inner = server.wsgi_app

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        first, slash, rest = environ["PATH_INFO"].removeprefix("/").partition("/")
        if not _same(first, secret):
            refusal = _refusal("This page is not where it was asked for: open the address that was shown with it.")
            return refusal(environ, start_response)
        if not slash:
            return redirect(page)(environ, start_response)
        environ["PATH_INFO"] = f"/{rest}"
        return inner(environ, start_response)

    server.wsgi_app = outer  # type: ignore[method-assign]


def _without_token() -> str:
    """Return the address that was asked for, relative to itself (a proxy may serve it elsewhere), without its token."""
    rest = [(name, value) for name, value in request.args.items(multi=True) if name != "token"]
    return (request.path.rpartition("/")[2] or ".") + (f"?{urlencode(rest)}" if rest else "")


def _refusal(reason: str) -> Response:
    return Response(reason + "\n", status=403, mimetype="text/plain", headers=HEADERS)


def _cookie(token: str) -> str:
    """Name the cookie after its server: browsers share cookies between the ports of a machine."""
    return f"cockpitlite-{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _host_name(header: str) -> str:
    """Return the Host header without its port."""
    return header if header.endswith("]") else header.rsplit(":", 1)[0] if ":" in header else header


def _is_known_name(name: str, host: str) -> bool:
    """Whether a name may be used for a server that listens on ``host``: numbers are safe, foreign names are not."""
    if is_loopback(host):
        return name in LOOPBACK_NAMES or is_loopback(name)
    return _is_address(name) or name in (*LOOPBACK_NAMES, host, socket.gethostname(), socket.getfqdn())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
