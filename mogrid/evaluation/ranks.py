"""Ranks of a query's relevant documents, and the nDCG that follows from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.retrieval.splits import EncodedSplit

__all__ = ["ndcg_at", "relevant_ranks"]


def relevant_ranks(
    encoded: EncodedSplit, query: str, scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return, for a query's relevant documents, (row, rank) (r, 2) and gains (r,); ties go against the system.

    Among equal scores, documents that are not relevant come first.
    """
    rows = encoded.rows
    judged = [(rows[document], relevance) for document, relevance in encoded.qrels[query].items() if relevance > 0]
    gains = np.array([relevance for _, relevance in judged], dtype=np.float64)
    places = np.array([row for row, _ in judged], dtype=np.int64)
    own = scores[places]
    # Documents at least as good, relevant ones only where better, or alike and of smaller gain.
    ahead = np.array([(scores >= value).sum() for value in own])
    same = (own[None, :] == own[:, None]) & (
        (gains[None, :] > gains[:, None])
        | ((gains[None, :] == gains[:, None]) & (np.arange(len(own))[None, :] >= np.arange(len(own))[:, None]))
    )
    return np.column_stack([places, 1 + ahead - same.sum(axis=1)]), gains


def ndcg_at(ranks: ArrayLike, gains: ArrayLike, cut: int = 10) -> float:
    """Return nDCG@cut of documents of the given gains at the given ranks (from 1), all relevant ones among them."""
    places, values = np.asarray(ranks), np.asarray(gains, dtype=np.float64)
    reached = float((values / np.log2(places + 1))[places <= cut].sum())
    ideal = np.sort(values)[::-1][:cut]
    return reached / float((ideal / np.log2(np.arange(2, len(ideal) + 2))).sum())
