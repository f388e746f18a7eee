"""What a user installs: the wheel and the source archive hold the package once, whole, and nothing else."""

import configparser
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import plotly
import pytest

import cockpitlite

ROOT = Path(__file__).parent.parent
LINKS = ("instruments", "dashboard")


@dataclass(frozen=True)
class Built:
    """A copy of the working tree, and the source archive and the wheel that were built from it."""

    tree: Path
    sdist: Path
    wheel: zipfile.ZipFile

    def package_files(self) -> dict[str, Path]:
        """The files of the package: the path at which each is installed -> the file in the tree."""
        installed = {}
        for folder, inside in (("cockpitlite", "cockpitlite"), *((link, f"cockpitlite/{link}") for link in LINKS)):
            for file in (self.tree / folder).rglob("*"):
                path = file.relative_to(self.tree / folder)
                wanted = path.suffix == ".py" or path.name == "py.typed" or path.parts[0] == "assets"
                through_link = folder == "cockpitlite" and path.parts[0] in LINKS
                if file.is_file() and wanted and not through_link:
                    installed[f"{inside}/{path.as_posix()}"] = file
        return installed


def copy_tree(target):
    """Copy the files that git knows or would take, links as links."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in set(listed.strip("\0").split("\0")):
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        elif source.exists():
            copy.write_bytes(source.read_bytes())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    copy_tree(tree)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        yield Built(tree, sdist, opened)


def read_about(built, name):
    """Return one of the wheel's files about itself."""
    (path,) = [path for path in built.wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return built.wheel.read(path).decode()


def test_the_wheel_holds_every_file_of_the_package_once_and_nothing_else(built):
    names = [name for name in built.wheel.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(built.package_files())
    for name, file in built.package_files().items():
        assert built.wheel.read(name) == file.read_bytes(), name


def test_the_wheel_holds_the_instruments_the_page_and_the_marker_of_types(built):
    names = set(built.wheel.namelist())
    assert {"cockpitlite/py.typed", "cockpitlite/instruments/__init__.py", "cockpitlite/dashboard/__init__.py"} <= names
    assert any(name.startswith("cockpitlite/dashboard/assets/") for name in names)
    assert {name.split("/")[0] for name in names} == {"cockpitlite", f"cockpitlite-{cockpitlite.__version__}.dist-info"}


def test_the_wheel_brings_the_command(built):
    points = configparser.ConfigParser()
    points.read_string(read_about(built, "entry_points.txt"))
    assert dict(points["console_scripts"]) == {"cockpitlite": "cockpitlite.cli:main"}


def test_the_wheel_says_what_it_is(built):
    metadata = Parser().parsestr(read_about(built, "METADATA"))
    assert metadata["Name"] == "cockpitlite"
    assert metadata["Version"] == cockpitlite.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    for licence in ("LICENSE", "dashboard/assets/plotly/LICENSE"):
        assert read_about(built, f"licenses/{licence}") == (ROOT / licence).read_text()


def test_the_wheel_works_where_nothing_else_of_the_tree_is(built, tmp_path):
    built.wheel.extractall(tmp_path)
    program = "import cockpitlite.instruments, cockpitlite.dashboard, cockpitlite.cli; print(cockpitlite.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


def test_the_source_archive_has_every_file_of_the_package(built):
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {file.relative_to(built.tree).as_posix() for file in built.package_files().values()}
    assert expected | {"pyproject.toml", "README.md", "LICENSE"} <= names


@pytest.mark.parametrize("name", LINKS)
def test_the_links_that_make_one_import_tree_are_relative_and_committed(name):
    command = ["git", "ls-files", "--stage", f"cockpitlite/{name}"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert listed.startswith("120000 ")
    link = ROOT / "cockpitlite" / name
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_the_page_draws_with_the_plotly_js_that_plotly_makes_figures_for():
    """Where the versions differ: dashboard/assets/plotly/README.md."""
    versions = [
        re.search(r"plotly\.js .*?v([\d.]+)", file.read_text("utf-8")[:200])[1]
        for file in (
            ROOT / "dashboard/assets/plotly/plotly-cartesian.min.js",
            Path(plotly.__file__).parent / "package_data/plotly.min.js",
        )
    ]
    assert versions[0] == versions[1]


def test_every_requirement_has_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {requirement.split("[")[0].split(">")[0].lower() for requirement in asked} - {"cockpitlite"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert names <= {line.split("==")[0] for line in lines if "==" in line}
