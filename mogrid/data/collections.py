"""Which folders are what: a YAML file that gives every domain its role."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from mogrid.config import Strict, YamlFile, read_yaml
from mogrid.data.domain import Collection, Domain, Role
from mogrid.data.readers import READERS, Reader
from mogrid.errors import ConfigError, DataError, MogridError, RoleError, nearest

__all__ = ["read_collection"]

# The names that published sets use for a role, tried in this order.
_USUAL = {Role.TRAIN: ("train",), Role.SELECT: ("dev", "select", "validation", "test"), Role.TEST: ("test",)}


class _Named(Strict):
    folder: str
    kind: str = "beir"

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in READERS:
            raise ValueError(f"unknown kind{nearest(kind, READERS)}")
        return kind


class _Source(_Named):
    train: str = "train"
    select: str = "dev"
    test: str = "test"


class _Other(_Named):
    split: str | None = None


class _Others(Strict):
    train: list[_Other] = Field(min_length=1)
    select: list[_Other] = Field(min_length=1)
    test: list[_Other] = Field(min_length=1)


class _Domains(Strict):
    source: _Source
    ood: _Others


def read_collection(folder: Path | str, domains: Path | str | None = None) -> Collection:
    """Read the data sets below a folder that a YAML file names, each in its role.

    Parameters
    ----------
    folder : Path
        Holds one folder per domain.
    domains : Path, optional
        ``domains.yaml`` in the folder by default::

            source: {folder: squad-wiki, train: train, select: dev, test: test}
            ood:
              train: [{folder: tldr}, {folder: medquad}]
              select: [{folder: debian-desc, split: dev}]
              test: [{folder: pubmedqa}, {folder: mine, kind: pairs}]

        The split of an OOD domain is the usual one of its role (``train``, ``dev``, ``test``) when left out. Kinds
        are those of `mogrid.data.READERS`: ``beir`` (the default), ``dpr``, ``msmarco``, ``pairs``, ``huggingface``,
        and ``ir_datasets``, whose folder is an id and whose splits are the rest of it.

    Raises
    ------
    ConfigError
        The YAML file is missing or wrong; names file and line.
    RoleError
        A folder stands in two roles.
    DataError
        A folder cannot be read.
    """
    folder = Path(folder)
    file = read_yaml(Path(domains) if domains is not None else folder / "domains.yaml")
    settings = file.parse(_Domains)
    used: dict[Path, str] = {}
    source = settings.source
    splits = {Role.TRAIN: source.train, Role.SELECT: source.select, Role.TEST: source.test}
    first = _read(folder, source, splits, file, ("source",), used, "the source")
    others: list[Domain] = []
    for role in Role:
        for i, entry in enumerate(getattr(settings.ood, role)):
            reader, path = READERS[entry.kind], folder / entry.folder
            split = entry.split if entry.split is not None else _usual_split(reader, path, role)
            others.append(_read(folder, entry, {role: split}, file, ("ood", str(role), i), used, f"OOD {role}"))
    try:
        return Collection(source=first, ood=tuple(others))
    except MogridError as error:
        raise type(error)(f"{file.path}: {error}") from error


def _read(
    folder: Path,
    entry: _Named,
    splits: Mapping[Role, str],
    file: YamlFile,
    location: tuple[str | int, ...],
    used: dict[Path, str],
    what: str,
) -> Domain:
    reader = READERS[entry.kind]
    if reader.local:
        return reader.read(_inside(folder, entry.folder, file, (*location, "folder"), used, what), splits)
    return reader.read(entry.folder, splits)


def _usual_split(reader: Reader, path: Path, role: Role) -> str:
    there = reader.splits(path) if reader.local else []
    return next((name for name in _USUAL[role] if name in there), _USUAL[role][0])


def _inside(
    folder: Path, name: str, file: YamlFile, location: tuple[str | int, ...], used: dict[Path, str], what: str
) -> Path:
    """Return the path of a named folder: below the data folder, and named only once."""
    place = file.place(location)
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a null byte, a loop of links
        raise ConfigError(f"{place}: {name!r} names no folder ({error})") from error
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise ConfigError(f"{place}: {name!r} lies outside {folder}")
    if path in used:
        raise RoleError(f"{place}: {name!r} is named as {used[path]} and as {what}; a domain has one role")
    if not path.is_dir():
        there = [other.name for other in folder.iterdir() if other.is_dir()] if folder.is_dir() else []
        raise DataError(f"{place}: no folder {name!r} in {folder}{nearest(name, there)}")
    used[path] = what
    return path
