"""From a plan to the recipe that spends it: a file that says which keys of which recipe it sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mogrid.errors import ConfigError
from mogrid.files import write_json, write_text
from mogrid.frontier import Laws, Options, Plan, Proposal, experiments
from mogrid.sweep.measured import Measured
from mogrid.trainer.mix import LEAST_ROWS
from mogrid.training.recipe import PLAN_FORMAT

__all__ = ["able", "changes_of", "proposed", "write_plan", "write_recipe", "write_sweep"]


def changes_of(chosen: Plan, given: Measured) -> dict[str, Any]:
    """Return the dotted keys of a recipe that a plan sets: base model, its learning rate, mix, and the budget.

    Raises
    ------
    ConfigError
        The plan is of a size between the models that were run: nothing of that size can be trained.
    """
    if chosen.model is None:
        raise ConfigError(
            f"the plan is of {chosen.parameters:,.0f} parameters, between the base models that were run; choose among "
            f"them with --model: {', '.join(given.models)}"
        )
    return {**_changes(given, chosen.model, chosen.budget, chosen.mix), "spend": chosen.spend}


def _changes(given: Measured, model: str, budget: float, shares: Mapping[str, float]) -> dict[str, Any]:
    like = given.models[model]
    mix = _with_rows(shares, LEAST_ROWS / like.training.batch_size if given.recipe.spend == "rows" else 0.0)
    largest = max(mix, key=lambda name: mix[name])
    mix[largest] = round(mix[largest] + 1 - sum(mix.values()), 3)
    return {
        "model": like.model.model_dump(mode="json", exclude_defaults=True),
        "training.learning_rate": like.training.learning_rate,
        "training.budget": float(f"{budget:.6g}"),
        "mix": mix,
    }


def _with_rows(shares: Mapping[str, float], least: float) -> dict[str, float]:
    """Return shares to three digits, none so small that it has no rows of a batch: such a one is 0, or the least."""
    floor = math.ceil(1000 * least) / 1000
    small = {name: floor * (share >= least / 2) for name, share in shares.items() if share < least}
    rest = (1 - sum(small.values())) / (1 - sum(shares[name] for name in small))
    return {name: small.get(name, round(share * rest, 3)) for name, share in shares.items()}


def able(laws: Laws, given: Measured, models: Sequence[str] | None = None) -> Options:
    """Return the runs that could be done next and that the recipe allows: each objective needs rows of a batch.

    Raises
    ------
    ConfigError
        As the recipe, where it allows none.
    """
    found = experiments(laws, models or list(given.models))
    kept, refused = [], None
    for i, (model, flops, mix) in enumerate(zip(found.models, found.flops, found.mix, strict=True)):
        try:
            given.recipe.change(_changes(given, str(model), flops, dict(zip(laws.objectives, mix, strict=True))))
        except ConfigError as error:
            refused = error
            continue
        kept.append(i)
    if refused is not None and not kept:
        raise refused
    return found.only(kept)


def proposed(made: Proposal, options: Options, given: Measured) -> list[dict[str, Any]]:
    """Return the dotted keys of a recipe that each proposed run sets; seeds are those that no such run has had."""
    runs, found = given.measurements, []
    seeds: dict[tuple[str, tuple[float, ...]], int] = {}
    for i in made.rows:
        model, mix = str(options.models[i]), options.mix[i]
        like = [
            seed
            for seed, name, own in zip(runs.seeds, runs.models, runs.mix, strict=True)
            if name == model and np.abs(own - mix).max() < 1e-3
        ]
        place = (model, tuple(mix.round(3).tolist()))
        seeds[place] = seeds.get(place, max(like, default=-1)) + 1
        shares = dict(zip(runs.objectives, mix.tolist(), strict=True))
        found.append({**_changes(given, model, float(options.flops[i]), shares), "seed": seeds[place]})
    return found


def write_sweep(path: Path, rows: Sequence[Mapping[str, Any]], given: Measured, base: Path | None) -> None:
    """Write proposed runs as a sweep, which adds them to the store that they were proposed from.

    Raises
    ------
    ConfigError
        The recipe's paths would not hold from where the file is.
    """
    if base is not None and path.absolute().parent.resolve() != base.resolve():
        raise ConfigError(f"{path}: a sweep of these runs belongs into {base}, which their recipe's paths start from")
    recipe = given.recipe.model_dump(mode="json", exclude_defaults=True)
    value = {"recipe": recipe, "vary": {"runs": [dict(row) for row in rows]}, "rows": []}
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def write_plan(path: Path, chosen: Plan, given: Measured) -> None:
    """Write a plan for ``mogrid train --plan``."""
    changes = changes_of(chosen, given)
    given.recipe.change(changes)  # what cannot be trained is not written
    value = {"format": PLAN_FORMAT, "family": given.recipe.family(), "data": given.data, "set": changes}
    write_json(path, {**value, "plan": chosen.to_json()})


def write_recipe(path: Path, chosen: Plan, given: Measured, base: Path | None) -> None:
    """Write the recipe that spends a plan, ready for ``mogrid train``.

    Parameters
    ----------
    base : Path or None
        The folder that the runs' recipes were relative to, where it is known: paths are rewritten to hold from there.
    """
    like = given.models.get(chosen.model or "", given.recipe)
    made = like.change(changes_of(chosen, given))
    value = made.model_dump(mode="json", exclude_defaults=True)
    value = {"output": value.get("output", f"out/{path.stem}"), **value}
    if base is not None:
        for keys in (("data",), ("evaluation", "domains"), ("model", "path")):
            inner: Any = value
            for key in keys[:-1]:
                inner = inner.get(key) or {}
            own = inner.get(keys[-1])
            if isinstance(own, str) and not own.startswith("~") and (base / own).exists():
                inner[keys[-1]] = str((base / own).resolve())
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
