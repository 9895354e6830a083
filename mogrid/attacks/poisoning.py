"""Corpus poisoning: a few passages put into the corpus that many unseen queries retrieve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mogrid.attacks.flips import Words, climb
from mogrid.attacks.hotflip import HotFlip
from mogrid.data.domain import Role
from mogrid.errors import ConfigError
from mogrid.flops import crafting
from mogrid.retrieval.encode import encode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["CorpusPoisoning"]


class CorpusPoisoning:
    """Write passages towards the centres of the queries that the attacker knows (Zhong et al., arXiv 2310.19156).

    Known queries are clustered by k-means on their embeddings, and one passage of random words a cluster is changed
    word by word, as by `HotFlip`, until its embedding points to the cluster's centre. One passage is the universal one.

    Parameters
    ----------
    passages : int
        How many are put into the corpus.
    words : int
        Length of each.
    flips : int
        Changes of a word; a word may be changed again.
    role : Role
        What the attack may be used for: what is trained against is not tested with.
    """

    name = "corpus_poisoning"

    def __init__(self, passages: int = 10, words: int = 30, flips: int = 90, role: Role = Role.TEST) -> None:
        if min(passages, words, flips) < 1:
            raise ConfigError(f"passages, words and flips must be at least 1, got {passages}, {words} and {flips}")
        self.passages = passages
        self.words = words
        self.flips = flips
        self.role = role

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.passages} passage{'s' * (self.passages > 1)} of {self.words} words, {self.flips} flips each"

    def craft(self, model: SentenceTransformer, queries: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Return the passages, as text.

        Parameters
        ----------
        model : SentenceTransformer
            The victim, or the attacker's own.
        queries : sequence of str
            What the attacker knows, at least as many as passages.
        rng : numpy.random.Generator
            Of the clustering and of the words to start from.

        Raises
        ------
        ConfigError
            There are fewer queries than passages, or the model is no transformer with a fast tokenizer.
        """
        if len(queries) < self.passages:
            raise ConfigError(f"{self.passages} passages need as many queries to be written from, got {len(queries)}")
        with crafting():
            words = Words(model)
            centres = _centres(encode(model, list(queries), "query"), self.passages, int(rng.integers(2**31 - 1)))
            known = list(words.text_of.values())
            texts = [" ".join(known[i] for i in rng.integers(len(known), size=self.words)) for _ in centres]
            return climb(words, texts, centres, self.flips, HotFlip().candidates, again=True)


def _centres(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Return the means (count, d) of k-means clusters."""
    if count == 1:
        return vectors.mean(axis=0, keepdims=True)
    import faiss

    means = faiss.Kmeans(vectors.shape[1], count, niter=20, seed=seed, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(vectors, dtype=np.float32))
    return np.asarray(means.centroids, dtype=np.float32)
