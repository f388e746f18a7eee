"""The command line: what each command prints, its exit status, and one sentence for whatever cannot be used."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from synthetic_runs import SyntheticRun, write_run

import cockpitlite
from cockpitlite import cli
from cockpitlite.compare import comparison, differing, glance, optimizer_words, settings
from cockpitlite.diagnosis import diagnose, unjudged
from cockpitlite.diagnosis.words import QUIET, describe, quiet
from cockpitlite.store import RunWriter, load

WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from cockpitlite.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of three runs: too small, good, and one that met NaN."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("small", "good", "nonfinite"):
        write_run(folder / f"{kind}.cockpit", kind, 250)
    return folder


def call(capsys, *argv):
    """Return exit status, standard output and standard error of a command."""
    status = cli.main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def process(*argv, **options):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, argv)], capture_output=True, text=True, check=False, **options
    )


def refused(capsys, *argv):
    """Return the one sentence that a command refuses its input with."""
    status, out, err = call(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith("cockpitlite: ") and err.endswith("\n") and err.count("\n") == 1
    return err


# The commands


def test_plot_writes_a_page(capsys, runs, tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        out = tmp_path / f"page{suffix}"
        assert call(capsys, "plot", runs / "good.cockpit", "-o", out) == (0, f"wrote {out}\n", "")
        assert out.read_bytes().startswith(start)


def test_diagnose_describes_each_finding(capsys, runs):
    for kind in ("small", "good", "nonfinite"):
        path = runs / f"{kind}.cockpit"
        findings = diagnose(load(path))
        status, out, err = call(capsys, "diagnose", path)
        assert err == ""
        assert status == int(any(finding.severity == "error" for finding in findings))
        for finding in findings:
            assert describe(finding).strip() in out
    assert status == 1  # the last one met NaN


def test_diagnose_says_that_it_found_nothing_and_what_it_could_not_look_for(capsys, tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.reading("update_size", 0, 0.5)
    writer.close()
    reasons = unjudged(load(writer.path))
    assert reasons and not diagnose(load(writer.path))
    status, out, err = call(capsys, "diagnose", writer.path)
    assert (status, err) == (0, "")
    assert out.startswith(f"{quiet(1)}\n\nNot judged:\n")
    assert {line.split(": ", 1)[1] for line in out.splitlines()[3:]} == set(reasons.values())
    assert {code for line in out.splitlines()[3:] for code in line.split(":")[0].strip().split(", ")} == set(reasons)
    assert call(capsys, "diagnose", writer.path, "--json") == (0, "[]\n", "")


def test_diagnose_as_json_has_every_field(capsys, runs):
    findings = diagnose(load(runs / "nonfinite.cockpit"))
    status, out, _ = call(capsys, "diagnose", runs / "nonfinite.cockpit", "--json")
    assert status == 1

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    data = json.loads(out, parse_constant=refuse)
    assert [set(entry) for entry in data] == [set(finding.to_dict()) for finding in findings]
    assert [(entry["code"], entry["title"]) for entry in data] == [(one.code, one.title) for one in findings]


def test_a_cleared_error_is_shown_and_does_not_fail(capsys, runs, monkeypatch):
    cleared = cockpitlite.Finding("R0", "error", 1.0, "It was broken", "For a while.", since=3, until=9)
    monkeypatch.setattr("cockpitlite.diagnosis.diagnose", lambda run, history=False: [cleared] if history else [])
    status, out, _ = call(capsys, "diagnose", runs / "good.cockpit", "--history")
    assert status == 0 and "It was broken" in out
    status, out, _ = call(capsys, "diagnose", runs / "good.cockpit")
    said, _, rest = out.partition("\n\n")
    assert (status, said) == (0, QUIET)
    assert rest.startswith("Not judged:\n") and "broken" not in rest


def test_findings_cannot_steer_the_terminal(capsys, runs, monkeypatch):
    finding = cockpitlite.Finding("R0", "warning", 1.0, "layer \x1b[2J\x07", "\x9b31m")
    monkeypatch.setattr("cockpitlite.diagnosis.diagnose", lambda run, history=False: [finding])
    _, out, _ = call(capsys, "diagnose", runs / "good.cockpit")
    assert "layer" in out and not set(out) & {"\x1b", "\x07", "\x9b"}


def test_compare_puts_runs_side_by_side(capsys, runs):
    paths = [runs / "small.cockpit", runs / "good.cockpit"]
    status, out, err = call(capsys, "compare", *paths)
    assert (status, err) == (0, "")
    rows = {row[0]: row[1:] for line in out.splitlines() if len(row := cells(line)) == 3}
    assert rows[""] == ["small", "good"]
    assert rows["verdict"] == [glance(load(path)).verdict for path in paths]
    assert rows["optimizer.groups.0.lr"] == ["1e-05", "0.05"]
    assert "seed" not in rows  # it is the same in both
    for path, last, lowest in zip(paths, rows["loss, last"], rows["loss, lowest"], strict=True):
        values = load(path).series("loss")[1]
        assert float(last) == pytest.approx(values[-1], rel=1e-3)
        assert float(lowest) == pytest.approx(values.min(), rel=1e-3)
    assert float(rows["alpha, newest median"][0]) < -0.8


def cells(line):
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def test_a_comparison_knows_which_way_is_better(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.readings("valid_accuracy", enumerate([0.5, 0.9, 0.7]))
    writer.readings("valid_loss", enumerate([3.0, 1.0, 2.0]))
    writer.readings("epoch", enumerate([0.0, 1.0, 2.0]))
    writer.close()
    rows = dict(comparison([load(writer.path)]))
    assert rows["valid_accuracy, last"] == ["0.7"] and rows["valid_accuracy, highest"] == ["0.9"]
    assert rows["valid_loss, last"] == ["2"] and rows["valid_loss, lowest"] == ["1"]


def test_settings_that_differ_are_found_however_deep():
    one = {"optimizer": {"groups": [{"lr": 0.1, "betas": [0.9, 0.99]}]}, "seed": 0, "pid": 1}
    two = {"optimizer": {"groups": [{"lr": 0.2, "betas": [0.9, 0.99]}, {"lr": 0.3}]}, "seed": 0, "pid": 2}
    assert differing([settings(one), settings(two)]) == [
        ("optimizer.groups.0.lr", ["0.1", "0.2"]),
        ("optimizer.groups.1.lr", ["-", "0.3"]),
    ]


def test_an_optimizer_is_described_by_what_is_on():
    groups = [{"lr": 0.1, "momentum": 0.0, "nesterov": False, "betas": [0.9, 0.99], "weight_decay": 5e-4}, {"lr": 0.2}]
    words = optimizer_words({"optimizer": {"class": "AdamW", "groups": groups}})
    assert words == "AdamW (lr 0.1 / 0.2, betas 0.9 0.99, weight decay 0.0005)"
    assert optimizer_words({}) == optimizer_words({"optimizer": None}) == ""


def test_export_to_the_standard_output_and_to_a_file_agree(capsys, runs, tmp_path):
    for form in ("--csv", "--json"):
        status, out, err = call(capsys, "export", runs / "good.cockpit", form)
        assert (status, err) == (0, "")
        path = tmp_path / "out"
        assert call(capsys, "export", runs / "good.cockpit", form, "-o", path) == (0, f"wrote {path}\n", "")
        assert path.read_text(encoding="utf-8") == out
    losses = load(runs / "good.cockpit").series("loss")[1]
    call(capsys, "export", runs / "good.cockpit", "--csv", "-o", path)
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["reading"], row["layer"]) == ("loss", "")]
    assert [float(row["value"]) for row in rows] == losses.tolist()


def test_list_shows_every_run_with_its_state(capsys, tmp_path):
    live = SyntheticRun(tmp_path / "deep" / "live.cockpit", "small")
    live.write(100)
    write_run(tmp_path / "[red]done.cockpit", "good", 50)
    (tmp_path / "broken.cockpit").write_text("this is no run file")
    status, out, err = call(capsys, "list", tmp_path)
    live.finish()
    assert (status, err) == (0, "")
    rows = {row[0]: row[1:] for line in out.splitlines() if len(row := cells(line)) == 8}
    assert rows["run"] == ["state", "steps", "last loss", "verdict", "optimizer", "lr", "when"]
    assert rows["deep/live.cockpit"][:2] == ["live", "100"]
    done = rows["[red]done.cockpit"]  # a name is text, never markup
    assert done[:2] == ["finished", "50"] and done[4:6] == ["SGD (lr 0.05)", "0.05"]
    assert float(done[2]) == pytest.approx(load(tmp_path / "[red]done.cockpit").series("loss")[1][-1], rel=1e-3)
    assert rows["broken.cockpit"][0] == "unreadable" and "is not a cockpitlite run file" in rows["broken.cockpit"][3]


def test_a_run_that_ended_without_a_word_is_broken_off(capsys, tmp_path):
    RunWriter(tmp_path / "a.cockpit").close()
    assert glance(load(tmp_path / "a.cockpit")).state == "broken off"
    out = call(capsys, "list", tmp_path)[1]
    assert cells(out.splitlines()[3]) == ["a.cockpit", "broken off", "0", "-", quiet(0), "", "-", ""]


def test_dashboard_serves_what_it_is_given(capsys, runs, monkeypatch):
    served = []
    monkeypatch.setattr("cockpitlite.dashboard.serve", lambda path, **options: served.append((path, options)))
    assert call(capsys, "dashboard", runs, "--host", "0.0.0.0", "--port", "9", "--no-browser")[0] == 0
    assert call(capsys, "dashboard", runs / "good.cockpit")[0] == 0
    monkeypatch.chdir(runs.parent)
    runs.rename(runs.parent / "runs")
    assert call(capsys, "dashboard")[0] == 0
    (runs.parent / "runs").rename(runs)
    assert [str(path) for path, _ in served] == [str(runs), str(runs / "good.cockpit"), "runs"]
    assert served[0][1] == {"host": "0.0.0.0", "port": 9, "open_browser": False, "wait": False, "prefix": "/"}
    assert served[1][1] == {"host": "127.0.0.1", "port": 8050, "open_browser": True, "wait": False, "prefix": "/"}


def test_dashboard_can_wait_for_the_first_run(capsys, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("cockpitlite.dashboard.serve", lambda path, **options: served.append((path, options["wait"])))
    assert call(capsys, "dashboard", tmp_path / "to-come", "--wait")[0] == 0
    assert served == [(tmp_path / "to-come", True)]


def test_demo_passes_its_flags_to_a_process_of_its_own(capsys, monkeypatch):
    commands = []
    monkeypatch.setattr(cli, "_run", lambda command: commands.append(command) or 3)
    assert call(capsys, "demo")[0] == 3
    assert call(capsys, "demo", "--no-serve", "--no-browser", "-o", "out", "--port", "8123")[0] == 3
    start = [sys.executable, "-m", "cockpitlite.demo"]
    assert commands == [start, [*start, "--no-serve", "--no-browser", "-o", "out", "--port", "8123"]]


@pytest.mark.parametrize(
    ("program", "status"), [("raise SystemExit(5)", 5), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_a_process_of_its_own_gives_its_status(program, status):
    assert cli._run([sys.executable, "-c", program]) == status


def test_version_and_help(capsys):
    for argv, word in ((["--version"], cockpitlite.__version__), (["--help"], "diagnose"), (["plot", "--help"], "OUT")):
        with pytest.raises(SystemExit) as ended:
            cli.main(argv)
        assert ended.value.code == 0
        assert word in capsys.readouterr().out


# What cannot be used


@pytest.mark.parametrize(
    "argv",
    [["plot", "FILE", "-o", "a.png"], ["diagnose", "FILE"], ["compare", "FILE"], ["export", "FILE", "--csv"]],
    ids=lambda argv: argv[0],
)
def test_a_file_that_is_not_there_or_no_run_file_is_named(capsys, tmp_path, argv):
    def with_file(path):
        return [str(path) if word == "FILE" else word for word in argv]

    assert "does not exist; give the path of a .cockpit file" in refused(capsys, *with_file(tmp_path / "gone.cockpit"))
    assert "is a folder" in refused(capsys, *with_file(tmp_path))
    (tmp_path / "text.cockpit").write_text("hello")
    assert "is not a cockpitlite run file" in refused(capsys, *with_file(tmp_path / "text.cockpit"))


@pytest.mark.parametrize("command", ["dashboard", "list"])
def test_an_empty_or_missing_folder_is_named_with_its_remedy(capsys, tmp_path, command, monkeypatch):
    assert f"the folder {tmp_path} holds no run file (*.cockpit); train with" in refused(capsys, command, tmp_path)
    assert "gone does not exist; train with" in refused(capsys, command, tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    assert "the folder runs does not exist; train with" in refused(capsys, command)


def test_the_dashboard_refuses_a_file_that_is_no_run_file(capsys, tmp_path):
    (tmp_path / "a.cockpit").write_text("hello")
    assert "is not a cockpitlite run file" in refused(capsys, "dashboard", tmp_path / "a.cockpit")


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "Cannot assign requested address"), ("2001:db8::1", None), ("no such host", None)],
)
def test_an_address_that_cannot_be_had_is_named_once(capsys, runs, host, reason):
    sentence = refused(capsys, "dashboard", runs, "--host", host, "--no-browser")
    where = f"[{host}]:8050" if ":" in host else f"{host}:8050"
    assert f"the page cannot be served at {where} ({reason or ''}" in sentence
    assert sentence.count(host) == 1 and sentence.endswith("); give another host or port\n")


@pytest.mark.parametrize("option", ["--prefix", "--path-prefix", "--path_prefix"])
def test_a_page_is_served_under_the_path_that_a_proxy_shows(capsys, runs, monkeypatch, option):
    found = {}
    monkeypatch.setattr("cockpitlite.dashboard.serve", lambda path, **options: found.update(options))
    assert cli.main(["dashboard", str(runs), option, "/panel/"]) == 0
    assert found["prefix"] == "/panel/"
    monkeypatch.undo()
    assert "a prefix is a path such as /panel/" in refused(
        capsys, "dashboard", runs, option, "http://a/", "--port", "0"
    )


def test_output_that_cannot_be_written_is_named(capsys, runs, tmp_path):
    nowhere = tmp_path / "nowhere" / "out.png"
    for argv in (["plot"], ["export", "--csv"], ["export", "--json"]):
        sentence = refused(capsys, argv[0], runs / "good.cockpit", *argv[1:], "-o", nowhere)
        assert f"{nowhere} cannot be written (No such file or directory); give -o" in sentence
    assert "cannot be written (Is a directory)" in refused(
        capsys, "export", runs / "good.cockpit", "--csv", "-o", tmp_path
    )


def test_a_plot_with_another_suffix_is_refused(capsys, runs, tmp_path):
    sentence = refused(capsys, "plot", runs / "good.cockpit", "-o", tmp_path / "a.jpg")
    assert "a plot is saved as .png, .pdf, .svg, not as " in sentence
    assert not (tmp_path / "a.jpg").exists()


def test_an_export_never_overwrites_its_run(capsys, tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 5)
    before = path.read_bytes()
    assert "never overwritten" in refused(capsys, "export", path, "--csv", "-o", tmp_path / "." / "a.cockpit")
    assert path.read_bytes() == before


def test_a_damaged_run_file_is_named(capsys, tmp_path):
    path = write_run(tmp_path / "a.cockpit", "good", 300)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 2))
    sentence = refused(capsys, "export", path, "--csv", "-o", tmp_path / "out.csv")
    assert str(path) in sentence


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: COMMAND; `cockpitlite --help`"),
        (["fly"], "invalid choice: 'fly'"),
        (["plot"], "required: FILE, -o/--output; `cockpitlite plot --help`"),
        (["export", "a.cockpit"], "one of the arguments --csv --json is required"),
        (["export", "a.cockpit", "--csv", "--json"], "not allowed with"),
        (["compare"], "required: FILE"),
        (["dashboard", "--port", "ssh"], "a port is a number from 0 to 65535, not 'ssh'"),
        (["demo", "--port", "65536"], "a port is a number from 0 to 65535, not '65536'"),
        (["list", "\x1b[31m"], "the folder \ufffd[31m does not exist"),
    ],
)
def test_a_call_that_makes_no_sense_gets_one_sentence(capsys, argv, words):
    assert words in refused(capsys, *argv)


# How it behaves in a shell


def test_no_command_imports_torch(runs, tmp_path):
    good = runs / "good.cockpit"
    for argv in (
        ["list", runs],
        ["diagnose", good],
        ["compare", good, runs / "small.cockpit"],
        ["export", good, "--json"],
        ["plot", good, "-o", tmp_path / "a.png"],
    ):
        done = process(*argv)
        assert (done.returncode, done.stderr) == (0, ""), argv
        assert done.stdout


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom cockpitlite.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'dash', 'plotly', 'rich', 'sqlite3'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_ends_it_in_silence(runs):
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH, "export", str(runs / "good.cockpit"), "--csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout.readline() == b"step,reading,layer,value\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 141


def test_a_table_for_a_reader_that_leaves_ends_in_silence(runs):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "list", str(runs)], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_ends_it_with_130_and_in_silence(runs):
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH, "export", str(runs / "good.cockpit"), "--csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        running.stdout.readline()  # it is at work, and blocked as long as nobody reads on
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert running.stderr.read() == b""


def test_ctrl_c_lets_a_process_of_its_own_end_in_its_own_way():
    child = (
        "import sys, time\nprint('ready', flush=True)\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: time.sleep(0.3); print('tidied', flush=True); sys.exit(7)"
    )
    program = f"import sys; from cockpitlite.cli import _run; sys.exit(_run([sys.executable, '-c', {child!r}]))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        assert running.stdout.readline() == b"ready\n"
        time.sleep(0.2)  # the child is ready before its parent has begun to wait
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait() == 7
        assert (running.stdout.read(), running.stderr.read()) == (b"tidied\n", b"")


def test_ctrl_c_ends_a_process_that_does_not_listen():
    child = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    program = (
        "import sys; from cockpitlite import cli; cli.PATIENCE = 0.2\n"
        f"sys.exit(cli._run([sys.executable, '-c', {child!r}]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        assert running.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait() == 130


def test_an_ascii_terminal_is_no_obstacle(runs):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for argv in (["list", runs], ["compare", runs / "good.cockpit"], ["diagnose", runs / "small.cockpit"]):
        done = process(*argv, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()


def test_an_export_is_utf8_whatever_the_terminal_is(tmp_path):
    writer = RunWriter(tmp_path / "a.cockpit")
    writer.reading("α 重み", 0, 1.5)
    writer.close()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "export", str(writer.path), "--csv"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert list(csv.reader(io.StringIO(done.stdout.decode("utf-8"))))[1] == ["0", "α 重み", "", "1.5"]
