"""Put a domain together. What cannot be used is dropped and counted; what contradicts itself is an error."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mogrid.data.domain import Domain, Role, Split
from mogrid.data.words import same_text
from mogrid.errors import DataError

__all__ = ["OVERLAP", "DomainBuilder", "identifier"]

OVERLAP = "queries of {} that stand in a later split"
"""What `Domain.dropped` calls the queries that a domain's own ``drop_overlap`` left out, by role."""

_TWICE = {"document": "documents that stand twice", "query": "queries that stand twice"}
_log = logging.getLogger(__name__)


def identifier(text: str) -> str:
    """Return an id that equal texts share, in every split and run."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class DomainBuilder:
    """Collect documents and judgements, then make the domain.

    Attributes
    ----------
    name : str
    where : str
        The file or data set, for messages.
    dropped : Counter
        What was left out → how often.
    files : dict of Role to Path
        Where a split's judgements stand.
    first : str
        The first judgement that was left out, and why.
    """

    name: str
    where: str
    corpus: dict[str, str] = field(default_factory=dict)
    queries: dict[Role, dict[str, str]] = field(default_factory=dict)
    qrels: dict[Role, dict[str, dict[str, int]]] = field(default_factory=dict)
    variants: dict[Role, dict[str, dict[str, str]]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    files: dict[Role, Path] = field(default_factory=dict)
    first: str = ""

    def drop(self, what: str, why: str) -> None:
        """Count something that is left out."""
        self.dropped[what] += 1
        self.first = self.first or why

    # -- formats that list documents, queries and judgements by id ---------------------------------------------------

    def listed(self, texts: dict[str, str], key: str, text: str, what: str, place: str) -> None:
        """Add one document or query of a list in which an id stands once; a repetition must agree."""
        if key not in texts:
            texts[key] = text
        elif texts[key] != text:
            raise DataError(f"{place}: {what} id {key!r} stands here twice, with another text before")
        else:
            self.dropped[_TWICE[what]] += 1

    def judged(self, role: Role, queries: Mapping[str, str], rows: Iterable[tuple[str, str, str, int]]) -> None:
        """Add judgements (place, query, document, relevance) of listed queries and documents."""
        asked, qrels = self.queries.setdefault(role, {}), self.qrels.setdefault(role, {})
        for place, query, document, relevance in rows:
            if query not in queries:
                self.drop("judgements of queries that are not there", f"{place}: unknown query id {query!r}")
            elif document not in self.corpus:
                self.drop("judgements of documents that are not there", f"{place}: unknown document id {document!r}")
            elif not queries[query].strip():
                self.drop("judgements of queries without text", f"{place}: query {query!r} has no text")
            elif document not in (of_query := qrels.setdefault(query, {})):
                asked[query] = queries[query]
                of_query[document] = relevance
            elif of_query[document] != relevance:
                twice = f"as {of_query[document]} and as {relevance}"
                raise DataError(f"{place}: query {query!r} and document {document!r} are judged twice, {twice}")
            else:
                self.dropped["judgements that stand twice"] += 1

    # -- formats whose records hold texts ----------------------------------------------------------------------------

    def document(self, text: str, place: str, key: str | None = None) -> str:
        """Add a document; return its id. A given id must not stand for two texts."""
        known = identifier(text) if key is None else key
        if self.corpus.setdefault(known, text) != text:
            raise DataError(f"{place}: document id {known!r} stood for another text before")
        return known

    def judge(self, role: Role, query: str, document: str, relevance: int, place: str, key: str | None = None) -> None:
        """Add one judgement of a query's text; of several on one pair, the highest counts."""
        known = identifier(query) if key is None else key
        if self.queries.setdefault(role, {}).setdefault(known, query) != query:
            raise DataError(f"{place}: query id {known!r} stood for another text before")
        judged = self.qrels.setdefault(role, {}).setdefault(known, {})
        judged[document] = max(relevance, judged.get(document, relevance))

    # -- the domain --------------------------------------------------------------------------------------------------

    def build(self, splits: Mapping[Role, str], *, drop_overlap: bool = False) -> Domain:
        """Return the domain; what was left out of the judgements is logged.

        Parameters
        ----------
        splits : mapping of Role to str
        drop_overlap : bool
            Whether a query that stands in two splits, by id or by text, stays in the one that is judged last alone.

        Raises
        ------
        DataError
            A split has no relevant pair.
        RoleError
            A query stands in two of the splits.
        """
        if drop_overlap:
            self._part()
        made = {}
        for role, name in splits.items():
            qrels = self.qrels.get(role, {})
            if not any(relevance > 0 for judged in qrels.values() for relevance in judged.values()):
                why = f" ({self.first})" if self.first else ""
                raise DataError(
                    f"{self.files.get(role, self.where)}: split {name!r} holds no relevant (query, document) pair{why}"
                )
            made[role] = Split(role, self.queries[role], qrels, variants=self.variants.get(role, {}), name=name)
        left = [f"{count:,} {what}" for what, count in self.dropped.items() if what.startswith("judgements of")]
        if left:
            _log.warning("%s: left out: %s", self.where, ", ".join(left))
        return Domain(self.name, self.corpus, made, dict(self.dropped))

    def _part(self) -> None:
        ids: set[str] = set()
        texts: set[str] = set()
        for role in (Role.TEST, Role.SELECT, Role.TRAIN):
            queries = self.queries.get(role, {})
            twice = {query for query, text in queries.items() if query in ids or same_text(text) in texts}
            ids |= set(queries)
            texts |= {same_text(text) for text in queries.values()}
            for query in twice:
                del queries[query], self.qrels[role][query]
                self.drop(OVERLAP.format(role), f"query {query!r} stands in two splits")
