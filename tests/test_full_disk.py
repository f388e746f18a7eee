"""A disk that is really full: the training goes on, the page says so, and with space again the file goes on too."""

from __future__ import annotations

import errno
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from test_dashboard import request_for, words_of
from torch import nn

from cockpitlite import watch
from cockpitlite.dashboard import ticks
from cockpitlite.dashboard.runs import Runs
from cockpitlite.dashboard.verdict import Judge
from cockpitlite.store import load

SIZE = "2m"


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of which a few steps are a good part."""
    path = tmp_path / "disk"
    path.mkdir()
    if not sys.platform.startswith("linux"):
        pytest.skip("a small disk in memory is made on Linux")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(path)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small disk can be made here ({made.stderr.strip()})")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Write to a file until nothing more fits on its disk."""
    with pytest.raises(OSError) as told, path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert told.value.errno == errno.ENOSPC


class Training:
    """A small training whose course is always the same."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.random = torch.Generator().manual_seed(1)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            x = torch.randn(8, 20, generator=self.random)
            nn.functional.mse_loss(self.model(x), x.sum(dim=1, keepdim=True)).backward()
            self.optimizer.step()


def frame_of(folder: Path) -> dict:
    answer = ticks.answered(Runs(folder), Judge(), request_for("run.cockpit"))
    assert "Gradient norm" in words_of(answer["board"])  # the page shows what there is
    return answer["frame"]


def test_a_full_disk_stops_neither_the_training_nor_the_page_and_space_lets_the_file_go_on(disk, monkeypatch):
    plain = Training()
    plain.train(320)
    path = disk / "run.cockpit"
    watched = Training()
    watched.optimizer = first = watch(watched.optimizer, watched.model, run=path, every=1)
    watched.train(20)
    first.cockpit._recorder.flush()
    fill(disk / "filler")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        watched.train(300)
        first.cockpit.close()
    assert "the disk is full: free some space, and watch with resume=True" in str([each.message for each in told])
    assert all(torch.equal(*pair) for pair in zip(plain.model.parameters(), watched.model.parameters(), strict=True))
    assert 19 <= load(path).last_step < 319
    with monkeypatch.context() as later:
        later.setattr("cockpitlite.store.liveness.LIVE_SECONDS", 0.0)
        said = frame_of(disk)
    assert "the disk is full. Free some space, and watch with resume=True" in said["notice"]
    assert "Ended" in words_of(said["state"])
    (disk / "filler").unlink()
    resumed = watch(torch.optim.SGD(watched.model.parameters(), lr=0.01), watched.model, run=path, every=1, resume=True)
    watched.optimizer, last = resumed, load(path).last_step
    watched.train(5)
    resumed.cockpit._recorder.flush()
    assert load(path).last_step > last
    assert frame_of(disk)["notice"] is None
    resumed.cockpit.close()
    assert "Finished" in words_of(frame_of(disk)["state"])
