"""Every test starts from the same random state, on one thread, with a run file of its own."""

import os
import random
import signal
import sys

import hypothesis
import numpy as np
import pytest

# Started as a background job, a shell has children ignore Ctrl-C, and theirs inherit it: some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a test takes says nothing on a machine that others use as well.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")  # the tests of the viewing half must not pay for loading it
    if torch is not None:
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def uncompiled():
    """What a test compiles is forgotten: a watch looks twice where anything in its process was compiled."""
    yield
    compiler = sys.modules.get("torch._dynamo")
    if compiler is not None and compiler.eval_frame.cached_backends:
        compiler.reset()


@pytest.fixture(scope="session")
def browser():
    from visiting import CHROMIUM, missing

    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(f"the page must be tested here, but {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def run_path(tmp_path):
    return tmp_path / "run.cockpit"


@pytest.fixture
def watch(run_path):
    """Watch into this test's run file, tracking every step unless told otherwise; closes what is left open."""
    import cockpitlite

    handles = []

    def watched(optimizer, model=None, **options):
        if "overhead" not in options:
            options.setdefault("every", 1)
        watching = cockpitlite.watch(optimizer, model, **{"run": run_path, **options})
        handles.append(watching.cockpit)
        return watching

    yield watched
    for handle in handles:
        handle.close()
