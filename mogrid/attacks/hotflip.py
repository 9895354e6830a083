"""HotFlip: a few words of a document, or of a query, become any others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mogrid.attacks.flips import Flips, Words
from mogrid.data.domain import Role

__all__ = ["HotFlip", "QueryHotFlip"]


class HotFlip(Flips):
    """Flips to any word of the victim's vocabulary (Ebrahimi et al., arXiv 1712.06751): what no reader would overlook.

    First-order guesses are worse the farther a word is, so that with few flips neighbours may do as well.

    Parameters
    ----------
    flips, role
        As of `Flips`.
    """

    name = "hotflip"

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.flips} words, each to any other of the victim's vocabulary"

    def candidates(self, words: Words, tokens: Sequence[int]) -> NDArray[np.int64]:
        return np.tile(words.ids, (len(tokens), 1))


class QueryHotFlip(HotFlip):
    """Flips of a query's words, so that it loses the document that is most relevant to it.

    The worst that a change of so few words can do to a user who knows nothing of it: an upper bound for typing errors
    and rephrasings, where nobody chooses the words. It needs the judgements, and no attacker has those.

    Parameters
    ----------
    flips : int
        Words changed at most; fewer where nothing lowers the score.
    role : Role
        What the attack may be used for: what is trained against is not tested with.
    """

    name = "query_hotflip"
    over = "query"

    def __init__(self, flips: int = 1, role: Role = Role.TEST) -> None:
        super().__init__(flips, role)
