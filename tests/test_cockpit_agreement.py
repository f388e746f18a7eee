"""The readings equal those of Cockpit 1.0.2, where both measure the same: feed-forward networks trained by SGD.

Both train the same network on the same batches in float64, and both are asked at every step. What differs by design
stands beside each relation, in ``oracle/agreement.py``, and in ``docs/cockpit.md`` with the errors measured. In short:
Cockpit has no value of the update size for the last step, and no one has alpha there. Its CABS and EarlyStopping refuse
momentum. Its bins are fixed, and hold at their ends what lies outside. Its largest eigenvalue is the largest in
magnitude, by a power iteration that stops early. Its epsilons are ours. Eigenvalues are compared within the residual
that we state, draws in distribution; everything else is equal but for rounding.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle.agreement import (
    DRAWN,
    EIGENVALUES,
    NOT_COMPARED,
    PYTHON,
    RELATIONS,
    ask_cockpit,
    drawn,
    of_layers,
    of_total,
)
from oracle.ours import SPECTRUM, draw, train, train_all, with_diagonal
from oracle.problems import COSTLY_EVERY, DRAWS, PROBED, PROBLEMS, SMALL, STEPS

from cockpitlite import instruments

PAGE = Path(__file__).parent.parent / "docs" / "cockpit.md"
REFUSED = {"momentum": {"CABS", "EarlyStopping"}}
BY_CHANCE = 5.0  # standard errors: one comparison in two million goes further by chance


@pytest.fixture(scope="module")
def cockpit():
    """What Cockpit has, reads of the problems, and draws."""
    if not PYTHON.exists():
        reason = "Cockpit has no environment here: `make tests` makes it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return ask_cockpit()


@pytest.fixture(scope="module")
def one_thread():
    """As in the other environment: the order of a sum depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(PROBLEMS))
def problem(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(problem, cockpit):
    return cockpit["problems"][problem]


@pytest.fixture(scope="module")
def ours(problem, one_thread, tmp_path_factory):
    return train_all(problem, PROBLEMS[problem], tmp_path_factory.mktemp("runs"))


def test_no_quantity_is_passed_over(cockpit):
    named = [relation.quantity for relation in RELATIONS] + [*EIGENVALUES, *DRAWN, *NOT_COMPARED]
    assert {name.split()[0] for name in named} == set(cockpit["quantities"])


def test_the_page_has_every_quantity(cockpit):
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in cockpit["quantities"] if f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def draws(one_thread, tmp_path_factory):
    """Our run of the same batch, over and over, with drawn labels."""
    return draw(with_diagonal("ggn_mc"), tmp_path_factory.mktemp("draws") / "run.cockpit")


def same(stored, parameters):
    """Whether the parameters that Cockpit stored are these flat ones, to the last bit."""
    values = [torch.tensor(value, dtype=torch.float64).flatten() for value in stored]
    return all(torch.equal(value, parameter) for value, parameter in zip(values, parameters, strict=True))


class TestEveryProblem:
    def test_both_trained_the_same(self, theirs, ours):
        """Neither changed the training: the parameters are the same to the last bit."""
        for training in ours.values():
            assert same(theirs["parameters"], training.parameters[-1])

    def test_both_passed_through_the_same(self, problem, theirs, ours):
        passed = theirs["readings"].get("Parameters", {})
        assert len(passed) == (STEPS if problem in SMALL else 0)
        assert all(same(stored, ours["first"].parameters[int(step)]) for step, stored in passed.items())

    def test_cockpit_refuses_what_it_has_no_formula_for(self, problem, theirs):
        assert set(theirs["refused"]) == REFUSED.get(problem, set())

    @pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.quantity)
    def test_a_reading_equals_cockpits(self, problem, theirs, ours, relation):
        every = 1 if relation.kind == "first" else COSTLY_EVERY[problem]
        assert set(relation.ours(ours)) == set(range(0, STEPS - ("ours" in relation.lacking), every))
        if relation.quantity in theirs["refused"]:
            return
        assert set(relation.theirs(theirs)) == set(range(0, STEPS - ("Cockpit" in relation.lacking), every))
        for step, difference in relation.differences(theirs, ours).items():
            assert difference <= relation.tolerance, f"{relation.reading} at step {step} differs by {difference}"

    @pytest.mark.parametrize("name", ["grad_hist_1d", "grad_hist_2d"])
    def test_every_element_was_counted(self, ours, name):
        for rest in ("error", "outside", "nonfinite"):
            assert set(of_total(ours["histograms"].run, f"{name}_{rest}").values()) == {0.0}


@pytest.mark.parametrize("problem", SMALL, indirect=True)
class TestEigenvalues:
    @pytest.mark.parametrize("step", PROBED)
    def test_a_first_probe_finds_both_ends(self, problem, theirs, one_thread, tmp_path, step):
        def only(at):
            return at == step

        run = train(PROBLEMS[problem], SPECTRUM, tmp_path / "run.cockpit", PROBLEMS[problem].batches(), every=only).run
        for quantity, (reading, _) in EIGENVALUES.items():
            assert of_total(run, reading) == {step: pytest.approx(theirs["readings"][quantity][str(step)], rel=1e-6)}

    @pytest.mark.parametrize(("quantity", "reading"), [(name, reading) for name, (reading, _) in EIGENVALUES.items()])
    def test_later_probes_follow_them(self, theirs, ours, quantity, reading):
        """They stay within the spectrum, and as near to its end as twice their residual.

        Within one residual of a value there is an eigenvalue, but it need not be the last one.
        """
        found, residual = (of_total(ours["first"].run, name) for name in (reading, f"{reading}_residual"))
        expected = {int(step): value for step, value in theirs["readings"][quantity].items()}
        assert set(found) == set(range(STEPS))
        assert set(expected) == set(PROBED)
        outwards = 1 if reading == "hess_max_ev" else -1
        for step, value in expected.items():
            missing = outwards * (value - found[step])
            assert -1e-8 * abs(value) <= missing <= 2 * residual[step] + 1e-8 * abs(value)

    def test_cockpits_own_is_one_end_of_ours(self, theirs, ours):
        """The one of larger magnitude, about."""
        largest, smallest = (of_total(ours["first"].run, name) for name in SPECTRUM)
        for step, value in theirs["readings"]["HessMaxEV power"].items():
            assert value / max(largest[int(step)], smallest[int(step)], key=abs) == pytest.approx(1, rel=0.1)

    def test_the_negative_end_is_met(self, problem, theirs):
        """Else the problems would not tell the largest from the largest in magnitude."""
        negative = sum(value < 0 for value in theirs["readings"]["HessMaxEV power"].values())
        assert negative > 0 if problem == "curved" else negative == 0


class TestDraws:
    @pytest.mark.parametrize(("quantity", "reading"), DRAWN.items())
    def test_ours_are_distributed_as_cockpits(self, cockpit, draws, quantity, reading):
        ours, theirs = drawn(of_total(draws, reading)), drawn(cockpit["draws"][quantity])
        assert len(ours) == len(theirs) == DRAWS
        assert abs(ours.mean() - theirs.mean()) < BY_CHANCE * np.hypot(error_of_mean(ours), error_of_mean(theirs))
        spreads = np.hypot(error_of_log_variance(ours), error_of_log_variance(theirs))
        assert abs(np.log(ours.var() / theirs.var())) < BY_CHANCE * spreads
        assert kolmogorov(ours, theirs) < 2.7 * np.sqrt(2 / DRAWS)  # once in a million by chance

    def test_the_means_by_layer_are_exact(self, cockpit, draws):
        exact = np.asarray(cockpit["draws"]["HessTrace diag_ggn_exact"]["0"])
        for found in (of_layers(draws, "hess_trace"), cockpit["draws"]["HessTrace diag_ggn_mc"]):
            by_layer = np.asarray(list(found.values()))  # [draw, layer]
            assert (np.abs(by_layer.mean(axis=0) - exact) < BY_CHANCE * error_of_mean(by_layer)).all()

    def test_hutchinsons_estimates_have_cockpits_trace_as_mean(self, cockpit, one_thread, tmp_path):
        run = draw([instruments.HessTrace()], tmp_path / "run.cockpit")
        ours, exact = drawn(of_total(run, "hess_trace")), sum(cockpit["draws"]["HessTrace diag_h"]["0"])
        assert len(ours) == DRAWS
        assert abs(ours.mean() - exact) < BY_CHANCE * error_of_mean(ours)


def error_of_mean(sample):
    return sample.std(axis=0, ddof=1) / np.sqrt(len(sample))


def error_of_log_variance(sample):
    """The standard error of the logarithm of the variance, which the fourth moment decides."""
    centred = sample - sample.mean()
    return np.sqrt(((centred**4).mean() / sample.var() ** 2 - 1) / len(sample))


def kolmogorov(first, second):
    """The largest distance between two empirical distribution functions."""
    at = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (first, second)]
    return np.abs(below[0] - below[1]).max()
