"""Read Hugging Face datasets, in memory or saved, and the sets of ir_datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Domain, Role
from mogrid.data.records import Columns, add_records, arrow_records
from mogrid.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["domain_from_dataset", "fill_ir_datasets", "fill_saved", "saved_splits"]


def domain_from_dataset(
    splits: Mapping[Role, Dataset], name: str, *, drop_overlap: bool = False, **columns: str | list[str]
) -> Domain:
    """Make a domain of Hugging Face datasets of pairs, triplets or other records, one a role.

    Parameters
    ----------
    splits : mapping of Role to Dataset
    name : str
    drop_overlap : bool
        See `read_domain`.
    **columns : str or list of str
        What holds the ``query``, the ``document`` and the rest of `Columns`; the usual names by default. Equal texts
        are one query or document.

    Raises
    ------
    ConfigError
        There is no such kind of column.
    DataError
        A column is missing (the nearest is named), a value is no text, or a split has no pair; names the row.
    RoleError
        A query stands in two of the splits.
    """
    for column in columns:
        if column not in Columns.model_fields:
            raise ConfigError(f"{name}: no kind of column is called {column!r}{nearest(column, Columns.model_fields)}")
    builder = DomainBuilder(name, name)
    for role, rows in splits.items():
        _add(builder, role, rows, f"{name}, {role} split", Columns.model_validate(columns))
    return builder.build({role: str(role) for role in splits}, drop_overlap=drop_overlap)


def _add(builder: DomainBuilder, role: Role, rows: Dataset, place: str, columns: Columns | None) -> None:
    tables = rows.with_format("arrow").iter(batch_size=1000)
    add_records(builder, role, arrow_records(tables, f"{place}, row"), columns)


def fill_saved(builder: DomainBuilder, folder: Path, splits: Mapping[Role, str], columns: Columns | None) -> None:
    """Add a `DatasetDict`, or one `Dataset`, that ``save_to_disk`` wrote."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # pyarrow and json raise what they please on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder}: not a saved dataset ({reason})") from error
    there = found if isinstance(found, DatasetDict) else {"train": found}
    for role, split in splits.items():
        if split not in there:
            raise DataError(f"{folder}: no split {split!r}{nearest(split, there)}")
        _add(builder, role, there[split], f"{folder}, {split}", columns)


def saved_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) or ["train"]


def fill_ir_datasets(builder: DomainBuilder, identifier: Path, splits: Mapping[Role, str]) -> None:
    """Add sets of ir_datasets: split ``dev/small`` of ``msmarco-passage`` is ``msmarco-passage/dev/small``.

    ir_datasets downloads what it does not have; on an offline machine its cache must be there.

    Raises
    ------
    ConfigError
        ir_datasets is not installed, or has no such data set.
    DataError
        Documents, queries or judgements are missing, or cannot be downloaded.
    """
    try:
        import ir_datasets
    except ModuleNotFoundError as error:
        raise ConfigError(f"{identifier}: needs ir_datasets: pip install 'mogrid[ir-datasets]'") from error
    for role, split in splits.items():
        key = f"{identifier}/{split}" if split else str(identifier)
        try:
            dataset = ir_datasets.load(key)
            for document in dataset.docs_iter() if not builder.corpus else ():
                builder.corpus[document.doc_id] = _body(document)
            queries = {query.query_id: query.default_text() for query in dataset.queries_iter()}
            rows = ((key, row.query_id, row.doc_id, int(row.relevance)) for row in dataset.qrels_iter())
            builder.judged(role, queries, rows)
        except KeyError as error:
            raise ConfigError(f"{key}: ir_datasets has no such data set") from error
        except (AttributeError, OSError, RuntimeError) as error:
            raise DataError(f"{key}: documents, queries or judgements cannot be had ({error})") from error


def _body(document: Any) -> str:
    title = getattr(document, "title", "") or ""
    text: str = getattr(document, "text", None) or document.default_text()
    return f"{title} {text}".strip() if not text.startswith(title) else text
