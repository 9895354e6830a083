"""Put a domain together from rows of text, for formats that have no ids of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError

__all__ = ["DomainBuilder", "identifier"]


def identifier(text: str) -> str:
    """Return an id that equal texts share, in every split and run."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class DomainBuilder:
    """Collect judgements, then make the domain.

    Attributes
    ----------
    name : str
    where : str
        The file or data set, for messages.
    """

    name: str
    where: str
    corpus: dict[str, str] = field(default_factory=dict)
    queries: dict[Role, dict[str, str]] = field(default_factory=dict)
    qrels: dict[Role, dict[str, dict[str, int]]] = field(default_factory=dict)

    def document(self, text: str, place: str, key: str | None = None) -> str:
        """Add a document; return its id. A given id must not stand for two texts."""
        known = identifier(text) if key is None else key
        if self.corpus.setdefault(known, text) != text:
            raise DataError(f"{place}: document id {known!r} stood for another text before")
        return known

    def judge(self, role: Role, query: str, document: str, relevance: int, place: str, key: str | None = None) -> None:
        """Add one judgement of a query's text; of several on one pair, the highest counts."""
        if not query.strip():
            raise DataError(f"{place}: the query has no text")
        known = identifier(query) if key is None else key
        if self.queries.setdefault(role, {}).setdefault(known, query) != query:
            raise DataError(f"{place}: query id {known!r} stood for another text before")
        judged = self.qrels.setdefault(role, {}).setdefault(known, {})
        judged[document] = max(relevance, judged.get(document, relevance))

    def build(self, splits: Mapping[Role, str]) -> Domain:
        """Return the domain.

        Raises
        ------
        DataError
            A split has no relevant pair.
        RoleError
            A query stands in two of the splits.
        """
        for role, split in splits.items():
            if not any(r > 0 for judged in self.qrels.get(role, {}).values() for r in judged.values()):
                raise DataError(f"{self.where}: split {split!r} holds no relevant (query, document) pair")
        made = {role: Split(role, self.queries[role], self.qrels[role]) for role in splits}
        return Domain(self.name, self.corpus, made)
