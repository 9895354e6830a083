"""The ground: one tree of errors, locks, checkpoints that are used whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mogrid.errors import Busy, ConfigError, DataError, EvaluationError, MogridError, RoleError, nearest
from mogrid.files import held, latest_checkpoint, seal, withdrawn
from mogrid.solvers import NonFiniteGradientError, NonFiniteLossError, SolverError


def test_every_error_that_a_user_can_cause_is_of_one_family() -> None:
    for kind in (ConfigError, DataError, EvaluationError, RoleError, SolverError):
        assert issubclass(kind, MogridError)
        assert issubclass(kind, ValueError)
    for kind in (NonFiniteGradientError, NonFiniteLossError):
        assert issubclass(kind, SolverError)
    assert issubclass(Busy, MogridError)


def test_the_nearest_name_else_all_of_them_else_none() -> None:
    assert nearest("mgad", ["mgda", "upgrad"]) == "; did you mean 'mgda'?"
    assert nearest("xyz", ["mgda", "upgrad"]) == "; known: mgda, upgrad"
    assert nearest("xyz", []) == "; it takes none"


HOLDER = """
import sys
from pathlib import Path
from mogrid.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_by_one_process_and_goes_with_it(tmp_path) -> None:
    path = tmp_path / "claims" / "run.lock"
    with held(path), pytest.raises(Busy, match=r"another process is at work there \(it holds run\.lock\)"), held(path):
        pass
    with held(path):
        pass
    arguments = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy), held(path):
            pass
        other.kill()
        other.wait()
    with held(path):
        pass


def test_checkpoints_cut_short_are_passed_over_and_removed(tmp_path) -> None:
    for step in (9, 10, 11):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model").write_bytes(b"weights")
        if step < 11:
            seal(folder, flops=step)
    (tmp_path / "checkpoint-10" / "model").write_bytes(b"wei")
    found = latest_checkpoint(tmp_path)
    assert found == (tmp_path / "checkpoint-9", {"flops": 9})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-9"]


def test_bad_input_takes_away_what_it_wrote_and_nothing_else(tmp_path) -> None:
    def fail(folder: Path, *names: str) -> None:
        with pytest.raises(ConfigError), withdrawn(folder, "worth", makes=("made*", "deep")):
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("new")
            raise ConfigError("wrong")

    fail(tmp_path / "a" / "b", "made", "other")
    assert not (tmp_path / "a").exists()
    there = tmp_path / "there"
    there.mkdir()
    (there / "made before").write_text("old")
    fail(there, "made now", "deep/file", "somebody's")
    assert sorted(path.name for path in there.iterdir()) == ["made before", "somebody's"]
    fail(there, "made now", "worth")
    assert (there / "made now").exists()
