"""What every step did, one line each on disk, and the means of a window of them for the log."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from mogrid.files import write_text

__all__ = ["StepsRecord"]


class StepsRecord:
    """A training's ``steps.jsonl``.

    Parameters
    ----------
    path : Path
        Of the JSON Lines, one a step.
    writes : bool
        Whether this process writes it; all of them keep the window.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self.path = path
        self.writes = writes
        self._window: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Remove the record of a training before this one."""
        if self.writes:
            self.path.unlink(missing_ok=True)

    def go_on(self, done: int) -> None:
        """Keep the lines of the first `done` steps."""
        if self.writes and self.path.is_file():
            kept = [line for line in self.path.read_text("utf-8").splitlines() if _step_of(line) <= done]
            write_text(self.path, "".join(line + "\n" for line in kept))

    def add(self, step: int, values: Mapping[str, float], **notes: str) -> None:
        """Add a step, without what it has no value of: the cosine of a gradient that is zero, for one."""
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        for key, value in finite.items():
            self._window.setdefault(key, []).append(value)
        if self.writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **notes, **finite}, allow_nan=False) + "\n")

    def means(self) -> dict[str, float]:
        """Return the means over the steps since the last call."""
        found = {key: sum(values) / len(values) for key, values in self._window.items()}
        self._window.clear()
        return found


def _step_of(line: str) -> float:
    """Return the step of a record; a line cut short by a crash belongs to no step that counts."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
