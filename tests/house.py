"""The rules of the house: which part may import which, and where hooks, SQL and callbacks live.

A part is a module or a package directly below ``cockpitlite``, with everything inside it. A new part needs a row in
``MAY_IMPORT``; a new library needs one in ``MAY_USE``.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "cockpitlite"

# How a step is seen, measured and kept: the training half, in the order in which a reading passes through it.
CAPTURE = {
    "tree",
    "trace",
    "records",
    "losses",
    "graph",
    "loss_functions",
    "listening",
    "attributes",
    "activity",
    "replay",
    "curvature",
    "heads",
    "backpacked",
    "meters",
    "precision",
    "spread",
}  # and what only the tracker may join to them
SHARED = {"panel", "store", "diagnosis"}
TRAINING = CAPTURE | {
    "weakly",
    "hooks",
    "axes",
    "statistics",
    "instrument",
    "instruments",
    "schedule",
    "plan",
    "recorder",
    "describe",
    "notes",
    "tracker",
    "attach",
    "demo",
}

MAY_IMPORT: dict[str, set[str]] = {
    # Both halves: free of torch.
    "panel": set(),
    "store": {"panel"},
    "diagnosis": {"panel", "store"},
    # The training half: hooks -> statistics -> instruments -> recorder -> run file. Only the tracker joins them.
    "tree": set(),
    "trace": {"tree"},
    "records": {"tree", "trace"},
    "losses": {"tree", "trace", "records"},
    "graph": {"records"},
    "loss_functions": {"trace", "records", "graph"},
    "weakly": set(),
    "listening": {"tree"},
    "activity": {"records", "precision"},
    "hooks": {"tree", "trace", "records", "losses", "listening", "activity", "spread"},
    "attributes": set(),
    "meters": set(),
    "precision": set(),
    "spread": set(),
    "replay": {"tree", "trace", "records", "losses", "hooks", "attributes"},
    "curvature": {"records", "replay", "precision"},
    "heads": {"tree", "records", "replay", "hooks", "precision"},
    "backpacked": {"records", "replay", "losses"},
    "axes": {"tree", "records", "replay", "hooks"},
    "statistics": CAPTURE,
    "instrument": {"panel", "statistics", "store"},  # of the last only how large a histogram may be
    "instruments": {"panel", "statistics", "instrument"},
    "schedule": {"plan"},
    "plan": {"records", "statistics", "instrument"},
    "rates": set(),
    "recorder": {"panel", "store", "instrument"},  # of the last only what a reading is
    "describe": {"store"},  # of which only what tells a process
    "notes": {"graph", "loss_functions", "statistics", "schedule", "recorder"},
    "tracker": TRAINING - {"tracker", "attach", "demo"} | {"rates"} | SHARED,
    "attach": {"tracker", "weakly", "schedule", "instrument", "instruments", "recorder", "describe", "notebook"}
    | SHARED,
    # The viewing half: the run file is all it knows of training.
    "reduction": set(),
    "heat": {"store"},
    "noise": {"panel", "store"},
    "compare": SHARED,
    "marks": {"rates"} | SHARED,
    "plots": {"compare", "reduction", "heat", "noise", "marks"} | SHARED,
    "export": SHARED,
    "dashboard": {"compare", "reduction", "heat", "noise", "marks"} | SHARED,
    "beside": {"store", "dashboard"},
    "notebook": {"store", "beside"},
    "cli": {"compare", "reduction", "heat", "noise", "marks", "plots", "export", "dashboard"} | SHARED,
    "__main__": {"cli"},
    # The demo is a user's script: it trains and then looks, by public names.
    "demo": {"attach", "plots"} | SHARED,
}

# Which part may use what is not in the standard library, and the modules of it that are for one part only.
MAY_USE: dict[str, set[str]] = {
    "torch": TRAINING,
    "numpy": set(MAY_IMPORT),
    "sklearn": {"demo"},
    "backpack": {"backpacked"},
    "pynvml": {"meters"},
    "matplotlib": {"plots"},
    "dash": {"dashboard"},
    "dash_ag_grid": {"dashboard"},
    "plotly": {"dashboard"},
    "flask": {"dashboard"},
    "werkzeug": {"dashboard"},
    "rich": {"cli", "demo"},
    "IPython": {"notebook"},
    "google": {"notebook"},
    "sqlite3": {"store"},
    "pickle": set(),  # a run file from a stranger must not run code
    "marshal": set(),
    "shelve": set(),
}

# Files that import what they find: the lazy public names, and the folder that discovers its instruments.
DISCOVERERS = {"__init__.py", "instruments/__init__.py"}

HOOKS = re.compile(r"register_(\w+_)?hook")
SQL = re.compile(r"\b(SELECT\b.+\bFROM|INSERT\b.+\bINTO|UPDATE\b.+\bSET|DELETE\s+FROM|CREATE\s+\w+|PRAGMA\s+\w+)", re.S)
CALLBACKS = {"callback", "clientside_callback"}


def violations(package: Path) -> list[str]:
    """Return every breach of the rules in a copy of the package, as ``file:line: sentence``."""
    modules = dict(sorted(_modules(package)))
    homes = _homes(package)
    found = (breach for name, path in modules.items() for breach in _Checker(package, path, name, modules, homes).run())
    return list(dict.fromkeys(found))


def part_of(module: str) -> str:
    """Return the part a module belongs to; the package itself is the part without a name."""
    return module.split(".")[1] if "." in module else ""


def public_names(package: Path) -> dict[str, str]:
    """Return the public names and the modules they come from, as the package's own table says."""
    return _homes(package)


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, files in os.walk(package, followlinks=True):
        for file in files:
            if file.endswith(".py"):
                path = Path(folder) / file
                inside = path.relative_to(package).with_suffix("").parts
                yield ".".join((PACKAGE, *(inside[:-1] if inside[-1] == "__init__" else inside))), path


def _homes(package: Path) -> dict[str, str]:
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            return {name: f"{PACKAGE}.{home}" for name, home in ast.literal_eval(node.value).items()}
    raise ValueError("the package has no table of public names")


class _Checker:
    """The rules, applied to one file."""

    def __init__(self, package: Path, path: Path, name: str, modules: dict[str, Path], homes: dict[str, str]) -> None:
        self.file = path.relative_to(package).as_posix()
        self.tree = ast.parse(path.read_text())
        self.nodes = list(ast.walk(self.tree))
        self.name, self.modules, self.homes = name, modules, homes
        self.part = part_of(name)
        self.roots = self._roots()

    def run(self) -> Iterator[str]:
        if self.part and self.part not in MAY_IMPORT:
            yield self._breach(self.tree, f"the part {self.part!r} has no row in the table of allowed imports")
            return
        for node in self.nodes:
            for sentence in (*self._imports(node), *self._places(node)):
                yield self._breach(node, sentence)

    def _breach(self, node: ast.AST, sentence: str) -> str:
        return f"{self.file}:{getattr(node, 'lineno', 1)}: {sentence}"

    def _imports(self, node: ast.AST) -> Iterator[str]:
        for target in self._targets(node):
            root = target.partition(".")[0]
            if root == PACKAGE:
                other = part_of(target)
                if self.part and other not in {"", self.part} | MAY_IMPORT[self.part]:
                    yield f"{self.part} may not import {target}"
            elif root in MAY_USE:
                if self.part not in MAY_USE[root]:
                    yield f"{self.part or PACKAGE} may not import {root}"
            elif root not in sys.stdlib_module_names:
                yield f"{root} is not in the table of allowed libraries"

    def _targets(self, node: ast.AST) -> Iterator[str]:
        """Yield the full names of the modules that a statement or expression makes the file depend on."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self._absolute(node)
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                home = self.homes.get(alias.name, base) if base == PACKAGE else base
                yield inside if inside in self.modules else home
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.roots:
            inside = f"{PACKAGE}.{node.attr}"
            yield inside if inside in self.modules else self.homes.get(node.attr, PACKAGE)
        elif isinstance(node, ast.Call) and _last(node.func) in {"import_module", "__import__"}:
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant):
                yield str(name.value)
            elif self.file not in DISCOVERERS:
                yield "<a name computed at run time>"

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.name.split(".")
        folder = here if self.file.endswith("__init__.py") else here[:-1]
        base = folder[: len(folder) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def _roots(self) -> set[str]:
        """Return the names under which this file knows the package itself."""
        imports = [node for node in self.nodes if isinstance(node, ast.Import)]
        return {
            alias.asname or PACKAGE
            for node in imports
            for alias in node.names
            if alias.name == PACKAGE or (alias.name.startswith(f"{PACKAGE}.") and alias.asname is None)
        }

    def _places(self, node: ast.AST) -> Iterator[str]:
        """Yield what a node does that only one file may do."""
        words = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        called = _last(node.func) if isinstance(node, ast.Call) else ""
        hook = called if HOOKS.fullmatch(called) else words if HOOKS.fullmatch(words) else _taken_hook(node)
        if hook and self.part != "hooks":
            yield f"{hook}: only hooks/ registers hooks"
        if SQL.search(words) and self.part != "store":
            yield "only the store holds SQL"
        if called in CALLBACKS and self.part == "dashboard" and self.file != "dashboard/callbacks.py":
            yield f"{called}: only dashboard/callbacks.py registers callbacks"


def _last(node: ast.AST) -> str:
    """Return the last word of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _taken_hook(node: ast.AST) -> str:
    """Return the name of a registering method that is taken from an object, to be called later."""
    if not isinstance(node, ast.Attribute) or not HOOKS.fullmatch(node.attr):
        return ""
    return "" if _last(node.value)[:1].isupper() else node.attr  # a method of a class is mentioned, not called
