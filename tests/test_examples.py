"""The examples run as they stand, and leave what they promise."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import cockpitlite
from cockpitlite.cli import main
from cockpitlite.diagnosis import Finding

HOUSE = Path(__file__).parents[1]


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_instrument_of_ones_own_is_shown_everywhere(at_home, capsys):
    runpy.run_path(str(HOUSE / "examples" / "own_instrument.py"), run_name="__main__")
    (path,) = at_home.glob("runs/*.cockpit")
    assert (at_home / "own_instrument.png").stat().st_size > 10_000
    run = cockpitlite.load(path)
    assert {"agreement", "newton_decrease"} <= {panel.name for panel in run.panels()}
    _, layers, values = run.layers("newton_decrease")
    assert layers == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert values.shape[1] == 4
    _, agreement = run.series("agreement")
    assert ((agreement > 0) & (agreement <= 1)).all()  # a mean of squares is no smaller than the square of the mean
    capsys.readouterr()
    assert main(["export", str(path), "--csv"]) == 0
    assert "agreement" in capsys.readouterr().out


class TestFollowingTheAdvice:
    """Far from a good learning rate the loss stays at 2.3; the best fixed one ends with about 0.1."""

    @pytest.fixture
    def follow(self, at_home):
        return runpy.run_path(str(HOUSE / "examples" / "follow_the_advice.py"))

    @pytest.mark.parametrize("arguments", ["--lr 1e-4", "--lr 10", "--lr 1e-5 --optimizer adamw"])
    def test_from_a_rate_far_off_it_is_led_to_a_good_one(self, follow, capsys, arguments):
        follow["main"]([*arguments.split(), "--steps", "300"])
        *said, end = capsys.readouterr().out.splitlines()
        assert float(re.search(r"held-out loss (\S+)", end)[1]) < 0.4
        assert len(said) >= 4
        assert re.fullmatch(r"step \d+, learning rate \S+: .*too (small|large).* \(\d+% sure\)", said[0])
        assert said[1].startswith("  started again" if "10" in arguments.split() else "  went on")

    def test_a_good_rate_is_left_alone_and_ends_as_if_nobody_had_asked(self, follow, capsys):
        follow["main"](["--lr", "0.3", "--steps", "100"])
        (end,) = capsys.readouterr().out.splitlines()
        assert f"loss {follow['fixed'](follow['OPTIMIZERS']['sgd'], 0.3, 100):.3g} after" in end

    def test_what_it_does_with_what_it_is_told(self, follow):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        seen, factors = [], iter([10, 1 / 4, 10, None, None, None, None])

        def ask(asked):
            buffer = asked.state[model.weight]["momentum_buffer"]
            seen.append((asked.param_groups[0]["lr"], model.weight.item(), buffer.item()))
            factor = next(factors)
            return factor and Finding("R", "warning", 0.9, "told", "", lr_factor=factor)

        said = []
        follow["lead"](model, optimizer, lambda: model.weight.sum(), 150, ask=ask, say=said.append)
        assert next(factors, "no more") == "no more"
        # Told that 0.001 and 0.0025 are too small and 0.01 is too large, it takes what lies between the last two.
        assert [rate for rate, *_ in seen] == pytest.approx([1e-3, 1e-2, 2.5e-3, *[5e-3] * 4])
        assert [line.split()[:2] for line in said[1::2]] == [["went", "on"], ["started", "again"], ["went", "on"]]

        def after(steps, rate, weight=1.0, buffer=0.0):  # the gradient is 1
            for _ in range(steps):
                buffer = 0.9 * buffer + 1
                weight -= rate * buffer
            return weight, buffer

        first = after(10, 1e-3)
        assert seen[0][1:] == pytest.approx(first)
        assert seen[1][1:] == pytest.approx(after(10, 1e-2, *first))  # it goes on from there
        again = after(10, 2.5e-3)  # from the initial weight, with an empty buffer
        assert seen[2][1:] == pytest.approx(again)
        assert seen[3][1:] == pytest.approx(after(10, 5e-3, *again))
        assert model.weight.item() == pytest.approx(after(120, 5e-3, *again)[0], rel=1e-4)
        assert len(list(Path("runs").glob("*.cockpit"))) == 4

    def test_what_it_is_told_after_the_last_step_changes_nothing(self, follow):
        model = nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        initial = model.weight.item()
        too_large = Finding("R1", "error", 0.9, "too large", "", lr_factor=0.25)
        follow["lead"](model, optimizer, lambda: model.weight.sum(), 10, ask=lambda _: too_large)
        assert optimizer.param_groups[0]["lr"] == 1e-3
        assert model.weight.item() == pytest.approx(initial - 0.01)

    def test_ctrl_c_leaves_complete_files(self, follow, capsys, monkeypatch):
        scene = follow["main"].__globals__
        next_loss, calls = scene["Digits"].next_loss, iter(range(40))

        def interrupted(digits):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return next_loss(digits)

        monkeypatch.setattr(scene["Digits"], "next_loss", interrupted)
        follow["main"](["--lr", "1e-4"])
        assert capsys.readouterr().out.splitlines()[-1].startswith("stopped")
        runs = [cockpitlite.load(path) for path in Path("runs").glob("*.cockpit")]
        assert {run.meta["status"] for run in runs} == {"finished"}
        assert sum(run.last_step + 1 for run in runs) == 40
