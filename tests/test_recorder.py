"""The recorder: whatever the file does, the training thread goes on, and what is missing in the file is told there."""

import contextlib
import math
import sqlite3
import threading
import time

import numpy as np
import pytest
import torch

from cockpitlite import load, recorder
from cockpitlite.instrument import Histogram, Layered
from cockpitlite.recorder import Block, Recorder
from cockpitlite.store import RunWriter


@pytest.fixture
def recording(run_path):
    found = Recorder(RunWriter(run_path))
    yield found
    found.close()


@pytest.fixture
def holding(run_path):
    """A function that lets another process hold the file until it is left."""

    @contextlib.contextmanager
    def held():
        db = sqlite3.connect(run_path)
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.rollback()
            db.close()

    return held


def block(step: int, numbers: int = 1) -> Block:
    readings = [
        ("loss", step, torch.tensor(float(step))),
        ("wide", step, Layered(0.5, ["a"] * numbers, [1.0] * numbers)),
    ]
    return Block(step, readings, seconds=0.1 * step)


def until(condition) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_a_step_leaves_comes_back(recording, run_path):
    layers = ["0.weight", "0.bias"]
    for step in range(3):
        tensors = Layered(torch.tensor(3.0 + step), layers, torch.tensor([1.0, math.nan]))
        found = Block(step, seconds=1.0 + step)
        found.readings = [
            ("loss", step, torch.tensor(0.5, dtype=torch.bfloat16)),
            ("grad_norm", step, tensors),
            ("batch_size", step, 12),
            ("learning_rate", step, Layered(0.1, ["0"], [0.1])),
            ("alpha", step - 1, torch.tensor(-math.inf)),
            ("hist", step, Histogram(layers, torch.tensor([[1, 2], [3, 4]]), (torch.tensor([0.0, 1.0, 2.0]),))),
        ]
        recording.block(found)
    recording.loss(3, torch.tensor(7.0))
    recording.reading(3, "valid", 0.25)
    recording.close()
    run = load(run_path)
    assert [part.tolist() for part in run.series("loss")] == [[0, 1, 2, 3], [0.5, 0.5, 0.5, 7.0]]
    assert [part.tolist() for part in run.series("grad_norm")] == [[0, 1, 2], [3.0, 4.0, 5.0]]
    assert [part.tolist() for part in run.series("alpha", since=0)] == [[0, 1], [-math.inf] * 2]
    assert run.series("batch_size")[1].tolist() == [12.0] * 3
    steps, names, values = run.layers("grad_norm", since=1)
    assert (steps.tolist(), names) == ([1, 2], layers)
    np.testing.assert_array_equal(values, [[1.0, math.nan]] * 2)
    assert run.layers("learning_rate")[2].tolist() == [[0.1]] * 3
    assert run.histogram("hist", 2)[0].tolist() == [4, 6]
    assert run.series("valid")[1].tolist() == [0.25]
    assert run.clock()[1].tolist() == [1.0, 2.0, 3.0]
    assert run.names() == ["alpha", "batch_size", "grad_norm", "hist", "learning_rate", "loss", "valid"]
    assert run.last_step == 3


def test_a_file_that_another_process_holds_is_written_when_it_is_free(recording, run_path, holding):
    recording.flush()
    with holding():
        for step in range(50):
            recording.block(block(step))
        assert load(run_path).last_step is None
    recording.close()
    assert recording.failure is None
    assert load(run_path).series("loss")[0].tolist() == [*range(50)]
    assert load(run_path).events("dropped") == []


def test_what_is_too_much_to_wait_is_left_out_and_told(recording, run_path, holding, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_WAITING", 2**20)
    recording.flush()
    with holding():
        with pytest.warns(UserWarning, match=r"is written too slowly.*from step \d+ on, steps are left out") as told:
            for step in range(200):
                recording.block(block(step, 1000))
        recording.event(7, "told", {})
    assert len(told) == 1
    recording.flush()
    for step in range(200, 210):
        recording.block(block(step, 1000))
    recording.close()
    run = load(run_path)
    kept = run.series("loss")[0].tolist()
    (event,) = run.events("dropped")
    first, last = event.data["from"], event.data["to"]
    assert 100 < first < 140  # a mebibyte of blocks of eight kibibytes
    assert last == 199
    assert kept == [*range(first), *range(200, 210)]
    assert event.data["blocks"] == last - first + 1
    assert len(run.events("told")) == 1  # what is small is never left out


def test_what_was_left_out_last_is_told_at_the_end(recording, run_path, holding, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_WAITING", 2**16)
    recording.flush()
    with holding(), pytest.warns(UserWarning, match="too slowly"):
        for step in range(50):
            recording.block(block(step, 1000))
    recording.close()
    (event,) = load(run_path).events("dropped")
    assert event.data["to"] == 49


def test_a_file_that_is_stuck_keeps_nobody_from_ending(recording, monkeypatch):
    """A disk that does not answer: the thread stays where it is, and the process may end without it."""
    answering = threading.Event()
    monkeypatch.setattr(recorder, "PATIENCE", 0.1)
    monkeypatch.setattr(recording._writer, "begin", lambda: answering.wait(60))
    recording.block(block(0))
    with pytest.warns(UserWarning, match="could not be written for") as told:
        recording.close()
    assert len(told) == 1
    answering.set()
    until(lambda: not recording._thread.is_alive())


def test_a_file_that_is_slow_is_waited_for_as_long_as_it_moves(recording, run_path, monkeypatch):
    write = recording._write

    def slowly(item):
        time.sleep(0.05)
        write(item)

    monkeypatch.setattr(recorder, "PATIENCE", 0.2)
    monkeypatch.setattr(recording, "_write", slowly)
    for step in range(20):
        recording.block(block(step))
    recording.close()
    assert load(run_path).last_step == 19


def test_without_its_thread_nothing_piles_up(recording, monkeypatch):
    """As in a process that was forked off, to which threads do not come along."""
    monkeypatch.setattr(recording._thread, "is_alive", lambda: False)
    for step in range(100):
        recording.block(block(step))
        recording.loss(step, torch.tensor(1.0))
    assert recording._queue.empty()
    monkeypatch.undo()


def test_losses_are_written_while_the_training_rests(recording, run_path):
    """As in a validation: a process that is killed in it has lost nothing."""
    recording.flush()
    recording._shipped = time.monotonic() + 60  # nothing is sent by itself
    for step in range(3):
        recording.loss(step, float(step))
    until(lambda: "loss" in load(run_path).names() and load(run_path).series("loss")[0].tolist() == [0, 1, 2])


def test_losses_on_a_device_wait_for_the_training(recording, run_path):
    recording._shipped = time.monotonic() + 60
    recording.loss(0, torch.tensor(1.0))
    time.sleep(3 * recorder.COMMIT_SECONDS)
    assert load(run_path).names() == []
    recording.flush()
    assert load(run_path).series("loss")[1].tolist() == [1.0]


def test_numbers_that_are_logged_count_as_well(recording, run_path, holding, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_WAITING", 100 * recorder.ITEM_BYTES)
    recording.flush()
    with holding(), pytest.warns(UserWarning, match="too slowly"):
        for step in range(1000):
            recording.reading(step, "logged", 0.5)
        assert recording._queue.qsize() < 110
    recording.close()
    run = load(run_path)
    (event,) = run.events("dropped")
    assert run.series("logged")[0].tolist() == [*range(event.data["from"])]
    assert event.data["to"] == 999
    assert recording._taken == recording._written


def test_a_file_that_fails_is_told_and_keeps_no_memory(recording, monkeypatch):
    monkeypatch.setattr(recording._writer, "frame", lambda *_: 1 / 0)
    recording.block(block(0))
    recording.flush()
    assert recording.failure == "ZeroDivisionError: division by zero"
    for step in range(1, 10):
        recording.block(block(step))
    assert recording._taken == recording._written
    with pytest.warns(UserWarning, match="recording to .* has stopped .*ZeroDivisionError.*training goes on"):
        recording.close()


def test_a_full_disk_is_told_with_what_helps_and_what_was_written_stays(recording):
    recording.block(block(0, 100))
    recording.flush()
    pages = recording._writer._db.execute("PRAGMA page_count").fetchone()[0]
    recording._writer._db.execute(f"PRAGMA max_page_count = {pages}")
    for step in range(1, 200):
        recording.block(block(step, 1000))
    with pytest.warns(
        UserWarning, match=r"has stopped \(the disk is full: free some space, and watch with resume=True"
    ):
        recording.close()
    assert 0 in load(recording.path).series("loss")[0]


def test_the_time_of_the_thread_is_told(recording):
    recording.flush()
    before = recording.seconds
    for step in range(200):
        recording.block(block(step, 100))
    recording.flush()
    assert recording.seconds > before > 0


def test_pinned_memory_is_used_again(monkeypatch):
    made = []

    def empty(size, *, dtype, device, pin_memory):
        assert pin_memory
        made.append(size)
        return torch.zeros(size, dtype=dtype)

    monkeypatch.setattr(recorder.torch, "empty", empty)
    buffers = recorder._Buffers()
    for numbers in (300, 500, 512, 400):
        taken = buffers.take(torch.zeros(numbers))
        assert taken.numel() == 512
        buffers.give_back(taken)
    assert made == [512]
    first, second = buffers.take(torch.zeros(400)), buffers.take(torch.zeros(400))
    assert first.data_ptr() != second.data_ptr()
    assert made == [512, 512]


def test_numbers_that_change_afterwards_are_recorded_as_they_were(recording, run_path):
    value = torch.tensor([1.0, 2.0], dtype=torch.float64)
    recording.block(Block(0, [("a", 0, Layered(value[0], ["x", "y"], value))]))
    value.fill_(9.0)
    recording.close()
    assert load(run_path).layers("a")[2].tolist() == [[1.0, 2.0]]
