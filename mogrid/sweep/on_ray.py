"""Tasks of Ray that drain a store as any process does, on this machine or a cluster. An extra: ``mogrid[ray]``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mogrid.errors import ConfigError
from mogrid.sweep.drain import CellError, Work, drain
from mogrid.sweep.pool import Halt, threads_of
from mogrid.training.fit import Interrupted

if TYPE_CHECKING:
    from mogrid.sweep.cells import Cell

__all__ = ["run_on_ray"]

_RETRIES = 5
_POLL = 0.5  # seconds
_TOKENS = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}


def run_on_ray(
    cells: Sequence[Cell],
    work: Work,
    halt: Halt,
    *,
    workers: int,
    threads: int = 1,
    address: str | None = None,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Run every cell in tasks of Ray, beside whatever others drain the same store.

    Parameters
    ----------
    cells, work, halt, look
        As for `run_in_processes`; the store must lie where all nodes see it.
    workers : int
        Tasks at the same time.
    threads : int
        Of each task, which takes as many CPUs of its node.
    address : str, optional
        Of the cluster that this machine is a node of: ``host:port``, or ``"auto"`` for the one started here. By
        default Ray is started on this machine, and ends with the sweep. A Ray that the caller has initialised is used
        as it is, and kept.

    Raises
    ------
    ConfigError
        Ray is not installed, there is no cluster at the address, or a node does not see the store.
    CellError, KeyboardInterrupt
        As `run_in_processes`.
    """
    if find_spec("ray") is None:
        raise ConfigError("the executor 'ray' needs Ray, which is not installed: pip install 'mogrid[ray]'")
    if address is not None and ((Path.home() / ".ray" / "auth_token").is_file() or _TOKENS & os.environ.keys()):
        # `ray start` asks for this machine's token where there is one, Ray's clients forget to send it; read on import.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    owner = address is not None or not ray.is_initialized()
    if owner:
        _initialise(address, workers * threads)
    # Ray hides GPUs from tasks that ask for none; cells share what there is, as those of worker processes do.
    variables = {**dict.fromkeys(threads_of.NAMES, str(threads)), "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
    task = ray.remote(_task).options(num_cpus=threads, max_retries=_RETRIES, runtime_env={"env_vars": variables})
    failure, interrupted = "", False
    try:
        pending = [task.remote(list(cells), work, halt, threads, os.getcwd()) for _ in range(min(workers, len(cells)))]
        while pending:
            try:
                look()
                ready, pending = ray.wait(pending, timeout=_POLL)
                for done in ready:
                    message = _answer(done)
                    if message:
                        failure = failure or message
                        halt.set()
            except KeyboardInterrupt:
                interrupted = True
                halt.set()
    finally:
        halt.clear()
        if owner:
            ray.shutdown()
    if failure:
        raise CellError(failure)
    if interrupted:
        raise KeyboardInterrupt


def _task(cells: list[Cell], work: Work, halt: Halt, threads: int, folder: str) -> str:
    """Drain; return the message of what failed, or nothing."""
    os.chdir(folder) if os.path.isdir(folder) else None
    store = cells[0].store
    if not store.is_dir():
        # It would make a store of its own, whose runs nobody finds.
        return (
            f"node {socket.gethostname()} sees no store at {store.absolute()}; a folder on a file system that all "
            "nodes share is needed"
        )
    torch.set_num_threads(threads)
    try:
        drain(cells, work, halt)
    except Interrupted:
        pass
    except CellError as error:
        return str(error)
    return ""


def _answer(task: Any) -> str:
    import ray

    try:
        return str(ray.get(task))
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return f"a worker process of Ray died {_RETRIES + 1} times (killed, or out of memory?)"
    except ray.exceptions.RayError as error:  # the node could not start the task: without mogrid, say
        return str(error).strip().splitlines()[-1]


def _initialise(address: str | None, cpus: int) -> None:
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # they would be sent over the network
        os.environ.setdefault("RAY_worker_niceness", "0")  # by default any other process would go before the cells
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        try:
            host, _, port = address.rpartition(":")
            if port.isdecimal() and "/" not in host:
                socket.create_connection((host, int(port)), timeout=10).close()  # Ray would try for minutes, and exit
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError, OverflowError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"no Ray cluster at {address!r} ({reason}); `ray start --head` prints the address of one"
            ) from None
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own would leave without asking tasks to stop
