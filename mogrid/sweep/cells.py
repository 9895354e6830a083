"""The cells of a sweep: what has to be run, under which name, and one of them from its recipe to its record."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mogrid.errors import ConfigError, MogridError
from mogrid.files import held, naming_a_full_disk
from mogrid.retrieval.pretrained import find_retriever
from mogrid.runs import Kind, RunStore
from mogrid.sweep.grid import Point, Sweep
from mogrid.training.costs import row_costs, steps_of
from mogrid.training.fit import path_of
from mogrid.training.recipe import Recipe
from mogrid.training.run import default_label, materials, run

__all__ = ["Cell", "cells_of", "run_cell"]

_BESIDE: tuple[tuple[Kind, str], ...] = (("base", "base"), ("bm25", "BM25"))


@dataclass(frozen=True)
class Cell:
    """Everything a process needs to know of one run.

    Attributes
    ----------
    name, label : str
    kind : str
    recipe : Recipe
    base : Path
        The folder that the recipe's paths are relative to.
    store : Path
    parents : tuple of (run name, share)
        Of a merged model; an empty name is the base.
    keep : bool
        Whether the model stays in the store.
    cost : float
        What it takes, in units of any kind: for the order, and the time left.
    after : int
        Stage: cells of a later one need those of the ones before.
    """

    name: str
    label: str
    kind: Kind
    recipe: Recipe
    base: Path
    store: Path
    parents: tuple[tuple[str, float], ...] = ()
    keep: bool = False
    cost: float = field(default=1.0, compare=False)
    after: int = 0


def cells_of(sweep: Sweep, store: Path, progress: Callable[[str], None] = lambda said: None) -> list[Cell]:
    """Return all cells; first seeds first and cheap ones before dear ones: a sweep cut short is the most of a grid.

    Data are read and costs measured here, once, so that whatever is wrong with a recipe is said before anything runs.
    """
    settings = sweep.settings
    keep = settings.keep == "models" or bool(settings.merge)
    cells: dict[str, Cell] = {}
    runs, there = RunStore(store), set[str]()
    for point in sweep.points:
        miners = {o.negatives.by for o in point.recipe.objectives.values() if o.negatives and o.negatives.count}
        if miners:  # with a model this takes minutes, once
            progress(f"mining hard negatives by {', '.join(sorted(miners))}, where they are not known yet")
        materials(point.recipe, sweep.base).judging.check()
        recipe = _at_equal_flops(sweep, point.recipe, store, progress)
        given = materials(recipe, sweep.base)
        label = sweep.label(point, default_label(recipe))
        steps_of(recipe, given.build, given.datasets, store / "cache", given.data)  # a budget that buys nothing
        common: dict[str, Any] = {"recipe": recipe, "base": sweep.base, "store": store}
        name = given.name(label)
        path = recipe.model.path
        if path is not None and path not in there and not runs.finished(name):
            find_retriever(path_of(path, sweep.base))
            there.add(path)
        cost = _cost(recipe)
        cells.setdefault(name, Cell(name, label, "trained", keep=keep, cost=cost, **common))
        for kind, title in _BESIDE:
            if kind in settings.rows:
                own = given.name(title, kind)
                cells.setdefault(own, Cell(own, title, kind, cost=0.1 * cost, **common))
        merges: dict[str, tuple[tuple[str, float], ...]] = {
            f"{label}, merged {share:g} with base": ((name, share), ("", round(1 - share, 12)))
            for share in settings.merge
            if not isinstance(share, str)
        }
        if "corners" in settings.merge and (parents := _corners(sweep, point, store, progress)):
            merges[f"{label}, of merged corners"] = parents
        for title, parents in merges.items():
            own = given.name(title, "merged", dict(parents))
            cells.setdefault(own, Cell(own, title, "merged", parents=parents, cost=0.1 * cost, after=1, **common))
    return sorted(cells.values(), key=lambda cell: (cell.after, cell.recipe.seed, cell.cost))


def _corners(sweep: Sweep, point: Point, store: Path, progress: Callable[[str], None]) -> tuple[tuple[str, float], ...]:
    """Return the runs of one objective each that make up a mix, with its shares; none where one is not in the sweep."""
    shares = {name: share for name, share in point.recipe.shares.items() if share > 0}
    if point.recipe.solver_name != "fixed" or len(shares) < 2:
        return ()
    family, found = point.recipe.change({"mix": None}), []
    for name, share in shares.items():
        alone = {other: float(other == name) for other in point.recipe.objectives}
        corners = (one for one in sweep.points if one.recipe.shares == alone)
        corner = next((one for one in corners if one.recipe.change({"mix": None}) == family), None)
        if corner is None:
            return ()
        recipe = _at_equal_flops(sweep, corner.recipe, store, progress)
        label = sweep.label(corner, default_label(recipe))
        found.append((materials(recipe, sweep.base).name(label), share))
    return tuple(found)


def _at_equal_flops(sweep: Sweep, recipe: Recipe, store: Path, progress: Callable[[str], None]) -> Recipe:
    """Return the recipe with a budget in place of its pairs: what as many cost in full batches, on average."""
    pairs = recipe.training.pairs
    if sweep.settings.equal == "pairs" or pairs is None:
        return recipe
    progress(f"measuring what a pair costs: {recipe.model.label}")
    given = materials(recipe, sweep.base)
    cache = store / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    # Nothing of how weights are found counts: runs with a gradient cache and without have one budget.
    full = recipe.change({"mix": None, "solver": "fixed", "spend": "weights", "training.gradients": "exact"})
    costs = row_costs(full, given.build, given.datasets, cache, given.data)
    budget = pairs * sum(costs.values()) / len(costs)
    return recipe.change({"training.budget": float(f"{budget:.4g}")})


def _cost(recipe: Recipe) -> float:
    training, layers = recipe.training, recipe.model.layers
    if training.budget is not None:
        return training.budget
    depth = len(layers) if isinstance(layers, list) else layers or 1
    return depth * float(training.pairs or training.steps or training.epochs or 1.0)


def run_cell(cell: Cell, progress: Callable[[float, str], None], stop: Callable[[], bool]) -> None:
    """Run one cell and append its record; a finished cell is left alone.

    Raises
    ------
    Busy
        Another process is at it.
    """
    store = RunStore(cell.store)
    if store.finished(cell.name):
        return
    with naming_a_full_disk(cell.store), held(cell.store / "claims" / f"{cell.name}.lock"):
        if store.finished(cell.name):
            return
        folder = store.folder(cell.name)
        folder.mkdir(parents=True, exist_ok=True)
        missing = [name for name, _ in cell.parents if name and not (store.folder(name) / "model").is_dir()]
        if missing:
            raise ConfigError(
                f"{cell.label}: the model of run {missing[0]!r} was not kept; remove its line to run it again"
            )
        record = run(
            materials(cell.recipe, cell.base),
            folder,
            label=cell.label,
            kind=cell.kind,
            parents=dict(cell.parents),
            models=lambda name: store.folder(name) / "model",
            cache=cell.store / "cache",
            progress=progress,
            stop=stop,
        )
        if record.name != cell.name:
            raise MogridError(f"run {cell.name!r}: its data changed while the sweep was running (now {record.name!r})")
        store.add(record)
        gc.collect()  # a model and what it remembers of texts are parts of cycles: gigabytes, before long
        if not cell.keep:
            shutil.rmtree(folder / "model", ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
