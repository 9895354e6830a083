"""Ray as executor: the same bits as worker processes, killed workers replaced, one-line errors, nothing left running."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from mogrid.cli import main
from mogrid.errors import ConfigError
from mogrid.sweep.on_ray import RayPool, run_shared_cell
from mogrid.sweep.pool import CellError, Pool
from tests.experiment.ray_work import work
from tests.training.tiny import write_data

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def local():
    """One Ray for all pools of this module, which leave it as they found it."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield context.address_info["gcs_address"]
    assert ray.is_initialized()
    ray.shutdown()


def bits(folder: Path, pool) -> list[str]:
    folder.mkdir()
    files = [folder / str(i) for i in range(5)]
    with pool:
        pool.run([("bits", file) for file in files])
    return [file.read_text() for file in files]


def test_the_same_bits_as_worker_processes(local, tmp_path) -> None:
    on_ray = bits(tmp_path / "ray", RayPool(work, workers=2))
    assert on_ray == bits(tmp_path / "pool", Pool(work, workers=1))
    assert len(set(on_ray)) == 5
    assert all(text.startswith("1 1 ") for text in on_ray)


def note(seen: list[tuple[int, float]], index: int, share: float) -> None:
    seen.append((index, share))


def test_progress_of_two_runs_of_a_pool(local, tmp_path) -> None:
    with RayPool(work, workers=2) as pool:
        for _ in range(2):
            seen: list[tuple[int, float]] = []
            pool.run([("slow", tmp_path), ("slow", tmp_path)], partial(note, seen))
            for shares in ([share for index, share in seen if index == wanted] for wanted in (0, 1)):
                assert len(shares) > 2
                assert shares == sorted(shares)
                assert shares[-1] == 1.0


def test_a_killed_worker_and_a_killed_board_are_replaced(local, tmp_path) -> None:
    with RayPool(work, workers=2) as pool:

        def kill_board(index: int, share: float) -> None:
            if not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                ray.kill(pool._board, no_restart=False)

        pool.run([("slow", tmp_path), ("die once", tmp_path / "a"), ("bits", tmp_path / "1")], kill_board)
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "a").read_text() == "xx"
    assert (tmp_path / "1").exists()


def test_the_first_error_stops_the_others(local, tmp_path) -> None:
    cells = [("wait", tmp_path / "waits"), ("fail", tmp_path / "x"), ("bits", tmp_path / "1"), ("bits", tmp_path / "2")]
    with pytest.raises(CellError, match=r"bad x$") as caught, RayPool(work, workers=2) as pool:
        pool.run(cells)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "waits").read_text() == "stopped"
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize(("kind", "message"), [("fault", "line 1\nline 2"), ("die", "its worker process died 2 times")])
def test_faults(local, tmp_path, kind, message, monkeypatch) -> None:
    monkeypatch.setattr("mogrid.sweep.on_ray._RETRIES", 1)
    with pytest.raises(CellError, match=message) as caught, RayPool(work, workers=2) as pool:
        pool.run([(kind, tmp_path / "x")])
    assert ("\n" in str(caught.value)) == (kind == "fault")


def test_a_cell_of_another_process_is_waited_for(local, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mogrid.sweep.on_ray._PATIENCE", 0.5)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with RayPool(work, workers=2) as pool:
        pool.run([("claim", tmp_path / "theirs"), ("claim", tmp_path / "free")])
    holder.wait(10)
    assert (tmp_path / "theirs").read_text() == (tmp_path / "free").read_text() == "mine"


HOLDER = """
import sys, time
from pathlib import Path
from mogrid.files import held
with held(Path(sys.argv[1]) / "theirs.lock"):
    print("held", flush=True)
    time.sleep(2)
"""


def test_a_cluster_by_its_address(local, tmp_path) -> None:
    arguments = [sys.executable, "-c", GUEST, local, str(tmp_path)]
    guest = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert guest.returncode == 0, guest.stderr
    assert (tmp_path / "1").read_text().startswith("1 1 ")
    assert ray.cluster_resources()["CPU"] == 2  # the cluster outlives its guest


GUEST = """
import sys
from pathlib import Path
from mogrid.sweep.on_ray import RayPool
from tests.experiment.ray_work import work
with RayPool(work, workers=3, address=sys.argv[1]) as pool:
    pool.run([("bits", Path(sys.argv[2]) / "1")])
"""


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "127.0.0.1:99999"])
def test_wrong_addresses(local, address) -> None:
    """Said before anything runs; `ray.init` itself would go on trying for minutes."""
    with pytest.raises(ConfigError, match=f"no Ray cluster at '{address}'") as caught:
        RayPool(work, workers=1, address=address).__enter__()
    assert "\n" not in str(caught.value)


def test_ray_is_missing(monkeypatch) -> None:
    monkeypatch.setattr("mogrid.sweep.on_ray.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mogrid\[ray\]'"):
        RayPool(work, workers=1)


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_data(folder / "data")
    settings = {
        "encoder": {"vocabulary": 300, "max_length": 16, "dropout": 0.1, "towers": 1},
        "training": {"batch_size": 8},
        "evaluation": {"attack_targets": 0, "redraws": 5},
        "weights": [
            {"effectiveness": 1},
            *({"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        ],
        "scales": [{"size": "1x32", "learning_rate": 0.01, "pairs": [80], "weights": [0, 3]}],
        "workers": 1,
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(settings))
    return folder


def measured(record) -> list[dict]:
    return [{key: value for key, value in result.items() if key != "seconds"} for result in record.results]


def sweep(grid: Path, store: Path, *options: str) -> int:
    data = grid / "data"
    arguments = ["--store", store, "--data", data, "--domains", data / "domains.yaml", *options]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return main(["sweep", str(grid / "sweep.yaml"), *map(str, arguments)])
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_sweep_has_the_bits_of_this_process(local, grid, tmp_path, capsys) -> None:
    from mogrid.config import read_yaml
    from mogrid.experiment.cells import DataSource, run_cell
    from mogrid.experiment.sweep import SweepSettings, sweep_cells
    from mogrid.runs import RunStore

    assert sweep(grid, tmp_path / "ray", "--executor", "ray") == 0, capsys.readouterr().err
    source = DataSource(grid / "data", grid / "data" / "domains.yaml")
    settings = read_yaml(grid / "sweep.yaml").parse(SweepSettings)
    cells, _ = sweep_cells(settings, source, source.load(), tmp_path / "here")
    for cell in cells:
        run_cell(cell, lambda share: None, lambda: False)
    assert len(cells) == 2
    for cell in cells:
        mine, theirs = (RunStore(tmp_path / name) for name in ("here", "ray"))
        assert measured(mine.read(cell.name)) == measured(theirs.read(cell.name))
        first, second = (store.folder(cell.name) / "model" / "model.safetensors" for store in (mine, theirs))
        assert first.read_bytes() == second.read_bytes()

    gone = dataclasses.replace(cells[0], store=tmp_path / "not mounted")
    with pytest.raises(CellError, match=r"sees no store at .*/not mounted") as caught:
        RayPool(run_shared_cell, workers=1).run([gone])
    assert "\n" not in str(caught.value)
    assert not gone.store.exists()


def test_options_that_do_not_fit(grid, tmp_path, capsys) -> None:
    assert sweep(grid, tmp_path / "store", "--ray-address", "auto") == 2
    assert "of no use to the executor 'processes'" in capsys.readouterr().err
    assert sweep(grid, tmp_path / "store", "--executor", "dask") == 2
    assert "invalid choice: 'dask'" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


DRIVER = """
import signal, sys
from pathlib import Path
from mogrid.sweep.on_ray import RayPool
from tests.experiment.ray_work import work

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
with RayPool(work, workers=1) as pool:
    try:
        pool.run([("wait", Path(sys.argv[1]) / str(i)) for i in range(2)])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def processes_of(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "sid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    # Agents of a killed Ray take a minute to notice.
    agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return [args for sid, stat, args in rows if int(sid) == session and stat[0] != "Z" and args not in agents]


@pytest.mark.parametrize("stop", ["interrupts", "kill"])
def test_a_stop_leaves_no_process(tmp_path, stop) -> None:
    """SIGTERM reaches the driver alone, an impatient user's Ctrl-C after it the whole group of processes."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    first = tmp_path / "0"
    wait_for(lambda: first.exists() and first.read_text())
    assert len(processes_of(driver.pid)) > 3
    if stop == "kill":
        driver.kill()
    else:
        driver.terminate()
        time.sleep(0.5)
        os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    wait_for(lambda: not processes_of(driver.pid))
    if stop == "interrupts":
        assert (out, driver.returncode) == ("interrupted\n", 0)
        assert first.read_text() == "stopped"
        assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("code", [0, 2, 3])
def test_the_slurm_script_queues_itself_again_when_time_is_up(tmp_path, code) -> None:
    commands = {"srun": 'shift; exec "$@"', "mogrid": f'echo "$@" > ran; exit {code}', "scontrol": 'echo "$@" > queued'}
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "4"}
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "examples" / "slurm_sweep.sh"), "a b.yaml", "store", "--data", "x"]
    assert subprocess.run(script, cwd=tmp_path, env=environment).returncode == code
    assert (tmp_path / "ran").read_text() == "sweep a b.yaml --store store --workers 4 --data x\n"
    assert (tmp_path / "queued").exists() == (code == 3)
    if code == 3:
        assert (tmp_path / "queued").read_text() == "requeue 7_2\n"


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
