"""Run a sweep: read and check it, measure what rows cost, drain its cells, return the store's records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from mogrid.errors import ConfigError, nearest
from mogrid.files import withdrawn, write_json
from mogrid.progress import Progress, status
from mogrid.runs import RunRecord, RunStore
from mogrid.sweep.cells import Cell, cells_of, run_cell
from mogrid.sweep.drain import outlook
from mogrid.sweep.grid import Sweep
from mogrid.sweep.on_ray import run_on_ray
from mogrid.sweep.pool import Halt, run_in_processes
from mogrid.training.run import materials

__all__ = ["EXECUTORS", "base_of", "drain_cells", "run_sweep"]

Executor = Literal["processes", "ray"]
_BASE = "cache/base.json"
EXECUTORS: tuple[Executor, ...] = ("processes", "ray")


def run_sweep(
    sweep: Sweep,
    store: Path,
    console: Console,
    *,
    executor: Executor = "processes",
    ray_address: str | None = None,
) -> list[RunRecord]:
    """Run what is not finished yet, beside any other process that does; return the records of all cells.

    Parameters
    ----------
    sweep : Sweep
        As `read_sweep` returns it.
    store : Path
        Folder of runs.
    console : Console
        Shows how far it is.
    executor : {"processes", "ray"}
        Worker processes of this machine, or tasks of Ray.
    ray_address : str, optional
        Of a Ray cluster whose nodes share the store; by default Ray is started on this machine.

    Raises
    ------
    MogridError
        One line: what of the sweep or its data is wrong, or which run failed and why.
    KeyboardInterrupt
        Ctrl-C, after every running cell left a checkpoint.
    """
    with withdrawn(store, "runs.jsonl", "claims/*", "work/*"), status(console, "reading the sweep's data") as stage:
        cells = cells_of(sweep, store, lambda said: stage.update(said=said))
    store.mkdir(parents=True, exist_ok=True)
    write_json(store / _BASE, {"base": str(sweep.base)})
    drain_cells(cells, store, console, workers=sweep.settings.workers, executor=executor, ray_address=ray_address)
    runs = RunStore(store)
    return [runs.read(cell.name, queries=False) for cell in cells]


def drain_cells(
    cells: Sequence[Cell],
    store: Path,
    console: Console,
    *,
    workers: int,
    executor: Executor = "processes",
    ray_address: str | None = None,
) -> None:
    """Run the cells that are not finished, with a bar."""
    if executor not in EXECUTORS:
        raise ConfigError(f"executor: unknown {executor!r}{nearest(executor, EXECUTORS)}")
    if ray_address is not None and executor != "ray":
        raise ConfigError(f"the Ray address {ray_address!r} is of no use to the executor 'processes'; choose 'ray'")
    view = outlook(cells, store)
    if not view.cells:
        return
    if executor == "processes" and workers > 1:
        _heal(view.cells, console)
    halt = Halt.of_this_process(store / "claims")
    with Progress(console, f"{len(view.cells)} of {len(cells)} runs", total=float(view.total)) as bar:

        def look() -> None:
            done, finished, said = view.done()
            bar.update(done, said=f"{finished} done; {said}")

        if executor == "ray":
            run_on_ray(view.cells, run_cell, halt, workers=workers, address=ray_address, look=look)
        else:
            run_in_processes(view.cells, run_cell, halt, workers=workers, look=look)
        look()


def _heal(cells: Sequence[Cell], console: Console) -> None:
    """Heal thinned base models here, with all threads: the workers would wait for the one that does it with one."""
    models = {
        repr(c.recipe.model): c for c in cells if c.recipe.model.heal is not None and c.kind in ("base", "trained")
    }
    for cell in models.values():
        with status(console, f"preparing {cell.recipe.model.label}") as stage:

            def say(share: float, said: str, stage: Progress = stage) -> None:
                stage.update(said=said)

            materials(cell.recipe, cell.base).build(say)


def base_of(store: Path) -> Path | None:
    """Return the folder that a store's recipes are relative to, where a sweep ran on this machine."""
    try:
        return Path(json.loads((store / _BASE).read_text("utf-8"))["base"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
