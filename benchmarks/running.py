"""Run cells with a bar, for benchmarks of a few strategies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import Progress

from mogrid.experiment.cells import Cell, run_cell
from mogrid.sweep.pool import Pool

__all__ = ["run_cells"]


def run_cells(cells: Sequence[Cell], workers: int) -> None:
    """Run what is not finished, first seeds first."""
    ordered = sorted(cells, key=lambda cell: cell.seed)
    done = [0.0] * len(ordered)
    with Pool(run_cell, workers=workers) as pool, Progress() as bar:
        task = bar.add_task(f"{len(ordered)} runs", total=len(ordered))

        def report(index: int, share: float) -> None:
            bar.advance(task, share - done[index])
            done[index] = share

        pool.run(ordered, report)
