"""Embedding-neighbour substitution: a few words of a document become others that the victim itself holds for alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mogrid.attacks.flips import Flips, Words
from mogrid.data.domain import Role
from mogrid.errors import ConfigError

__all__ = ["EmbeddingNeighbourFlips"]


class EmbeddingNeighbourFlips(Flips):
    """Flips to one of the `neighbours` nearest words (cosine) of the victim's own word embeddings.

    PRADA's restriction (arXiv 2204.01321) on HotFlip. Neighbours are not synonyms, and nothing holds back a word of
    the query when it is one: nearness is the whole budget. Of all attacks here it tells models apart best.

    Parameters
    ----------
    flips, role
        As of `Flips`.
    neighbours : int
        How many near words stand to choose from for each word.
    """

    name = "embedding_neighbour_flips"

    def __init__(self, flips: int = 5, neighbours: int = 20, role: Role = Role.TEST) -> None:
        super().__init__(flips, role)
        if neighbours < 1:
            raise ConfigError(f"neighbours must be at least 1, got {neighbours}")
        self.neighbours = neighbours

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.flips} words, each to one of its {self.neighbours} nearest in the victim's word embeddings"

    def candidates(self, words: Words, tokens: Sequence[int]) -> NDArray[np.int64]:
        return words.near(tokens, self.neighbours)
