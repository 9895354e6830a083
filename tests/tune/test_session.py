"""A stage that is asked to stop stops, even where its last cell was the one that was running."""

from __future__ import annotations

import io
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mogrid.tune import session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_last_cell_is_not_lost(number, tmp_path, monkeypatch) -> None:
    done: list[str] = []

    def work(cell: Any, progress: object, stop: object) -> None:
        done.append(cell.name)
        if cell.name == "last":
            os.kill(os.getpid(), number)

    monkeypatch.setattr(session, "run_cell", work)
    cells: list[Any] = [
        SimpleNamespace(name=name, label=name, store=tmp_path, cost=1.0, parents=()) for name in ("first", "last")
    ]
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        session._drain_here("a stage", cells, tmp_path, Console(file=io.StringIO()))
    assert done == ["first", "last"]
    assert signal.getsignal(number) is before
