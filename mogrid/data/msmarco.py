"""Read the tab-separated files of MS MARCO: a collection, queries and judgements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mogrid.data.domain import Domain, Role, Split
from mogrid.data.lines import integer, lines, located, names
from mogrid.errors import DataError

__all__ = ["msmarco_splits", "read_msmarco"]


def read_msmarco(folder: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain from ``collection.tsv``, ``queries.SPLIT.tsv`` and ``qrels.SPLIT.tsv``, without headers.

    Lines are ``id<TAB>text`` (of documents also ``id<TAB>url<TAB>title<TAB>text``), and ``query<TAB>0<TAB>document<TAB>
    relevance``, or the same with spaces as trec_eval has it.

    Raises
    ------
    DataError
        Naming file and line: missing, malformed, an id that repeats or is unknown, a split without a relevant pair.
    RoleError
        A query stands in two of the splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    corpus = _texts(located(folder, "collection.tsv", ""), "document")
    made = {}
    for role, split in splits.items():
        path = located(folder, "qrels.*.tsv", split)
        queries = _texts(located(folder, "queries.*.tsv", split), "query")
        made[role] = Split(role, *_judgements(path, queries, corpus))
    return Domain(name or folder.name, corpus, made)


def msmarco_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return names(folder, "qrels.*.tsv")


def _texts(path: Path, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, row in lines(path):
        key, tab, rest = row.partition("\t")
        if not tab or not key:
            raise DataError(f"{path}:{line}: expected 'id<TAB>text'")
        if key in found:
            raise DataError(f"{path}:{line}: {what} id {key!r} stands here twice")
        fields = rest.split("\t")
        found[key] = (" ".join(fields[1:]) if len(fields) == 3 else " ".join(fields)).strip()
    if not found:
        raise DataError(f"{path}: holds no {what}")
    return found


def _judgements(
    path: Path, queries: Mapping[str, str], corpus: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, row in lines(path):
        place = f"{path}:{line}"
        fields = row.split()
        if len(fields) != 4:
            raise DataError(f"{place}: expected 'query 0 document relevance', got {len(fields)} fields")
        query, _, document, relevance = fields
        if query not in queries:
            raise DataError(f"{place}: unknown query id {query!r}")
        if document not in corpus:
            raise DataError(f"{place}: unknown document id {document!r}")
        if not queries[query].strip():
            raise DataError(f"{place}: query {query!r} has no text")
        if document in qrels.setdefault(query, {}):
            raise DataError(f"{place}: query {query!r} and document {document!r} are judged twice")
        qrels[query][document] = integer(relevance, place)
    if not any(r > 0 for judged in qrels.values() for r in judged.values()):
        raise DataError(f"{path}: holds no relevant (query, document) pair")
    return {query: queries[query] for query in qrels}, qrels
