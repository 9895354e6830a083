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
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mogrid.errors import Busy, ConfigError, MogridError
from mogrid.sweep.pool import _PATIENCE, CellError, _environment, _label

if TYPE_CHECKING:
    from mogrid.experiment.cells import Cell

__all__ = ["RayPool", "run_shared_cell"]

Work = Callable[[Any, Callable[[float], None], Callable[[], bool]], None]

_RETRIES = 5
_POLL = 0.5  # seconds


class RayPool:
    """Tasks of Ray that run cells, with the interface of `mogrid.sweep.pool.Pool`.

    What cells read and write, the store above all, must lie on a file system that all nodes of the cluster share, with
    locks that hold between nodes; every node needs mogrid of the same version. Tasks start in the driver's working
    directory where the node has it. A cell whose worker or node died is run again, from its checkpoint if it left one.

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
        Of the cluster that this machine is a node of: ``host:port``, or ``"auto"`` for the one started here. By
        default Ray is started on this machine for the pool, and ends with it. A Ray that the caller has initialised
        is used as it is, and kept.

    Raises
    ------
    ConfigError
        Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, work: Work, *, workers: int, threads: int = 1, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise ConfigError("the executor 'ray' needs Ray, which is not installed: pip install 'mogrid[ray]'")
        self._work = work
        self._workers = workers
        self._threads = threads
        self._address = address
        self._owner = False
        self._board: Any = None
        self._task: Any = None
        self._numbered = 0  # cells of all runs: a late word of an earlier one's is told apart
        self._pending: dict[Any, int] = {}

    def __enter__(self) -> RayPool:
        if self._address is not None:  # a wrong one is known before the first cell is
            self._start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._board is None:
            return
        import ray

        if self._pending:
            self._board.halt.remote()
            ray.wait(list(self._pending), num_returns=len(self._pending), timeout=30)
        if self._owner:
            ray.shutdown()
        else:
            ray.kill(self._board)

    def run(self, cells: Sequence[Any], on_progress: Callable[[int, float], None] = lambda cell, share: None) -> None:
        """Run every cell; return when all are done.

        Parameters
        ----------
        cells : sequence of picklable values
        on_progress : callable of (cell index, share of the cell done in 0 .. 1)

        Raises
        ------
        CellError
            The first failure, after the other tasks stopped at a checkpoint.
        KeyboardInterrupt
            Ctrl-C, likewise.
        """
        if not cells:
            return
        self._start()
        import ray

        first, self._numbered = self._numbered, self._numbered + len(cells)
        waiting = deque(range(len(cells)))
        unfinished = set(waiting)
        busy: list[int] = []
        failure: str | None = None
        interrupted = False
        while waiting or busy or self._pending:
            try:
                if interrupted or failure is not None:
                    waiting.clear()
                    busy.clear()
                    self._board.halt.remote()  # every time: a board that died came back without its state
                elif not waiting and not self._pending:
                    # All that is left is run by other processes; one of them may yet die.
                    time.sleep(_PATIENCE)
                    waiting.extend(busy)
                    busy.clear()
                while waiting and len(self._pending) < self._workers:
                    index = waiting.popleft()
                    self._pending[self._submit(cells[index], first + index)] = index
                ready = ray.wait(list(self._pending), timeout=_POLL)[0] if self._pending else []
                for number, share in self._news().items():
                    if number - first in unfinished:
                        on_progress(number - first, share)
                for task in ready:
                    index = self._pending.pop(task)
                    kind, message = _outcome(task, cells[index])
                    if kind == "busy":
                        busy.append(index)
                    elif kind == "error":
                        failure = failure or message
                    elif kind == "done":
                        unfinished.discard(index)
                        on_progress(index, 1.0)
            except KeyboardInterrupt:
                interrupted = True
        if failure is not None:
            raise CellError(failure)
        if interrupted:
            raise KeyboardInterrupt

    def _start(self) -> None:
        if self._board is not None:
            return
        import ray

        if self._address is not None or not ray.is_initialized():
            self._owner = True
            _initialise(self._address, self._workers * self._threads)
        self._board = ray.remote(_Board).options(num_cpus=0, max_restarts=-1).remote()
        # Ray hides GPUs from tasks that ask for none; cells share what there is, as those of worker processes do.
        variables = {
            **dict.fromkeys(_environment.NAMES, str(self._threads)),
            "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
        }
        self._task = ray.remote(_run_task).options(
            num_cpus=self._threads, max_retries=_RETRIES, runtime_env={"env_vars": variables}
        )

    def _submit(self, cell: Any, number: int) -> Any:
        return self._task.remote(self._work, cell, number, self._board, self._threads, os.getcwd())

    def _news(self) -> dict[int, float]:
        import ray

        with suppress(ray.exceptions.RayActorError):  # the board died and is coming back
            news: dict[int, float] = ray.get(self._board.take.remote())
            return news
        return {}


def run_shared_cell(cell: Cell, progress: Callable[[float], None], stop: Callable[[], bool]) -> None:
    """Do what `run_cell` does, unless this node does not see the sweep's store.

    Raises
    ------
    ConfigError
        It would make a store of its own, whose runs nobody finds.
    """
    from mogrid.experiment.cells import run_cell

    if not (cell.store / "runs").is_dir():
        raise ConfigError(
            f"node {socket.gethostname()} sees no store at {cell.store.absolute()};"
            " a folder on a file system that all nodes share is needed"
        )
    run_cell(cell, progress, stop)


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


class _Board:
    """An actor between driver and tasks: how far cells are, and whether to stop."""

    def __init__(self) -> None:
        self._shares: dict[int, float] = {}
        self._halted = False

    def report(self, number: int, share: float) -> bool:
        self._shares[number] = share
        return self._halted

    def take(self) -> dict[int, float]:
        news, self._shares = self._shares, {}
        return news

    def halt(self) -> None:
        self._halted = True


class _Line:
    """A task's line to the board; nobody waits on it: the answer to one report is read with the next."""

    def __init__(self, board: Any, number: int) -> None:
        self._board = board
        self._number = number
        self._share = 0.0
        self._halted = False
        self._answer: Any = None
        self._asked = float("-inf")

    def progress(self, share: float) -> None:
        self._share = share
        self._exchange()

    def stop(self) -> bool:
        self._exchange()
        return self._halted

    def _exchange(self) -> None:
        import ray

        if time.monotonic() - self._asked < _POLL:
            return
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            with suppress(ray.exceptions.RayActorError):  # the board died; a driver that did takes its tasks with it
                self._halted = ray.get(self._answer)
            self._answer = None
        if self._answer is None:
            self._answer = self._board.report.remote(self._number, self._share)
        self._asked = time.monotonic()


def _run_task(work: Work, cell: Any, number: int, board: Any, threads: int, folder: str) -> tuple[str, str]:
    """Return what became of a cell, "done", "busy", "stopped" or "error", and the error's message."""
    with suppress(OSError):  # absolute paths do without it
        os.chdir(folder)
    import torch

    torch.set_num_threads(threads)
    line = _Line(board, number)
    try:
        work(cell, line.progress, line.stop)
    except Exception as error:
        return _failure(error, cell)
    return "done", ""


def _failure(error: Exception, cell: Any) -> tuple[str, str]:
    from mogrid.experiment.training import Interrupted

    if isinstance(error, Busy):
        return "busy", ""
    if isinstance(error, Interrupted):
        return "stopped", ""
    if isinstance(error, MogridError):
        return "error", f"{_label(cell)}: {error}"
    # a fault in a library: the driver shows all of it
    return "error", f"{_label(cell)}: {''.join(traceback.format_exception(error))}"


def _outcome(task: Any, cell: Any) -> tuple[str, str]:
    import ray

    try:
        outcome: tuple[str, str] = ray.get(task)
        return outcome
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return "error", f"{_label(cell)}: its worker process died {_RETRIES + 1} times (killed, or out of memory?)"
    except ray.exceptions.RayError as error:  # the node could not start the task: without mogrid, say
        return "error", f"{_label(cell)}: {str(error).strip().splitlines()[-1]}"
