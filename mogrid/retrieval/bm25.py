"""BM25: the row that every table of dense retrievers needs."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from mogrid.data.words import terms
from mogrid.errors import EvaluationError
from mogrid.retrieval.types import DEPTH

__all__ = ["bm25_run"]

_K1, _B = 0.9, 0.4
"""Anserini's settings, and so those of BEIR's baseline; bm25s' own default is 1.5 and .75."""

_CACHE_SIZE = 16
_cache: OrderedDict[bytes, Any] = OrderedDict()


def bm25_run(
    queries: Mapping[str, str], corpus: Mapping[str, str], *, depth: int = DEPTH + 1
) -> dict[str, dict[str, float]]:
    """Rank a corpus by BM25 (Lucene's variant, k1 = .9, b = .4, English stop words, no stemming).

    Scripts without spaces between words are counted in pairs of letters (`mogrid.data.words`).

    The index of a corpus is kept for the life of the process (the last 16 corpora).

    Parameters
    ----------
    queries, corpus : mapping of str to str
        Id → text.
    depth : int
        Results a query. Documents that share no word with the query are not results.

    Returns
    -------
    dict of str to dict of str to float
        Query id → document id → score; empty for a query without a known word.
    """

    if not queries or not corpus:
        raise EvaluationError("BM25 needs at least one query and one document")
    index = _index(corpus)
    if index is None:
        return {query: {} for query in queries}
    ids = list(corpus)
    tokens = _tokens(queries)
    found, scores = index.retrieve(tokens, k=min(depth, len(ids)), show_progress=False)
    return {
        query: {ids[d]: float(score) for d, score in zip(row, row_scores, strict=True) if score > 0}
        for query, row, row_scores in zip(queries, np.asarray(found), np.asarray(scores), strict=True)
    }


def _tokens(texts: Mapping[str, str]) -> list[list[str]]:
    from bm25s.stopwords import STOPWORDS_EN

    left_out = frozenset(STOPWORDS_EN)
    return [[term for term in terms(text) if term not in left_out] for text in texts.values()]


def _index(corpus: Mapping[str, str]) -> Any:
    """Return the index of the corpus, or None where no document has a word to index."""
    # bm25s loads JAX where that is installed, which would take most of a GPU's memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import bm25s

    digest = hashlib.sha256()
    for text in corpus.values():
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    key = digest.digest()
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    tokens = _tokens(corpus)
    index = None
    if any(tokens):
        index = bm25s.BM25(k1=_K1, b=_B, method="lucene")
        index.index(tokens, show_progress=False)
    _cache[key] = index
    if len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)
    return index
