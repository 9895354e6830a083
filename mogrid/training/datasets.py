"""From a recipe to one dataset an objective; nothing but training-role text passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import concatenate_datasets
from sentence_transformers.util import get_device_name

from mogrid.attacks.registry import attack_for
from mogrid.attacks.training import perturbed_pairs
from mogrid.data import Domain, Role, training_pairs
from mogrid.data.words import same_text
from mogrid.errors import ConfigError, DataError, RoleError
from mogrid.files import cache_folder
from mogrid.retrieval import mined
from mogrid.retrieval.pretrained import load_retriever
from mogrid.training.library import Library, located
from mogrid.training.recipe import Recipe
from mogrid.training.settings import ObjectiveSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


__all__ = ["objective_datasets"]

_MADE: dict[tuple[str, str], Dataset] = {}  # runs of one process train on the same sets


def objective_datasets(
    recipe: Recipe, library: Library, base: Path, judged: Iterable[Domain]
) -> tuple[dict[str, Dataset], list[Domain]]:
    """Return one dataset an objective, and the domains they come from.

    Parameters
    ----------
    recipe : Recipe
    library : Library
    base : Path
        The folder that the recipe's paths are relative to.
    judged : iterable of Domain
        What is selected and tested on: its queries are not trained on.

    Raises
    ------
    ConfigError, DataError
        A folder or split is missing or wrong; the message names the objective.
    RoleError
        A set has no training split, an attack is not for training, or a query is one that something is selected or
        tested by, and is not to be dropped.
    """
    kept = {
        same_text(text): (domain.name, role)
        for domain in judged
        for role in (Role.SELECT, Role.TEST)
        if role in domain.splits
        for text in domain.split(role).queries.values()
    }
    found, used = {}, []
    for name, objective in recipe.objectives.items():
        try:
            own = [_apart(library.training(entry), library.drops_overlap(entry), kept) for entry in objective.datasets]
            found[name] = _dataset(recipe, objective, own, base)
        except (ConfigError, DataError, RoleError) as error:
            raise type(error)(f"objective {name!r}: {error}") from error
        used += own
    return found, used


def _apart(domain: Domain, drop: bool, kept: Mapping[str, tuple[str, Role]]) -> Domain:
    """Return a domain whose training queries are not among those that something is selected or tested by."""
    split = domain.split(Role.TRAIN)
    twice = [query for query, text in split.queries.items() if same_text(text) in kept]
    if not twice:
        return domain
    if not drop:
        text = split.queries[twice[0]]
        name, role = kept[same_text(text)]
        raise RoleError(
            f"{domain.name} trains on {text[:60]!r}, a query of the {role} split of {name!r} ({len(twice):,} such "
            "queries); drop_overlap: true beside its path leaves them out"
        )
    return domain.without(Role.TRAIN, twice)


def _dataset(recipe: Recipe, objective: ObjectiveSettings, domains: list[Domain], base: Path) -> Dataset:
    parts = []
    made = [_pairs(recipe, objective, domain, base) for domain in domains]
    most = max(sum(name.startswith("negative_") for name in rows.column_names) for rows in made)
    for number, (entry, domain, rows) in enumerate(zip(objective.datasets, domains, made, strict=True)):
        if f"negative_{most}" not in rows.column_names and most:  # all sets of an objective have the same columns
            rows = _plain(domain, most)
        if entry.limit is not None and entry.limit < len(rows):
            rows = rows.shuffle(seed=recipe.seed).select(range(entry.limit))
        parts.append(rows.add_column("label", [number] * len(rows)))
    rows = concatenate_datasets(parts)
    if objective.over != "domains":
        rows = rows.remove_columns("label")
    if objective.perturb is None:
        return rows
    attack = attack_for(objective.perturb, Role.TRAIN)
    return perturbed_pairs(rows, attack, seed=recipe.seed, variants=objective.variants)


def _pairs(recipe: Recipe, objective: ObjectiveSettings, domain: Domain, base: Path) -> Dataset:
    settings = objective.negatives
    if objective.over == "perturbed":
        return _plain(domain, 0)
    if settings is None or not settings.count:
        return _plain(domain, None if settings is None else 0)
    path = recipe.model.path if settings.by == "base" else settings.by
    if path is None:
        raise ConfigError("negatives by the base model need one: give model.path")
    key = domain.fingerprint, f"{settings.model_copy(update={'by': path}).model_dump_json()} {recipe.model.max_length}"
    if key not in _MADE:
        length = recipe.model.max_length if settings.by == "base" else None
        model: Any = "bm25" if path == "bm25" else _retriever(path, base, length)
        _MADE[key] = mined(
            model, domain, cache_folder(), negatives=settings.count, margin=settings.margin, skip=settings.skip
        )
    return _MADE[key]


def _plain(domain: Domain, negatives: int | None) -> Dataset:
    """Return a domain's pairs, without mining; whatever the seed, they are the same."""
    key = domain.fingerprint, str(negatives)
    if key not in _MADE:
        _MADE[key] = training_pairs(domain, negatives=negatives)
    return _MADE[key]


def _retriever(path: str, base: Path, max_length: int | None) -> SentenceTransformer:
    folder = located(base, path)
    model = load_retriever(str(folder) if folder.is_dir() else path, max_length=max_length)
    return model.to(get_device_name())
