"""Read BEIR folders: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``. Errors name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError, nearest

__all__ = ["read_beir"]


def read_beir(folder: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain.

    Parameters
    ----------
    folder : Path
    splits : mapping of Role to the name of a file in ``qrels/``, without ``.tsv``
    name : str, optional
        The folder's name by default.

    Returns
    -------
    Domain
        Documents are ``title text``; a document without either stays in the corpus as an empty text, as it would in
        production, and is never a training pair. A split holds the queries that its judgements name.

    Raises
    ------
    DataError
        A file is missing, a line is malformed, an id repeats or is unknown, a split has no relevant pair.
    RoleError
        A query stands in two of the splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    corpus: dict[str, str] = {}
    for line, record in _json_lines(folder / "corpus.jsonl"):
        place = f"{folder / 'corpus.jsonl'}:{line}"
        identifier = _text(record, "_id", place)
        if identifier in corpus:
            raise DataError(f"{place}: document id {identifier!r} stands here twice")
        title = _text(record, "title", place) if record.get("title") is not None else ""
        corpus[identifier] = f"{title} {_text(record, 'text', place)}".strip()
    if not corpus:
        raise DataError(f"{folder / 'corpus.jsonl'}: holds no document")
    queries: dict[str, str] = {}
    for line, record in _json_lines(folder / "queries.jsonl"):
        place = f"{folder / 'queries.jsonl'}:{line}"
        identifier = _text(record, "_id", place)
        if identifier in queries:
            raise DataError(f"{place}: query id {identifier!r} stands here twice")
        queries[identifier] = _text(record, "text", place)
    return Domain(
        name=name or folder.name,
        corpus=corpus,
        splits={role: _split(folder, role, split, corpus, queries) for role, split in splits.items()},
    )


def _split(folder: Path, role: Role, name: str, corpus: Mapping[str, str], queries: Mapping[str, str]) -> Split:
    path = folder / "qrels" / f"{name}.tsv"
    if not path.is_file():
        there = [p.stem for p in sorted((folder / "qrels").glob("*.tsv"))]
        raise DataError(f"{path}: no such file{nearest(name, there)}")
    qrels: dict[str, dict[str, int]] = {}
    relevant = 0
    for line, text in _lines(path):
        fields = text.split("\t")
        if line == 1:
            if fields != ["query-id", "corpus-id", "score"]:
                raise DataError(f"{path}:1: expected the header 'query-id<TAB>corpus-id<TAB>score', got {text!r}")
            continue
        if len(fields) != 3:
            raise DataError(f"{path}:{line}: expected 3 fields separated by tabs, got {len(fields)}")
        query, document, score = fields
        if query not in queries:
            raise DataError(f"{path}:{line}: unknown query id {query!r}")
        if document not in corpus:
            raise DataError(f"{path}:{line}: unknown document id {document!r}")
        try:
            value = int(score)
        except ValueError:
            raise DataError(f"{path}:{line}: relevance must be an integer, got {score!r}") from None
        if not queries[query].strip():
            raise DataError(f"{path}:{line}: query {query!r} has no text")
        if document in qrels.setdefault(query, {}):
            raise DataError(f"{path}:{line}: query {query!r} and document {document!r} are judged twice")
        qrels[query][document] = value
        relevant += value > 0
    if not relevant:
        raise DataError(f"{path}: holds no relevant (query, document) pair")
    return Split(role=role, queries={query: queries[query] for query in qrels}, qrels=qrels)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of every line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    text = raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{number}: not UTF-8 at byte {error.start} of the line") from error
                if text.strip():
                    yield number, text
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in _lines(path):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise DataError(f"{path}:{number}: not JSON ({reason})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: expected an object, got {type(record).__name__}")
        yield number, record


def _text(record: Mapping[str, Any], key: str, place: str) -> str:
    if key not in record:
        raise DataError(f"{place}: no {key!r}")
    value = record[key]
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string, got {type(value).__name__}")
    if key == "_id" and not value:
        raise DataError(f"{place}: '_id' is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place}: {key!r} holds half of a surrogate pair, which is no text") from None
    return value
