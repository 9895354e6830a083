"""Ray's tasks drain a store as processes do: the same bits, killed, stopped, or beside others; one Ray for all tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mogrid.cli import main
from mogrid.errors import ConfigError
from mogrid.runs import RunStore
from mogrid.sweep.cells import Cell, cells_of, run_cell
from mogrid.sweep.drain import CellError
from mogrid.sweep.grid import read_sweep
from mogrid.sweep.on_ray import run_on_ray
from mogrid.sweep.pool import Halt
from tests.sweep.test_drain import break_down, cells, die, fail, write
from tests.sweep.test_sweep import write_sweep

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="ray is not installed")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
ENVIRONMENT["RAY_worker_niceness"] = "0"  # Ray's own 15 lets its workers starve beside other tests


@pytest.fixture(scope="session")
def cluster():
    """The address of a Ray of two CPUs, which this process is connected to."""
    for name in ("HF_HUB_OFFLINE", "PYTHONPATH", "RAY_worker_niceness"):
        os.environ[name] = ENVIRONMENT[name]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A sweep whose cells ran one after another in processes."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_sweep(folder, vary={"mix": ["equal", "corners"]}, merge=[0.5])
    assert main(["sweep", str(path), "--store", str(folder / "runs")]) == 0
    return folder


def kept(store: Path) -> dict[str, Any]:
    """Return what must not depend on who ran it: records without seconds, and every step."""
    runs = RunStore(store)
    names = [record.name for record in runs]
    assert len(names) == len(set(names)) == len((store / "runs.jsonl").read_text().splitlines())
    found = {r.name: {k: v for k, v in r.to_json().items() if k != "seconds"} for r in runs}
    steps = {name: runs.folder(name) / "steps.jsonl" for name in names}
    return {name: (found[name], path.read_text() if path.exists() else "") for name, path in steps.items()}


def kill_once(cell: Cell, progress: Callable[[float, str], None], stop: Callable[[], bool]) -> None:
    """Run a cell in a worker that is killed at the first checkpoint of all."""

    def dying(share: float, said: str) -> None:
        progress(share, said)
        if list((cell.store / "work").glob("*/training/checkpoint-*")) and not (cell.store / "killed").exists():
            (cell.store / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run_cell(cell, dying, stop)


def command(path: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "mogrid", "sweep", str(path), "--store", str(store), *more]
    # What a script starts in the background ignores Ctrl-C, and so would what these tests start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(words, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_a_checkpoint(store: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not list((store / "work").glob("*/training/checkpoint-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "no checkpoint in five minutes"
        time.sleep(0.01)


def test_the_same_bits_as_processes(cluster, whole, tmp_path) -> None:
    store = tmp_path / "runs"
    assert main(["sweep", str(whole / "sweep.yaml"), "--store", str(store), "--executor", "ray", "--workers", "2"]) == 0
    assert ray.is_initialized(), "a Ray of the caller's own is kept"
    assert kept(store) == kept(whole / "runs")
    assert len(kept(store)) == 10


def test_the_cell_of_a_killed_worker_is_taken_up_again(cluster, whole, tmp_path) -> None:
    sweep = read_sweep(whole / "sweep.yaml")
    store = tmp_path / "runs"
    store.mkdir()
    run_on_ray(cells_of(sweep, store), kill_once, Halt(store / "halt"), workers=2)
    assert (store / "killed").exists()
    assert kept(store) == kept(whole / "runs")


def test_ctrl_c_leaves_checkpoints_and_the_same_command_goes_on(cluster, whole, tmp_path) -> None:
    store, given = tmp_path / "runs", ("--executor", "ray", "--ray-address", cluster)
    process = command(whole / "sweep.yaml", store, *given)
    wait_for_a_checkpoint(store, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 3, said
    assert "Traceback" not in said
    left = [*(store / "work").glob("*/training/checkpoint-*"), *(store / "work").glob("*/trained.json")]
    assert left, "neither a checkpoint nor a trained model to go on from"
    assert not list((store / "claims").glob("halt-*"))
    again = command(whole / "sweep.yaml", store, *given)
    assert again.wait(timeout=300) == 0, again.communicate()[1]
    assert kept(store) == kept(whole / "runs")


def test_a_halt_in_this_process_is_heard_by_its_tasks(cluster, whole, tmp_path) -> None:
    store, asked = tmp_path / "runs", []
    store.mkdir()

    def look() -> None:
        if not asked and list((store / "work").glob("*/training/checkpoint-*")):
            asked.append(True)
            raise KeyboardInterrupt

    some = cells_of(read_sweep(whole / "sweep.yaml"), store)
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(some, run_cell, Halt(store / "halt"), workers=2, look=look)
    assert len(RunStore(store)) < len(some)
    run_on_ray(some, run_cell, Halt(store / "halt"), workers=2)
    assert kept(store) == kept(whole / "runs")


def test_processes_and_ray_drain_one_store(cluster, whole, tmp_path) -> None:
    store = tmp_path / "runs"
    processes = command(whole / "sweep.yaml", store)
    tasks = command(whole / "sweep.yaml", store, "--executor", "ray", "--ray-address", cluster)
    said = [process.communicate(timeout=400)[1] for process in (processes, tasks)]
    assert (processes.returncode, tasks.returncode) == (0, 0), said
    assert kept(store) == kept(whole / "runs")


def test_every_cell_once_in_workers_of_ray(cluster, tmp_path) -> None:
    some = cells(tmp_path, 8)
    run_on_ray(some, write, Halt(tmp_path / "halt"), workers=2)
    found = list(RunStore(tmp_path))
    assert sorted(r.name for r in found) == sorted(cell.name for cell in some)
    assert os.getpid() not in {r.seed for r in found}
    assert not (tmp_path / "halt").exists()


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (fail, r"^c1: home: no such folder$"),
        (break_down, r"(?s)^c0: Traceback.*a fault of ours"),
        (die, "a worker process of Ray died 2 times"),
    ],
)
def test_failures_reach_the_one_who_waits(cluster, tmp_path, monkeypatch, work, said) -> None:
    monkeypatch.setattr("mogrid.sweep.on_ray._RETRIES", 1)
    with pytest.raises(CellError, match=said):
        run_on_ray(cells(tmp_path, 20), work, Halt(tmp_path / "halt"), workers=1)
    assert len(RunStore(tmp_path)) < 20


def test_a_store_that_a_node_does_not_see_is_said(cluster, tmp_path) -> None:
    with pytest.raises(CellError, match=r"sees no store at .*nowhere"):
        run_on_ray(cells(tmp_path / "nowhere", 2), write, Halt(tmp_path / "halt"), workers=1)


def test_no_cluster_is_one_line(whole, tmp_path) -> None:
    process = command(whole / "sweep.yaml", tmp_path / "runs", "--executor", "ray", "--ray-address", "127.0.0.1:1")
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert "no Ray cluster at '127.0.0.1:1'" in said.splitlines()[-1]


def test_without_ray_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mogrid.sweep.on_ray.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mogrid\[ray\]'"):
        run_on_ray(cells(tmp_path, 1), write, Halt(tmp_path / "halt"), workers=1)
