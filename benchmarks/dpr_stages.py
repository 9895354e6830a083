"""The stages of `benchmarks.dpr`: data, sweep, front, choice, chosen runs, table, figures, report."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.dpr_show import Outcome, show
from mogrid.data import Collection
from mogrid.experiment.cells import Cell, DataSource, run_cell, tokenizer_of
from mogrid.experiment.plan import EQUAL, Plan
from mogrid.experiment.settings import OBJECTIVES, ExperimentSettings
from mogrid.experiment.summary import front_of, select_values, summarise
from mogrid.files import write_json
from mogrid.frontier import choose, fit_surrogate, knee, search_front
from mogrid.runs import RunRecord, RunStore
from mogrid.sweep.pool import Pool
from mogrid.training.leaks import kept_leaks

__all__ = ["run"]

CHOSEN = "Pareto training"


def run(settings: ExperimentSettings, arguments: argparse.Namespace, console: Console, started: float) -> None:
    """Run what is not finished yet, then show everything."""
    out: Path = arguments.out
    source = DataSource(arguments.data, arguments.domains)
    with console.status("reading the data"):
        collection = source.load()
        (out / "runs").mkdir(parents=True, exist_ok=True)
        if settings.encoder.path is None:
            tokenizer_of(collection, settings, out)
    console.print(_data_line(collection))
    with console.status("looking for near-duplicates between training and measured text"):
        leaks = kept_leaks(collection, out)
    measured = sum(total for _, total in leaks.counts.values())
    console.print(f"near-duplicates of training text among what is measured: {leaks.leaks} of {measured:,} texts")
    with console.status("measuring what a batch of each objective costs"):
        plan = Plan(settings, source, collection, out)
    store = RunStore(out)
    first, averages = plan.first_stage(), plan.averages()
    pool = Pool(run_cell, workers=settings.workers, threads=_threads(settings))
    with pool, _bar(console) as progress:
        task = progress.add_task("runs", total=len(first) + len(averages) + len(settings.seeds))
        _work(first, pool, progress, task)
        _work(averages, pool, progress, task)
        records = [store.read(cell.name) for cell in (*first, *averages)]
        outcome = _choose(records, collection, settings)
        chosen = plan.fixed_cells(_rounded(outcome.choice.weights), "pareto", CHOSEN)
        _work(chosen, pool, progress, task)
    records += [store.read(cell.name) for cell in chosen]
    outcome.measured = np.stack([select_values(store.read(cell.name), collection.source.name) for cell in chosen])
    outcome.summary = summarise(records, collection.source.name, baseline=EQUAL, draws=settings.evaluation.bootstrap)
    outcome.records = records
    outcome.trajectories = _trajectories(store, records)
    _write_experiment(out, plan, collection, outcome)
    show(out, settings, collection, outcome, console, time.perf_counter() - started)


def _data_line(collection: Collection) -> str:
    others = {role: len(collection.ood_with(role)) for role in ("train", "select", "test")}  # type: ignore[arg-type]
    counts = ", ".join(f"{count} {role}" for role, count in others.items())
    return (
        f"data {collection.fingerprint[:12]}: source {collection.source.name} "
        f"({len(collection.source.corpus):,} documents), other domains: {counts}"
    )


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        expand=True,
    )


def _work(cells: Sequence[Cell], pool: Pool, progress: Progress, task: Any) -> None:
    store = RunStore(cells[0].store) if cells else None
    left = [cell for cell in cells if store is not None and not store.finished(cell.name)]
    progress.advance(task, len(cells) - len(left))
    shares = [0.0] * len(left)

    def report(cell: int, share: float) -> None:
        progress.advance(task, share - shares[cell])
        shares[cell] = share

    pool.run(left, report)


def _threads(settings: ExperimentSettings) -> int:
    import os

    return max((os.cpu_count() or 1) // settings.workers, 1)


def _choose(records: Sequence[RunRecord], collection: Collection, settings: ExperimentSettings) -> Outcome:
    """Fit the surrogate to the sweep's interior, search it, choose by preference; all on select-role values."""
    name = collection.source.name
    sweep = [r for r in records if r.kind == "sweep"]
    weights = np.array([[r.config["solver"]["weights"][k] for k in OBJECTIVES] for r in sweep])
    inside = (weights > 0).all(axis=1)
    values = np.stack([select_values(r, name) for r in sweep])
    surrogate = fit_surrogate(OBJECTIVES, _simplex(weights[inside]), values[inside], draws=200)
    predicted = search_front(surrogate, _simplex(weights[inside]))
    runs = len(settings.seeds)
    return Outcome(
        front=front_of([r for r in records if r.kind in ("sweep", "solver", "average")], name),
        surrogate=surrogate,
        predicted=predicted,
        choice=choose(surrogate, predicted, settings.preference, runs=runs),
        knee=knee(surrogate, predicted, runs=runs),
    )


def _simplex(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _rounded(weights: Mapping[str, float]) -> dict[str, float]:
    """Two decimals that still sum to 1: what is printed is what is trained."""
    names = list(weights)
    cents = {name: round(100 * weights[name]) for name in names}
    largest = max(names, key=lambda name: cents[name])
    cents[largest] += 100 - sum(cents.values())
    return {name: cents[name] / 100 for name in names}


def _trajectories(store: RunStore, records: Sequence[RunRecord]) -> dict[str, list[list[dict[str, Any]]]]:
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for record in records:
        if record.kind == "solver":
            found.setdefault(record.strategy, []).append(store.steps(record.name))
    return found


def _write_experiment(out: Path, plan: Plan, collection: Collection, outcome: Outcome) -> None:
    record = {
        "settings": json.loads(plan.settings.model_dump_json()),
        "data": collection.fingerprint,
        "domains": [list(row) for row in collection.summary()],
        "flops_per_batch": plan.costs,
        "surrogate": outcome.surrogate.to_json(),
        "predicted_front": {
            "weights": outcome.predicted.weights.tolist(),
            "values": outcome.predicted.values.tolist(),
        },
        "choice": outcome.choice.to_json(),
        "knee": outcome.knee.to_json(),
        "runs": [r.name for r in outcome.records],
    }
    write_json(out / "experiment.json", record)
