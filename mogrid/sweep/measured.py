"""From a store to the numbers that laws are fitted to: the runs of static mixes of one recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mogrid.config import parse_changes
from mogrid.errors import ConfigError, DataError
from mogrid.frontier import Measurements
from mogrid.runs import RunRecord, RunStore, told_apart
from mogrid.training.recipe import FREE, Recipe

__all__ = ["Measured", "measured"]

_PLACES = ("data", "evaluation.domains")
"""Where things lie; what they say is compared by the data's hash."""
_BY_MODEL = ("training.learning_rate", "training.warmup")
"""What may differ between base models, not within one."""


@dataclass(frozen=True)
class Measured:
    """Runs of one recipe.

    Attributes
    ----------
    measurements : Measurements
    recipe : Recipe
        Of the first run; its mix, seed, model and length are one point of many.
    records : tuple of RunRecord
        In the order of the measurements' rows.
    models : dict of base model's label to Recipe
        A recipe that starts from it.
    data : str
    """

    measurements: Measurements
    recipe: Recipe
    records: tuple[RunRecord, ...]
    models: Mapping[str, Recipe]
    data: str


def measured(store: RunStore, where: Sequence[str] = (), names: Sequence[str] | None = None) -> Measured:
    """Return a store's runs of static mixes.

    Parameters
    ----------
    store : RunStore
        Where the runs are; unfinished ones do not count.
    where : sequence of ``key=value``
        Fields of the recipe that a run must have, where the store holds runs of several recipes.
    names : sequence of str, optional
        The runs, in this order; all there are, as they finished, when left out.

    Raises
    ------
    DataError
        There is no such run, or runs are on different data.
    ConfigError
        Recipes differ in a field that laws are not over: which, with its values.
    """
    wanted = parse_changes(where)
    known = {record.name: record for record in told_apart(list(store.records(queries=False)))}
    some = known if names is None else (store.read(name, queries=False).name for name in names)
    trained = [r for name in some if (r := known[name]).kind == "trained" and r.solver == "fixed"]
    if not trained:
        raise DataError(f"{store.root}: no finished training with a static mix; run mogrid sweep first")
    full = [(record, _flat(Recipe.model_validate(dict(record.recipe)).model_dump(mode="json"))) for record in trained]
    for key in wanted:
        if not any(key in flat for _, flat in full):
            raise ConfigError(f"--where {key}: no recipe of {store.root} has such a field")
    kept = [(record, flat) for record, flat in full if all(flat.get(key) == value for key, value in wanted.items())]
    if not kept:
        said = ", ".join(f"{key} {value!r}" for key, value in wanted.items())
        raise DataError(f"{store.root}: no run has {said}")
    _check_one_recipe(store, kept)
    records = [record for record, _ in kept]
    recipes = [Recipe.model_validate(dict(record.recipe)) for record in records]
    names = tuple(recipes[0].objectives)
    metrics = [m for m in ("ce", "ndcg") if all(m in r.objectives.get(name, {}) for r in records for name in names)]

    def table(values: Sequence[Mapping[str, float]]) -> np.ndarray:
        return np.array([[float(row.get(name, 0.0)) for name in names] for row in values])

    base: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in metrics}
    used = {record.model for record in records}
    for record in known.values():
        if record.kind == "base" and record.model in used and record.data == records[0].data:
            for metric in metrics:
                if all(metric in record.objectives.get(name, {}) for name in names):
                    base[metric].setdefault(record.model, table([{n: record.objectives[n][metric] for n in names}])[0])
    found = Measurements(
        objectives=names,
        labels=tuple(record.name for record in records),
        models=tuple(record.model for record in records),
        parameters=np.array([float(record.parameters) for record in records]),
        mix=table([record.mix for record in records]),
        pairs=table([record.pairs for record in records]),
        flops=np.array([record.total_flops for record in records]),
        values={m: table([{n: r.objectives[n][m] for n in names} for r in records]) for m in metrics},
        seeds=tuple(record.seed for record in records),
        spend=tuple(record.spend for record in records),
        base={metric: values for metric, values in base.items() if values},
    )
    models: dict[str, Recipe] = {}
    for record, recipe in zip(records, recipes, strict=True):
        models.setdefault(record.model, recipe)
    return Measured(found, recipes[0], tuple(records), models, records[0].data)


def _check_one_recipe(store: RunStore, kept: Sequence[tuple[RunRecord, Mapping[str, Any]]]) -> None:
    first, data = kept[0][0], {record.data for record, _ in kept}
    values: dict[str, dict[str, Any]] = {}
    for record, flat in kept:
        for key, value in flat.items():
            if key not in _PLACES and not any(key == free or key.startswith(f"{free}.") for free in FREE):
                place = f"{key} of {record.model}" if key in _BY_MODEL else key
                values.setdefault(place, {})[repr(value)] = value
    several = {place: list(found) for place, found in values.items() if len(found) > 1}
    if several:
        said = "; ".join(f"{place}: {' or '.join(found[:3])}" for place, found in list(several.items())[:4])
        key = next(iter(several)).split(" of ")[0]
        raise ConfigError(f"{store.root}: runs of several recipes ({said}); choose with --where {key}=VALUE")
    if len(data) > 1:
        other = next(record for record, _ in kept if record.data != first.data)
        raise DataError(
            f"{store.root}: runs on different data, {first.name} on {first.data[:12]} and {other.name} on "
            f"{other.data[:12]}; one store a data set"
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain values by dotted key; lists are values."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and key != "mix":
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = inner
    return found
