"""A small reverse proxy that shows a server under a path of its own."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections.abc import Iterator

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@contextlib.contextmanager
def reverse_proxy(prefix: str, port: int, *, strips: bool, host: str | None = None) -> Iterator[str]:
    """Show what listens on ``port`` under ``prefix`` and nothing else; yields the address.

    It ``strips`` the prefix off what it passes on, or leaves it there; ``host`` is the name it sends, or the visitor's.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not f"{self.path.partition('?')[0]}/".startswith(prefix):
                self._answer(404, [], b"not behind this proxy")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            path = "/" + self.path.removeprefix(prefix).lstrip("/") if strips else self.path
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream.request(self.command, path, body, headers | ({"Host": host} if host else {}))
            answer = upstream.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())
            upstream.close()

        do_POST = do_GET  # noqa: N815

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
