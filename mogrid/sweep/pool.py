"""Worker processes of this machine that drain stores, one thread each: small encoders gain more from that than from
threads. They stay until their parent ends: what they have imported, read and remembered serves the next store."""

from __future__ import annotations

import atexit
import logging
import multiprocessing as mp
import os
import queue
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
_SOON = 5.0  # seconds that one has who waits
_STALE = 3600.0  # seconds after which nobody is left to see that a stop was asked for
_LOOK = 2.0  # seconds between two looks at whether the parent is there


class Halt:
    """A file that asks all workers of one sweep to stop at a checkpoint, on whatever machine they are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_this_process(cls, folder: Path) -> Halt:
        """Return one that no other process asks by, now or later; left-overs of processes that ended are removed.

        Parameters
        ----------
        folder : Path
            Where it lies, seen by all workers.
        """
        here = "".join(c if c.isalnum() else "-" for c in socket.gethostname()) or "host"
        for path in folder.glob(f"halt-{here}-*"):
            process = path.name.removeprefix(f"halt-{here}-").partition("-")[0]
            # Other machines' processes cannot be looked for, nor those of a container that calls itself like this one:
            # of those an old file is gone, since workers look at each step.
            with suppress(OSError):
                if not _alive(process) and time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
        return cls((folder / f"halt-{here}-{os.getpid()}-{secrets.token_hex(4)}").absolute())

    def __call__(self) -> bool:
        return self.path.exists()

    def set(self) -> None:
        """Ask."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def clear(self) -> None:
        """Take it back, when nobody is left to be asked."""
        self.path.unlink(missing_ok=True)


def _alive(process: str) -> bool:
    """Return whether there is a process of that number on this machine."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


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
        Processes; each imports what it needs once, and those of an earlier call are taken again.
    threads : int
        Of each worker.
    look : callable
        Called about twice a second while cells run.

    Raises
    ------
    CellError
        The first failure, after the other workers stopped at a checkpoint; or that they stopped though neither this
        process nor a failure asked them to.
    KeyboardInterrupt
        Ctrl-C, likewise.
    """
    crew = _crew_of(min(workers, len(cells)), threads)
    members = crew.members[: min(workers, len(cells))]
    for _, inbox in members:
        inbox.put((list(cells), work, halt))
    failure, interrupted, stopped = "", False, False
    answers = 0
    try:
        while answers < len(members):
            try:
                look()
                kind, message = crew.said.get(timeout=_POLL)
                answers += 1
                stopped = stopped or kind == "stopped"
                if kind == "error":
                    failure = failure or message
                    halt.set()
            except queue.Empty:
                if sum(not process.is_alive() for process, _ in members) > 0 and crew.said.empty():
                    failure = failure or "a worker process died (killed, or out of memory?)"
                    halt.set()
                    break
            except KeyboardInterrupt:
                interrupted = True
                halt.set()
    finally:
        if halt() or answers < len(members):
            crew.dismiss(_LEAVE if halt() else None)
        halt.clear()
    if failure:
        raise CellError(failure)
    if interrupted:
        raise KeyboardInterrupt
    if stopped:
        raise CellError(f"the workers were asked to stop by {halt.path}, which this process did not write")


@dataclass
class _Crew:
    """Workers with their inboxes, and what they were started in: threads, folder and environment."""

    threads: int
    place: tuple[str, tuple[tuple[str, str], ...]]
    said: Any
    members: list[tuple[Any, Any]] = field(default_factory=list)

    def grow(self, count: int) -> None:
        """Start workers until there are so many."""
        context = mp.get_context("spawn")
        with threads_of(self.threads):
            while len(self.members) < count:
                inbox = context.Queue()
                process = context.Process(target=_worker, args=(inbox, self.threads, self.said), daemon=True)
                process.start()
                self.members.append((process, inbox))

    def dismiss(self, timeout: float | None) -> None:
        """Let workers leave when they are done with what they are at; kill those that are not in time (seconds)."""
        for _, inbox in self.members:
            inbox.put(None)
        until = time.monotonic() + (timeout or 0.0)
        for process, _ in self.members:
            process.join(timeout=None if timeout is None else max(until - time.monotonic(), 0.1))
            if process.is_alive():
                process.kill()
        self.members.clear()


_crew: _Crew | None = None


def _crew_of(count: int, threads: int) -> _Crew:
    """Return workers of this very environment, some of them new."""
    global _crew
    place = os.getcwd(), tuple(sorted(os.environ.items()))
    able = _crew is not None and _crew.members and all(process.is_alive() for process, _ in _crew.members)
    if _crew is None or not able or (_crew.threads, _crew.place) != (threads, place):
        _end()
        _crew = _Crew(threads, place, mp.get_context("spawn").Queue())
    _crew.grow(count)
    return _crew


@atexit.register
def _end() -> None:
    if _crew is not None:
        _crew.dismiss(_SOON)


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


def _worker(inbox: Any, threads: int, said: Any) -> None:
    # Ctrl-C, and SIGTERM from a scheduler, reach the whole process group: the parent asks for the stop, so that a step
    # is never cut in half.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    torch.set_num_threads(threads)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # the terminal is the bar's
    while os.getppid() == parent:
        with suppress(queue.Empty):
            job = inbox.get(timeout=_LOOK)
            if job is None:
                return
            cells, work, halt = job
            _drained(cells, work, halt, parent, said)


def _drained(cells: list[Cell], work: Work, halt: Halt, parent: int, said: Any) -> None:
    over = threading.Event()
    threading.Thread(target=_halt_with_parent, args=(parent, halt, over), daemon=True).start()
    try:
        drain(cells, work, halt)
        said.put(("done", ""))
    except Interrupted:
        said.put(("stopped", ""))
    except CellError as error:
        halt.set()  # before this worker's siblings take another cell
        said.put(("error", str(error)))
    finally:
        over.set()


def _halt_with_parent(parent: int, halt: Halt, over: threading.Event) -> None:
    """A killed parent cannot ask for a stop: leave at the next checkpoint instead of running on unseen."""
    while os.getppid() == parent:
        if over.wait(_LOOK):
            return
    halt.set()
