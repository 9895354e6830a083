"""Checkpoints that are used whole or not at all: sealed when everything is written, checked before they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mogrid.files import write_json

__all__ = ["KEPT", "latest_checkpoint", "seal"]

KEPT = 2
"""Checkpoints to keep: the older one is still whole when a kill cuts the newer one short."""

_SEAL = "sealed.json"


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
