"""At the price of a few products a step, curvature is real: held against the Hessian of every step's own batch."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import cockpitlite
from cockpitlite.statistics.hessian import SMALL

STEPS, WARM_UP = 60, 20


Ends = tuple[float, float]
Loss = Callable[[Tensor], Tensor]  # of all parameters in one vector


def said(run: cockpitlite.Run, name: str) -> np.ndarray:
    """Return a reading of every step."""
    steps, values = run.series(name)
    assert steps.tolist() == list(range(STEPS))
    return values


def clusters(classes: int = 6, width: int = 20, samples: int = 2000) -> tuple[Tensor, Tensor]:
    """Classes that overlap, so that batches differ and their Hessians too."""
    centres = 0.6 * torch.randn(classes, width)
    labels = torch.randint(classes, (samples,))
    return centres[labels] + torch.randn(samples, width), labels


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Loss, Tensor]:
    """Return the loss as a function of all parameters, and where it is, in float64."""
    model = copy.deepcopy(model)  # a copy is not watched
    named = dict(model.named_parameters())

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([parameter.numel() for parameter in named.values()])
        each = zip(named.items(), parts, strict=True)
        state = {name: part.view(parameter.shape) for (name, parameter), part in each}
        return F.cross_entropy(torch.func.functional_call(model, state, (x.double(),)), y)

    return loss, torch.cat([parameter.detach().flatten() for parameter in named.values()]).double()


def ends(loss: Loss, place: Tensor, products: int = 70) -> Ends:
    """Return the largest and the smallest eigenvalue by Lanczos' method until nothing changes."""
    place = place.requires_grad_()
    (slope,) = torch.autograd.grad(loss(place), place, create_graph=True)
    following, basis, images = torch.randn_like(place).detach(), place.new_empty(0, len(place)), []
    for _ in range(products):
        for _ in range(2):
            following = following - (basis @ following) @ basis
        basis = torch.cat([basis, following[None] / following.norm()]).detach()
        images.append(torch.autograd.grad(slope, place, basis[-1], retain_graph=True)[0])
        following = images[-1]
    values = torch.linalg.eigvalsh(basis @ torch.stack(images).T)
    return values[-1].item(), values[0].item()


def whole(loss: Loss, place: Tensor) -> Tensor:
    """Return the Hessian as a matrix."""
    return torch.func.jacrev(torch.func.grad(loss))(place)


def trained(path, model, lr, panel, look):
    """Train on batches of 96, watched at every step; return the run and what ``look`` says before each."""
    xs, ys = clusters()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    optimizer = cockpitlite.watch(optimizer, model, panel=panel, every=1, run=path)
    seen = []
    for _ in range(STEPS):
        some = torch.randint(len(xs), (96,))
        seen.append(look(*loss_of(model, xs[some], ys[some])))
        optimizer.zero_grad()
        F.cross_entropy(model(xs[some]), ys[some]).backward()
        optimizer.step()
    optimizer.cockpit.close()
    return cockpitlite.load(path), np.array(seen)


@pytest.fixture(scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def spectrum(one_thread, tmp_path_factory):
    """The largest and smallest eigenvalues of a network that is too large to be looked at more closely."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 96), nn.ReLU(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 6))
    assert sum(parameter.numel() for parameter in model.parameters()) > SMALL
    path = tmp_path_factory.mktemp("runs") / "spectrum.cockpit"
    run, seen = trained(path, model, 0.02, ["hess_max_ev", "hess_min_ev"], ends)
    return run, {"hess_max_ev": seen[:, 0], "hess_min_ev": seen[:, 1]}


class Attention(nn.Module):
    """Five tokens of four numbers that look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 24), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.into(x.view(-1, 5, 4)).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(query, key, value).mean(dim=1))


def plain(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 24), activation(), nn.Linear(24, 6))


def normed() -> nn.Module:
    """A network whose samples interact."""
    norm = nn.BatchNorm1d(16, track_running_stats=False)
    return nn.Sequential(nn.Linear(20, 16), norm, nn.ReLU(), nn.Linear(16, 6))


SMALL_ONES = {"relu": lambda: plain(nn.ReLU), "tanh": lambda: plain(nn.Tanh), "batch norm": normed, "sdpa": Attention}


@pytest.fixture(scope="module", params=SMALL_ONES)
def trace(request, one_thread, tmp_path_factory):
    """The traces of a small network: one whose trace is drawn, and others of which probes are taken."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("runs") / "trace.cockpit"
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative for what we compare with
        return trained(path, SMALL_ONES[request.param](), 0.02, ["hess_trace"], lambda *of: whole(*of).trace().item())


def test_the_largest_eigenvalue_is_followed_through_different_batches(spectrum):
    """Within five percent; where two directions change places, a step may miss it."""
    run, exact = spectrum
    right = exact["hess_max_ev"]
    assert np.median(np.abs(np.diff(np.log(right)))[WARM_UP:]) > 0.05  # else it would be one matrix
    errors = np.abs(said(run, "hess_max_ev") / right - 1)[WARM_UP:]
    assert np.median(errors) < 0.01
    assert (errors < 0.05).mean() >= 0.95


@pytest.mark.parametrize(("name", "outwards"), [("hess_max_ev", 1), ("hess_min_ev", -1)])
def test_what_is_found_lies_within_the_spectrum(spectrum, name, outwards):
    run, exact = spectrum
    assert (outwards * (exact[name] - said(run, name)) >= -1e-4 * np.abs(exact[name])).all()


def test_the_largest_eigenvalue_is_as_near_as_the_residual_says(spectrum):
    run, exact = spectrum
    missing = np.abs(exact["hess_max_ev"] - said(run, "hess_max_ev"))
    allowed = 2 * said(run, "hess_max_ev_residual") + 1e-4 * exact["hess_max_ev"]
    assert (missing <= allowed).mean() >= 0.95


def test_the_trace_is_within_three_standard_errors(trace):
    run, exact = trace
    errors = (said(run, "hess_trace") - exact) / said(run, "hess_trace_std")
    assert (np.abs(errors) <= 3).mean() >= 0.99
    assert errors.std() > 0.3  # the error stated is not far too large either


def test_the_trace_is_known_to_a_fifth_over_twenty_steps(trace):
    run, exact = trace
    stated = np.sqrt(np.square(said(run, "hess_trace_std")[-20:]).sum()) / 20
    found = said(run, "hess_trace")[-20:].mean()
    assert stated <= 0.2 * found
    assert abs(found - exact[-20:].mean()) <= 3 * stated
