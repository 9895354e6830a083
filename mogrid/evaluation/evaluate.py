"""Judge a retriever on a domain: clean queries and perturbed ones against one encoding of the corpus."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from mogrid.data.domain import Domain, Role
from mogrid.errors import EvaluationError, RoleError
from mogrid.evaluation.entropy import best_temperature, contrastive_entropy, entropy_curve
from mogrid.evaluation.measures import effective_dimensions, rank_measures
from mogrid.evaluation.results import SplitResult
from mogrid.retrieval.bm25 import bm25_run
from mogrid.retrieval.encode import encode
from mogrid.retrieval.search import search
from mogrid.retrieval.splits import (
    EncodedSplit,
    check_role,
    encode_split,
    judged_queries,
    relevant_pairs,
    stream,
)
from mogrid.retrieval.types import DEPTH, Qrels, Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks.base import Attack

__all__ = ["calibrate", "dense_run", "evaluate_bm25", "evaluate_domain", "evaluate_embeddings", "evaluate_run"]

Conditions = Mapping[str, "Attack"]


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
        The domain has no such split, or a test attack meets another split than the test split, or the reverse.
    EvaluationError
        Embeddings are not finite, or no query has a relevant document.
    """
    started = time.perf_counter()
    perturbed = _perturbed_queries(model, domain, role, conditions or {}, seed)
    encoded = encoded or encode_split(model, domain, role)
    judge = partial(evaluate_embeddings, seed=seed, temperature=temperature, negatives=negatives, redraws=redraws)
    results = [judge(encoded)]
    results[0] = replace(results[0], seconds=time.perf_counter() - started)
    for condition, texts in perturbed.items():
        started = time.perf_counter()
        shifted = replace(encoded, queries=encode(model, texts, "query"))
        result = judge(shifted, condition=condition)
        results.append(replace(result, seconds=time.perf_counter() - started))
    return results


def dense_run(encoded: EncodedSplit, depth: int = DEPTH + 1) -> dict[str, dict[str, float]]:
    """Return query id → document id → inner product of each query's first `depth` documents."""
    scores, indices = search(encoded.queries, encoded.documents, min(depth, len(encoded.document_ids)))
    ids = encoded.document_ids
    return {
        query: {ids[i]: s for i, s in zip(row, row_scores, strict=True)}
        for query, row, row_scores in zip(encoded.query_ids, indices.tolist(), scores.tolist(), strict=True)
    }


def evaluate_run(
    run: Run, qrels: Qrels, domain: str, role: str, *, condition: str = "clean", seed: int = 0
) -> SplitResult:
    """Judge results of any origin; there are no embeddings, and so no ``ce``."""
    return _judge(run, qrels, {}, domain, role, condition, seed)


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
    run = dense_run(encoded)
    pair_queries, positives, relevant = relevant_pairs(encoded)
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
        dimensions=effective_dimensions(encoded.documents),
        seconds=time.perf_counter() - started,
    )


def evaluate_bm25(
    domain: Domain, role: Role, *, conditions: Conditions | None = None, seed: int = 0
) -> list[SplitResult]:
    """Judge BM25 as `evaluate_domain` judges a model: the same queries, perturbations and measures, without ``ce``.

    Perturbations that need a victim cannot be used, since there is none.
    """
    queries, qrels = judged_queries(domain, role)
    texts = {"clean": list(queries.values()), **_perturbed_queries(None, domain, role, conditions or {}, seed)}
    results = []
    for condition, written in texts.items():
        started = time.perf_counter()
        run = bm25_run(dict(zip(queries, written, strict=True)), domain.corpus)
        result = _judge(run, qrels, {}, domain.name, str(role), condition, seed)
        results.append(replace(result, seconds=time.perf_counter() - started))
    return results


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


def _perturbed_queries(
    model: SentenceTransformer | None, domain: Domain, role: Role, conditions: Conditions, seed: int
) -> dict[str, list[str]]:
    queries, _ = judged_queries(domain, role)
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
