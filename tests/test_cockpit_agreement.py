"""The readings equal those of Cockpit 1.0.2, where both measure the same: feed-forward networks trained by SGD.

Both train the same network on the same batches in float64, and both are asked at every step. Where they differ by
design: Cockpit stores neither the update size nor alpha of the last step, for it learns of a step's end at the next
one; we know the last update and lack only its alpha. Cockpit weighs the observations of the fit by the spread of single
samples, we by that of the batch's mean, which is the same while all batches have one size, as here. Cockpit takes a
variance of exactly zero for 1e-10, which does not happen here.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle.problems import PROBLEMS, STEPS
from torch import nn

import cockpitlite

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-cockpit" / "bin" / "python"

# Cockpit's quantity -> our reading, and whether it has a value for each parameter.
SAME = {
    "Loss": ("loss", False),
    "Alpha": ("alpha", False),
    "UpdateSize": ("update_size", True),
    "Distance": ("distance", True),
    "GradNorm": ("grad_norm", True),
    "NormTest": ("norm_test", False),
    "InnerTest": ("inner_test", False),
    "OrthoTest": ("ortho_test", False),
}
MISSING_AT_THE_END = {"alpha": {"Cockpit", "ours"}, "update_size": {"Cockpit"}}


@pytest.fixture(scope="module")
def cockpit():
    """What Cockpit reads: problem -> quantity -> step -> value."""
    if not PYTHON.exists():
        reason = "Cockpit has no environment here: `make tests` makes it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    script = Path(__file__).parent / "oracle" / "cockpit_reference.py"
    done = subprocess.run([PYTHON, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def one_thread():
    """As in the other environment: the order of a sum depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(PROBLEMS))
def both(request, cockpit, one_thread, tmp_path_factory):
    """Cockpit's readings of a problem, our run of it, and the parameters that our training ended with."""
    problem = PROBLEMS[request.param]
    path = tmp_path_factory.mktemp("runs") / "run.cockpit"
    model = problem.model()
    optimizer = cockpitlite.watch(problem.optimizer(model), model, every=1, run=path)
    mean_loss = nn.CrossEntropyLoss()
    for images, classes in problem.batches():
        optimizer.zero_grad()
        mean_loss(model(images), classes).backward()
        optimizer.step()
    optimizer.cockpit.close()
    return cockpit[request.param], cockpitlite.load(path), list(model.parameters())


def test_both_trained_the_same(both):
    """Neither changed the training: the parameters are the same to the last bit."""
    theirs, _, parameters = both
    assert len(theirs["parameters"]) == len(parameters)
    for final, parameter in zip(theirs["parameters"], parameters, strict=True):
        assert torch.equal(torch.tensor(final, dtype=torch.float64), parameter.detach().flatten())


@pytest.mark.parametrize("quantity", SAME)
def test_a_reading_equals_cockpits(both, quantity):
    theirs, run, _ = both
    name, layered = SAME[quantity]
    steps, *_, values = run.layers(name) if layered else run.series(name)
    ours = dict(zip(steps.tolist(), values, strict=True))
    expected = {int(step): np.asarray(value) for step, value in theirs["readings"][quantity].items()}
    missing = MISSING_AT_THE_END.get(name, set())
    assert set(ours) == set(range(STEPS - ("ours" in missing)))
    assert set(expected) == set(range(STEPS - ("Cockpit" in missing)))
    for step, value in expected.items():
        scale = np.maximum(1.0, np.abs(value)) if name == "alpha" else np.abs(value)
        assert (np.abs(ours[step] - value) <= 1e-8 * scale).all(), f"{name} at step {step}: {ours[step]}, not {value}"
