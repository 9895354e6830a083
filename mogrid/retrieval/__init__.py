"""Retrievers at work: models, encoding, exact and approximate search, BM25, hard negatives, vectors on disk."""

from mogrid.retrieval.approximate import ApproximateResult, approximate_search
from mogrid.retrieval.encode import encode
from mogrid.retrieval.negatives import mine_hard_negatives, mined
from mogrid.retrieval.search import search
from mogrid.retrieval.splits import EncodedSplit, encode_split
from mogrid.retrieval.vectors import Shards, encode_in_shards, load_vectors, save_vectors, split_from_vectors

__all__ = [
    "ApproximateResult",
    "EncodedSplit",
    "Shards",
    "approximate_search",
    "encode",
    "encode_in_shards",
    "encode_split",
    "load_vectors",
    "mine_hard_negatives",
    "mined",
    "save_vectors",
    "search",
    "split_from_vectors",
]
