"""Which folders are what: a YAML file that gives every domain its role, or one data set alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, field_validator

from mogrid.config import Strict, YamlFile, read_yaml
from mogrid.data.domain import NO_SOURCE, Collection, Domain, Role
from mogrid.data.places import below, existing
from mogrid.data.readers import READERS, kind_of, read_domain
from mogrid.data.records import Columns
from mogrid.errors import ConfigError, DataError, MogridError, RoleError, nearest

__all__ = ["USUAL", "read_collection", "read_single", "usual_splits"]

USUAL = {
    Role.TRAIN: ("train",),
    Role.SELECT: ("dev", "select", "validation", "valid", "val"),
    Role.TEST: ("test",),
}
"""The names that published sets use for a role, tried in this order."""


class _Named(Strict):
    folder: str
    kind: str | None = None
    columns: Columns | None = None

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in READERS:
            raise ValueError(f"unknown kind{nearest(kind, READERS)}")
        return kind


class _Source(_Named):
    train: str | None = None
    select: str | None = None
    test: str | None = None
    drop_overlap: bool = False


class _Other(_Named):
    split: str | None = None


class _Others(Strict):
    train: list[_Other] = Field(default_factory=list)
    select: list[_Other] = Field(default_factory=list)
    test: list[_Other] = Field(default_factory=list)


class _Domains(Strict):
    source: _Source | None = None
    ood: _Others = _Others()


def read_collection(folder: Path | str, domains: Path | str | None = None, *, need: Iterable[Role] = ()) -> Collection:
    """Read the data sets below a folder that a YAML file names, each in its role.

    Parameters
    ----------
    folder : Path
        Holds one folder or file per domain. Without a file of domains, it may be one data set itself (`read_single`).
    domains : Path, optional
        ``domains.yaml`` in the folder by default::

            source: {folder: squad-wiki, train: train, select: dev, test: test}
            ood:
              train: [{folder: tldr}, {folder: medquad}]
              select: [{folder: debian-desc, split: dev}]
              test: [{folder: pubmedqa}, {folder: faq.csv, columns: {query: frage, document: antwort}}]

        All of it may be left out but one domain. The source has the splits that are named, and those of the usual
        names (``train``, ``dev``, ``test``) that are there; that of another domain is the usual one of its role when
        left out. ``kind`` is one of `mogrid.data.READERS`, and found by the files when left out; ``ir_datasets`` has
        to be named: its folder is an id, and its splits are the rest of it. ``drop_overlap: true`` of the source keeps
        a query that stands in two splits in the one that is judged last.
    need : iterable of Role
        What the caller cannot do without.

    Raises
    ------
    ConfigError
        The YAML file is missing or wrong, or has nothing in a role that is needed; names file and line.
    RoleError
        A folder stands in two roles, a query in two splits.
    DataError
        A folder is missing or cannot be read.
    """
    folder = existing(folder)
    if domains is None and not (folder / "domains.yaml").is_file():
        return read_single(folder, need=need)
    file = read_yaml(existing(domains) if domains is not None else folder / "domains.yaml")
    settings = file.parse(_Domains)
    reading = _Reading(folder, file)
    source = NO_SOURCE if settings.source is None else reading.source(settings.source)
    others = [reading.other(role, row, entry) for role in Role for row, entry in enumerate(getattr(settings.ood, role))]
    try:
        collection = Collection(source, tuple(others))
    except RoleError as error:
        raise RoleError(f"{file.path}: {error}") from error
    return _with(collection, need, str(file.path))


def read_single(path: Path | str, *, need: Iterable[Role] = ()) -> Collection:
    """Read one data set, without a file of domains: a collection of a source alone.

    Its splits have the roles of their usual names (``train``; ``dev`` and the like; ``test``). A set with one split of
    another name, or of one file, is there to be judged: its role is ``test``. Without a select split nothing can be
    calibrated or tuned on it; `Collection.with_role` says what is there.

    Parameters
    ----------
    path : Path
        A folder or file of any kind in `mogrid.data.READERS` that its files show.
    need : iterable of Role
        What the caller cannot do without.

    Raises
    ------
    ConfigError
        It has no split in a role that is needed, or it is not clear which role a split has.
    RoleError, DataError
        As `read_domain`.
    """
    path = existing(path)
    try:
        kind = kind_of(path)
    except DataError as error:
        inside = ", ".join(_sets(path)[:5])
        hint = f"; it holds sets in folders of their own ({inside})" if inside else ""
        raise DataError(f"{error}, and no domains.yaml that says which folder is what{hint}") from error
    there = [path.name.split(".")[0]] if path.is_file() else READERS[kind].splits(path)
    splits = usual_splits(there)
    if not splits and len(there) == 1:
        splits = {Role.TEST: there[0]}
    if not splits:
        raise ConfigError(
            f"{path}: which of its splits is what ({', '.join(there) or 'none'})? Give a domains.yaml such as "
            f"source: {{folder: {path.name}, test: SPLIT}}"
        )
    try:
        domain = read_domain(path, splits, kind=kind)
    except RoleError as error:
        raise RoleError(
            f"{error}, as in a domains.yaml: source: {{folder: {path.name}, drop_overlap: true}}"
        ) from error
    return _with(Collection(domain), need, str(path))


def _sets(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(DataError, OSError):
            if path.is_dir() and kind_of(path):
                found.append(path.name)
    return found


def usual_splits(there: Iterable[str]) -> dict[Role, str]:
    """Return the splits that have a usual name of a role."""
    known = set(there)
    found = {role: next((name for name in usual if name in known), None) for role, usual in USUAL.items()}
    return {role: name for role, name in found.items() if name is not None}


def _with(collection: Collection, need: Iterable[Role], where: str) -> Collection:
    for role in need:
        if not collection.with_role(role):
            there = sorted({str(role) for domain in collection.domains for role in domain.splits})
            raise ConfigError(f"{where}: no data of role {role}, which is needed (there is: {', '.join(there)})")
    return collection


class _Reading:
    """Data sets of one file of domains; each is named once."""

    def __init__(self, folder: Path, file: YamlFile) -> None:
        self.folder, self.file = folder, file
        self.used: dict[Path, str] = {}

    def source(self, entry: _Source) -> Domain:
        """Read the source."""
        place = self.file.place(("source", "folder"))
        there = self._splits(entry, place, "the source")
        named = {role: name for role in Role if (name := getattr(entry, role)) is not None}
        splits = named if there is None else {**usual_splits(there), **named}
        if not splits:
            raise ConfigError(
                f"{place}: which splits does {entry.folder!r} have ({', '.join(there or []) or 'unknown'})?"
            )
        return self._read(entry, {role: splits[role] for role in Role if role in splits}, place, entry.drop_overlap)

    def other(self, role: Role, row: int, entry: _Other) -> Domain:
        """Read a domain that is not the source."""
        place = self.file.place(("ood", str(role), row, "folder"))
        there = self._splits(entry, place, f"OOD {role}") or []
        split = entry.split or usual_splits(there).get(role)
        if split is None and role is Role.SELECT and "test" in there:
            split = "test"
        if split is None and len(there) == 1 and not usual_splits(there):
            split = there[0]
        return self._read(entry, {role: split or USUAL[role][0]}, place)

    def _splits(self, entry: _Named, place: str, what: str) -> list[str] | None:
        """Return the splits that a set has, where that can be known; note that the set is used."""
        if entry.kind is not None and not READERS[entry.kind].local:
            return None
        try:
            path = below(self.folder, entry.folder)
            kind = entry.kind or kind_of(path)
        except MogridError as error:
            raise type(error)(f"{place}: {error}") from error
        if (known := path.resolve()) in self.used:
            raise RoleError(
                f"{place}: {entry.folder!r} is named as {self.used[known]} and as {what}; a domain has one role"
            )
        self.used[known] = what
        return [path.name.split(".")[0]] if path.is_file() else READERS[kind].splits(path)

    def _read(self, entry: _Named, splits: Mapping[Role, str], place: str, drop_overlap: bool = False) -> Domain:
        given = {"kind": entry.kind, "columns": entry.columns, "drop_overlap": drop_overlap}
        try:
            return read_domain(entry.folder, splits, root=self.folder, **given)  # type: ignore[arg-type]
        except (ConfigError, RoleError) as error:
            raise type(error)(f"{place}: {error}") from error
