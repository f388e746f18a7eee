"""The shape of the house: who imports whom, what needs torch, what is public; and that these tests can fail."""

import ast
import inspect
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from house import MAY_IMPORT, MAY_USE, PACKAGE, public_names, violations
from synthetic_runs import write_run

import cockpitlite

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / PACKAGE
VIEWING = sorted(set(MAY_IMPORT) - MAY_USE["torch"])


def run(program, *arguments, cwd=ROOT):
    """Run a program in a Python of its own, with the package from ``cwd``."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package to plant things in."""
    shutil.copytree(HOUSE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / PACKAGE


class TestImports:
    def test_every_import_is_in_the_table(self):
        assert violations(HOUSE) == []

    def test_every_row_has_its_part(self):
        parts = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert parts - {"__init__"} == set(MAY_IMPORT)

    def test_the_table_has_no_circles(self):
        standing = {part: set(others) for part, others in MAY_IMPORT.items()}
        while standing:
            free = {part for part, others in standing.items() if not others}
            assert free, f"these import each other in a circle: {sorted(standing)}"
            standing = {part: others - free for part, others in standing.items() if part not in free}

    def test_the_viewing_half_is_the_half_without_torch(self):
        for part in VIEWING:
            assert not MAY_IMPORT[part] & MAY_USE["torch"], f"{part} may import a part that imports torch"

    @pytest.mark.parametrize(
        ("file", "code", "sentence"),
        [
            ("panel.py", "import torch", "panel may not import torch"),
            ("store/run.py", "def read():\n    from torch import Tensor", "store may not import torch"),
            ("plots.py", "from .tracker import Tracker", "plots may not import cockpitlite.tracker"),
            ("diagnosis/rules.py", "from ..hooks import attach", "diagnosis may not import cockpitlite.hooks"),
            ("diagnosis/rules.py", "from .. import hooks", "diagnosis may not import cockpitlite.hooks"),
            ("dashboard/figures.py", "import cockpitlite.attach as a", "dashboard may not import cockpitlite.attach"),
            (
                "dashboard/figures.py",
                "import cockpitlite\ncockpitlite.watch",
                "dashboard may not import cockpitlite.att",
            ),
            ("dashboard/figures.py", "from cockpitlite import every", "dashboard may not import cockpitlite.schedule"),
            ("cli.py", "import importlib\nimportlib.import_module('cockpitlite.demo')", "cli may not import cockpitli"),
            ("cli.py", "from importlib import import_module\nimport_module(name)", "a name computed at run time"),
            ("tracker.py", "from cockpitlite import plots", "tracker may not import cockpitlite.plots"),
            ("statistics/x.py", "from cockpitlite.hooks import Hooks", "statistics may not import cockpitlite.hooks"),
            ("instruments/x.py", "import cockpitlite.recorder", "instruments may not import cockpitlite.recorder"),
            ("recorder.py", "from cockpitlite import statistics", "recorder may not import cockpitlite.statistics"),
            ("tracker.py", "import sqlite3", "tracker may not import sqlite3"),
            ("store/run.py", "if True:\n    import pickle", "store may not import pickle"),
            ("cli.py", "import pandas", "pandas is not in the table of allowed libraries"),
            (
                "tracker.py",
                "layer.register_forward_hook(print)",
                "register_forward_hook: only hooks/ registers",
            ),
            ("tracker.py", "Tensor.register_hook(x, print)", "register_hook: only hooks/ registers hooks"),
            ("tracker.py", "register = x.register_hook", "register_hook: only hooks/ registers hooks"),
            ("tracker.py", "getattr(x, 'register_step_post_hook')", "register_step_post_hook: only hooks/"),
            ("cli.py", "db.execute('SELECT value FROM reading')", "only the store holds SQL"),
            (
                "dashboard/layout.py",
                "@app.callback(Output('a', 'b'))\ndef f(): ...",
                "callback: only dashboard/call",
            ),
            ("gadgets.py", "", "the part 'gadgets' has no row in the table of allowed imports"),
        ],
    )
    def test_a_planted_breach_is_found(self, copy, file, code, sentence):
        before = violations(copy)
        path = copy / file
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as stream:
            stream.write(f"\n{code}\n")
        (breach,) = set(violations(copy)) - set(before)
        assert breach.startswith(f"{file}:")
        assert sentence in breach


class TestNames:
    def test_every_public_name_has_a_home_and_a_type(self):
        tree = ast.parse((HOUSE / "__init__.py").read_text())
        (typing_block,) = [node for node in tree.body if isinstance(node, ast.If)]
        typed = {alias.name: node.module for node in typing_block.body for alias in node.names}
        assert typed == public_names(HOUSE)
        assert sorted([*typed, "__version__"]) == sorted(cockpitlite.__all__)
        assert set(cockpitlite.__all__) <= set(dir(cockpitlite))

    def test_a_name_that_is_not_public_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match=r"module 'cockpitlite' has no attribute 'wach'"):
            cockpitlite.wach  # noqa: B018

    @pytest.mark.parametrize("name", sorted(public_names(HOUSE)))
    def test_a_public_name_is_documented_and_annotated(self, name):
        thing = getattr(cockpitlite, name)
        assert inspect.getdoc(thing)
        functions = [thing] if inspect.isfunction(thing) else [f for _, f in inspect.getmembers(thing, is_own(thing))]
        for function in functions:
            assert inspect.getdoc(function), f"{function.__qualname__} has no docstring"
            signature = inspect.signature(function)
            bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
            assert set(bare) <= {"self", "cls"}, f"{function.__qualname__} has parameters without a type: {bare}"
            assert signature.return_annotation is not signature.empty, f"{function.__qualname__} returns what?"

    def test_no_module_shadows_a_public_name(self, tmp_path):
        """Importing a submodule sets it as an attribute of the package, over a function of the same name."""
        done = run(USE_ALL_TWICE, tmp_path)
        assert done.returncode == 0, done.stderr

    def test_a_module_that_shadows_a_public_name_is_found(self, copy, tmp_path):
        (copy / "plot.py").write_text("")
        done = run(USE_ALL_TWICE, tmp_path, cwd=copy.parent)
        assert done.returncode != 0
        assert "plot is a module" in done.stderr


def is_own(thing):
    """Return a test for the public methods that a class of the package defines itself."""

    def test(member):
        module = getattr(member, "__module__", None) or ""
        own = (
            inspect.isfunction(member) and module.startswith(PACKAGE) and member.__qualname__.startswith(thing.__name__)
        )
        return own and not member.__name__.startswith("_")

    return test


USE_ALL_TWICE = """
import importlib, inspect, pkgutil, sys
import torch
import cockpitlite

for found in pkgutil.walk_packages(cockpitlite.__path__, "cockpitlite."):
    importlib.import_module(found.name)
for name in cockpitlite.__all__:
    first, second = getattr(cockpitlite, name), getattr(cockpitlite, name)
    assert not inspect.ismodule(first), f"{name} is a module"
    assert first is second, f"{name} is not the same twice"
for number in range(2):
    path = f"{sys.argv[1]}/{number}.cockpit"
    model = torch.nn.Linear(2, 1)
    schedule = (cockpitlite.every(2), cockpitlite.logarithmic())[number]
    optimizer = cockpitlite.watch(torch.optim.SGD(model.parameters(), lr=0.1), model, every=schedule, run=path)
    model(torch.ones(2, 2)).square().mean().backward()
    optimizer.step()
    optimizer.cockpit.close()
    loaded = cockpitlite.load(path)
    assert loaded.last_step == 0
    cockpitlite.diagnose(loaded)
    cockpitlite.plot(loaded, f"{path}.png")
"""


class TestTorch:
    def test_importing_the_package_imports_nothing_of_it(self):
        done = run(LOADED, "import cockpitlite; cockpitlite.__version__, dir(cockpitlite)")
        assert done.stdout.split() == [PACKAGE]

    @pytest.mark.parametrize("name", ["watch", "Instrument"])
    def test_a_name_that_needs_torch_is_seen_to_load_it(self, name):
        assert "torch" in run(LOADED, f"import cockpitlite; cockpitlite.{name}").stdout.split()

    @pytest.fixture
    def recorded(self, tmp_path):
        return write_run(tmp_path / "runs" / "run.cockpit", steps=60)

    def test_the_viewing_half_works_without_torch(self, recorded):
        done = run(VIEW_WITHOUT_TORCH, recorded, *VIEWING)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("file", "code"),
        [
            ("panel.py", "import torch"),
            ("diagnosis/__init__.py", "from torch import Tensor"),
            ("dashboard/text.py", "import cockpitlite.tracker"),
            ("plots.py", "_plot = plot\ndef plot(*arguments):\n    import torch\n    return _plot(*arguments)"),
        ],
    )
    def test_a_viewing_half_that_needs_torch_is_found(self, copy, recorded, file, code):
        with (copy / file).open("a") as stream:
            stream.write(f"\n{code}\n")
        done = run(VIEW_WITHOUT_TORCH, recorded, *VIEWING, cwd=copy.parent)
        assert done.returncode != 0
        assert "import of torch halted" in done.stderr


# Prints the package's and torch's modules that a statement loads.
LOADED = """
import sys
exec(sys.argv[1])
print(*(name for name in sys.modules if name == "torch" or name.split(".")[0] == "cockpitlite"))
"""

VIEW_WITHOUT_TORCH = """
import importlib, pkgutil, sys

sys.modules["torch"] = None  # from here on importing it raises

import cockpitlite
from cockpitlite import cli, dashboard
from cockpitlite.dashboard import create_app, figures, gauge
from cockpitlite.dashboard.readings import RunReader

path, *viewing = sys.argv[1:]
for found in pkgutil.walk_packages(cockpitlite.__path__, "cockpitlite."):
    if found.name.split(".")[1] in viewing:
        importlib.import_module(found.name)

run = cockpitlite.load(path)
panels = run.panels()
assert panels and run.names()
for panel, readings in zip(panels, RunReader(run).read(panels), strict=True):
    drawn = [figures.figure(panel, readings), gauge.figure(panel, readings)]
    assert all(figure.to_dict()["layout"] for figure in drawn)
client = create_app(path).server.test_client()
assert [client.get(url).status_code for url in ("/", "/_dash-layout", "/_dash-dependencies")] == [200, 200, 200]
assert isinstance(cockpitlite.diagnose(run), list)
cockpitlite.plot(run, path + ".png")
export = ["export", path, "--csv", "-o", path + ".csv"]
for command in (["list", path.rpartition("/")[0]], ["diagnose", path], ["compare", path], export):
    assert cli.main(command) in (0, 1), command
assert sys.modules["torch"] is None
"""


class TestOneFile:
    def test_an_instrument_is_one_file_and_nothing_else(self, copy):
        """The example of CONTRIBUTING.md, put into the folder of instruments, is measured, stored and drawn."""
        code = (ROOT / "CONTRIBUTING.md").read_text().split("```python\n")[1].split("```")[0]
        (copy / "instruments" / "signal_to_noise.py").write_text(code)
        done = run(TRAIN_WITH_IT, cwd=copy.parent)
        assert done.returncode == 0, done.stderr
        assert violations(copy) == []


TRAIN_WITH_IT = """
import cockpitlite, torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
cockpitlite.watch(optimizer, model, panel=["norm_test", "signal_to_noise"], every=1, run="run.cockpit")
for _ in range(3):
    optimizer.zero_grad()
    torch.nn.CrossEntropyLoss()(model(torch.randn(8, 3)), torch.randint(2, (8,))).backward()
    optimizer.step()
optimizer.cockpit.close()
run = cockpitlite.load("run.cockpit")
signal, noise = run.series("signal_to_noise")[1], run.series("norm_test")[1]
assert len(signal) == 3
assert abs(signal * 7 * noise**2 - 1).max() < 1e-5  # norm_test^2 = (1 / signal_to_noise) / (N - 1)
assert "signal_to_noise" in [panel.name for panel in run.panels()]
"""
