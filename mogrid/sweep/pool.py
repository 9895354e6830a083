"""Worker processes of this machine that drain a store, one thread each: small encoders gain more from that than from
threads."""

from __future__ import annotations

import logging
import multiprocessing as mp
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from mogrid.sweep.drain import CellError, Work, drain
from mogrid.training.fit import Interrupted

if TYPE_CHECKING:
    from mogrid.sweep.cells import Cell

__all__ = ["Halt", "run_in_processes", "threads_of"]

_POLL = 0.5  # seconds
_LEAVE = 60.0  # seconds that a worker has for its checkpoint


class Halt:
    """A file that asks all workers of one sweep to stop at a checkpoint, on whatever machine they are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> bool:
        return self.path.exists()

    def set(self) -> None:
        """Ask."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def clear(self) -> None:
        """Take it back, when nobody is left to be asked."""
        self.path.unlink(missing_ok=True)


def run_in_processes(
    cells: Sequence[Cell],
    work: Work,
    halt: Halt,
    *,
    workers: int,
    threads: int = 1,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Run every cell in processes of this machine, beside whatever others drain the same store.

    Parameters
    ----------
    cells : sequence of Cell
        All of one store; what is finished is passed over.
    work : callable of a module that a new process can import
        Runs one cell, as `run_cell` does.
    halt : Halt
        How workers are asked to stop at a checkpoint.
    workers : int
        Processes; each imports what it needs once.
    threads : int
        Of each worker.
    look : callable
        Called about twice a second while cells run.

    Raises
    ------
    CellError
        The first failure, after the other workers stopped at a checkpoint.
    KeyboardInterrupt
        Ctrl-C, likewise.
    """
    context = mp.get_context("spawn")
    said: Any = context.Queue()
    with threads_of(threads):
        processes = [
            context.Process(target=_worker, args=(list(cells), work, halt, threads, said), daemon=True)
            for _ in range(min(workers, len(cells)))
        ]
        for process in processes:
            process.start()
    failure, interrupted = "", False
    answers = 0
    try:
        while answers < len(processes):
            try:
                look()
                kind, message = said.get(timeout=_POLL)
                answers += 1
                if kind == "error":
                    failure = failure or message
                    halt.set()
            except queue.Empty:
                if sum(not process.is_alive() for process in processes) > answers and said.empty():
                    failure = failure or "a worker process died (killed, or out of memory?)"
                    halt.set()
                    break
            except KeyboardInterrupt:
                interrupted = True
                halt.set()
    finally:
        until = time.monotonic() + _LEAVE
        for process in processes:
            process.join(timeout=max(until - time.monotonic(), 0.1) if halt() else None)
            if process.is_alive():
                process.kill()
        halt.clear()
    if failure:
        raise CellError(failure)
    if interrupted:
        raise KeyboardInterrupt


class threads_of:
    """Thread counts must be in the environment before a worker imports numpy and torch."""

    NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        for name in self.NAMES:
            self.before[name] = os.environ.get(name)
            os.environ[name] = str(self.threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _worker(cells: list[Cell], work: Work, halt: Halt, threads: int, said: Any) -> None:
    # Ctrl-C, and SIGTERM from a scheduler, reach the whole process group: the parent asks for the stop, so that a step
    # is never cut in half.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_halt_with_parent, args=(os.getppid(), halt), daemon=True).start()
    torch.set_num_threads(threads)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # the terminal is the bar's
    try:
        drain(cells, work, halt)
        said.put(("done", ""))
    except Interrupted:
        said.put(("stopped", ""))
    except CellError as error:
        halt.set()  # before this worker's siblings take another cell
        said.put(("error", str(error)))


def _halt_with_parent(parent: int, halt: Halt) -> None:
    """A killed parent cannot ask for a stop: leave at the next checkpoint instead of running on unseen."""
    while os.getppid() == parent:
        time.sleep(2.0)
    halt.set()
