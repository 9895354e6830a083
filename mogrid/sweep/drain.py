"""Drain a store's cells: any number of processes, on any number of machines, each taking what nobody else runs.

The store is the queue. A cell is taken by a lock of the operating system, which goes with its process however that
ends; a finished one is a line of the store. How far a cell is stands in a small file of its folder, where whoever waits
can read it, whatever process runs the cell.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.errors import MogridError
from mogrid.files import Busy
from mogrid.runs import RunStore
from mogrid.training.fit import Interrupted

if TYPE_CHECKING:
    from mogrid.sweep.cells import Cell

__all__ = ["CellError", "Outlook", "drain", "outlook"]

PATIENCE = 3.0
"""Seconds before what others run is tried again: one of them may yet die."""

_EVERY = 1.0  # seconds between two words on how far a cell is
_SHARE = "share.txt"

Work = Callable[["Cell", Callable[[float, str], None], Callable[[], bool]], None]


class CellError(MogridError):
    """A run failed; the message is the run's own one-line error."""


def drain(cells: Sequence[Cell], work: Work, stop: Callable[[], bool]) -> None:
    """Run cells until all of them are finished, here or elsewhere, or until asked to stop.

    Parameters
    ----------
    cells : sequence of Cell
        All of one store.
    work : callable of (cell, progress, stop)
        Runs one cell and appends its record, or raises `Busy`.
    stop : callable
        Once true, the running cell leaves a checkpoint, and no other is begun.

    Raises
    ------
    CellError
        A run failed: its own one line, or the whole traceback of a fault that no user can mend.
    Interrupted
        Stopped before all were finished.
    """
    left = list(cells)
    while left:
        moved = False
        for cell in list(left):
            if stop():
                raise Interrupted
            store = RunStore(cell.store)
            if store.finished(cell.name):
                left.remove(cell)
                continue
            if not all(store.finished(name) for name, _ in cell.parents if name):
                continue
            try:
                work(cell, _teller(store.folder(cell.name)), stop)
            except Busy:
                continue
            except Interrupted:
                raise
            except MogridError as error:
                raise CellError(f"{cell.name}: {error}") from error
            except Exception as error:
                raise CellError(f"{cell.name}: {''.join(traceback.format_exception(error))}") from error
            left.remove(cell)
            moved = True
        if left and not moved:
            _wait(stop)


def _wait(stop: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not stop():
        time.sleep(0.1)


def _teller(folder: Path) -> Callable[[float, str], None]:
    """Return what writes down how far a cell is, at most once a second."""
    last = float("-inf")

    def tell(share: float, said: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            with suppress(OSError):  # a full disk is for the run's own files to notice
                (folder / _SHARE).write_text(f"{share:.4f} {said}", "utf-8")

    return tell


class Outlook:
    """How far some cells of a store are, whoever runs them."""

    def __init__(self, cells: Sequence[Cell], store: Path) -> None:
        self.cells, self.store = cells, RunStore(store)
        self.total = sum(cell.cost for cell in cells)

    def done(self) -> tuple[float, int, str]:
        """Return the cost of what is done, how many cells are finished, and a word on the ones that are running."""
        cost, finished, said = 0.0, 0, []
        for cell in self.cells:
            if self.store.finished(cell.name):
                cost, finished = cost + cell.cost, finished + 1
                continue
            with suppress(OSError, ValueError):
                share, _, word = (self.store.folder(cell.name) / _SHARE).read_text("utf-8").partition(" ")
                cost += float(share) * cell.cost
                said.append(f"{cell.label} {float(share):.0%} {word}".strip())
        return cost, finished, "; ".join(said[:2])


def outlook(cells: Sequence[Cell], store: Path) -> Outlook:
    """Return the outlook on those cells that are not finished yet."""
    runs = RunStore(store)
    return Outlook([cell for cell in cells if not runs.finished(cell.name)], store)
