"""A sweep over model sizes, data sizes, weights and seeds: its settings and its cells."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from mogrid.config import Strict
from mogrid.data import Collection
from mogrid.errors import ConfigError, nearest
from mogrid.experiment.cells import Cell, DataSource, run_cell, tokenizer_of
from mogrid.experiment.plan import Plan, measured_costs
from mogrid.experiment.settings import (
    OBJECTIVES,
    EncoderSettings,
    EvaluationSettings,
    ExperimentSettings,
    TrainingSettings,
)
from mogrid.files import write_json
from mogrid.retrieval.models import parse_size
from mogrid.runs import RunRecord, RunStore
from mogrid.sweep.on_ray import RayPool, run_shared_cell
from mogrid.sweep.pool import Pool
from mogrid.training.leaks import kept_leaks

__all__ = ["Scale", "Strategies", "SweepSettings", "SweepTraining", "run_sweep", "scale_plan", "sweep_cells"]


class SweepTraining(TrainingSettings):
    """How every run is trained; each scale brings its budget and learning rate."""

    budget: float = Field(default=1.0, gt=0, description="set by the scale")


class Scale(Strict):
    """One model size, and the data sizes it is trained on."""

    size: str
    learning_rate: float = Field(gt=0)
    pairs: list[int] = Field(min_length=1, description="D: pairs seen by each objective when all have a weight")
    seeds: list[int] = Field(default=[0], min_length=1)
    weights: list[int] | None = Field(default=None, description="which rows of `weights`; all when empty")

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        parse_size(size)
        return size


class Strategies(Strict):
    """Solvers compared with fixed weights at one scale of the sweep."""

    size: str
    pairs: int
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    solvers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    shares: list[dict[str, float]] = Field(
        default_factory=list, description="batch shares: what weights would be, spent on the size of batches instead"
    )
    preference: dict[str, float] | None = Field(
        default=None, description="Pareto training with what the sweep's laws choose for it, when the grid is done"
    )

    @field_validator("preference")
    @classmethod
    def _known_objectives(cls, preference: dict[str, float] | None) -> dict[str, float] | None:
        return None if preference is None else ExperimentSettings._positive(preference)


class SweepSettings(Strict):
    """Cells = scales × data sizes × weights × seeds, and strategies at some of them."""

    encoder: EncoderSettings = EncoderSettings()
    training: SweepTraining = SweepTraining()
    evaluation: EvaluationSettings = EvaluationSettings()
    weights: list[dict[str, float]] = Field(min_length=1)
    scales: list[Scale] = Field(min_length=1)
    strategies: list[Strategies] = Field(default_factory=list)
    workers: int = Field(default=2, ge=1)

    @field_validator("weights")
    @classmethod
    def _simplex(cls, weights: list[dict[str, float]]) -> list[dict[str, float]]:
        return ExperimentSettings._simplex(weights)

    @model_validator(mode="after")
    def _known_scales(self) -> SweepSettings:
        sizes = [scale.size for scale in self.scales]
        for strategies in self.strategies:
            if strategies.size not in sizes:
                raise ValueError(f"strategies at size {strategies.size!r}, which no scale has ({', '.join(sizes)})")
        return self

    def at(self, scale: Scale, pairs: int, costs: dict[str, float], seeds: list[int]) -> ExperimentSettings:
        """Return the settings of one (size, data) pair: a budget that buys `pairs` pairs of every objective."""
        batch = self.training.batch_size
        training = self.training.model_copy(
            update={"learning_rate": scale.learning_rate, "budget": pairs / batch * sum(costs.values())}
        )
        # Not validated as an experiment: a sweep is no front, and may well have a single weighting.
        return ExperimentSettings.model_construct(
            encoder=self.encoder.model_copy(update={"size": scale.size}),
            training=TrainingSettings(**training.model_dump()),
            evaluation=self.evaluation,
            seeds=seeds,
            weights=self.weights,
            workers=self.workers,
        )


def scale_plan(
    settings: SweepSettings, scale: Scale, pairs: int, source: DataSource, collection: Collection, store: Path
) -> Plan:
    """Return the plan of one (size, data) pair; what a batch costs is measured once a size and kept in the store."""
    probe = settings.at(scale, settings.training.batch_size, dict.fromkeys(OBJECTIVES, 1.0), scale.seeds)
    identity = [
        probe.encoder.identity(),
        {key: value for key, value in probe.training.identity().items() if key not in ("budget", "learning_rate")},
        collection.fingerprint,
    ]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    path = store / "costs" / f"{scale.size}-{digest}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured_costs(probe, collection, store))
    costs = json.loads(path.read_text("utf-8"))
    return Plan(settings.at(scale, pairs, costs, scale.seeds), source, collection, store, costs)


def sweep_cells(
    settings: SweepSettings, source: DataSource, collection: Collection, store: Path
) -> tuple[list[Cell], list[Cell]]:
    """Return all cells, and those that average the models of finished ones.

    First seeds first and cheap cells before dear ones: a sweep cut short is the most of a grid.
    """
    averages: list[Cell] = []
    ranked: list[tuple[int, float, Cell]] = []
    for scale in settings.scales:
        rows = settings.weights if scale.weights is None else [settings.weights[i] for i in scale.weights]
        for pairs in scale.pairs:
            plan = scale_plan(settings, scale, pairs, source, collection, store)
            budget = plan.settings.training.budget
            ranked += [(cell.seed, budget, cell) for weights in rows for cell in plan.fixed_cells(weights)]
    for strategies in settings.strategies:
        plan = _strategies_plan(settings, strategies, source, collection, store)
        budget = plan.settings.training.budget
        ranked += [(cell.seed, budget, cell) for cell in plan.first_stage() if cell.kind != "sweep"]
        for label, solver in strategies.solvers.items():
            ranked += [(cell.seed, budget, cell) for cell in plan.solver_cells(label, solver)]
        for shares in strategies.shares:
            ranked += [(cell.seed, budget, cell) for cell in plan.share_cells(shares)]
        averages += plan.averages()
    return [cell for _, _, cell in sorted(ranked, key=lambda item: item[:2])], averages


def _strategies_plan(
    settings: SweepSettings, strategies: Strategies, source: DataSource, collection: Collection, store: Path
) -> Plan:
    scale = next(s for s in settings.scales if s.size == strategies.size)
    scale = scale.model_copy(update={"seeds": strategies.seeds})
    return scale_plan(settings, scale, strategies.pairs, source, collection, store)


def pareto_stage(settings: SweepSettings, source: DataSource, collection: Collection, store: Path) -> list[Cell]:
    """Return the cells of Pareto training, chosen from the runs of fixed weights, which must be there."""
    from mogrid.experiment.pareto import pareto_cells

    cells: list[Cell] = []
    for strategies in settings.strategies:
        if strategies.preference is not None:
            plan = _strategies_plan(settings, strategies, source, collection, store)
            cells += pareto_cells(plan, strategies.preference)
    return sorted(cells, key=lambda cell: cell.seed)


def run_sweep(
    settings: SweepSettings,
    source: DataSource,
    store: Path,
    console: Console,
    *,
    executor: Literal["processes", "ray"] = "processes",
    ray_address: str | None = None,
) -> list[RunRecord]:
    """Run what is not finished yet, beside any other process that does, with a bar; return all records.

    Parameters
    ----------
    executor : {"processes", "ray"}
        Worker processes of this machine, or tasks of Ray (`mogrid.sweep.on_ray.RayPool`).
    ray_address : str, optional
        Of a Ray cluster whose nodes share the store; by default Ray is started on this machine.
    """
    with _pool(settings, executor, ray_address) as pool:
        return _run_stages(settings, source, store, console, pool)


def _pool(settings: SweepSettings, executor: str, ray_address: str | None) -> Pool | RayPool:
    if executor == "ray":
        return RayPool(run_shared_cell, workers=settings.workers, address=ray_address)
    if executor != "processes":
        raise ConfigError(f"executor: unknown {executor!r}{nearest(executor, ('processes', 'ray'))}")
    if ray_address is not None:
        raise ConfigError(f"the Ray address {ray_address!r} is of no use to the executor 'processes'; choose 'ray'")
    return Pool(run_cell, workers=settings.workers)


def _run_stages(
    settings: SweepSettings, source: DataSource, store: Path, console: Console, pool: Pool | RayPool
) -> list[RunRecord]:
    with console.status("reading the data"):
        collection = source.load()
        (store / "runs").mkdir(parents=True, exist_ok=True)
        leaks = kept_leaks(collection, store)
        tokenizer_of(collection, settings.at(settings.scales[0], 1, {"": 1.0}, [0]), store)
    measured = sum(total for _, total in leaks.counts.values())
    console.print(f"near-duplicates of training text among what is measured: {leaks.leaks} of {measured:,} texts")
    with console.status("measuring what a batch costs at every size"):
        grid, averages = sweep_cells(settings, source, collection, store)
    runs = RunStore(store)
    finished: list[Cell] = []
    for title, stage in (
        ("runs", lambda: grid),
        ("averages", lambda: averages),
        ("Pareto trainings", lambda: pareto_stage(settings, source, collection, store)),
    ):
        cells = stage()
        _drain(pool, title, cells, runs, console)
        finished += cells
    return [runs.read(cell.name) for cell in finished]


def _drain(pool: Pool | RayPool, title: str, cells: list[Cell], runs: RunStore, console: Console) -> None:
    left = [cell for cell in cells if not runs.finished(cell.name)]
    if not left:
        return
    columns = ("{task.description}", BarColumn(bar_width=None), TaskProgressColumn(), "left", TimeRemainingColumn())
    done = [0.0] * len(left)
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task(f"{len(left)} of {len(cells)} {title}", total=sum(map(_cost, left)))

        def report(index: int, share: float) -> None:
            bar.advance(task, (share - done[index]) * _cost(left[index]))
            done[index] = share

        pool.run(left, report)


def _cost(cell: Cell) -> float:
    """Evaluation costs about what a tenth of the smallest training does."""
    return cell.settings.training.budget * (1.0 if cell.solver is not None else 0.1)
