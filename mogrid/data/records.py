"""Read records of (query, documents, negatives): the training files of FlagEmbedding, Tevatron, DPR and others."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from mogrid.config import Strict
from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Role
from mogrid.data.lines import checked_text, identifier_of, integer, json_lines, open_bytes, parsed, text_of
from mogrid.data.places import located, names
from mogrid.errors import DataError, nearest

__all__ = ["FILES", "RECORDS", "Columns", "add_records", "arrow_records", "fill_records", "record_splits"]

RECORDS = {
    "records": None,
    "pairs": "document",
    "triplets": "positive",
    "flagembedding": "pos",
    "tevatron": "positive_passages",
    "dpr": "positive_ctxs",
}
"""Kind → the column of its documents; of ``records``, whichever is there."""

FILES = {
    "json": (".json", ".jsonl"),
    "jsonl": (".jsonl", ".json"),
    "csv": (".csv", ".tsv"),
    "tsv": (".tsv", ".csv"),
    "parquet": (".parquet",),
}
"""Kind → how its files end."""

_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_QUERY = ("query", "question", "anchor")
_DOCUMENT = ("document", "passage", "answer", "positive", "positives", "pos", "positive_passages", "positive_ctxs")
_NEGATIVE = re.compile(r"(hard[_-])?neg(ative)?s?([_-]?\d+)?|negative_passages|(hard_)?negative_ctxs", re.IGNORECASE)
_GRADES = ("label", "score")  # of which 0 is a negative, and what the others stand for is not known
_DOCUMENT_ID = ("docid", "doc_id", "passage_id", "psg_id")
_SHARD = re.compile(r"-\d+-of-(\d+)$")


class Columns(Strict):
    """What the columns of a file are called; the usual names where left out."""

    query: str | None = Field(default=None, description="query, question or anchor")
    document: str | list[str] | None = Field(default=None, description="document, positive, answer, pos ...")
    negative: str | list[str] | None = Field(default=None, description="negative, negative_1 ..., neg ...")
    title: str | None = Field(default=None, description="put in front of the document")
    query_id: str | None = Field(default=None, description="ids; equal texts are one query when left out")
    document_id: str | None = Field(default=None, description="ids; equal texts are one document when left out")
    relevance: str | None = Field(
        default=None, description="integers, 0 of a negative; 1 when left out, but where label or score is 0"
    )


def fill_records(
    builder: DomainBuilder, path: Path, splits: Mapping[Role, str], columns: Columns | None, *, kind: str
) -> None:
    """Add the records of ``SPLIT.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet``, or of one file as a split.

    A document is a text, an object with ``text`` and, if it likes, ``title`` and an id, or a list of them. All
    documents of all splits are the corpus; negatives are judged 0. Of several judgements of one pair the highest
    counts. Records without a query, or without a document, are left out and counted.
    """
    if path.is_file() and len(splits) != 1:
        raise DataError(f"{path}: one file is one split, and {' and '.join(splits)} are wanted")
    for role, split in splits.items():
        for file in [path] if path.is_file() else _files(path, split, FILES.get(kind, _ENDINGS)):
            builder.files[role] = file
            add_records(builder, role, _read(file), columns, RECORDS.get(kind))


def record_splits(folder: Path, kind: str = "records") -> list[str]:
    """Return the names of the splits that a folder holds."""
    return sorted({_SHARD.sub("", name) for name in names(folder, _patterns(FILES.get(kind, _ENDINGS), "*"))})


def _patterns(endings: Iterable[str], name: str) -> list[str]:
    return [f"{below}{name}{ending}" for below in ("", "data/") for ending in endings]


def _files(folder: Path, split: str, endings: Iterable[str]) -> list[Path]:
    """Return the file of a split, or its shards as the Hub names them."""
    patterns = _patterns(endings, "*")
    shards = [name for name in names(folder, patterns) if _SHARD.sub("", name) == split != name]
    of = _SHARD.search(shards[0]) if shards else None
    if of is not None and int(of[1]) != len(shards):
        raise DataError(f"{folder}: split {split!r} has {len(shards)} of its {int(of[1])} files: some are missing")
    return [located(folder, patterns, name) for name in shards or [split]]


# -- files → records --------------------------------------------------------------------------------------------------


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, record)."""
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending == ".jsonl":
        return json_lines(path)
    if ending == ".json":
        return _json(path)
    if ending in (".csv", ".tsv"):
        return _table(path, ending)
    if ending == ".parquet":
        return _parquet(path)
    raise DataError(f"{path}: cannot be read: expected a file ending in {', '.join(_ENDINGS)}")


def _json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_bytes(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        records = parsed(text, path)
    except DataError as error:
        if "Extra data" not in str(error) or not text.lstrip().startswith("{"):
            raise
        yield from json_lines(path)  # lines of JSON are often called so, too
        return
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of records, got {type(records).__name__}")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, record {number}: expected an object, got {type(record).__name__}")
        yield f"{path}, record {number}", record


def _table(path: Path, ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # documents are longer than the 128 KiB that Python allows a field
    with open_bytes(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        line = 1
        try:
            head = text.readline()
            delimiter = "\t" if ending == ".tsv" else next((mark for mark in ",;\t" if mark in head), ",")
            rows = csv.reader(chain([head], text), delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(rows, [])]
            line = rows.line_num + 1
            if len(set(header)) != len(header):
                raise DataError(f"{path}:1: a column stands here twice: {', '.join(header)}")
            for row in rows:
                if row and len(row) != len(header):
                    raise DataError(f"{path}:{rows.line_num}: {len(row)} fields, where the header has {len(header)}")
                if row:
                    yield f"{path}:{rows.line_num}", dict(zip(header, row, strict=True))
                line = rows.line_num + 1
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{line}: not UTF-8 at or behind this line") from error
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not a table of texts ({error})") from error


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield from arrow_records(file.iter_batches(), f"{path}, row")
    except Exception as error:  # pyarrow raises what it pleases on damaged files
        raise DataError(f"{path}: not a readable parquet file ({_first_line(error)})") from error


def arrow_records(batches: Iterable[Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place and number from 0, record) of the rows of Arrow tables."""
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            yield f"{place} {number}", record
            number += 1


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


# -- records → a domain -----------------------------------------------------------------------------------------------


def add_records(
    builder: DomainBuilder,
    role: Role,
    records: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Columns | None,
    document: str | None = None,
) -> None:
    """Add records to a split.

    Parameters
    ----------
    builder : DomainBuilder
        Takes what is read.
    role : Role
    records : iterable of (place, record)
    columns : Columns, optional
    document : str, optional
        The column of documents where `columns` names none; the one that is there by a usual name by default.

    Raises
    ------
    DataError
        A column is missing or ambiguous, or a value is no text; names the place.
    """
    layouts: dict[tuple[str, ...], _Layout] = {}
    for place, record in records:
        keys = tuple(map(str, record))
        if keys not in layouts:
            layouts[keys] = _layout(keys, columns or Columns(), document, place, first=not layouts)
        layout = layouts[keys]
        query, relevance = text_of(record, layout.query, place), 1
        if layout.relevance and record[layout.relevance] is not None:
            relevance = integer(record[layout.relevance], place)
        elif layout.grade and _is_nought(record[layout.grade]):
            relevance = 0
            builder.first = builder.first or f"{place}: a {layout.grade} of 0 is not relevant"
        found = [
            (builder.document(text, place, key), value)
            for name, value in (*((n, relevance) for n in layout.document), *((n, 0) for n in layout.negative))
            for key, text in _passages(layout.whole(record, name), f"{place}, {name}")
            if text.strip()
        ]
        if not query.strip():
            builder.drop("records without a query", f"{place}: the query has no text")
        elif not found:
            builder.drop("records without a document", f"{place}: no document has a text")
        else:
            key = identifier_of(record, layout.query_id, place) if layout.query_id else None
            for known, value in found:
                builder.judge(role, query, known, value, place, key)


@dataclass(frozen=True)
class _Layout:
    """The columns of a record, by name."""

    query: str
    document: list[str]
    negative: list[str]
    title: str | None
    query_id: str | None
    document_id: str | None
    relevance: str | None
    grade: str | None

    def whole(self, record: Mapping[str, Any], name: str) -> Any:
        """Return a value; a document's with the title and the id that stand in columns of their own."""
        value = record[name]
        if not isinstance(value, str) or name not in self.document or not (self.title or self.document_id):
            return value
        own = {"title": record[self.title]} if self.title else {}
        return {"text": value, **own, **({"docid": record[self.document_id]} if self.document_id else {})}


def _layout(keys: tuple[str, ...], columns: Columns, document: str | None, place: str, *, first: bool) -> _Layout:
    given = {
        what: [names_] if isinstance(names_, str) else names_
        for what, names_ in columns.model_dump(exclude_none=True).items()
    }
    for what, names_ in given.items():
        for name in names_:
            if name not in keys and (first or what in ("query", "document")):
                raise DataError(f"{place}: no column {name!r}{nearest(name, keys)}")
    queries = given.get("query", [name for name in keys if name.lower() in _QUERY])
    documents = given.get("document", [name for name in keys if name.lower() in _DOCUMENT])
    if document is not None and "document" not in given:
        documents = [document]
        if document not in keys:
            raise DataError(f"{place}: no {document!r}{nearest(document, keys)}")
    if len(queries) != 1 or (len(documents) != 1 and "document" not in given):
        there = ", ".join(map(repr, keys)) or "none"
        raise DataError(
            f"{place}: which column holds the query, and which the document? There are {there}; "
            "say columns: {query: ..., document: ...}"
        )
    negatives = [name for name in keys if _NEGATIVE.fullmatch(name) and name not in (*queries, *documents)]
    negatives.sort(key=lambda name: not name.startswith("hard"))
    negatives = [name for name in given.get("negative", negatives) if name in keys]
    free = set(keys).difference(*given.values(), queries, documents, negatives)
    relevance = columns.relevance or ("relevance" if "relevance" in keys else None)
    alone = len(documents) == 1
    return _Layout(
        query=queries[0],
        document=documents,
        negative=negatives,
        title=columns.title or ("title" if alone and "title" in free else None),
        query_id=columns.query_id or ("query_id" if "query_id" in keys else None),
        # Negatives bring no ids: a text that is one here and a document there would be two.
        document_id=columns.document_id
        or ("document_id" if alone and not negatives and "document_id" in free else None),
        relevance=relevance,
        grade=None if relevance else next((name for name in _GRADES if name in free), None),
    )


def _is_nought(grade: Any) -> bool:
    """Whether a label or score says that a document is not relevant: 0, as a number or as text, or false."""
    try:
        return float(grade) == 0
    except (TypeError, ValueError):
        return False


def _passages(value: Any, place: str) -> Iterator[tuple[str | None, str]]:
    """Yield (id or None, text) of a text, an object, or a list of them."""
    if value is None:
        return
    if isinstance(value, list):
        for number, passage in enumerate(value):
            yield from _passages(passage, f"{place}[{number}]")
    elif isinstance(value, str):
        yield None, checked_text(value, "the text", place)
    elif isinstance(value, dict):
        title = text_of(value, "title", place) if "title" in value else ""
        name = next((name for name in _DOCUMENT_ID if value.get(name) not in (None, "")), None)
        key = identifier_of(value, name, place) if name else None
        yield key, f"{title} {text_of(value, 'text', place)}".strip()
    else:
        raise DataError(f"{place}: expected a text, an object with one, or a list, got {type(value).__name__}")
