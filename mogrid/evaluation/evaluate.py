"""Judge a retriever on a domain: clean queries and perturbed ones against one encoding of the corpus."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mogrid.data.domain import Domain, Role
from mogrid.errors import DataError, RoleError, nearest
from mogrid.evaluation.bm25 import bm25_run
from mogrid.evaluation.encode import encode
from mogrid.evaluation.entropy import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.errors import EvaluationError
from mogrid.evaluation.measures import DEPTH, Qrels, Run, rank_measures
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.search import search

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks.base import Attack

__all__ = [
    "EncodedSplit",
    "calibrate",
    "check_role",
    "encode_split",
    "evaluate_bm25",
    "evaluate_domain",
    "evaluate_embeddings",
    "split_of",
    "stream",
]

Conditions = Mapping[str, "Attack"]


@dataclass(frozen=True)
class EncodedSplit:
    """Embeddings of one split and of its corpus, with what is needed to judge them.

    Attributes
    ----------
    domain, role : str
    query_ids, document_ids : list of str
        Of the rows of the matrices. Queries are those with at least one relevant document.
    queries : ndarray, shape (n, d), float32
    documents : ndarray, shape (m, d), float32
    qrels : mapping of str to mapping of str to int
    twins : dict of str to str
        Document id → first id of the same text, where a text occurs more than once.
    """

    domain: str
    role: str
    query_ids: list[str]
    document_ids: list[str]
    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    qrels: Qrels
    twins: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, ids, matrix in (
            ("queries", self.query_ids, self.queries),
            ("documents", self.document_ids, self.documents),
        ):
            if matrix.ndim != 2 or len(ids) != len(matrix):
                raise EvaluationError(f"{self.domain}: {len(ids)} ids of {name} for embeddings of shape {matrix.shape}")
            if len(set(ids)) != len(ids):
                raise EvaluationError(f"{self.domain}: ids of {name} occur more than once")


def encode_split(model: SentenceTransformer, domain: Domain, role: Role) -> EncodedSplit:
    """Encode the judged queries of a split, and the corpus."""
    queries, qrels = _judged(domain, role)
    return EncodedSplit(
        domain=domain.name,
        role=str(role),
        query_ids=list(queries),
        document_ids=list(domain.corpus),
        queries=encode(model, list(queries.values()), "query"),
        documents=encode(model, list(domain.corpus.values()), "document"),
        qrels=qrels,
        twins=_twins(domain.corpus),
    )


def evaluate_domain(
    model: SentenceTransformer,
    domain: Domain,
    role: Role,
    *,
    conditions: Conditions | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    negatives: int = 256,
    redraws: int = 10,
    encoded: EncodedSplit | None = None,
) -> list[SplitResult]:
    """Judge a retriever on one split: clean queries first, then each perturbation of them.

    Parameters
    ----------
    model : SentenceTransformer
    domain : Domain
    role : Role
        The split.
    conditions : mapping of str to Attack, optional
        Name of a condition → perturbation of the queries' text.
    seed : int
        Of the perturbations and the negatives, which are equal for all models given the same seed, and do not depend
        on which other domains and conditions are judged.
    temperature : float
        From `calibrate`, on the select split.
    negatives, redraws : int
        Of the contrastive entropy.
    encoded : EncodedSplit, optional
        What `encode_split` gave for this model and split, to spare encoding again.

    Returns
    -------
    list of SplitResult
        One a condition, ``"clean"`` first.

    Raises
    ------
    RoleError
        The domain has no such split, or a test attack is used outside the test split.
    EvaluationError
        Embeddings are not finite, or no query has a relevant document.
    """
    started = time.perf_counter()
    perturbed = _perturbed_queries(model, domain, role, conditions or {}, seed)
    encoded = encoded or encode_split(model, domain, role)
    settings = {"seed": seed, "temperature": temperature, "negatives": negatives, "redraws": redraws}
    results = [evaluate_embeddings(encoded, **settings)]
    results[0] = replace(results[0], seconds=time.perf_counter() - started)
    for condition, texts in perturbed.items():
        started = time.perf_counter()
        shifted = replace(encoded, queries=encode(model, texts, "query"))
        result = evaluate_embeddings(shifted, condition=condition, **settings)
        results.append(replace(result, seconds=time.perf_counter() - started))
    return results


def evaluate_embeddings(
    encoded: EncodedSplit,
    *,
    condition: str = "clean",
    seed: int = 0,
    temperature: float = 1.0,
    negatives: int = 256,
    redraws: int = 10,
) -> SplitResult:
    """Judge embeddings, whatever made them. Parameters as in `evaluate_domain`."""
    started = time.perf_counter()
    depth = min(DEPTH + 1, len(encoded.document_ids))
    scores, indices = search(encoded.queries, encoded.documents, depth)
    ids = encoded.document_ids
    run = {
        query: {ids[i]: s for i, s in zip(row, row_scores, strict=True)}
        for query, row, row_scores in zip(encoded.query_ids, indices.tolist(), scores.tolist(), strict=True)
    }
    pair_queries, positives, relevant = _pairs(encoded)
    entropies = contrastive_entropy(
        encoded.queries[pair_queries],
        encoded.documents[positives],
        encoded.documents,
        rng=stream(seed, encoded.domain),
        negatives=negatives,
        redraws=redraws,
        temperature=temperature,
        exclude=relevant,
    )
    by_query: dict[str, list[float]] = {}
    for pair, entropy in zip(pair_queries, entropies.tolist(), strict=True):
        by_query.setdefault(encoded.query_ids[pair], []).append(entropy)
    result = _judge(run, encoded.qrels, encoded.twins, encoded.domain, encoded.role, condition, seed)
    return replace(
        result,
        ce={query: fmean(values) for query, values in by_query.items()},
        temperature=temperature,
        negatives=negatives,
        redraws=redraws,
        seconds=time.perf_counter() - started,
    )


def evaluate_bm25(
    domain: Domain, role: Role, *, conditions: Conditions | None = None, seed: int = 0
) -> list[SplitResult]:
    """Judge BM25 as `evaluate_domain` judges a model: the same queries, perturbations and measures, without ``ce``.

    Perturbations that need a victim cannot be used, since there is none.
    """
    queries, qrels = _judged(domain, role)
    texts = {"clean": list(queries.values()), **_perturbed_queries(None, domain, role, conditions or {}, seed)}
    results = []
    for condition, written in texts.items():
        started = time.perf_counter()
        run = bm25_run(dict(zip(queries, written, strict=True)), domain.corpus)
        result = _judge(run, qrels, _twins(domain.corpus), domain.name, str(role), condition, seed)
        results.append(replace(result, seconds=time.perf_counter() - started))
    return results


def calibrate(
    model: SentenceTransformer, domain: Domain, *, seed: int = 0, negatives: int = 256, redraws: int = 10
) -> float:
    """Return the temperature that minimises the contrastive entropy of a model on a domain's select split."""
    encoded = encode_split(model, domain, Role.SELECT)
    pair_queries, positives, relevant = _pairs(encoded)
    return calibrate_temperature(
        encoded.queries[pair_queries],
        encoded.documents[positives],
        encoded.documents,
        rng=stream(seed, encoded.domain),
        negatives=negatives,
        redraws=redraws,
        exclude=relevant,
    )


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that a seed has for what is named, independent of all others and of their order."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def split_of(domain: Domain, role: Role) -> Any:
    """Return the split of a role, or raise `RoleError`."""
    if role not in domain.splits:
        raise RoleError(f"domain {domain.name!r} has no {role} split{nearest(str(role), map(str, domain.splits))}")
    return domain.splits[role]


def check_role(attack: Attack, domain: Domain, role: Role) -> None:
    """Raise `RoleError` where a test attack is used outside the test split: results there steer choices."""
    if attack.role is Role.TEST and role is not Role.TEST:
        raise RoleError(f"attack {attack.name!r} has role test and is used on the {role} split of {domain.name!r}")


def _judged(domain: Domain, role: Role) -> tuple[dict[str, str], Qrels]:
    split = split_of(domain, role)
    queries = {q: split.queries[q] for q, docs in split.qrels.items() if any(r > 0 for r in docs.values())}
    if not queries:
        raise EvaluationError(f"domain {domain.name!r}: no query of the {role} split has a relevant document")
    return queries, split.qrels


def _perturbed_queries(
    model: SentenceTransformer | None, domain: Domain, role: Role, conditions: Conditions, seed: int
) -> dict[str, list[str]]:
    queries, _ = _judged(domain, role)
    perturbed = {}
    for condition, attack in conditions.items():
        if condition == "clean":
            raise EvaluationError("a condition cannot be called 'clean': that is the one without a perturbation")
        check_role(attack, domain, role)
        texts = attack.perturb(list(queries.values()), model, stream(seed, domain.name, condition))
        if len(texts) != len(queries):
            raise EvaluationError(f"attack {attack.name!r} made {len(texts)} texts of {len(queries)} queries")
        perturbed[condition] = texts
    return perturbed


def _pairs(encoded: EncodedSplit) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[set[int]]]:
    """Return query row, row of its positive, and rows of all its relevant documents, of every relevant pair."""
    row_of = {document: row for row, document in enumerate(encoded.document_ids)}
    queries: list[int] = []
    positives: list[int] = []
    exclude: list[set[int]] = []
    for row, query in enumerate(encoded.query_ids):
        relevant = [document for document, relevance in encoded.qrels[query].items() if relevance > 0]
        for document in relevant:
            if document not in row_of:
                raise DataError(f"domain {encoded.domain!r}: query {query!r} is judged on unknown document {document!r}")
        rows = {row_of[document] for document in relevant}
        queries += [row] * len(rows)
        positives += sorted(rows)
        exclude += [rows] * len(rows)
    return np.array(queries), np.array(positives), exclude


def _judge(
    run: Run, qrels: Qrels, twins: Mapping[str, str], domain: str, role: str, condition: str, seed: int
) -> SplitResult:
    measures = rank_measures(run, qrels, twins)
    return SplitResult(
        domain=domain,
        role=role,
        condition=condition,
        ndcg=measures.ndcg,
        rr=measures.rr,
        recall=measures.recall,
        ce=None,
        tie_fraction=measures.tie_fraction,
        temperature=1.0,
        negatives=0,
        redraws=0,
        seed=seed,
        seconds=0.0,
    )


def _twins(corpus: Mapping[str, str]) -> dict[str, str]:
    first: dict[str, str] = {}
    twins: dict[str, str] = {}
    for document, text in corpus.items():
        if first.setdefault(text, document) != document:
            twins[document] = first[text]
    return twins
