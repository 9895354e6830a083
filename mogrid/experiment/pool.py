"""Run cells in worker processes, one thread each: small encoders gain far more from that than from threads."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mogrid.errors import MogridError

__all__ = ["CellError", "drain"]


class CellError(MogridError):
    """A run failed; the message is the run's own one-line error."""


@dataclass(frozen=True)
class _Event:
    cell: int
    kind: str  # "progress", "done", "stopped", "error"
    value: Any = None


def drain(
    cells: Sequence[Any],
    work: Callable[[Any, Callable[[float], None], Callable[[], bool]], None],
    *,
    workers: int,
    on_progress: Callable[[int, float], None] = lambda cell, share: None,
    threads: int = 1,
) -> None:
    """Run ``work(cell, progress, stop)`` for every cell; return when all are done.

    Parameters
    ----------
    cells : sequence of picklable values
    work : picklable callable
        Reports its share done through `progress`, and gives up soon, leaving a checkpoint, once `stop()` is true.
    workers : int
        Processes. Each imports what it needs once and takes cells in order.
    on_progress : callable of (cell index, share of the cell done in 0 .. 1)
    threads : int
        Of each worker.

    Raises
    ------
    CellError
        The first failure, after the other workers stopped at a checkpoint.
    KeyboardInterrupt
        Ctrl-C, likewise.
    """
    if not cells:
        return
    context = mp.get_context("spawn")
    tasks: Any = context.Queue()
    events: Any = context.Queue()
    # A plain flag: an Event would wait for the answer of workers that may have ended.
    halt: Any = context.RawValue("b", 0)
    for i, cell in enumerate(cells):
        tasks.put((i, cell))
    count = min(workers, len(cells))
    for _ in range(count):
        tasks.put(None)
    with _environment(threads):
        processes = [
            context.Process(target=_worker, args=(work, tasks, events, halt, threads), daemon=True)
            for _ in range(count)
        ]
        for process in processes:
            process.start()
    failure: _Event | None = None
    interrupted = False
    remaining = len(cells)
    try:
        while remaining:
            try:
                event = _next_event(events, processes)
                if event is None:
                    failure = failure or _Event(-1, "error", "a worker process died (killed, or out of memory?)")
                    break
                if event.kind == "progress":
                    on_progress(event.cell, event.value)
                    continue
                remaining -= 1
                if event.kind == "done":
                    on_progress(event.cell, 1.0)
                elif event.kind == "error":
                    failure = failure or event
                    halt.value = 1
            except KeyboardInterrupt:
                interrupted = True
                halt.value = 1
    finally:
        halt.value = 1
        for process in processes:
            process.join(timeout=30)
            if process.is_alive():
                process.terminate()
    if failure is not None:
        raise CellError(str(failure.value))
    if interrupted:
        raise KeyboardInterrupt


def _next_event(events: Any, processes: Sequence[Any]) -> _Event | None:
    """Wait for a worker's next word; None when all of them have ended without one."""
    while True:
        try:
            event: _Event = events.get(timeout=0.5)
            return event
        except queue.Empty:
            if not any(process.is_alive() for process in processes):
                return None


class _environment:
    """Thread counts must be in the environment before a worker imports numpy and torch."""

    NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        for name in self.NAMES:
            self.before[name] = os.environ.get(name)
            os.environ[name] = str(self.threads)

    def __exit__(self, *error: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _worker(work: Any, tasks: Any, events: Any, halt: Any, threads: int) -> None:
    # Ctrl-C reaches the whole process group: the parent asks for the stop, so that a step is never cut in half.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_halt_with_parent, args=(parent, halt), daemon=True).start()
    import torch

    from mogrid.experiment.training import Interrupted

    torch.set_num_threads(threads)
    while (task := tasks.get()) is not None:
        index, cell = task
        if halt.value:
            events.put(_Event(index, "stopped"))
            continue
        try:
            work(
                cell, lambda share, index=index: events.put(_Event(index, "progress", share)), lambda: bool(halt.value)
            )
            events.put(_Event(index, "done"))
        except Interrupted:
            events.put(_Event(index, "stopped"))
        except ValueError as error:  # every error of ours that a user can cause is one
            events.put(_Event(index, "error", f"{_label(cell)}: {error}"))
        except Exception:  # a fault in a library: the parent shows all of it
            events.put(_Event(index, "error", f"{_label(cell)}: {traceback.format_exc()}"))


def _label(cell: Any) -> str:
    return str(getattr(cell, "name", cell))


def _halt_with_parent(parent: int, halt: Any) -> None:
    """A killed parent cannot ask for a stop: leave at the next checkpoint instead of running on unseen."""
    while os.getppid() == parent:
        time.sleep(2.0)
    halt.value = 1
