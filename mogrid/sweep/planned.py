"""From a plan to the recipe that spends it: a file that says which keys of which recipe it sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mogrid.errors import ConfigError
from mogrid.files import write_json, write_text
from mogrid.frontier import Plan
from mogrid.sweep.measured import Measured
from mogrid.training.recipe import PLAN_FORMAT, Recipe

__all__ = ["changes_of", "write_plan", "write_recipe"]


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
    like = given.models[chosen.model]
    mix = {name: round(share, 3) for name, share in chosen.mix.items()}
    largest = max(mix, key=lambda name: mix[name])
    mix[largest] = round(mix[largest] + 1 - sum(mix.values()), 3)
    return {
        "model": like.model.model_dump(mode="json", exclude_defaults=True),
        "training.learning_rate": like.training.learning_rate,
        "training.budget": float(f"{chosen.budget:.6g}"),
        "mix": mix,
        "spend": chosen.spend,
    }


def write_plan(path: Path, chosen: Plan, given: Measured) -> None:
    """Write a plan for ``mogrid train --plan``."""
    value = {
        "format": PLAN_FORMAT,
        "family": given.recipe.family(),
        "data": given.data,
        "set": changes_of(chosen, given),
        "plan": chosen.to_json(),
    }
    write_json(path, value)


def write_recipe(path: Path, chosen: Plan, given: Measured, base: Path | None) -> Recipe:
    """Write the recipe that spends a plan, ready for ``mogrid train``; return it.

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
    return made
