"""The data sets that recipes name, each read once: for training, for what stands for an objective, for the table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from mogrid.data import Collection, Domain, Role, embedded_collection, read_collection
from mogrid.data.building import OVERLAP
from mogrid.data.collections import USUAL, usual_splits
from mogrid.data.places import below
from mogrid.data.readers import READERS, kind_of, read_domain
from mogrid.errors import DataError, MogridError, RoleError, nearest
from mogrid.training.recipe import Recipe
from mogrid.training.settings import DatasetSettings

__all__ = ["Library", "library_of", "located"]

_DOMAINS = "domains.yaml"


def located(base: Path, path: str) -> Path:
    """Return a path of a recipe: ``~`` is home, and what is relative is so to the recipe's folder."""
    return (base / Path(path).expanduser()).resolve()


def library_of(recipe: Recipe, base: Path) -> Library:
    """Return the library of a recipe's folder of data; recipes of one folder share it."""
    data = None if recipe.data is None else located(base, recipe.data)
    roles = None
    if recipe.evaluation is not None and recipe.evaluation.domains is not None:
        roles = located(base, recipe.evaluation.domains)
    elif data is not None and (data / _DOMAINS).is_file():
        roles = data / _DOMAINS
    return _library(data, roles)


@lru_cache(maxsize=4)
def _library(data: Path | None, roles: Path | None) -> Library:
    return Library(data, roles)


class Library:
    """The data sets below a folder, or the embedded collection.

    Parameters
    ----------
    data : Path or None
        None is the embedded collection.
    roles : Path or None
        The file that gives the sets their roles.
    """

    def __init__(self, data: Path | None, roles: Path | None) -> None:
        self.data, self.roles = data, roles
        self._read: dict[tuple[str, Role], Domain] = {}
        self._collection: Collection | None = None

    @property
    def collection(self) -> Collection | None:
        """What has a role: the embedded collection, or what the file of roles names; None without one."""
        if self._collection is None:
            if self.data is None:
                self._collection = embedded_collection()
            elif self.roles is not None:
                self._collection = read_collection(self.data, self.roles)
        return self._collection

    def training(self, entry: DatasetSettings) -> Domain:
        """Return a set with its training split.

        Raises
        ------
        RoleError
            The file of roles keeps the set for selecting or testing.
        DataError, ConfigError
            There is no such set, or it cannot be read.
        """
        own = self._own(entry.path, entry.kind)
        if own is not None and Role.TRAIN not in own.splits:
            raise RoleError(f"{entry.path!r} has the role {next(iter(own.splits))}, and is not trained on")
        if self.data is None:
            if own is None:
                raise DataError(
                    f"no embedded data set {entry.path!r}{nearest(entry.path, self._known())}; or give `data: FOLDER`"
                )
            return own
        return self._from_folder(entry, Role.TRAIN)

    def drops_overlap(self, entry: DatasetSettings) -> bool:
        """Whether training queries that something is judged by are left out: by recipe or by the file of roles."""
        own = self._own(entry.path, entry.kind)
        return entry.drop_overlap or (own is not None and OVERLAP.format(Role.TRAIN) in own.dropped)

    def judged(self, name: str) -> Domain:
        """Return the domain that ``NAME`` or ``NAME/SPLIT`` names, with a select split.

        Raises
        ------
        RoleError
            It is kept for training or for the test.
        DataError
            There is no such set or split.
        """
        folder, _, split = name.rpartition("/") if "/" in name else (name, "", "")
        return self._judged(name, folder, split)

    def _judged(self, name: str, folder: str, split: str) -> Domain:
        own = self._own(folder)
        if own is not None:
            role = next((role for role, made in own.splits.items() if split and made.name == split), Role.SELECT)
            if role not in own.splits:
                role = next(iter(own.splits))
            if role is not Role.SELECT:
                raise RoleError(f"judged on {name!r}, whose role is {role}: only select-role data may judge")
            select = own.splits[role].name
            if split and select and split != select:
                raise DataError(f"judged on {name!r}: its split of role select is {select!r}")
            return own
        if split in ("test", "train"):
            raise RoleError(
                f"judged on {name!r}: a {split} split judges no objective; name another split, or give the set the "
                "role select in the file of domains"
            )
        if self.data is None:
            raise DataError(f"judged on {name!r}: no such embedded data set{nearest(folder, self._known())}")
        return self._from_folder(DatasetSettings.model_construct(path=folder, split=split), Role.SELECT)

    def select_splits(self, entry: DatasetSettings) -> Domain | None:
        """Return a training set's own domain with its select split, where it has one."""
        try:
            found = self._judged(entry.path, entry.path, "")
        except MogridError:
            return None
        return found if Role.SELECT in found.splits else None

    def fingerprint(self, domains: Iterable[Domain]) -> str:
        """Return one hash of some domains and, where there is one, of the whole collection."""
        parts = [domain.fingerprint for domain in domains]
        if self.collection is not None:
            parts.append(self.collection.fingerprint)
        return hashlib.sha256("".join(dict.fromkeys(parts)).encode()).hexdigest()

    def _known(self) -> dict[str, Domain]:
        found = self.collection
        return {} if found is None else {d.name: d for d in found.domains}

    def _own(self, path: str, kind: str | None = None) -> Domain | None:
        """Return what the file of roles names of a set, where it does.

        What lies below the folder of data is known by where that is: folders elsewhere may be called the same.
        """
        known, place = self._known(), Path(path)
        if self.data is not None and (kind is None or READERS[kind].local):
            with suppress(MogridError):  # not there: a name of a domain, or an id
                place = below(self.data, path).resolve()
        own = next((domain for domain in known.values() if domain.place == place), None)
        return own if own is not None or place.is_absolute() else known.get(path)

    def _from_folder(self, entry: DatasetSettings, role: Role) -> Domain:
        key = entry.model_dump_json(exclude={"limit"}), role
        if key not in self._read:
            assert self.data is not None
            kind, split = entry.kind, entry.split
            if kind is None or READERS[kind].local:
                path = below(self.data, entry.path)
                kind = kind or kind_of(path)
                there = [split] if path.is_file() else READERS[kind].splits(path)
                split = split or usual_splits(there).get(Role.SELECT, "")
                if not split or split not in there:
                    wanted = f"split {split!r}" if split else f"split to select on ({', '.join(USUAL[Role.SELECT])})"
                    raise DataError(f"{path}: no {wanted}; it has {', '.join(there) or 'none'}")
            self._read[key] = read_domain(entry.path, {role: split}, kind=kind, root=self.data, columns=entry.columns)
        return self._read[key]
