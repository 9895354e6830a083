"""Read BEIR folders: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Role
from mogrid.data.lines import identifier_of, json_lines, judgements, text_of
from mogrid.data.places import located, names
from mogrid.errors import DataError

__all__ = ["beir_splits", "fill_beir"]


def fill_beir(builder: DomainBuilder, folder: Path, splits: Mapping[Role, str]) -> None:
    """Add what a folder holds.

    Documents are ``title text``; a document without either stays in the corpus as an empty text, as it would in
    production, and is never a training pair. A split holds the queries that its judgements name. Ids may be integers,
    relevance ``1.0``, a title null; judgements may have TREC's four columns, and no line of their names.
    """
    path = located(folder, "corpus.jsonl")
    for place, record in json_lines(path):
        title = text_of(record, "title", place) if "title" in record else ""
        text = f"{title} {text_of(record, 'text', place)}".strip()
        builder.listed(builder.corpus, identifier_of(record, "_id", place), text, "document", place)
    if not builder.corpus:
        raise DataError(f"{path}: holds no document")
    queries: dict[str, str] = {}
    for place, record in json_lines(located(folder, "queries.jsonl")):
        key = identifier_of(record, "_id", place)
        builder.listed(queries, key, text_of(record, "text", place), "query", place)
    for role, split in splits.items():
        path = builder.files[role] = located(folder, "qrels/*.tsv", split)
        builder.judged(role, queries, judgements(path, tabs=True))


def beir_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return names(folder, "qrels/*.tsv")
