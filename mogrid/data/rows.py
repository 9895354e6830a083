"""Read rows of (query, document) text: JSON lines, Hugging Face datasets, ir_datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Domain, Role, Split
from mogrid.data.lines import checked_text, integer, json_lines, located, names, text_of
from mogrid.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "domain_from_dataset",
    "pairs_splits",
    "read_ir_datasets",
    "read_pairs",
    "read_saved_dataset",
    "saved_splits",
]

_COLUMNS = ("query", "document")


def read_pairs(folder: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain from ``SPLIT.jsonl`` files whose lines are ``{"query": ..., "document": ...}``.

    Equal texts are one query or document. An optional integer ``relevance`` is 1 when left out; all documents of all
    splits are the corpus.

    Raises
    ------
    DataError
        Naming file and line.
    RoleError
        A query stands in two of the splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    builder = DomainBuilder(name or folder.name, str(folder))
    for role, split in splits.items():
        path = located(folder, "*.jsonl", split)
        for line, record in json_lines(path):
            place = f"{path}:{line}"
            query, document = (text_of(record, key, place) for key in _COLUMNS)
            relevance = integer(record.get("relevance", 1), place)
            builder.judge(role, query, builder.document(document, place), relevance, place)
    return builder.build(splits)


def pairs_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return names(folder, "*.jsonl")


def domain_from_dataset(
    splits: Mapping[Role, Dataset], name: str, *, query: str = "query", document: str = "document"
) -> Domain:
    """Make a domain of Hugging Face datasets of pairs, one a role.

    Parameters
    ----------
    splits : mapping of Role to Dataset
    name : str
    query, document : str
        The columns that hold them. Equal texts are one query or document.

    Raises
    ------
    DataError
        A column is missing (the nearest is named), a value is no text, or a split has no pair; names the row.
    RoleError
        A query stands in two of the splits.
    """
    builder = DomainBuilder(name, name)
    for role, rows in splits.items():
        for column in (query, document):
            if column not in rows.column_names:
                raise DataError(f"{name}, {role} split: no column {column!r}{nearest(column, rows.column_names)}")
        for number, (q, d) in enumerate(zip(rows[query], rows[document], strict=True)):
            place = f"{name}, {role} split, row {number}"
            for column, value in ((query, q), (document, d)):
                if not isinstance(value, str):
                    raise DataError(f"{place}: {column!r} must be a string, got {type(value).__name__}")
                checked_text(value, repr(column), place)
            builder.judge(role, q, builder.document(d, place), 1, place)
    return builder.build({role: str(role) for role in splits})


def read_saved_dataset(folder: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain from a Hugging Face `DatasetDict` of pairs that ``save_to_disk`` wrote.

    Raises
    ------
    DataError
        The folder is none, a split or a column is missing; or as `domain_from_dataset`.
    RoleError
        A query stands in two of the splits.
    """
    from datasets import DatasetDict, load_from_disk

    folder = Path(folder)
    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # pyarrow and json raise what they please on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder}: not a saved dataset ({reason})") from error
    there = found if isinstance(found, DatasetDict) else {"train": found}
    chosen: dict[Role, Dataset] = {}
    for role, split in splits.items():
        if split not in there:
            raise DataError(f"{folder}: no split {split!r}{nearest(split, there)}")
        chosen[role] = there[split]
    return domain_from_dataset(chosen, name or folder.name)


def saved_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def read_ir_datasets(identifier: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain through ir_datasets: split ``dev/small`` of ``msmarco-passage`` is ``msmarco-passage/dev/small``.

    ir_datasets downloads what it does not have; on an offline machine its cache must be there. Judgements of queries
    and documents that the data set does not hold, as TREC's pools sometimes have, are left out.

    Raises
    ------
    ConfigError
        ir_datasets is not installed, or has no such data set.
    DataError
        A split has no relevant pair, lacks documents, queries or judgements, or cannot be downloaded.
    """
    try:
        import ir_datasets
    except ModuleNotFoundError as error:
        raise ConfigError(f"{identifier}: needs ir_datasets: pip install 'mogrid[ir-datasets]'") from error
    corpus: dict[str, str] = {}
    made: dict[Role, Split] = {}
    for role, split in splits.items():
        key = f"{identifier}/{split}" if split else str(identifier)
        qrels: dict[str, dict[str, int]] = {}
        try:
            dataset = ir_datasets.load(key)
            for document in dataset.docs_iter() if not corpus else ():
                corpus[document.doc_id] = _body(document)
            queries = {query.query_id: query.default_text() for query in dataset.queries_iter()}
            for judged in dataset.qrels_iter():
                if judged.query_id in queries and judged.doc_id in corpus:
                    qrels.setdefault(judged.query_id, {})[judged.doc_id] = int(judged.relevance)
        except KeyError as error:
            raise ConfigError(f"{key}: ir_datasets has no such data set") from error
        except (AttributeError, OSError, RuntimeError) as error:
            raise DataError(f"{key}: documents, queries or judgements cannot be had ({error})") from error
        if not any(r > 0 for of_query in qrels.values() for r in of_query.values()):
            raise DataError(f"{key}: holds no relevant (query, document) pair")
        made[role] = Split(role, {query: queries[query] for query in qrels}, qrels)
    return Domain(name or str(identifier).replace("/", "-"), corpus, made)


def _body(document: Any) -> str:
    title = getattr(document, "title", "") or ""
    text: str = getattr(document, "text", None) or document.default_text()
    return f"{title} {text}".strip() if not text.startswith(title) else text
