"""From a recipe to one dataset an objective; nothing but training-role text passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from datasets import concatenate_datasets

from mogrid.attacks.registry import attack_for
from mogrid.attacks.training import perturbed_pairs
from mogrid.data import Domain, Role, training_pairs
from mogrid.errors import ConfigError, DataError, RoleError
from mogrid.retrieval import mine_hard_negatives
from mogrid.training.library import Library
from mogrid.training.recipe import Recipe
from mogrid.training.settings import ObjectiveSettings

if TYPE_CHECKING:
    from datasets import Dataset


__all__ = ["check_roles", "objective_datasets"]

_MINED: dict[tuple[str, int], Dataset] = {}  # runs of one process train on the same sets


def objective_datasets(recipe: Recipe, library: Library) -> tuple[dict[str, Dataset], list[Domain]]:
    """Return one dataset an objective, and the domains they come from.

    Raises
    ------
    ConfigError, DataError
        A folder or split is missing or wrong; the message names the objective.
    RoleError
        A set has no training split, or an attack is not for training.
    """
    found, used = {}, []
    for name, objective in recipe.objectives.items():
        try:
            own = [library.training(entry) for entry in objective.datasets]
            found[name] = _dataset(objective, own, recipe.seed)
        except (ConfigError, DataError, RoleError) as error:
            raise type(error)(f"objective {name!r}: {error}") from error
        used += own
    return found, used


def _dataset(objective: ObjectiveSettings, domains: list[Domain], seed: int) -> Dataset:
    parts = []
    for number, (entry, domain) in enumerate(zip(objective.datasets, domains, strict=True)):
        rows = _pairs(domain, objective.negatives)
        if entry.limit is not None and entry.limit < len(rows):
            rows = rows.shuffle(seed=seed).select(range(entry.limit))
        parts.append(rows.add_column("label", [number] * len(rows)))
    rows = concatenate_datasets(parts)
    if objective.over != "domains":
        rows = rows.remove_columns("label")
    if objective.perturb is None:
        return rows
    return perturbed_pairs(rows, attack_for(objective.perturb, Role.TRAIN), seed=seed, variants=objective.variants)


def _pairs(domain: Domain, negatives: int) -> Dataset:
    if not negatives:
        return training_pairs(domain)
    key = domain.fingerprint, negatives
    if key not in _MINED:
        _MINED[key] = mine_hard_negatives("bm25", domain, negatives=negatives)
    return _MINED[key]


def check_roles(datasets: Mapping[str, Dataset], judged: Iterable[Domain]) -> None:
    """Raise `RoleError` where an objective trains on a query that something is selected or tested by."""
    kept = {
        text: (domain.name, role)
        for domain in judged
        for role in (Role.SELECT, Role.TEST)
        if role in domain.splits
        for text in domain.split(role).queries.values()
    }
    for name, rows in datasets.items():
        found = next((text for text in rows["query"] if text in kept), None)
        if found is not None:
            domain, role = kept[found]
            raise RoleError(f"objective {name!r} trains on {found[:60]!r}, a query of the {role} split of {domain!r}")
