"""Exact inner-product search over embeddings: with faiss, and in two steps where the processor favours them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import EvaluationError
from mogrid.retrieval.encode import check_finite
from mogrid.retrieval.prefilter import prefiltered, worth_it

__all__ = ["search"]

_THRESHOLD_LOCK = threading.Lock()


def search(
    queries: NDArray[np.floating[Any]], documents: NDArray[np.floating[Any]], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the `k` documents of largest inner product for each query.

    Parameters
    ----------
    queries : ndarray, shape (n, d)
    documents : ndarray, shape (m, d)
    k : int
        Results a query; where it exceeds m, all m documents are returned.

    Returns
    -------
    scores : ndarray, shape (n, min(k, m)), float32
        In descending order.
    indices : ndarray, shape (n, min(k, m)), int64
        Rows of `documents`; equal scores by ascending index. Which of several documents that tie for the last places
        are among the results is not defined.

    Raises
    ------
    EvaluationError
        An input is empty, not a matrix or not finite, the widths differ, or `k` < 1.
    """
    import faiss

    queries, documents = _matrix(queries, "queries"), _matrix(documents, "documents")
    if queries.shape[1] != documents.shape[1]:
        raise EvaluationError(
            f"queries have {queries.shape[1]} dimensions, documents {documents.shape[1]}: not from the same model"
        )
    if k < 1:
        raise EvaluationError(f"k must be at least 1, got {k}")
    k = min(k, len(documents))
    if worth_it(len(queries), documents.shape, k) and (found := prefiltered(queries, documents, k)) is not None:
        return found
    with _blas_for_any_batch(faiss):
        scores, indices = faiss.knn(queries, documents, k, metric=faiss.METRIC_INNER_PRODUCT)
    order = np.lexsort((indices, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _matrix(values: NDArray[np.floating[Any]], what: str) -> NDArray[np.float32]:
    matrix = np.ascontiguousarray(values, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise EvaluationError(f"{what} must be a matrix with at least one row and column, got shape {matrix.shape}")
    # A product with ones is not finite where a row is not, and a tenth of the price of looking at every number.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = matrix @ np.ones(matrix.shape[1], np.float32)
    if not np.isfinite(sums).all():
        check_finite(matrix, what)
    return matrix


@contextmanager
def _blas_for_any_batch(faiss: Any) -> Iterator[None]:
    # As shipped, faiss 1.15 keeps to plain loops while queries × dimensions < 128,000, several times slower.
    # The setting is global to the process: it is put back, and searches from several threads wait for each other.
    with _THRESHOLD_LOCK:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
