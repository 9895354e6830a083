"""Whole files or none: atomic writes, state as safetensors (no pickle), sealed checkpoints, and locks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mogrid.errors import Busy, DataError, MogridError

__all__ = [
    "KEPT",
    "cache_folder",
    "held",
    "latest_checkpoint",
    "load_state",
    "naming_a_full_disk",
    "save_state",
    "seal",
    "withdrawn",
    "write_bytes",
    "write_json",
    "write_text",
]

KEPT = 2
"""Checkpoints to keep: the older one is still whole when a kill cuts the newer one short."""

_SEAL = "sealed.json"

_NOTHING = 64 * 1024  # bytes: what is left when a larger write has failed


def cache_folder() -> Path:
    """Return where what takes long is kept between processes: ``$MOGRID_CACHE``, or ``~/.cache/mogrid``."""
    return Path(os.environ.get("MOGRID_CACHE") or Path.home() / ".cache" / "mogrid")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part: write, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files; results are to be shared like any other
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn what libraries raise on a full disk, each in words of its own, into one line.

    Raises
    ------
    DataError
        The disk under `folder` is full.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "os error 28" in text
        with suppress(OSError):
            full = full or shutil.disk_usage(folder).free < _NOTHING
        if not full or isinstance(error, MogridError):
            raise
        raise DataError(f"{folder}: the disk is full; make room, and the same command goes on") from error


@contextmanager
def withdrawn(folder: Path, *worth: str, makes: Sequence[str] = ()) -> Iterator[None]:
    """Where the block ends in bad input, take away what it wrote: nothing is half written.

    Parameters
    ----------
    folder : Path
        Taken away whole, with those above it that are empty, where it was not there before.
    worth : str
        Patterns of what keeps it: results, and what the same command would go on from.
    makes : sequence of str
        Patterns of what the block writes: what of it is new is taken away from a folder that was there.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    before = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        yield
    except MogridError as error:
        if isinstance(error, Busy) or any(path for name in worth for path in folder.glob(name)):
            raise
        for path in (path for name in makes for path in folder.glob(name) if path not in before):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in new[1:]:
            with suppress(OSError):  # something else is there by now
                parent.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically, indented for people."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save tensors as safetensors and everything else as JSON in the same file's header."""
    tensors = {key: value.contiguous() for key, value in state.items() if isinstance(value, Tensor)}
    rest = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    write_bytes(path, save(tensors, metadata={"state": json.dumps(rest)}))


def load_state(path: Path) -> dict[str, Any]:
    """Load what `save_state` wrote.

    Raises
    ------
    DataError
        The file is truncated or was written by something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return {**json.loads(header["state"]), **{key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable state file ({error})") from error


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file while the context is open; its folder is made where it is missing.

    A lock of the operating system, which goes with its process however that ends: nothing has to be reclaimed.

    Raises
    ------
    Busy
        Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Busy(f"{path.parent}: another process is at work there (it holds {path.name})") from None
    try:
        yield
    finally:
        lock.release()


def seal(checkpoint: Path, **notes: Any) -> None:
    """Say that a checkpoint is complete: the sizes of its files, and what else its training must remember."""
    files = {
        str(path.relative_to(checkpoint)): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != _SEAL
    }
    write_json(checkpoint / _SEAL, {"files": files, "notes": notes})


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest whole ``checkpoint-STEP`` of a training's folder with its notes; None where there is none.

    What was cut short by a kill, lost a file or a part of one is removed: the training goes on from an older
    checkpoint, or from the start, to the same result.
    """
    found = None
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2])):
        notes = _notes(path)
        if notes is None:
            shutil.rmtree(path)
        else:
            found = path, notes
    return found


def _notes(checkpoint: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((checkpoint / _SEAL).read_text("utf-8"))
        whole = all((checkpoint / name).stat().st_size == size for name, size in record["files"].items())
        return dict(record["notes"]) if whole else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
