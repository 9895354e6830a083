"""One split under one condition, measured: embeddings of any origin, runs, and BM25."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from statistics import fmean

from mogrid.data.domain import Domain, Role
from mogrid.errors import RoleError
from mogrid.evaluation.entropy import best_temperature, contrastive_entropy, entropy_curve
from mogrid.evaluation.measures import ceiling, effective_dimensions, rank_measures
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.retrieval.bm25 import bm25_run
from mogrid.retrieval.search import search
from mogrid.retrieval.splits import (
    EncodedSplit,
    equal_texts,
    judged_queries,
    queries_in_corpus,
    relevant_pairs,
    stream,
)
from mogrid.retrieval.types import DEPTH, Qrels, Run

__all__ = ["by_bm25", "by_embeddings", "calibrate", "evaluate_embeddings", "evaluate_run"]


def _dense_run(encoded: EncodedSplit, depth: int) -> tuple[dict[str, dict[str, float]], int]:
    scores, indices = search(encoded.queries, encoded.documents, depth + bool(encoded.own))
    ids = encoded.document_ids
    run = {
        query: {ids[i]: s for i, s in zip(row, row_scores, strict=True)}
        for query, row, row_scores in zip(encoded.query_ids, indices.tolist(), scores.tolist(), strict=True)
    }
    return _without_own(run, encoded.own, depth)


def evaluate_run(
    run: Run, qrels: Qrels, domain: str, role: str, *, condition: str = CLEAN, seed: int = 0, best: float = 1.0
) -> SplitResult:
    """Judge results of any origin; there are no embeddings, and so no ``ce``. `best` is their ceiling."""
    return _result(run, qrels, (domain, role, condition, seed), best)


def evaluate_embeddings(
    encoded: EncodedSplit,
    *,
    condition: str = CLEAN,
    seed: int = 0,
    temperature: float | None = 1.0,
    negatives: int = 256,
    redraws: int = 10,
) -> SplitResult:
    """Judge embeddings, whatever made them. Parameters as in `judge`; at no temperature there is no ``ce``."""
    started = time.perf_counter()
    _, result = by_embeddings(encoded, condition, seed, temperature, negatives, redraws)
    return replace(result, seconds=time.perf_counter() - started)


def calibrate(
    encoded: EncodedSplit | Sequence[EncodedSplit], *, seed: int = 0, negatives: int = 256, redraws: int = 10
) -> float:
    """Return the one temperature that minimises a model's contrastive entropy, averaged over select splits.

    Calibrated in domain alone, a model that is right there and rightly sure of it is wrongly sure elsewhere, and its
    OOD entropy tells of that instead of its ranking: give the select splits of all domains that matter.

    Raises
    ------
    RoleError
        A split's role is not ``select``: a temperature fitted to a test split flatters what is measured there.
    """
    curves = []
    for split in [encoded] if isinstance(encoded, EncodedSplit) else encoded:
        if split.role != Role.SELECT:
            raise RoleError(f"{split.domain!r}: a temperature is calibrated on a select split, not on {split.role}")
        pair_queries, positives, relevant = relevant_pairs(split)
        rows = split.queries[pair_queries], split.documents[positives], split.documents
        curves.append(entropy_curve(*rows, stream(seed, split.domain), negatives, redraws, relevant))
    return best_temperature(curves)


def _without_own(run: Run, own: frozenset[str], depth: int) -> tuple[dict[str, dict[str, float]], int]:
    """Return runs of `depth` results, best first, without the hits of queries that stand in the corpus, and these."""
    kept = {
        query: dict(islice(((d, s) for d, s in found.items() if query not in own or d != query), depth))
        for query, found in run.items()
    }
    return kept, sum(query in found for query, found in run.items() if query in own)


def by_bm25(
    domain: Domain, role: Role, condition: str, queries: Mapping[str, str], seed: int
) -> tuple[Run, SplitResult]:
    """Return what BM25 finds for the queries of a split as they are asked, and how it did."""
    corpus, place = domain.corpus, (domain.name, str(role), condition, seed)
    clean, qrels = judged_queries(domain, role)
    found = bm25_run(queries, corpus, depth=DEPTH + 2)
    run, dropped = _without_own(found, queries_in_corpus(clean, corpus, qrels), DEPTH + 1)
    return run, replace(_result(run, qrels, place, ceiling(qrels, equal_texts(corpus))), self_hits=dropped)


def by_embeddings(
    encoded: EncodedSplit, condition: str, seed: int, temperature: float | None, negatives: int, redraws: int
) -> tuple[Run, SplitResult]:
    run, dropped = _dense_run(encoded, DEPTH + 1)
    place = encoded.domain, encoded.role, condition, seed
    result = _result(run, encoded.qrels, place, ceiling(encoded.qrels, encoded.twins), encoded.twins)
    result = replace(result, self_hits=dropped, dimensions=effective_dimensions(encoded.documents))
    if temperature is None:
        return run, result
    pair_queries, positives, excluded = relevant_pairs(encoded)
    entropies = contrastive_entropy(
        encoded.queries[pair_queries],
        encoded.documents[positives],
        encoded.documents,
        rng=stream(seed, encoded.domain),
        negatives=negatives,
        redraws=redraws,
        temperature=temperature,
        exclude=excluded,
    )
    by_query: dict[str, list[float]] = {}
    for pair, entropy in zip(pair_queries, entropies.tolist(), strict=True):
        by_query.setdefault(encoded.query_ids[pair], []).append(entropy)
    ce = {query: fmean(values) for query, values in by_query.items()}
    return run, replace(result, ce=ce, temperature=temperature, negatives=negatives, redraws=redraws)


def _result(
    run: Run, qrels: Qrels, place: tuple[str, str, str, int], best: float, twins: Mapping[str, str] | None = None
) -> SplitResult:
    measures = rank_measures(run, qrels, twins)
    domain, role, condition, seed = place
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
        ceiling=best,
    )
