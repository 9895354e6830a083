"""The worker pool: all cells once, the first failure in one line, a dead worker noticed, workers kept between runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mogrid.errors import DataError
from mogrid.sweep.pool import CellError, Pool


def work(cell, progress, stop):
    kind, value = cell
    if kind == "fail":
        raise DataError(f"bad {value}")
    if kind == "die":
        os._exit(9)
    if kind == "wait":
        for _ in range(600):
            if stop():
                Path(value).touch()
                from mogrid.experiment.training import Interrupted

                raise Interrupted
            time.sleep(0.1)
    progress(0.5)
    with open(value, "a") as file:
        file.write(f"{os.getpid()}\n")


@pytest.mark.slow
def test_pool(tmp_path) -> None:
    seen: dict[int, list[float]] = {}
    with Pool(work, workers=2) as pool:
        pool.run([("ok", tmp_path / f"{i}") for i in range(5)], lambda i, share: seen.setdefault(i, []).append(share))
        first = {(tmp_path / f"{i}").read_text() for i in range(5)}
        assert seen == {i: [0.5, 1.0] for i in range(5)}
        pool.run([("ok", tmp_path / "later")])
        assert (tmp_path / "later").read_text() in first  # the same workers
        with pytest.raises(CellError, match="bad x") as caught:
            pool.run([("wait", tmp_path / "stopped"), ("fail", "x"), ("ok", tmp_path / "never")])
        assert "\n" not in str(caught.value)
        assert (tmp_path / "stopped").exists()  # the waiting cell was asked to
        assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_a_dead_worker_is_noticed(tmp_path) -> None:
    with pytest.raises(CellError, match="worker process died"), Pool(work, workers=1) as pool:
        pool.run([("die", ""), ("ok", tmp_path / "a")])
