"""Approximate search, by faiss: HNSW and IVF, with the recall that it really had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import EvaluationError
from mogrid.retrieval.search import _matrix, search

__all__ = ["ApproximateResult", "approximate_search"]


@dataclass(frozen=True)
class ApproximateResult:
    """What an approximate search found, and what it missed.

    Attributes
    ----------
    scores : ndarray, shape (n, k), float32
    indices : ndarray, shape (n, k), int64
        −1 where fewer than k were found.
    recall : float
        Share of the exact k results found, over a sample of the queries.
    index : str
        What was built, in words.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    recall: float
    index: str


def approximate_search(
    queries: NDArray[np.floating[Any]],
    documents: NDArray[np.floating[Any]],
    k: int,
    kind: Literal["hnsw", "ivf"] = "hnsw",
    *,
    links: int = 32,
    effort: int | None = None,
    lists: int | None = None,
    checked: int = 200,
    seed: int = 0,
) -> ApproximateResult:
    """Return about the `k` documents of largest inner product for each query.

    Parameters
    ----------
    queries : ndarray, shape (n, d)
        As `encode` returns them.
    documents : ndarray, shape (m, d)
    k : int
        Documents to find for each query.
    kind : "hnsw" or "ivf"
        A graph of neighbours (Malkov & Yashunin, arXiv 1603.09320), or lists around centres.
    links : int
        Of each document in the graph.
    effort : int, optional
        Candidates kept while the graph is walked (128), or lists looked into (an eighth of them).
    lists : int, optional
        Centres; 4·√m when left out.
    checked : int
        Queries whose exact results are found as well, for `recall`.
    seed : int
        Of the choice of those.

    Raises
    ------
    EvaluationError
        As `search`; or the kind is unknown, or a setting is below 1.
    """
    import faiss

    queries, documents = _matrix(queries, "queries"), _matrix(documents, "documents")
    if queries.shape[1] != documents.shape[1]:
        raise EvaluationError(
            f"queries have {queries.shape[1]} dimensions, documents {documents.shape[1]}: not from the same model"
        )
    if min(k, links, checked, effort or 1, lists or 1) < 1:
        raise EvaluationError("k, links, effort, lists and checked must be at least 1")
    count, width = documents.shape
    k = min(k, count)
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = max(2 * links, 80)
        index.hnsw.efSearch = max(effort or 128, k)
        said = f"HNSW, {links} links, {index.hnsw.efSearch} candidates"
    elif kind == "ivf":
        centres = min(lists or int(4 * np.sqrt(count)), max(count // 39, 1))  # faiss wants 39 points a centre
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, centres, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = seed + 1
        index.train(documents)
        index.nprobe = min(effort or max(centres // 8, 1), centres)
        said = f"IVF, {index.nprobe} of {centres} lists"
    else:
        raise EvaluationError(f"kind must be 'hnsw' or 'ivf', got {kind!r}")
    index.add(documents)
    scores, indices = index.search(queries, k)
    rows = np.random.default_rng(seed).permutation(len(queries))[:checked]
    _, exact = search(queries[rows], documents, k)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(exact, indices[rows], strict=True))
    return ApproximateResult(scores, indices, hits / exact.size, said)
