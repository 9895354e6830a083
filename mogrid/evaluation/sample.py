"""A smaller corpus and fewer queries of a domain to measure on, the same for every run."""

from __future__ import annotations

from mogrid.data.domain import Domain, Role, Split
from mogrid.retrieval.splits import judged_queries, stream

__all__ = ["sample_domain"]


def sample_domain(domain: Domain, queries: int | None, documents: int | None) -> Domain:
    """Return the select and test splits of a domain with at most so many judged queries each.

    Parameters
    ----------
    domain : Domain
    queries : int or None
        Of each split, drawn with a fixed seed; all when None.
    documents : int or None
        Of the corpus beyond what is relevant to a kept query, likewise. Ranking measures over fewer documents are
        higher than over all, and comparable only with each other.
    """
    if queries is None and documents is None:
        return domain
    splits = {}
    needed: set[str] = set()
    for role in (Role.SELECT, Role.TEST):
        if role in domain.splits:
            texts, qrels = judged_queries(domain, role)
            kept = _draw(list(texts), queries, domain.name, str(role))
            variants = {
                name: {q: written[q] for q in kept if q in written}
                for name, written in domain.splits[role].variants.items()
            }
            splits[role] = Split(role, {q: texts[q] for q in kept}, {q: qrels[q] for q in kept}, variants=variants)
            needed.update(document for q in kept for document in qrels[q])
    others = _draw([document for document in domain.corpus if document not in needed], documents, domain.name, "corpus")
    keep = needed.union(others)
    return Domain(domain.name, {d: text for d, text in domain.corpus.items() if d in keep}, splits)


def _draw(ids: list[str], count: int | None, *names: str) -> list[str]:
    if count is None or count >= len(ids):
        return ids
    rows = stream(0, *names).choice(len(ids), size=count, replace=False)
    return [ids[row] for row in sorted(rows)]
