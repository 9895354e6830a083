"""Run cells in worker processes, one thread each: small encoders gain far more from that than from threads."""

from __future__ import annotations

import logging
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

from mogrid.errors import Busy, MogridError

__all__ = ["CellError", "Pool"]

_PATIENCE = 3.0  # seconds


class CellError(MogridError):
    """A run failed; the message is the run's own one-line error."""


@dataclass(frozen=True)
class _Event:
    cell: int
    kind: str  # "progress", "done", "busy", "stopped", "error"
    value: Any = None


class Pool:
    """Worker processes that run cells; started with the first cells, and kept for later ones.

    Parameters
    ----------
    work : picklable callable of (cell, progress, stop)
        Reports its share done through `progress`, and gives up soon, leaving a checkpoint, once `stop()` is true.
    workers : int
        Processes. Each imports what it needs once and takes cells in order.
    threads : int
        Of each worker.
    """

    def __init__(
        self,
        work: Callable[[Any, Callable[[float], None], Callable[[], bool]], None],
        *,
        workers: int,
        threads: int = 1,
    ) -> None:
        self._context = mp.get_context("spawn")
        self._tasks: Any = self._context.Queue()
        self._events: Any = self._context.Queue()
        # A plain flag: an Event would wait for the answer of workers that may have ended.
        self._halt: Any = self._context.RawValue("b", 0)
        self._arguments = (work, self._tasks, self._events, self._halt, threads)
        self._workers = workers
        self._threads = threads
        self._processes: list[Any] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._halt.value = 1
        for _ in self._processes:
            self._tasks.put(None)
        for process in self._processes:
            process.join(timeout=30)
            if process.is_alive():
                process.kill()

    def run(self, cells: Sequence[Any], on_progress: Callable[[int, float], None] = lambda cell, share: None) -> None:
        """Run every cell; return when all are done.

        Parameters
        ----------
        cells : sequence of picklable values
        on_progress : callable of (cell index, share of the cell done in 0 .. 1)

        Raises
        ------
        CellError
            The first failure, after the other workers stopped at a checkpoint.
        KeyboardInterrupt
            Ctrl-C, likewise.
        """
        if not cells:
            return
        for task in enumerate(cells):
            self._tasks.put(task)
        self._start()
        failure: _Event | None = None
        interrupted = False
        remaining = len(cells)
        busy: list[int] = []
        while remaining:
            if len(busy) == remaining and not self._halt.value:
                # All that is left is run by other processes; one of them may yet die.
                time.sleep(_PATIENCE)
                for index in busy:
                    self._tasks.put((index, cells[index]))
                busy.clear()
            try:
                event = self._next_event()
                if event is None:
                    failure = failure or _Event(-1, "error", "a worker process died (killed, or out of memory?)")
                    break
                if event.kind == "progress":
                    on_progress(event.cell, event.value)
                    continue
                if event.kind == "busy":
                    busy.append(event.cell)
                    continue
                remaining -= 1
                if event.kind == "done":
                    on_progress(event.cell, 1.0)
                elif event.kind == "error":
                    failure = failure or event
            except KeyboardInterrupt:
                interrupted = True
                self._halt.value = 1
        if failure is not None:
            raise CellError(str(failure.value))
        if interrupted:
            raise KeyboardInterrupt

    def _start(self) -> None:
        if self._processes:
            return
        with _environment(self._threads):
            for _ in range(self._workers):
                process = self._context.Process(target=_worker, args=self._arguments, daemon=True)
                process.start()
                self._processes.append(process)

    def _next_event(self) -> _Event | None:
        """Wait for a worker's next word; None when one has died: nobody else would run its cell."""
        while True:
            try:
                event: _Event = self._events.get(timeout=0.5)
                return event
            except queue.Empty:
                if not all(process.is_alive() for process in self._processes):
                    self._halt.value = 1
                    if not any(process.is_alive() for process in self._processes) or self._events.empty():
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
    # Ctrl-C, and SIGTERM from a scheduler, reach the whole process group: the parent asks for the stop, so that a step
    # is never cut in half.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_halt_with_parent, args=(parent, halt), daemon=True).start()
    import torch

    from mogrid.experiment.training import Interrupted

    torch.set_num_threads(threads)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # the terminal is the bar's
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
        except Busy:
            events.put(_Event(index, "stopped" if halt.value else "busy"))
        except MogridError as error:
            halt.value = 1  # before this worker takes another cell
            events.put(_Event(index, "error", f"{_label(cell)}: {error}"))
        except Exception:  # a fault in a library: the parent shows all of it
            halt.value = 1
            events.put(_Event(index, "error", f"{_label(cell)}: {traceback.format_exc()}"))


def _label(cell: Any) -> str:
    return str(getattr(cell, "name", cell))


def _halt_with_parent(parent: int, halt: Any) -> None:
    """A killed parent cannot ask for a stop: leave at the next checkpoint instead of running on unseen."""
    while os.getppid() == parent:
        time.sleep(2.0)
    halt.value = 1
