"""Readers by name: what ``kind:`` in a file of domains or in a recipe says, and what is found where it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mogrid.data.beir import beir_splits, fill_beir
from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Domain, Role
from mogrid.data.msmarco import fill_dl_typo, fill_msmarco, msmarco_splits
from mogrid.data.places import below, existing
from mogrid.data.records import FILES, RECORDS, Columns, fill_records, record_splits
from mogrid.data.rows import fill_ir_datasets, fill_saved, saved_splits
from mogrid.errors import ConfigError, DataError, nearest

__all__ = ["READERS", "Reader", "kind_of", "read_beir", "read_domain", "read_dpr", "read_msmarco"]


@dataclass(frozen=True)
class Reader:
    """How one kind of data set is read.

    Attributes
    ----------
    kind : str
    fill : callable of (builder, path, {role: split}, columns)
    splits : callable of a folder
        Names of the splits there.
    local : bool
        Whether its name is that of a folder or file.
    columns : bool
        Whether it has columns that can be called otherwise; of these, one file may be a set, too.
    """

    kind: str
    fill: Callable[[DomainBuilder, Path, Mapping[Role, str], Columns | None], None]
    splits: Callable[[Path], list[str]]
    local: bool = True
    columns: bool = False

    def read(
        self,
        path: Path | str,
        splits: Mapping[Role, str],
        *,
        name: str | None = None,
        columns: Columns | None = None,
        drop_overlap: bool = False,
    ) -> Domain:
        """Read one data set; see `read_domain`."""
        path = existing(path) if self.local else Path(path)
        if columns is not None and not self.columns:
            raise ConfigError(f"{path}: a set of kind {self.kind!r} has no columns that could be named")
        if self.local and not self.columns and not path.is_dir():
            raise DataError(f"{path}: a set of kind {self.kind!r} is a folder")
        if name is None:
            whole = path.name or path.resolve().name
            name = str(path).replace("/", "-") if not self.local else whole.split(".")[0] if path.is_file() else whole
        builder = DomainBuilder(name, str(path))
        self.fill(builder, path, splits, columns)
        domain = builder.build(splits, drop_overlap=drop_overlap)
        return replace(domain, place=path.resolve() if self.local else path)


def _listed(fill: Callable[[DomainBuilder, Path, Mapping[Role, str]], None]) -> Callable[..., None]:
    return lambda builder, path, splits, columns: fill(builder, path, splits)


READERS: dict[str, Reader] = {
    reader.kind: reader
    for reader in (
        Reader("beir", _listed(fill_beir), beir_splits),
        Reader("msmarco", _listed(fill_msmarco), msmarco_splits),
        Reader("dl_typo", _listed(fill_dl_typo), lambda folder: ["test"]),
        Reader("huggingface", fill_saved, saved_splits, columns=True),
        Reader("ir_datasets", _listed(fill_ir_datasets), lambda folder: [], local=False),
        *(
            Reader(kind, partial(fill_records, kind=kind), partial(record_splits, kind=kind), columns=True)
            for kind in (*RECORDS, *FILES)
        ),
    )
}

# What only a set of one kind has. DL-typo's folder has all that is MS MARCO's, too.
_MARKS = {
    "beir": ("corpus.jsonl", "qrels"),
    "dl_typo": ("query.typo.tsv",),
    "msmarco": ("collection.tsv",),
    "huggingface": ("dataset_dict.json", "state.json"),
}


def kind_of(path: Path) -> str:
    """Return the kind of a data set by its files.

    Raises
    ------
    DataError
        It is of none, or of two.
    """
    if path.is_file():
        return "records"
    found = [
        kind
        for kind, marks in _MARKS.items()
        if any((path / mark).exists() or (path / f"{mark}.gz").exists() for mark in marks)
    ]
    if found == ["dl_typo", "msmarco"]:
        return "dl_typo"
    if len(found) > 1:
        raise DataError(f"{path}: is it {' or '.join(found)}? Say which with kind")
    if not found and not record_splits(path):
        raise DataError(f"{path}: holds no data set of a kind that is known ({', '.join(READERS)})")
    return found[0] if found else "records"


def read_domain(
    path: Path | str,
    splits: Mapping[Role, str],
    *,
    kind: str | None = None,
    root: Path | None = None,
    name: str | None = None,
    columns: Columns | None = None,
    drop_overlap: bool = False,
) -> Domain:
    """Read one data set.

    Parameters
    ----------
    path : Path or str
        A folder; one file, of the kinds that have records; an id, of ir_datasets.
    splits : mapping of Role to the name of a split
    kind : str, optional
        One of `READERS`; by default the one that the files show.
    root : Path, optional
        A folder that `path` is below: then it is a name from a configuration, and ``..`` is refused.
    name : str, optional
        The folder's or the file's name by default.
    columns : Columns, optional
        Of records, what their columns are called.
    drop_overlap : bool
        Whether a query that stands in two splits, by id or by text, stays in the one that is judged last alone.

    Returns
    -------
    Domain
        What cannot be used is left out, and counted in `Domain.dropped`.

    Raises
    ------
    ConfigError
        The kind is unknown, has no columns, or the path leaves its root.
    DataError
        A file is missing, a line malformed, an id stands for two texts, a pair has two judgements, or a split no
        relevant pair; names file and line.
    RoleError
        A query stands in two of the splits.
    """
    if kind is not None and kind not in READERS:
        raise ConfigError(f"unknown kind {kind!r}{nearest(kind, READERS)}")
    if kind is None or READERS[kind].local:
        path = existing(path) if root is None else below(root, str(path))
        kind = kind or kind_of(path)
    return READERS[kind].read(path, splits, name=name, columns=columns, drop_overlap=drop_overlap)


read_beir, read_dpr, read_msmarco = READERS["beir"].read, READERS["dpr"].read, READERS["msmarco"].read
