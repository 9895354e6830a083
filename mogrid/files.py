"""Whole files or none: atomic writes, and state dictionaries as safetensors (no pickle)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from mogrid.errors import DataError, MogridError

__all__ = ["load_state", "naming_a_full_disk", "save_state", "write_bytes", "write_json", "write_text"]


_NOTHING = 64 * 1024  # bytes: what is left when a larger write has failed


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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically, indented for people."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save tensors as safetensors and everything else as JSON in the same file's header."""
    from safetensors.torch import save

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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return {**json.loads(header["state"]), **{key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable state file ({error})") from error
