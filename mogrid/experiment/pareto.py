"""Pareto training inside a sweep: weights that the laws of its own runs choose, trained statically and along them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mogrid.errors import DataError
from mogrid.experiment.cells import Cell
from mogrid.experiment.plan import Plan
from mogrid.experiment.settings import OBJECTIVES
from mogrid.files import write_json
from mogrid.runs import RunRecord, RunStore
from mogrid.scaling import fit_laws, plan, read_runs

__all__ = ["pareto_cells", "pareto_choice"]

_WAYPOINTS = (0.125, 0.25, 0.5, 1.0)  # of D
_LAST = 0.1  # of the steps, whose mean loss is a run's last


def pareto_choice(runs: RunStore, size: str, budget: float, preference: Mapping[str, float]) -> dict[str, Any]:
    """Return what the store's laws choose for a size and a budget; made once, and kept in the store.

    Select-role data alone decide. The file says which runs it was made from: later runs do not change what was trained.

    Returns
    -------
    dict
        ``weights`` by objective; ``path``, such weights at shares ``at`` of the data; ``ray``, the preference that
        asks ParetoTarget for the training losses that a run with nearly these weights ended at.
    """
    path = runs.root / f"pareto-{size}-{budget:.3g}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
    laws = fit_laws(read_runs(runs), draws=50)
    near = _nearest(runs, size, budget)
    sizes = [float(near[0].parameters)]
    waypoints = []
    for share in _WAYPOINTS:
        part = max(budget * share, float(laws.runs.flops.min()))
        waypoints.append(_rounded(plan(laws, part, preference, sizes=sizes, draws=20).weights))
    weights = waypoints[-1]
    record = min(near, key=lambda r: sum(abs(r.config["solver"]["weights"][k] - weights[k]) for k in OBJECTIVES))
    losses = _last_losses(runs, record)
    ray = {name: 1 / loss for name, loss in losses.items()}
    choice = {
        "preference": dict(preference),
        "weights": weights,
        "at": list(_WAYPOINTS),
        "path": waypoints,
        "ray": {name: round(value / sum(ray.values()), 4) for name, value in ray.items()},
        "ray_from": record.name,
        "runs": len(laws.runs),
    }
    write_json(path, choice)
    return choice


def pareto_cells(planned: Plan, preference: Mapping[str, float]) -> list[Cell]:
    """Return the cells of Pareto training at one scale: static weights, batch shares, annealed weights, and the ray."""
    settings = planned.settings
    runs = RunStore(planned.store)
    choice = pareto_choice(runs, settings.encoder.size, settings.training.budget, preference)
    cells = planned.fixed_cells(choice["weights"], "pareto", "Pareto weights")
    cells += planned.share_cells(choice["weights"], "Pareto shares", kind="pareto")
    ray = {"name": "pareto_target", "preference": choice["ray"]}
    cells += planned.solver_cells("Pareto ray", ray, kind="pareto")
    path: list[dict[str, float]] = choice["path"]
    if any(weights != path[-1] for weights in path):  # where they do not move, annealing is the static weights
        active = {name: max(weights[name] for weights in path) for name in OBJECTIVES}
        steps = planned.steps(active)
        at = [round(share * steps) for share in choice["at"]]
        annealed = {"name": "annealed", "path": path, "steps": at}
        cells += planned.solver_cells("Pareto weights, annealed", annealed, kind="pareto", active=active)
    return cells


def _nearest(runs: RunStore, size: str, budget: float) -> list[RunRecord]:
    """Return the first seed's runs of interior weights at this size and budget."""
    found = [
        r
        for r in runs.records(queries=False)
        if r.kind == "sweep"
        and r.config["settings"]["encoder"]["size"] == size
        and np.isclose(r.config["settings"]["training"]["budget"], budget, rtol=1e-6)
        and min(r.config["solver"]["weights"].values()) > 0
    ]
    if not found:
        raise DataError(f"{runs.root}: no run of fixed weights at size {size} and {budget:.3g} FLOPs to choose from")
    first = min(r.seed for r in found)
    return [r for r in found if r.seed == first]


def _last_losses(runs: RunStore, record: RunRecord) -> dict[str, float]:
    steps = runs.steps(record.name)
    last = steps[-max(1, round(_LAST * len(steps))) :]
    if not last:
        raise DataError(f"{runs.folder(record.name)}: has no steps.jsonl, which the ray is read from")
    return {name: float(np.mean([row[f"loss/{name}"] for row in last])) for name in OBJECTIVES}


def _rounded(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights of two digits that sum to 1: what a table shows is what is trained."""
    found = {name: round(weights[name], 2) for name in OBJECTIVES}
    largest = max(found, key=lambda name: found[name])
    found[largest] = round(found[largest] + 1 - sum(found.values()), 2)
    return found
