"""One split of a domain, as it is judged: its queries, its corpus, their embeddings."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mogrid.data.domain import Domain, Role
from mogrid.data.pairs import queries_in_corpus
from mogrid.errors import DataError, EvaluationError, RoleError
from mogrid.retrieval.encode import Preprocess, encode, reading
from mogrid.retrieval.types import Qrels

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "EncodedSplit",
    "check_role",
    "encode_split",
    "equal_texts",
    "judged_queries",
    "queries_in_corpus",
    "relevant_pairs",
    "stream",
]


@dataclass(frozen=True)
class EncodedSplit:
    """Embeddings of one split and of its corpus, with what is needed to judge them.

    Attributes
    ----------
    domain, role : str
    query_ids, document_ids : list of str
        Of the rows of the matrices. Queries are those with at least one relevant document.
    queries : ndarray, shape (n, d), float32
        Inner products with `documents` are the scores, whatever the model's similarity.
    documents : ndarray, shape (m, d), float32
    qrels : mapping of str to mapping of str to int
    twins : dict of str to str
        Document id → first id that reads the same to the model, where several do: they tie by right.
    own : frozenset of str
        Queries that stand in the corpus under their own id: that document is no result of theirs.
    """

    domain: str
    role: str
    query_ids: list[str]
    document_ids: list[str]
    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    qrels: Qrels
    twins: Mapping[str, str]
    own: frozenset[str] = frozenset()

    @cached_property
    def rows(self) -> dict[str, int]:
        """Document id → row."""
        return {document: row for row, document in enumerate(self.document_ids)}

    def scores(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what some queries score with every document (len(rows), m); −∞ with themselves in the corpus."""
        found: NDArray[np.float32] = self.queries[rows] @ self.documents.T
        for place, row in enumerate(rows):
            if self.query_ids[row] in self.own:
                found[place, self.rows[self.query_ids[row]]] = -np.inf
        return found

    def __post_init__(self) -> None:
        for name, ids, matrix in (
            ("queries", self.query_ids, self.queries),
            ("documents", self.document_ids, self.documents),
        ):
            if matrix.ndim != 2 or len(ids) != len(matrix):
                raise EvaluationError(f"{self.domain}: {len(ids)} ids of {name} for embeddings of shape {matrix.shape}")
            if len(set(ids)) != len(ids):
                raise EvaluationError(f"{self.domain}: ids of {name} occur more than once")


def encode_split(
    model: SentenceTransformer,
    domain: Domain,
    role: Role,
    *,
    beside: EncodedSplit | None = None,
    preprocess: Preprocess | None = None,
    progress: Callable[[int], None] | None = None,
) -> EncodedSplit:
    """Encode the judged queries of a split, and the corpus (through `preprocess`, see `encode`).

    Parameters
    ----------
    beside : EncodedSplit, optional
        Another split of the domain that this model has encoded: its documents are not encoded again.
    """
    queries, qrels = judged_queries(domain, role)
    if beside is None:
        texts = list(domain.corpus.values())
        documents = encode(model, texts, "document", preprocess=preprocess, progress=progress)
        twins: Mapping[str, str] = _twins(model, domain.corpus, documents)
    else:
        documents, twins = beside.documents, beside.twins
    return EncodedSplit(
        domain=domain.name,
        role=str(role),
        query_ids=list(queries),
        document_ids=list(domain.corpus),
        queries=encode(model, list(queries.values()), "query", progress=progress),
        documents=documents,
        qrels=qrels,
        twins=twins,
        own=queries_in_corpus(queries, domain.corpus, qrels),
    )


def equal_texts(corpus: Mapping[str, str]) -> dict[str, str]:
    """Return id → first id of equal text, for every later one."""
    first: dict[str, str] = {}
    return {name: first[text] for name, text in corpus.items() if first.setdefault(text, name) != name}


class _InARole(Protocol):
    """An attack, of which nothing else is known here."""

    name: str
    role: Role


def check_role(attack: _InARole, domain: Domain, role: Role) -> None:
    """Raise `RoleError` unless test attacks meet the test split, and others the others.

    A test attack elsewhere would steer choices; what was trained or selected on says nothing as a test.
    """
    if (attack.role is Role.TEST) != (role is Role.TEST):
        raise RoleError(
            f"attack {attack.name!r} has role {attack.role} and is used on the {role} split of {domain.name!r}"
        )


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that a seed has for what is named, independent of all others and of their order."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def judged_queries(domain: Domain, role: Role) -> tuple[dict[str, str], Qrels]:
    """Return the queries of a split that have a relevant document (id → text), and the split's judgements."""
    split = domain.split(role)
    queries = {q: split.queries[q] for q, docs in split.qrels.items() if any(r > 0 for r in docs.values())}
    if not queries:
        raise EvaluationError(f"domain {domain.name!r}: no query of the {role} split has a relevant document")
    return queries, split.qrels


def relevant_pairs(encoded: EncodedSplit) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[set[int]]]:
    """Return, of every relevant pair, query row, row of its positive, and rows that are no negatives of the query.

    Those are all its relevant documents, and itself where it stands in the corpus.
    """
    row_of = {document: row for row, document in enumerate(encoded.document_ids)}
    queries: list[int] = []
    positives: list[int] = []
    exclude: list[set[int]] = []
    for row, query in enumerate(encoded.query_ids):
        relevant = [document for document, relevance in encoded.qrels[query].items() if relevance > 0]
        for document in relevant:
            if document not in row_of:
                raise DataError(f"{encoded.domain}: query {query!r} is judged on unknown document {document!r}")
        rows = {row_of[document] for document in relevant}
        queries += [row] * len(rows)
        positives += sorted(rows)
        exclude += [rows | {row_of[query]} if query in encoded.own else rows] * len(rows)
    return np.array(queries), np.array(positives), exclude


def _twins(model: SentenceTransformer, corpus: Mapping[str, str], embeddings: NDArray[np.float32]) -> dict[str, str]:
    """Return document id → first id that reads the same to the model, for every later one.

    Texts that differ only past the model's maximum length are common in real corpora and no sign of a collapse.
    """
    ids = list(corpus)
    rows_of: dict[bytes, list[int]] = {}
    for row, vector in enumerate(embeddings):
        rows_of.setdefault(vector.tobytes(), []).append(row)
    # Only documents with one embedding can be twins: few, unless the model has collapsed.
    suspects = [ids[row] for rows in rows_of.values() if len(rows) > 1 for row in rows]
    first: dict[Hashable, str] = {}
    twins: dict[str, str] = {}
    for document, key in zip(suspects, reading(model, [corpus[d] for d in suspects], "document"), strict=True):
        if first.setdefault(key, document) != document:
            twins[document] = first[key]
    return twins
