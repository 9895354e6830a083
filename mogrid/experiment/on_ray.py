"""Run cells as tasks of Ray, on this machine or a cluster. An extra: ``pip install 'mogrid[ray]'``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mogrid.errors import ConfigError, DataError
from mogrid.experiment.cells import Cell, run_cell
from mogrid.experiment.pool import CellError

__all__ = ["RayPool", "run_shared_cell"]

Work = Callable[[Any, Callable[[float], None], Callable[[], bool]], None]

_RETRIES = 3
_POLL = 0.5  # seconds
_PATIENCE = 3.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class RayPool:
    """Tasks of Ray that run cells, with the interface of `mogrid.experiment.pool.Pool`.

    What cells read and write (the store, the data) must lie on a file system that every node of the cluster shares,
    with locks that hold between nodes, and mogrid must be installed on every node. A cell whose worker or node died
    is run again, from its checkpoint if it left one.

    Parameters
    ----------
    work : function of (cell, progress, stop)
        Of a module that the nodes can import. Reports its share done through `progress`, and gives up soon, leaving
        a checkpoint, once `stop()` is true.
    workers : int
        Tasks at the same time.
    threads : int
        Of each task, which takes as many CPUs of its node.
    address : str, optional
        Of the cluster's head, ``host:port`` or ``"auto"``; by default Ray is started on this machine, for this pool.

    Raises
    ------
    ConfigError
        Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, work: Work, *, workers: int, threads: int = 1, address: str | None = None) -> None:
        self._work = work
        self._workers = workers
        self._threads = threads
        self._owner = _connect(address, workers * threads)
        import ray

        self._board = ray.remote(_Board).options(num_cpus=0).remote()
        variables = {**dict.fromkeys(_THREAD_VARIABLES, str(threads)), **_RAY_VARIABLES}
        self._task = ray.remote(_run_task).options(
            num_cpus=threads, max_retries=_RETRIES, runtime_env={"env_vars": variables}
        )
        self._pending: dict[Any, int] = {}
