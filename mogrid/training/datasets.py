"""From a configuration to one dataset an objective; nothing but training-role text passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.data import Collection, Domain, Role, embedded_collection, read_collection, training_pairs
from mogrid.data.readers import READERS
from mogrid.errors import ConfigError, DataError, RoleError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

    from mogrid.attacks.base import Attack
    from mogrid.training.recipe import DatasetSettings, ObjectiveSettings, TrainSettings

__all__ = ["check_roles", "evaluation_collection", "located", "objective_datasets", "training_attack"]


def objective_datasets(settings: TrainSettings, base: Path) -> dict[str, Dataset]:
    """Return one dataset an objective.

    Parameters
    ----------
    settings : TrainSettings
    base : Path
        The folder of the configuration, which its paths are relative to.

    Raises
    ------
    ConfigError, DataError
        A folder or split is missing or wrong; the message names the objective.
    RoleError
        A set has no training split, or an attack is not for training.
    """
    domains: dict[tuple[str, str, str], Domain] = {}
    found = {}
    for name, objective in settings.objectives.items():
        try:
            for entry in objective.datasets:
                key = entry.kind, entry.path, entry.split
                if key not in domains:
                    domains[key] = _domain(entry, settings, base)
            own = [domains[e.kind, e.path, e.split] for e in objective.datasets]
            found[name] = _dataset(objective, own, settings.seed)
        except (ConfigError, DataError, RoleError) as error:
            raise type(error)(f"objective {name!r}: {error}") from error
    return found


def _domain(entry: DatasetSettings, settings: TrainSettings, base: Path) -> Domain:
    if settings.data is None:
        collection = embedded_collection()
        known = {d.name: d for d in (collection.source, *collection.ood)}
        if entry.path not in known:
            raise DataError(f"no embedded data set {entry.path!r}{nearest(entry.path, known)}; or give `data: FOLDER`")
        return known[entry.path]
    reader = READERS[entry.kind]
    if not reader.local:
        return reader.read(entry.path, {Role.TRAIN: entry.split})
    try:
        root = located(base, settings.data)
        folder = (root / entry.path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a name too long, a loop of links
        raise ConfigError(f"path {entry.path!r} names no folder ({error})") from error
    if not folder.is_relative_to(root) or folder == root:
        raise ConfigError(f"path {entry.path!r} leaves the data folder {root}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if not folder.is_dir():
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise DataError(f"{folder}: no such folder{nearest(entry.path, there)}")
    return reader.read(folder, {Role.TRAIN: entry.split})


def _dataset(objective: ObjectiveSettings, domains: list[Domain], seed: int) -> Dataset:
    from datasets import concatenate_datasets

    from mogrid.attacks.training import perturbed_pairs
    from mogrid.objectives.registry import LOSSES

    parts, offset = [], 0
    for number, (entry, domain) in enumerate(zip(objective.datasets, domains, strict=True)):
        rows = _pairs(domain, objective.negatives)
        if entry.limit is not None and entry.limit < len(rows):
            rows = rows.shuffle(seed=seed).select(range(entry.limit))
        groups = [group + offset for group in rows["group"]]  # no two domains share one
        offset = max(groups) + 1
        rows = rows.remove_columns("group").add_column("group", groups)
        parts.append(rows.add_column("label", [number] * len(rows)))
    rows = concatenate_datasets(parts)
    name = objective.loss if isinstance(objective.loss, str) else objective.loss["name"]
    if LOSSES[name].over != "domains":
        rows = rows.remove_columns("label")
    if objective.perturb is None:
        return rows
    return perturbed_pairs(rows, training_attack(objective.perturb), seed=seed, variants=objective.variants)


def training_attack(perturb: str | Mapping[str, Any]) -> Attack:
    """Return the attack that a configuration names, in the role of training; ``typos`` alone are swaps and drops."""
    from mogrid.attacks import TRAIN_TYPOS, attack_from_config

    given = {"name": perturb} if isinstance(perturb, str) else dict(perturb)
    if given == {"name": "typos"}:
        return TRAIN_TYPOS
    attack: Any = attack_from_config({"role": "train", **given})
    return attack


def _pairs(domain: Domain, negatives: int) -> Dataset:
    if not negatives:
        return training_pairs(domain)
    from mogrid.retrieval import mine_hard_negatives

    return mine_hard_negatives("bm25", domain, negatives=negatives)


def located(base: Path, path: str) -> Path:
    """Return a path of a configuration: ``~`` is home, and what is relative is so to the configuration's folder."""
    return (base / Path(path).expanduser()).resolve()


def evaluation_collection(settings: TrainSettings, base: Path) -> Collection | None:
    """Return what the finished model is judged on, or None."""
    if settings.evaluation is None:
        return None
    if settings.data is None:
        return embedded_collection()
    return read_collection(located(base, settings.data), located(base, settings.evaluation.domains))


def check_roles(settings: TrainSettings, datasets: Mapping[str, Dataset], collection: Collection) -> None:
    """Raise `RoleError` where an objective trains on what the collection keeps for selecting or testing."""
    kept = {d.name: role for role in (Role.SELECT, Role.TEST) for d in collection.ood_with(role)}
    judged = {
        text: role for role in (Role.SELECT, Role.TEST) for text in collection.source.split(role).queries.values()
    }
    for name, objective in settings.objectives.items():
        for entry in objective.datasets:
            own = Path(entry.path).name
            if own in kept:
                raise RoleError(f"objective {name!r} trains on {own!r}, whose role is {kept[own]}")
        found = next((text for text in datasets[name]["query"] if text in judged), None)
        if found is not None:
            raise RoleError(
                f"objective {name!r} trains on {found[:60]!r}, a query of the {judged[found]} split of "
                f"{collection.source.name!r}"
            )
