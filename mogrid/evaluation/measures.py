"""Ranking measures per query, computed by trec_eval (through ir-measures) on runs whose ties are broken honestly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import EvaluationError
from mogrid.retrieval.types import DEPTH, Qrels, Run

__all__ = [
    "COLLAPSE_DIMENSIONS",
    "COLLAPSE_TIES",
    "Measures",
    "break_ties",
    "ceiling",
    "effective_dimensions",
    "rank_measures",
    "tie_fraction",
]

COLLAPSE_TIES = 0.01
"""Tie fraction above which embeddings are reported as collapsed."""

COLLAPSE_DIMENSIONS = 1.5
"""Effective dimensions below which they are."""


@dataclass(frozen=True)
class Measures:
    """Measures of one run, each query id → value in [0, 1], for every query with a relevant document.

    Attributes
    ----------
    ndcg, rr, recall : dict of str to float
        nDCG@10 (gain = relevance), RR@10 and R@100. A query without results has 0.
    tie_fraction : float
        See `tie_fraction`.
    """

    ndcg: dict[str, float]
    rr: dict[str, float]
    recall: dict[str, float]
    tie_fraction: float


def rank_measures(run: Run, qrels: Qrels, twins: Mapping[str, str] | None = None) -> Measures:
    """Compute nDCG@10, RR@10 and R@100 of every judged query.

    Differs from a plain trec_eval call in three ways, each against the system: ties (`break_ties`), queries that are
    missing from the run (they score 0 rather than drop out), and the cut-off of RR, which is applied to the run
    because ir-measures' own ``RR@10`` breaks ties otherwise than its nDCG. Queries without a relevant document are
    left out, since no ranking of theirs is better than another.

    Parameters
    ----------
    run : mapping of str to mapping of str to float
        At least `DEPTH` + 1 results a query where the corpus has them: see `break_ties`.
    qrels : mapping of str to mapping of str to int
    twins : mapping of str to str, optional
        As in `tie_fraction`.

    Raises
    ------
    EvaluationError
        No query has a relevant document, or a score is NaN.
    """
    import ir_measures
    from ir_measures import RR, R, nDCG

    judged = {q: dict(docs) for q, docs in qrels.items() if any(relevance > 0 for relevance in docs.values())}
    if not judged:
        raise EvaluationError("no query has a relevant document: there is nothing to measure")
    honest = break_ties({q: run.get(q, {}) for q in judged}, judged)
    top = {q: dict(list(docs.items())[:10]) for q, docs in honest.items()}
    found: dict[str, dict[str, float]] = {}
    for measure, ranking in ((nDCG @ 10, honest), (RR, top), (R @ DEPTH, honest)):
        values = dict.fromkeys(judged, 0.0)
        # trec_eval crashes on nothing at all, and has nothing to say about queries without results.
        results = {q: docs for q, docs in ranking.items() if docs}
        if results:
            values.update((m.query_id, float(m.value)) for m in ir_measures.iter_calc([measure], judged, results))
        found[str(measure)] = values
    ndcg, rr, recall = found.values()
    return Measures(ndcg, rr, recall, tie_fraction({q: run.get(q, {}) for q in judged}, twins))


def break_ties(run: Run, qrels: Qrels, depth: int = DEPTH) -> dict[str, dict[str, float]]:
    """Cut a run to `depth` results, ties broken against the system, and replace its scores by distinct ones.

    Among documents of equal score, those of lower relevance come first. A document that ties with the last result of
    a list longer than `depth` may tie with any number of others beyond it: if relevant, it counts as not retrieved. So
    a model that gives all documents one score gets 0, not what the order of document ids happens to give.

    Parameters
    ----------
    run : mapping of str to mapping of str to float
    qrels : mapping of str to mapping of str to int
    depth : int
        Ranks that are looked at, from the first.

    Returns
    -------
    dict of str to dict of str to float
        Documents best first, scored −rank.

    Raises
    ------
    EvaluationError
        A score is NaN.
    """
    broken = {}
    for query, documents in run.items():
        judged = qrels.get(query, {})
        ranking = sorted(documents, key=lambda d: (-documents[d], max(judged.get(d, 0), 0), d))
        for document in ranking:
            if math.isnan(documents[document]):
                raise EvaluationError(f"query {query!r}: the score of document {document!r} is NaN")
        if len(ranking) > depth:
            last = documents[ranking[-1]]
            ranking = [d for d in ranking if documents[d] > last or judged.get(d, 0) <= 0]
        broken[query] = {document: -float(rank) for rank, document in enumerate(ranking[:depth], start=1)}
    return broken


def tie_fraction(run: Run, twins: Mapping[str, str] | None = None, depth: int = DEPTH) -> float:
    """Return the share of neighbouring results, among the first `depth` of every query, whose scores are equal.

    Parameters
    ----------
    run : mapping of str to mapping of str to float
    twins : mapping of str to str, optional
        Document id → id of a document that reads the same: such documents have to tie, which says nothing about the
        model.
    depth : int
        Ranks that are looked at, from the first.
    """
    twins = twins or {}
    equal = pairs = 0
    for documents in run.values():
        ranking = sorted(documents.items(), key=lambda item: (-item[1], twins.get(item[0], item[0])))[:depth]
        pairs += max(len(ranking) - 1, 0)
        equal += sum(x == y and twins.get(a, a) != twins.get(b, b) for (a, x), (b, y) in itertools.pairwise(ranking))
    return equal / pairs if pairs else 0.0


def ceiling(qrels: Qrels, twins: Mapping[str, str]) -> float:
    """Return the mean nDCG@10 of the best ranking there is, where documents that read the same have to tie.

    A relevant document with a twin that is not judged can come no higher than after it: ties count against the system.
    Groups of twins are put in the order of their gain per place, which is the best one but in odd cases.

    Parameters
    ----------
    qrels : mapping of str to mapping of str to int
    twins : mapping of str to str
        As in `tie_fraction`.
    """
    members: dict[str, list[str]] = {}
    for document, first in twins.items():
        members.setdefault(first, [first]).append(document)
    best: dict[str, dict[str, float]] = {}
    for query, judged in qrels.items():
        worth: dict[str, float] = {}
        for document in (d for d, relevance in judged.items() if relevance > 0):
            first = twins.get(document, document)
            gains = [max(judged.get(twin, 0), 0) for twin in members.get(first, [first])]
            worth[first] = sum(gains) / len(gains)
        order = sorted(worth, key=lambda first: -worth[first])
        best[query] = {d: -float(place) for place, first in enumerate(order) for d in members.get(first, [first])}
    values = rank_measures(best, qrels).ndcg.values()
    return sum(values) / len(values)


def effective_dimensions(vectors: NDArray[np.floating[Any]], rows: int = 4096) -> float:
    """Return (Σλ)² / Σλ² over the eigenvalues of the covariance: d where all directions vary alike, 1 on a line.

    The participation ratio, over the first `rows` vectors (n, d); 1 where none of them differs.
    """
    some = np.asarray(vectors[:rows], dtype=np.float64)
    centred = some - some.mean(axis=0)
    # tr C and tr C² need no eigenvalues; the smaller of the two products has them.
    product = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    total, squares = float(np.trace(product)), float((product * product).sum())
    return total**2 / squares if squares > 0 else 1.0
