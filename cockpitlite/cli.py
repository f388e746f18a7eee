"""The command line: demo, dashboard, plot, diagnose, compare, export and list."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from cockpitlite import __version__

# Each command imports what it needs when it runs, so that --help answers at once.
if TYPE_CHECKING:
    from rich.table import Table

    from cockpitlite.store import Run

RUNS = "runs"  # the folder that watch() writes to unless told otherwise
FAULT, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
PATIENCE = 10.0  # seconds that the demo has to end by itself after Ctrl-C


class BadInputError(Exception):
    """What the user gave cannot be used; the message is one sentence that names cause and fix."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInputError(f"{message}; `{self.prog} --help` tells how it is called")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 means done, 1 that ``diagnose`` found a standing error, 2 bad input (one sentence on the standard error), 130
    interrupted by Ctrl-C, and 141 that nobody reads the output any more. ``--help`` and ``--version`` raise SystemExit.
    """
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows another one
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        status = command(arguments)
        sys.stdout.flush()
        return status
    except SystemExit:  # --help and --version, for which nothing below needs to be imported
        raise
    except BadInputError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except _damaged_run_file() as error:
        return _refuse(error)


def _refuse(error: BaseException) -> int:
    print(f"cockpitlite: {_harmless(str(error))}", file=sys.stderr)  # noqa: T201
    return BAD_INPUT


def _discard_output() -> None:
    """Let what is still in the output's buffer go nowhere, or the interpreter complains about it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _damaged_run_file() -> type[Exception]:
    from cockpitlite.store import RunFileError

    return RunFileError


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cockpitlite", description="A live instrument panel for PyTorch training.")
    parser.add_argument("--version", action="version", version=f"cockpitlite {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help="train a small network three times under the panel"))
    _add_dashboard(commands.add_parser("dashboard", help="serve the live page of a run or of a folder of runs"))
    _add_plot(commands.add_parser("plot", help="draw one page of a run"))
    _add_diagnose(commands.add_parser("diagnose", help="say what is wrong with a run and what to change"))
    _add_compare(commands.add_parser("compare", help="put several runs side by side"))
    _add_export(commands.add_parser("export", help="write a run as CSV or JSON"))
    _add_list(commands.add_parser("list", help="list the runs of a folder"))
    return parser


# demo


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a small network on scikit-learn's digits with a learning rate that is too small, good and too large, "
        "with the live page open."
    )
    parser.add_argument("--no-serve", action="store_true", help="end when the training has ended")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="where run files and plots go")
    parser.add_argument("--port", type=_port, help="port of the live page")
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "cockpitlite.demo"]
    command += ["--no-serve"] if arguments.no_serve else []
    command += ["--no-browser"] if arguments.no_browser else []
    command += ["-o", arguments.output] if arguments.output is not None else []
    command += ["--port", str(arguments.port)] if arguments.port is not None else []
    return _run(command)


def _run(command: Sequence[str]) -> int:
    """Run a process to its end and return its exit status.

    Ctrl-C reaches the process too; it has time to end in its own way and with a status of its own.
    """
    with subprocess.Popen(command) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            status = _wait_after_interrupt(process)
    return status if status >= 0 else 128 - status


def _wait_after_interrupt(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()
        return INTERRUPTED


# dashboard


def _add_dashboard(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serve the live page of a run, or of the newest run of a folder and the others beside it."
    parser.add_argument("path", nargs="?", default=RUNS, metavar="FILE_OR_FOLDER", help=f"default: {RUNS}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8050, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--prefix",
        "--path-prefix",
        "--path_prefix",
        default="/",
        metavar="PATH",
        help="path that a proxy shows the page under, such as /panel/; {port} in it stands for the port",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument("--wait", action="store_true", help="open before there is any run, and show runs as they come")
    parser.set_defaults(command=_dashboard)


def _dashboard(arguments: argparse.Namespace) -> int:
    path = Path(arguments.path)
    if path.is_file():
        _load(path)
    elif not arguments.wait:
        _runs(path)
    from cockpitlite.dashboard import serve

    try:
        serve(
            path,
            host=arguments.host,
            port=arguments.port,
            open_browser=not arguments.no_browser,
            wait=arguments.wait,
            prefix=arguments.prefix,
        )
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise BadInputError(str(error)) from error
    return 0


# plot


def _add_plot(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw one page of a run with matplotlib."
    parser.add_argument("file", metavar="FILE", help="run file")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="picture to write: .png, .pdf or .svg")
    parser.set_defaults(command=_plot)


def _plot(arguments: argparse.Namespace) -> int:
    from cockpitlite.plots import SUFFIXES, plot

    run, out = _load(arguments.file), Path(arguments.output)
    if out.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"a plot is saved as {', '.join(SUFFIXES)}, not as {out}; give -o another suffix")
    with _writing(out):
        plot(run, out)
    _say(f"wrote {out}")
    return 0


# diagnose


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say what is wrong with a run, on what evidence, and what to change."
    parser.epilog = "The exit status is 1 when a finding of severity error stands, so that it can gate a job."
    parser.add_argument("file", metavar="FILE", help="run file")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list (NaN is null)")
    parser.add_argument("--history", action="store_true", help="add the findings that have cleared")
    parser.set_defaults(command=_diagnose)


def _diagnose(arguments: argparse.Namespace) -> int:
    run = _load(arguments.file)
    from cockpitlite.diagnosis import diagnose, unjudged
    from cockpitlite.diagnosis.words import describe, quiet

    findings = diagnose(run, history=arguments.history)
    if arguments.json:
        import json

        from cockpitlite.export import plain

        _say(json.dumps([plain(finding.to_dict()) for finding in findings], indent=2, allow_nan=False))
    else:
        last = run.last_step
        parts = [describe(finding) for finding in findings] or [quiet(0 if last is None else last + 1)]
        _say(_harmless("\n\n".join(parts + _unjudged(unjudged(run)))))
    return FAULT if any(finding.severity == "error" and finding.until is None for finding in findings) else 0


def _unjudged(reasons: Mapping[str, str]) -> list[str]:
    """Return what could not be looked for, with the rules of one reason in one line."""
    rules: dict[str, list[str]] = {}
    for code, reason in reasons.items():
        rules.setdefault(reason, []).append(code)
    lines = [f"  {', '.join(codes)}: {reason}" for reason, codes in rules.items()]
    return ["\n".join(["Not judged:", *lines])] if lines else []


# compare


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.description = "Put several runs side by side: verdicts, the settings that differ, last and best values."
    parser.add_argument("files", nargs="+", metavar="FILE", help="run files")
    parser.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    runs = [_load(file) for file in arguments.files]
    from rich.table import Table
    from rich.text import Text

    from cockpitlite.compare import comparison, plain_text

    table = Table("", header_style="bold")
    for run in runs:
        table.add_column(Text(plain_text(run.name)))
    for label, cells in comparison(runs):
        table.add_row(Text(label), *(Text(cell) for cell in cells))
    _print(table)
    return 0


# export


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write everything a run holds in a form that any program reads."
    parser.epilog = (
        "CSV has one line per value, step,reading,layer,value, with nan, inf and -inf as words; layer is empty for the "
        'value of the whole step. JSON has NaN as null and infinities as the texts "Infinity" and "-Infinity".'
    )
    parser.add_argument("file", metavar="FILE", help="run file")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", action="store_true", help="series and values per layer, in long form")
    form.add_argument("--json", action="store_true", help="description, events, panels, series, layers, histograms")
    parser.add_argument("-o", "--output", metavar="OUT", help="file to write; the standard output unless given")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    run = _load(arguments.file)
    from cockpitlite.export import write_csv, write_json

    write: Callable[[Run, TextIO], None] = write_csv if arguments.csv else write_json
    if arguments.output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="replace")
        write(run, sys.stdout)
        return 0
    out = Path(arguments.output)
    if out.exists() and out.samefile(run.path):
        raise BadInputError(f"{out} is the run file itself and is never overwritten; give -o another path")
    with _writing(out), out.open("w", encoding="utf-8", errors="replace", newline="") as file:
        write(run, file)
    _say(f"wrote {out}")
    return 0


# list


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the runs of a folder and the folders below it, the most recently changed first."
    parser.add_argument("folder", nargs="?", default=RUNS, metavar="FOLDER", help=f"default: {RUNS}")
    parser.set_defaults(command=_list)


def _list(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    paths = _runs(folder)
    from rich.table import Table

    table = Table("run", "state", "steps", "last loss", "verdict", "optimizer", "lr", "when", header_style="bold")
    for path in paths:
        _add_run(table, path, str(path.relative_to(folder)))
    _print(table)
    return 0


def _add_run(table: Table, path: Path, name: str) -> None:
    """Add the row of a run; a file that cannot be read has its reason there, and the others are listed all the same."""
    from rich.text import Text

    from cockpitlite.compare import glance, number, plain_text
    from cockpitlite.diagnosis.light import STYLES
    from cockpitlite.store import RunFileError, load

    try:
        look = glance(load(path))
    except (RunFileError, FileNotFoundError) as error:
        table.add_row(Text(plain_text(name)), "unreadable", "", "", Text(plain_text(error), style="red"))
        return
    table.add_row(
        Text(plain_text(name)),
        Text(look.state, style="bold green" if look.state == "live" else ""),
        f"{look.steps:,}",
        number(look.loss),
        Text(look.verdict, style=STYLES[look.light]),
        Text(look.optimizer),
        number(look.learning_rate),
        look.when,
    )


# What the commands share


def _load(path: str | Path) -> Run:
    from cockpitlite.store import RunFileError, load

    try:
        return load(path)
    except (RunFileError, OSError) as error:
        raise BadInputError(str(error)) from error


def _runs(folder: Path) -> list[Path]:
    """Return the run files of a folder, the most recently changed first; there is at least one."""
    from cockpitlite.store import SUFFIX, find_runs

    remedy = "train with cockpitlite.watch(optimizer, model) first, or give the folder it wrote to"
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise BadInputError(f"the folder {folder} {kind}; {remedy}")
    paths = find_runs(folder)
    if not paths:
        raise BadInputError(f"the folder {folder} holds no run file (*{SUFFIX}); {remedy}")
    return paths


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{path} cannot be written ({_cause(error)}); give -o a path you may write to") from error


def _cause(error: OSError) -> str:
    return error.strerror or str(error)


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else -1
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return port


def _harmless(text: str) -> str:
    """Return a text without control characters, which a terminal would act on; line breaks stay."""
    return "".join(sign if sign == "\n" or unicodedata.category(sign)[0] != "C" else "\ufffd" for sign in text)


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _print(table: Table) -> None:
    """Print a table as wide as the terminal, or as wide as it is where nobody looks."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    with console.capture() as shown:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in shown.get().split("\n")))
