"""Read BEIR folders: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``. Errors name file and line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mogrid.data.domain import Domain, Role, Split
from mogrid.data.lines import integer, json_lines, lines, located, names, text_of
from mogrid.errors import DataError

__all__ = ["beir_splits", "read_beir"]


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
    file = located(folder, "corpus.jsonl", "")
    for line, record in json_lines(file):
        place = f"{file}:{line}"
        identifier = text_of(record, "_id", place)
        if identifier in corpus:
            raise DataError(f"{place}: document id {identifier!r} stands here twice")
        title = text_of(record, "title", place) if record.get("title") is not None else ""
        corpus[identifier] = f"{title} {text_of(record, 'text', place)}".strip()
    if not corpus:
        raise DataError(f"{file}: holds no document")
    queries: dict[str, str] = {}
    file = located(folder, "queries.jsonl", "")
    for line, record in json_lines(file):
        place = f"{file}:{line}"
        identifier = text_of(record, "_id", place)
        if identifier in queries:
            raise DataError(f"{place}: query id {identifier!r} stands here twice")
        queries[identifier] = text_of(record, "text", place)
    return Domain(
        name=name or folder.name,
        corpus=corpus,
        splits={role: _split(folder, role, split, corpus, queries) for role, split in splits.items()},
    )


def beir_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return names(folder, "qrels/*.tsv")


def _split(folder: Path, role: Role, name: str, corpus: Mapping[str, str], queries: Mapping[str, str]) -> Split:
    path = located(folder, "qrels/*.tsv", name)
    qrels: dict[str, dict[str, int]] = {}
    relevant = 0
    for line, text in lines(path):
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
        value = integer(score, f"{path}:{line}")
        if not queries[query].strip():
            raise DataError(f"{path}:{line}: query {query!r} has no text")
        if document in qrels.setdefault(query, {}):
            raise DataError(f"{path}:{line}: query {query!r} and document {document!r} are judged twice")
        qrels[query][document] = value
        relevant += value > 0
    if not relevant:
        raise DataError(f"{path}: holds no relevant (query, document) pair")
    return Split(role=role, queries={query: queries[query] for query in qrels}, qrels=qrels)
