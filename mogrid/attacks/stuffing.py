"""Query stuffing: the query's words stand in the document, and no model is needed to put them there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mogrid.attacks.base import Attack, Target
from mogrid.data.domain import Role
from mogrid.errors import ConfigError

__all__ = ["QueryStuffing"]


class QueryStuffing(Attack):
    """Put the query's words into each document: term spamming, which often beats attacks made for rerankers.

    Parameters
    ----------
    times : int
        How often the query is put there.
    words : int, optional
        At most so many words in all, the query's first ones; all of them when left out.
    where : "start", "end" or "anywhere"
        Anywhere: between two words of the document, drawn anew each time.
    role : Role
        What the attack may be used for: what is trained against is not tested with.
    """

    name = "query_stuffing"
    white_box = False

    def __init__(
        self,
        times: int = 1,
        words: int | None = None,
        where: Literal["start", "end", "anywhere"] = "start",
        role: Role = Role.TEST,
    ) -> None:
        if times < 1 or (words is not None and words < 1):
            raise ConfigError(f"times and words must be at least 1, got {times} and {words}")
        if where not in ("start", "end", "anywhere"):
            raise ConfigError(f"where must be 'start', 'end' or 'anywhere', got {where!r}")
        self.times = times
        self.words = words
        self.where = where
        self.role = role

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        limit = "" if self.words is None else f", at most {self.words} words"
        place = {"start": "at the start", "end": "at the end", "anywhere": "anywhere in the text"}[self.where]
        return f"the query {self.times} time{'s' * (self.times > 1)} {place}{limit}"

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the documents with their queries in them; the victim's model is not looked at."""
        if not isinstance(victim, Target) or len(victim.texts) != len(texts):
            raise ConfigError(f"attack {self.name!r} needs a Target: one query for each document")
        return [self._stuff(text, query, rng) for text, query in zip(texts, victim.texts, strict=True)]

    def _stuff(self, text: str, query: str, rng: np.random.Generator) -> str:
        terms = (query.split() * self.times)[: self.words]
        if self.where != "anywhere":
            parts = [" ".join(terms), text]
            return " ".join(parts if self.where == "start" else parts[::-1]).strip()
        for start in range(0, len(terms), max(len(query.split()), 1)):
            gaps = [0, *(gap.start() for gap in re.finditer(r"(?<=\S)\s", text)), len(text)]
            at = gaps[int(rng.integers(len(gaps)))]
            text = f"{text[:at]} {' '.join(terms[start : start + len(query.split())])} {text[at:].lstrip()}".strip()
        return text
