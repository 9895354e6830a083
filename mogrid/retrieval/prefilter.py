"""Exact search in two steps: half precision rules most documents out, single precision ranks what is left.

Processors with instructions for bfloat16 multiply matrices of it several times as fast as of float32. How far a score
may be off is known, so a document that half precision puts further below the k-th place than that cannot be a result.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["prefiltered", "worth_it"]

_UNIT = 2.0**-9
"""Largest relative error of rounding to bfloat16."""

_QUERIES, _DOCUMENTS = 1024, 8192
"""Multiplied at once: of this size, the parts stay in the caches."""

_FIRST = 2048
"""Documents that give the first estimate of a query's k-th best score, at least."""

_MOST = 32
"""Times k candidates a query, beyond which single precision alone is faster: embeddings that hardly differ."""

_LARGEST = 1e15
"""Norm beyond which scores might overflow."""


def worth_it(queries: int, shape: tuple[int, ...], k: int) -> bool:
    """Whether two steps pay: the processor multiplies bfloat16, and there is enough to multiply."""
    able = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    documents, width = shape
    return queries >= 64 and documents >= 8 * max(k, 256) and queries * documents * width >= 2**31 and bool(able())


def prefiltered(
    queries: NDArray[np.float32], documents: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Return scores (n, k) and rows of the `k` documents of largest inner product, best first; equal scores by row.

    Shapes are (n, d) and (m, d), with k ≤ m / 8. None where too few documents are ruled out.
    """
    with warnings.catch_warnings():  # torch warns of what cannot be written, such as a file's; nothing writes here
        warnings.simplefilter("ignore", UserWarning)
        left, right = torch.from_numpy(queries), torch.from_numpy(documents)
    longest, other = (float(torch.linalg.vector_norm(matrix, dim=1).max()) for matrix in (right, left))
    if max(longest, other) > _LARGEST:
        return None
    threads = torch.get_num_threads()
    size = min(_QUERIES, -(-len(queries) // threads))

    def search(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        candidates = _candidates(left[start : start + size], right, k, longest)
        return None if candidates is None else _ranked(queries[start : start + size], documents, k, *candidates)

    # Whole searches side by side: much of one is no product of matrices, and would leave all threads but one waiting.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(search, range(0, len(queries), size)))
    torch.set_num_threads(threads)
    ranked = [some for some in found if some is not None]
    if len(ranked) < len(found):
        return None
    return np.concatenate([scores for scores, _ in ranked]), np.concatenate([rows for _, rows in ranked])


def _candidates(
    queries: torch.Tensor, documents: torch.Tensor, k: int, longest: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return (query, document) of all pairs that may be results, ordered by query."""
    width = queries.shape[1]
    halves, buffer = queries.bfloat16(), torch.empty((_DOCUMENTS, width), dtype=torch.bfloat16)
    # A score is off by what rounding the query takes from it, which is measured, by what rounding a document may take,
    # and by the sum in single precision; half precision of the result is the business of `_limit`.
    lost = torch.linalg.vector_norm(queries - halves.float(), dim=1).numpy()
    norms = torch.linalg.vector_norm(queries, dim=1).numpy()
    error = longest * (lost + norms * (1.01 * _UNIT + width * 2.0**-23))
    found = _Found(len(queries), k, error)
    seen = due = 0
    for start in range(0, len(documents), _DOCUMENTS):
        block = documents[start : start + _DOCUMENTS]
        half = buffer[: len(block)].copy_(block)
        scores = halves @ half.T
        if start == 0:
            found.kth = scores[:, : max(_FIRST, 2 * k)].topk(k, dim=1).values[:, -1].float().numpy()
        hits = _at_least(scores, found.limit())
        found.add(
            hits // len(block), hits % len(block) + start, scores.flatten()[torch.from_numpy(hits)].float().numpy()
        )
        seen += len(block)
        if seen >= due or seen == len(documents):
            due = 3 * seen
            if not found.prune():
                return None
    return found.queries[0], found.documents[0]


class _Found:
    """Candidates so far, and the k-th best score of each query among them; scores are off by `error` at most."""

    def __init__(self, count: int, k: int, error: NDArray[np.float32]) -> None:
        self.count, self.k, self.error = count, k, error
        self.kth: NDArray[np.float32] = np.full(count, -np.inf, np.float32)
        self.queries: list[NDArray[np.int64]] = []
        self.documents: list[NDArray[np.int64]] = []
        self.scores: list[NDArray[np.float32]] = []

    def add(self, queries: NDArray[np.int64], documents: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        self.queries.append(queries)
        self.documents.append(documents)
        self.scores.append(scores)

    def limit(self) -> NDArray[np.float32]:
        """Return, by query, the score in half precision that no result can be below."""
        # The k best by these scores are as good as the k-th less the error, and so are all results; theirs may be off
        # by as much again. Both scores were rounded.
        slack: NDArray[np.float32] = 2 * self.error + 2.02 * _UNIT * (np.abs(self.kth) + self.error)
        return self.kth - slack

    def prune(self) -> bool:
        """Leave out what is too far below the k-th best by now; return whether that left few enough."""
        queries, documents = np.concatenate(self.queries), np.concatenate(self.documents)
        scores = np.concatenate(self.scores)
        # One number orders by query, then by falling score: sorting those is many times as fast as `lexsort`.
        scale = 0.25 / max(float(np.abs(scores).max()), 1e-30)
        order = np.argsort(queries - scores.astype(np.float64) * scale)
        queries, documents, scores = queries[order], documents[order], scores[order]
        firsts = np.searchsorted(queries, np.arange(self.count))
        self.kth = scores[firsts + self.k - 1]
        keep = scores >= self.limit()[queries]
        self.queries, self.documents, self.scores = [queries[keep]], [documents[keep]], [scores[keep]]
        return len(self.queries[0]) <= _MOST * self.k * self.count


def _at_least(scores: torch.Tensor, limits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the flat places of scores (n, m), in bfloat16, that reach their row's limit (n,), or nearly."""
    low = torch.from_numpy(limits).bfloat16()
    low = torch.nextafter(low, torch.full_like(low, -torch.inf))
    if bool((low > 0).all()):
        # Bits of positive floats are ordered as integers are, and comparing those is several times as fast.
        mask: Any = scores.view(torch.int16).numpy() >= low.view(torch.int16).numpy()[:, None]
    else:
        mask = (scores >= low[:, None]).numpy()
    if mask.size % 8:
        return np.flatnonzero(mask)
    eights = np.flatnonzero(mask.reshape(-1).view(np.uint64) != 0)  # most are empty
    hits = np.flatnonzero(mask.reshape(-1, 8)[eights])
    return eights[hits // 8] * 8 + hits % 8


def _ranked(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    k: int,
    owners: NDArray[np.int64],
    candidates: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    ends = np.searchsorted(owners, np.arange(len(queries) + 1))
    for place, query in enumerate(queries):
        own = candidates[ends[place] : ends[place + 1]]
        exact = np.einsum("nd,d->n", documents[own], query)
        best = np.lexsort((own, -exact))[:k]
        scores[place], rows[place] = exact[best], own[best]
    return scores, rows
