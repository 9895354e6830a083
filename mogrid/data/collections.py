"""Which folders are what: a YAML file that gives every domain its role."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mogrid.config import Strict, YamlFile, read_yaml
from mogrid.data.beir import read_beir
from mogrid.data.domain import Collection, Domain, Role
from mogrid.errors import ConfigError, MogridError, RoleError

__all__ = ["read_collection"]

# The names that published sets use for a role, tried in this order.
_USUAL = {Role.TRAIN: ("train",), Role.SELECT: ("dev", "select", "validation", "test"), Role.TEST: ("test",)}


class _Source(Strict):
    folder: str
    train: str = "train"
    select: str = "dev"
    test: str = "test"


class _Other(Strict):
    folder: str
    split: str | None = None


class _Others(Strict):
    train: list[_Other] = Field(min_length=1)
    select: list[_Other] = Field(min_length=1)
    test: list[_Other] = Field(min_length=1)


class _Domains(Strict):
    source: _Source
    ood: _Others


def read_collection(folder: Path | str, domains: Path | str | None = None) -> Collection:
    """Read the BEIR folders below a folder that a YAML file names, each in its role.

    Parameters
    ----------
    folder : Path
        Holds one BEIR folder per domain.
    domains : Path, optional
        ``domains.yaml`` in the folder by default::

            source: {folder: squad-wiki, train: train, select: dev, test: test}
            ood:
              train: [{folder: tldr}, {folder: medquad}]
              select: [{folder: debian-desc, split: dev}]
              test: [{folder: pubmedqa}, {folder: cranfield}]

        The split of an OOD domain is the usual one of its role (``train``, ``dev``, ``test``) when left out.

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
    first = read_beir(_inside(folder, source.folder, file, ("source", "folder"), used, "the source"), splits)
    others: list[Domain] = []
    for role in Role:
        for i, entry in enumerate(getattr(settings.ood, role)):
            path = _inside(folder, entry.folder, file, ("ood", str(role), i, "folder"), used, f"OOD {role}")
            others.append(read_beir(path, {role: entry.split or _usual_split(path, role)}))
    try:
        return Collection(source=first, ood=tuple(others))
    except MogridError as error:
        raise type(error)(f"{file.path}: {error}") from error


def _usual_split(path: Path, role: Role) -> str:
    for name in _USUAL[role]:
        if (path / "qrels" / f"{name}.tsv").is_file():
            return name
    return _USUAL[role][0]  # read_beir says what is missing and what there is


def _inside(
    folder: Path, name: str, file: YamlFile, location: tuple[str | int, ...], used: dict[Path, str], what: str
) -> Path:
    """Return the path of a named folder: below the data folder, and named only once."""
    path = (folder / name).resolve()
    place = file.place(location)
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise ConfigError(f"{place}: {name!r} lies outside {folder}")
    if path in used:
        raise RoleError(f"{place}: {name!r} is named as {used[path]} and as {what}; a domain has one role")
    used[path] = what
    return path
