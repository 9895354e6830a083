"""The command line as a user meets it: exit codes, one-line errors, speed of the help."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import mogrid
from mogrid import cli
from mogrid.errors import DataError
from mogrid.solvers import SolverError, available, from_config


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_entry_point_is_this_function() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    module, function = settings["project"]["scripts"]["mogrid"].split(":")
    assert getattr(import_module(module), function) is cli.main


def test_help_is_fast_because_nothing_heavy_is_imported() -> None:
    check = (
        "import sys; before = set(sys.modules); from mogrid.cli import main; code = main(['--help']); "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.endswith("['mogrid']\n")
    for name, line in cli.COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_without_torch(command) -> None:
    check = f"import sys; from mogrid.cli import main; code = main([{command!r}, '--help']); sys.exit(code or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: mogrid {command}")
    module = import_module(f"mogrid.commands.{command}")
    assert module.__doc__.splitlines()[0] in done.stdout


def test_version(capsys) -> None:
    assert run(capsys, "--version") == (0, f"mogrid {mogrid.__version__}\n", "")


def test_one_line_for_every_solver(capsys) -> None:
    code, out, err = run(capsys, "solvers")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(available())
    for line, solver in zip(lines, available().values(), strict=True):
        assert solver.summary in line
        assert line.endswith(f"[{solver.paper}]")
    assert [line.split()[1] for line in lines if line.startswith(("fixed ", "famo ", "mgda ", "ema "))] == [
        "nothing", "losses", "gramian", "inner's",
    ]  # fmt: skip


def test_json_is_enough_to_build_every_solver(capsys) -> None:
    code, out, _ = run(capsys, "solvers", "--json")
    assert code == 0
    needed = {
        "preference": {"a": 1, "b": 2}, "primary": "a", "solver": "mgda", "vectors": [[1, 0], [0, 1]], "sector": 0,
        "path": [[1, 0], [0, 1]], "steps": [0, 9],
    }  # fmt: skip
    records = json.loads(out)
    assert [record["name"] for record in records] == list(available())
    for record in records:
        settings = {
            key: needed[key] if setting["required"] else setting["default"]
            for key, setting in record["settings"].items()
        }
        assert type(from_config({"name": record["name"], **settings})).__name__ == record["class"]


def test_one_solver_in_full(capsys) -> None:
    code, out, _ = run(capsys, "solvers", "mgda")
    assert code == 0
    assert out.startswith("mgda: mogrid.solvers.MGDA(bounds=0.0, normalise='none')\n")
    assert "Sener and Koltun" in out
    assert run(capsys, "solvers", "MGDA")[1] == out
    assert [record["name"] for record in json.loads(run(capsys, "solvers", "famo", "--json")[1])] == ["famo"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "mogrid: the following arguments are required: COMMAND"),
        (["solver"], "mogrid: unknown command 'solver'; did you mean 'solvers'?"),
        (["--jason"], "mogrid: the following arguments are required"),
        (["solvers", "--jsn"], "mogrid solvers: unrecognized arguments: --jsn"),
        (["solvers", "mgad"], "mogrid: unknown solver 'mgad'; did you mean 'mgda'?"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, argv, message) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("corpus.jsonl:3: no text"), 2, "mogrid: corpus.jsonl:3: no text\n"),
        (SolverError("mgda: two\nlines"), 2, "mogrid: mgda: two lines\n"),
        (
            FileNotFoundError(2, "No such file or directory", "run.yaml"),
            2,
            "mogrid: run.yaml: No such file or directory\n",
        ),
        (KeyboardInterrupt(), 3, "mogrid: interrupted; what is finished is kept, the same command continues\n"),
    ],
)
def test_what_a_command_raises(capsys, monkeypatch, error, code, message) -> None:
    def fail(arguments):
        raise error

    monkeypatch.setattr("mogrid.commands.solvers.run", fail)
    assert run(capsys, "solvers") == (code, "", message)


def test_a_bug_is_not_dressed_up_as_bad_input_nor_shown_as_a_traceback(capsys, monkeypatch, tmp_path) -> None:
    def fail(arguments):
        raise ValueError("a\nbug")

    monkeypatch.setattr("mogrid.commands.solvers.run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = run(capsys, "solvers")
    (report,) = tmp_path.iterdir()
    assert (code, out) == (1, "")
    assert err == f"mogrid: a fault of mogrid's, not yours (ValueError: a bug); please report it with {report}\n"
    assert "Traceback" in report.read_text()
    assert "in fail" in report.read_text()


def test_a_reader_that_stops_reading_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m mogrid.cli solvers --json | head -c 10", shell=True, capture_output=True, text=True
    )
    assert done.stdout == '[\n {\n  "na'
    assert done.stderr == ""
