"""The data sets that recipes name, each read once: for training, for what stands for an objective, for the table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from mogrid.data import Collection, Domain, Role, embedded_collection, read_collection
from mogrid.data.readers import READERS
from mogrid.errors import ConfigError, DataError, MogridError, RoleError, nearest
from mogrid.training.recipe import Recipe
from mogrid.training.settings import DatasetSettings

__all__ = ["Library", "library_of", "located"]

_SELECT = ("dev", "select", "validation")  # what published sets call such a split, in the order of trial
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
        self._read: dict[tuple[str, str, str, Role], Domain] = {}
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
        known = self._known()
        own = known.get(Path(entry.path).name)
        if own is not None and Role.TRAIN not in own.splits:
            raise RoleError(f"{entry.path!r} has the role {next(iter(own.splits))}, and is not trained on")
        if self.data is None:
            if own is None:
                raise DataError(
                    f"no embedded data set {entry.path!r}{nearest(entry.path, known)}; or give `data: FOLDER`"
                )
            return own
        return self._from_folder(entry.path, entry.kind, entry.split, Role.TRAIN)

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
        known = self._known()
        own = known.get(folder)
        if own is not None and own is not (self.collection.source if self.collection else None):
            if Role.SELECT not in own.splits:
                raise RoleError(
                    f"judged on {name!r}, whose role is {next(iter(own.splits))}: only select-role data may judge"
                )
            return own
        if split in ("test", "train"):
            raise RoleError(
                f"judged on {name!r}: a {split} split judges no objective; name another split, or give the set the "
                "role select in the file of domains"
            )
        if own is not None:
            return own
        if self.data is None:
            raise DataError(f"judged on {name!r}: no such embedded data set{nearest(folder, known)}")
        return self._from_folder(folder, "beir", split, Role.SELECT)

    def select_splits(self, entry: DatasetSettings) -> Domain | None:
        """Return a training set's own domain with its select split, where it has one."""
        name = Path(entry.path).name
        try:
            found = self.judged(name)
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
        return {} if found is None else {d.name: d for d in (found.source, *found.ood)}

    def _from_folder(self, name: str, kind: str, split: str, role: Role) -> Domain:
        key = name, kind, split, role
        if key not in self._read:
            reader = READERS[kind]
            if not reader.local:
                self._read[key] = reader.read(name, {role: split})
                return self._read[key]
            folder = self._folder(name)
            there = reader.splits(folder)
            if not split:
                split = next((usual for usual in _SELECT if usual in there), "")
            if not split or split not in there:
                wanted = f"split {split!r}" if split else f"split to select on ({', '.join(_SELECT)})"
                raise DataError(f"{folder}: no {wanted}; it has {', '.join(there) or 'none'}")
            self._read[key] = reader.read(folder, {role: split})
        return self._read[key]

    def _folder(self, name: str) -> Path:
        assert self.data is not None
        try:
            folder = (self.data / name).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a null byte, a name too long, a loop of links
            raise ConfigError(f"{name!r} names no folder ({error})") from error
        if ".." in Path(name).parts or Path(name).is_absolute() or folder == self.data:
            raise ConfigError(f"{name!r} leaves the data folder {self.data}")  # the user's own links may
        if not self.data.is_dir():
            raise DataError(f"{self.data}: no such folder")
        if not folder.exists():
            there = sorted(path.name for path in self.data.iterdir() if path.is_dir())
            raise DataError(f"{folder}: no such folder{nearest(name, there)}")
        return folder
