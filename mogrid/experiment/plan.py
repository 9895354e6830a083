"""Which runs an experiment consists of, at equal FLOPs, and in which order."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mogrid.data import Collection
from mogrid.errors import ConfigError
from mogrid.experiment.cells import Cell, DataSource, Kind, fixed, make_cell, new_model
from mogrid.experiment.settings import OBJECTIVES, ExperimentSettings

__all__ = ["EQUAL", "Plan", "measured_costs", "weights_label"]

_SHORT = {"effectiveness": "eff", "ood": "ood", "adversarial": "adv"}
_NAMED = {
    (1.0, 0.0, 0.0): "effectiveness only",
    (0.0, 1.0, 0.0): "OOD only",
    (0.0, 0.0, 1.0): "adversarial only",
}
EQUAL = "equal weights"


def weights_label(weights: Mapping[str, float]) -> str:
    """Return a short name of fixed weights, such as ``0.8/0.1/0.1``, always in the order of `OBJECTIVES`."""
    values = tuple(weights.get(name, 0.0) for name in OBJECTIVES)
    if values in _NAMED:
        return _NAMED[values]
    if max(values) - min(values) <= 0.011:
        return EQUAL
    return "/".join(f"{value:.2g}" for value in values)


class Plan:
    """The cells of an experiment.

    Parameters
    ----------
    settings : ExperimentSettings
    source : DataSource
    collection : Collection
    store : Path
    costs : mapping of float, optional
        Training FLOPs of one batch of each objective; measured when left out.
    """

    def __init__(
        self,
        settings: ExperimentSettings,
        source: DataSource,
        collection: Collection,
        store: Path,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        self.settings = settings
        self.source = source
        self.store = store
        self.fingerprint = collection.fingerprint
        self.costs = dict(costs) if costs is not None else measured_costs(settings, collection, store)

    def steps(self, active: Mapping[str, float] | None = None) -> int:
        """Return the optimiser steps that the budget buys, when only objectives with a weight above 0 are run.

        Raises
        ------
        ConfigError
            The budget does not buy ten steps.
        """
        names = OBJECTIVES if active is None else [name for name in OBJECTIVES if active.get(name, 0.0) > 0]
        cost = sum(self.costs[name] for name in names)
        steps = round(self.settings.training.budget / cost)
        if steps < 10:
            raise ConfigError(
                f"training.budget {self.settings.training.budget:g} FLOPs buys {steps} steps of {cost:.3g} FLOPs; "
                f"ten steps need {10 * cost:.2g}"
            )
        return steps

    def fixed_cells(self, weights: Mapping[str, float], kind: Kind = "sweep", label: str | None = None) -> list[Cell]:
        """Return a cell per seed that trains with fixed weights."""
        full = {name: float(weights.get(name, 0.0)) for name in OBJECTIVES}
        name = label or weights_label(full)
        seeds = self.settings.seeds
        if kind == "sweep" and name not in {EQUAL, *_NAMED.values()}:
            seeds = self.settings.sweep_seeds or seeds
        return [self._cell(name, kind, seed, steps=self.steps(full), solver=fixed(full)) for seed in seeds]

    def solver_cells(
        self,
        label: str,
        solver: Mapping[str, Any],
        kind: Kind = "solver",
        active: Mapping[str, float] | None = None,
    ) -> list[Cell]:
        """Return a cell per seed that trains with a solver, which gives a weight to all objectives or to `active`."""
        return [self._cell(label, kind, s, steps=self.steps(active), solver=solver) for s in self.settings.seeds]

    def share_cells(self, shares: Mapping[str, float], label: str | None = None, kind: Kind = "solver") -> list[Cell]:
        """Return a cell per seed whose batches, not its losses, are in proportion to `shares`.

        Losses are means over batches: each has the weight that its batch has in the union of all.
        """
        training = self.settings.training
        active = {name: share for name, share in shares.items() if share > 0}
        sizes = {name: round(len(OBJECTIVES) * training.batch_size * share) for name, share in active.items()}
        if min(sizes.values()) < 2:
            raise ConfigError(
                f"batch shares {dict(shares)} of {training.batch_size} a batch leave {sizes}; 2 are needed"
            )
        total = sum(sizes.values())
        solver = fixed({name: sizes.get(name, 0) / total for name in OBJECTIVES})
        cost = sum(self.costs[name] * size / training.batch_size for name, size in sizes.items())
        settings = self.settings.model_copy(update={"training": training.model_copy(update={"batch_sizes": sizes})})
        name, steps = label or f"shares {weights_label(shares)}", round(training.budget / cost)
        place = self.source, self.store, self.fingerprint
        return [
            make_cell(name, kind, seed, settings, *place, steps=steps, solver=solver) for seed in self.settings.seeds
        ]

    def first_stage(self) -> list[Cell]:
        """Return everything that depends on no other run."""
        cells = [self._cell("BM25", "bm25", 0)]
        cells += [self._cell("untrained", "untrained", seed) for seed in self.settings.seeds]
        for weights in self.settings.weights:
            cells += self.fixed_cells(weights)
        for label, solver in self.settings.solvers.items():
            cells += self.solver_cells(label, solver)
        # Longest first would help the pool little; by seed, an interrupted job has whole strategies sooner.
        return sorted(cells, key=lambda cell: cell.seed)

    def averages(self) -> list[Cell]:
        """Return the two cheap cures for forgetting that every strategy must beat.

        One moves the effectiveness-only model back towards the untrained one, as fine-tuners do (.7 new + .3 old);
        the other averages the models trained for one objective each.
        """
        cells = []
        for seed in self.settings.seeds:
            corners = {}
            for name in OBJECTIVES:
                corner = {name: 1.0}
                if any(_same(corner, row) for row in self.settings.weights):
                    corners[name] = next(cell for cell in self.fixed_cells(corner) if cell.seed == seed).name
            if "effectiveness" in corners:
                parents = ((corners["effectiveness"], 0.7), ("", 0.3))
                cells.append(self._cell("avg with untrained", "average", seed, parents=parents))
            if len(corners) == len(OBJECTIVES):
                soup = tuple((name, 1 / len(corners)) for name in corners.values())
                cells.append(self._cell("avg of corners", "average", seed, parents=soup))
        return cells

    def _cell(self, strategy: str, kind: Kind, seed: int, **kwargs: object) -> Cell:
        return make_cell(strategy, kind, seed, self.settings, self.source, self.store, self.fingerprint, **kwargs)  # type: ignore[arg-type]


def measured_costs(settings: ExperimentSettings, collection: Collection, store: Path) -> dict[str, float]:
    """Return the training FLOPs of one batch of each objective."""
    from mogrid.experiment.training import objective_costs, training_datasets

    model = new_model(collection, settings, store, seed=0)
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        datasets = training_datasets(collection, settings, seed=0)
        return objective_costs(model, datasets, settings, Path(scratch))


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return all(abs(a.get(name, 0.0) - b.get(name, 0.0)) < 1e-9 for name in OBJECTIVES)
