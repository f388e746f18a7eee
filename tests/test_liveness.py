"""Whether a run is live: signs of life, and the process that writes it where that can be looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cockpitlite.store import RunWriter, is_live, is_there, load, this_process

WRITE = """
import os, sys
from cockpitlite.store import RunWriter, this_process
writer = RunWriter(sys.argv[1])
writer.meta(status="running", pid=os.getpid(), process=this_process())
writer.commit()
print("written", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(this_process() is None, reason="this system does not show its processes")


def described(**others: object) -> dict[str, object]:
    return {
        "status": "running",
        "heartbeat": time.time(),
        "pid": os.getpid(),
        "process": this_process(),
    } | others


def test_a_killed_process_is_known_to_be_gone_at_once(tmp_path):
    path = tmp_path / "run.cockpit"
    command = [sys.executable, "-c", WRITE, str(path)]
    where = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=where) as process:
        assert process.stdout.readline().strip() == b"written"
        assert is_there(load(path).meta) and load(path).live
        process.kill()
        process.stdin.close()
        while process.stdout.read():
            pass  # until it has ended; nobody has waited for it yet
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        meta = load(path).meta
        assert is_there(meta) is False and not load(path).live  # a dead process that still has its number
        process.wait()
        assert is_there(meta) is False
        assert is_live(meta | {"process": None, "heartbeat": time.time()})  # a file that does not tell


@pytest.mark.parametrize("process", [None, "x", {}, {"place": "another machine", "began": 1}, {"place": None}])
def test_of_a_process_elsewhere_the_signs_of_life_alone_tell(process):
    meta = described(process=process, pid=2**22 + 1)  # a number that no process has
    assert is_there(meta) is None
    assert is_live(meta)
    assert not is_live(meta | {"heartbeat": time.time() - 60})


def test_a_later_process_with_the_same_number_is_another():
    process = this_process()
    assert is_there(described())
    assert is_there(described(process=process | {"began": process["began"] - 1})) is False


def test_processes_that_may_be_hidden_are_not_taken_for_gone(tmp_path, monkeypatch):
    process = this_process()
    monkeypatch.setattr("cockpitlite.store.liveness._place", lambda: process["place"])
    monkeypatch.setattr("cockpitlite.store.liveness._PROC", tmp_path)  # shows no process at all
    assert is_there(described()) is None


def test_a_silent_process_is_not_live(tmp_path):
    writer = RunWriter(tmp_path / "run.cockpit")
    writer.meta(status="running", pid=os.getpid(), process=this_process())
    writer.commit()
    assert load(writer.path).live
    assert not is_live(load(writer.path).meta | {"heartbeat": time.time() - 60})
    writer.close()
