"""Read the tab-separated files of MS MARCO, and of DL-typo, whose queries people mistyped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Role
from mogrid.data.lines import is_header, judgements, lines
from mogrid.data.places import located, names
from mogrid.errors import DataError

__all__ = ["fill_dl_typo", "fill_msmarco", "msmarco_splits"]


def fill_msmarco(builder: DomainBuilder, folder: Path, splits: Mapping[Role, str]) -> None:
    """Add ``collection.tsv``, ``queries.SPLIT.tsv`` and ``qrels.SPLIT.tsv``.

    Lines are ``id<TAB>text``, where a text may hold tabs, each read as a space; ``id<TAB>url<TAB>title<TAB>text`` of
    MS MARCO's documents, without the address; and ``query<TAB>0<TAB>document<TAB>relevance``, or the same with spaces
    as trec_eval has it. A first line of column names is passed over.
    """
    _collect(builder, folder)
    for role, split in splits.items():
        queries = _queries(builder, located(folder, "queries.*.tsv", split))
        path = builder.files[role] = located(folder, "qrels.*.tsv", split)
        builder.judged(role, queries, judgements(path))


def fill_dl_typo(builder: DomainBuilder, folder: Path, splits: Mapping[Role, str]) -> None:
    """Add DL-typo (Zhuang & Zuccon, arXiv 2204.00716) and MS MARCO's passages: one split, of any name.

    ``query.tsv`` has the queries as they were meant, ``qrels.txt`` their judgements, ``collection.tsv`` the passages.
    Every other ``query.NAME.tsv`` is a variant of the split: ``typo`` as people typed the queries, ``typo.ms`` and
    ``typo.py`` as spell checkers mended that.
    """
    _collect(builder, folder)
    queries = _queries(builder, located(folder, "query.tsv"))
    variants = {name: _queries(builder, located(folder, "query.*.tsv", name)) for name in names(folder, "query.*.tsv")}
    if "typo" not in variants:
        raise DataError(f"{folder}: no query.typo.tsv, the queries as people typed them")
    for role in splits:
        builder.judged(role, queries, judgements(located(folder, "qrels.txt")))
        judged = builder.queries[role]
        for name, texts in variants.items():
            missing = next((query for query in judged if not texts.get(query, "").strip()), None)
            if missing is not None:
                raise DataError(f"{folder}: query.{name}.tsv has no text for query {missing!r}")
            own = {query: texts[query] for query in judged}
            builder.variants.setdefault(role, {})[name] = own


def msmarco_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return names(folder, "qrels.*.tsv")


def _collect(builder: DomainBuilder, folder: Path) -> None:
    path = located(folder, "collection.tsv")
    for place, key, fields in _rows(path):
        addressed = len(fields) == 3 and fields[0].startswith(("http://", "https://"))
        builder.listed(builder.corpus, key, " ".join(fields[addressed:]).strip(), "document", place)
    if not builder.corpus:
        raise DataError(f"{path}: holds no document")


def _queries(builder: DomainBuilder, path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for place, key, fields in _rows(path):
        builder.listed(queries, key, " ".join(fields).strip(), "query", place)
    if not queries:
        raise DataError(f"{path}: holds no query")
    return queries


def _rows(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    for row, (number, text) in enumerate(lines(path)):
        key, *fields = text.split("\t")
        if not key or not fields:
            raise DataError(f"{path}:{number}: expected 'id<TAB>text'")
        if row > 0 or not is_header([key, *fields]):
            yield f"{path}:{number}", key, fields
