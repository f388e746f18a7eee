"""How the page's server ends: soon, in silence, and with no thread left that could disturb the interpreter's end."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_runs import write_run

PATIENCE = 60
# Serves a run with two more addresses: one is answered when a line comes on the standard input, one never ends.
SERVE = """
import signal, sys, threading
from cockpitlite.dashboard import serving

class Falling:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def create_app(*args, **options):
    app = made(*args, **options)

    @app.server.route("/slow")
    def slow():
        print("asked", flush=True)
        sys.stdin.readline()
        return "answered"

    @app.server.route("/endless")
    def endless():
        def much():
            print("asked", flush=True)
            while True:
                yield b"x" * 100_000
        return app.server.response_class(much())

    return app

made, serving.create_app = serving.create_app, create_app
signal.signal(signal.SIGUSR1, lambda *_: Falling())
serving.PATIENCE = float(sys.argv[2])
serving.serve(sys.argv[1], port=0, open_browser=False)
print("left:", *(thread.name for thread in threading.enumerate() if thread is not threading.main_thread()))
"""


class Served:
    """The server in a process of its own, and connections to it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(process.stdout.readline().split(":")[2].split("/")[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def until_nobody_listens(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
            except ConnectionError:
                return
            assert time.monotonic() < end, "it still listens"

    def rest(self, tell: str = "") -> tuple[int, str, str]:
        """Return the exit status and what was printed."""
        printed, errors = self.process.communicate(tell, timeout=PATIENCE)
        return self.process.returncode, printed, errors


@contextlib.contextmanager
def served(path: Path, patience: float = PATIENCE) -> Iterator[Served]:
    write_run(path, steps=2)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(path), str(patience)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


ENDED = (0, "left:\n", "")


def test_a_connection_that_nobody_asks_on_keeps_nothing_open(run_path):
    with served(run_path) as server, server.connect() as idle, server.connect() as half:
        half.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        page = http.client.HTTPConnection("127.0.0.1", server.port)
        page.request("GET", "/")  # answered after the two before it were taken up
        assert page.getresponse().status == 200
        page.close()
        server.process.send_signal(signal.SIGINT)
        assert server.rest() == ENDED
        assert idle.recv(1) == b""


def test_an_answer_under_way_is_finished(run_path):
    with served(run_path) as server:
        asking = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        asking.request("GET", "/slow")
        assert server.process.stdout.readline() == "asked\n"
        server.process.send_signal(signal.SIGINT)
        server.until_nobody_listens()
        assert server.rest("go on\n") == ENDED
        assert asking.getresponse().read() == b"answered"
        asking.close()


def test_a_visitor_who_does_not_listen_delays_the_end_by_so_much_only(run_path):
    with served(run_path, patience=0.1) as server, server.connect() as deaf:
        deaf.sendall(b"GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert server.process.stdout.readline() == "asked\n"
        server.process.send_signal(signal.SIGINT)
        assert server.rest() == ENDED


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no signal to send")
def test_ctrl_c_in_the_middle_of_a_destructor_is_not_lost(run_path):
    with served(run_path) as server:
        server.process.send_signal(signal.SIGUSR1)
        assert server.rest() == ENDED


def test_where_ctrl_c_is_taken_care_of_it_is_left_alone(run_path):
    write_run(run_path, steps=2)
    program = (
        "import signal, sys\nfrom cockpitlite.dashboard import serve\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "serve(sys.argv[1], port=0, open_browser=False)"
    )
    with subprocess.Popen([sys.executable, "-c", program, run_path], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 7


def test_another_thread_than_the_main_one_serves_as_well(run_path):
    write_run(run_path, steps=2)
    program = (
        "import sys, threading\nfrom cockpitlite.dashboard import serve\n"
        "options = {'port': 0, 'open_browser': False}\n"
        "thread = threading.Thread(target=serve, args=sys.argv[1:], kwargs=options)\n"
        "thread.start()\nthread.join()"
    )
    with subprocess.Popen([sys.executable, "-c", program, run_path], stdout=subprocess.PIPE, text=True) as process:
        page = http.client.HTTPConnection("127.0.0.1", Served(process).port, timeout=PATIENCE)
        page.request("GET", "/")
        assert page.getresponse().status == 200
        page.close()
        process.kill()
