"""Draining a store: every cell once, whoever runs it; failures and stops reach the one who waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mogrid.errors import Busy, DataError
from mogrid.files import held
from mogrid.runs import RunStore
from mogrid.sweep.cells import Cell
from mogrid.sweep.drain import CellError, drain, outlook
from mogrid.sweep.pool import Halt, run_in_processes
from mogrid.training.fit import Interrupted
from mogrid.training.recipe import Recipe
from tests.runs.test_store import record
from tests.training.tiny import settings

RECIPE = Recipe.model_validate(settings(solver="fixed"))


def cells(store: Path, count: int, **changes: Any) -> list[Cell]:
    return [Cell(f"c{i}", f"cell {i}", "trained", RECIPE, store, store, **changes) for i in range(count)]


def write(cell: Cell, progress: Any, stop: Any) -> None:
    """A run of a moment, under its claim, that says which process it was."""
    with held(cell.store / "claims" / f"{cell.name}.lock"):
        RunStore(cell.store).folder(cell.name).mkdir(parents=True, exist_ok=True)
        progress(0.5, "half")
        time.sleep(0.02)
        RunStore(cell.store).add(record(cell.name, seed=os.getpid()))


def fail(cell: Cell, progress: Any, stop: Any) -> None:
    if cell.name == "c1":
        raise DataError("home: no such folder")
    write(cell, progress, stop)


def break_down(cell: Cell, progress: Any, stop: Any) -> None:
    raise ZeroDivisionError("a fault of ours")


def die(cell: Cell, progress: Any, stop: Any) -> None:
    os._exit(9)


def last_until_stopped(cell: Cell, progress: Any, stop: Any) -> None:
    RunStore(cell.store).folder(cell.name).mkdir(parents=True, exist_ok=True)
    (cell.store / "started").touch()
    while not stop():
        time.sleep(0.01)
    (cell.store / "checkpoint").touch()
    raise Interrupted


def test_all_cells_once(tmp_path) -> None:
    drain(cells(tmp_path, 4), write, lambda: False)
    assert {r.name for r in RunStore(tmp_path)} == {"c0", "c1", "c2", "c3"}


def test_a_cell_waits_for_its_parents(tmp_path) -> None:
    child = Cell("child", "child", "merged", RECIPE, tmp_path, tmp_path, parents=(("c0", 0.5), ("", 0.5)))
    drain([child, *cells(tmp_path, 2)], write, lambda: False)
    assert [r.name for r in RunStore(tmp_path)] == ["c0", "c1", "child"]


def test_what_others_run_is_waited_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mogrid.sweep.drain.PATIENCE", 0.0)
    tries = []

    def busy_at_first(cell: Cell, progress: Any, stop: Any) -> None:
        tries.append(cell.name)
        if tries.count("c0") < 3 and cell.name == "c0":
            raise Busy("c0")
        write(cell, progress, stop)

    drain(cells(tmp_path, 2), busy_at_first, lambda: False)
    assert tries == ["c0", "c1", "c0", "c0"]


def test_a_users_fault_is_one_line_and_ours_is_a_traceback(tmp_path) -> None:
    with pytest.raises(CellError, match=r"^c1: home: no such folder$"):
        drain(cells(tmp_path, 3), fail, lambda: False)
    with pytest.raises(CellError, match=r"(?s)^c0: Traceback.*a fault of ours"):
        drain(cells(tmp_path / "other", 1), break_down, lambda: False)


def test_a_stop_begins_nothing_new(tmp_path) -> None:
    with pytest.raises(Interrupted):
        drain(cells(tmp_path, 3), write, lambda: len(RunStore(tmp_path)) == 1)
    assert [r.name for r in RunStore(tmp_path)] == ["c0"]


def test_processes_share_the_cells(tmp_path) -> None:
    some = cells(tmp_path, 8)
    run_in_processes(some, write, Halt(tmp_path / "halt"), workers=2)
    found = list(RunStore(tmp_path))
    assert {r.name for r in found} == {cell.name for cell in some}
    assert os.getpid() not in {r.seed for r in found}
    assert not (tmp_path / "halt").exists()


def test_processes_stay_for_the_next_store_of_the_same_environment(tmp_path, monkeypatch) -> None:
    def workers(name: str) -> set[int]:
        run_in_processes(cells(tmp_path / name, 3), write, Halt(tmp_path / "halt"), workers=1)
        return {r.seed for r in RunStore(tmp_path / name)}

    (first,) = workers("a")
    assert workers("b") == {first}
    monkeypatch.setenv("SOMETHING", "else")
    assert first not in workers("c")
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.slow
def test_idle_processes_end_with_their_killed_parent(tmp_path) -> None:
    (tmp_path / "parent.py").write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mogrid.sweep.pool import Halt, run_in_processes\n"
        "from tests.sweep.test_drain import cells, write\n"
        "place = Path(sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    run_in_processes(cells(place, 2), write, Halt(place / 'halt'), workers=1)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "runs")]
    assert subprocess.run(command, env=environment).returncode == -9
    (worker,) = {r.seed for r in RunStore(tmp_path / "runs")}
    until = time.monotonic() + 30
    while time.monotonic() < until and _alive(worker):
        time.sleep(0.1)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_failure_in_a_process_stops_the_others(tmp_path) -> None:
    with pytest.raises(CellError, match=r"^c1: home: no such folder$"):
        run_in_processes(cells(tmp_path, 40), fail, Halt(tmp_path / "halt"), workers=2)
    assert len(RunStore(tmp_path)) < 40


def test_a_process_that_dies_is_noticed(tmp_path) -> None:
    with pytest.raises(CellError, match="a worker process died"):
        run_in_processes(cells(tmp_path, 1), die, Halt(tmp_path / "halt"), workers=1)


def test_a_halt_that_another_process_left_stops_nothing(tmp_path) -> None:
    """A killed parent's stays behind; a process with its number, here or in a container, is another one."""
    left = Halt.of_this_process(tmp_path)
    left.set()
    (tmp_path / f"halt-{os.getpid()}").touch()
    own = Halt.of_this_process(tmp_path)
    assert not own()
    run_in_processes(cells(tmp_path / "runs", 1), write, own, workers=1)
    assert len(RunStore(tmp_path / "runs")) == 1


def test_halts_of_processes_that_ended_are_removed(tmp_path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = Halt.of_this_process(tmp_path)
    theirs = str(mine.path).replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    gone, fresh = Halt(Path(f"{theirs}1")), Halt(Path(f"{theirs}2"))
    for halt in (mine, gone, fresh):
        halt.set()
    for halt in (mine, gone):
        os.utime(halt.path, (0, 0))
    Halt.of_this_process(tmp_path)
    assert (mine(), gone(), fresh()) == (True, False, True)


def test_a_stop_that_nobody_here_asked_for_is_said(tmp_path) -> None:
    halt = Halt(tmp_path / "halt")
    halt.set()
    with pytest.raises(CellError, match=r"asked to stop by .*halt, which this process did not write"):
        run_in_processes(cells(tmp_path / "runs", 2), write, halt, workers=1)


def test_ctrl_c_leaves_a_checkpoint(tmp_path) -> None:
    def look() -> None:
        if (tmp_path / "started").exists() and not (tmp_path / "asked").exists():
            (tmp_path / "asked").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_processes(cells(tmp_path, 1), last_until_stopped, Halt(tmp_path / "halt"), workers=1, look=look)
    assert (tmp_path / "checkpoint").exists()


def test_the_outlook_counts_what_any_process_does(tmp_path) -> None:
    some = cells(tmp_path, 4, cost=2.0)
    view = outlook(some, tmp_path)
    assert view.done() == (0.0, 0, "")
    folder = RunStore(tmp_path).folder("c1")
    folder.mkdir(parents=True)
    (folder / "share.txt").write_text("0.2500 effectiveness 1.2")
    RunStore(tmp_path).add(record("c0"))
    assert view.done() == (2.5, 1, "cell 1 25% effectiveness 1.2")
