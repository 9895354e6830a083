"""Which process runs a cell, when several drain one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["Busy", "claim"]


class Busy(Exception):
    """Another process runs the cell."""


@contextmanager
def claim(store: Path, name: str) -> Iterator[None]:
    """Hold the claim of a run.

    A lock of the operating system, which goes with its process however that ends: nothing has to be reclaimed.

    Raises
    ------
    Busy
        Another process holds it.
    """
    folder = store / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Busy(name) from None
    try:
        yield
    finally:
        lock.release()
