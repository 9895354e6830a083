"""Training pairs with groups: rows of one group never share a batch, so no known positive becomes a negative."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from mogrid.data.domain import Domain, Role
from mogrid.errors import DataError, RoleError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["training_pairs"]


def training_pairs(domain: Domain, role: Role = Role.TRAIN) -> Dataset:
    """Return a domain's relevant (query, document) pairs for training.

    Parameters
    ----------
    domain : Domain
    role : Role
        Anything but ``train`` is refused: this is the one door through which text reaches a training.

    Returns
    -------
    datasets.Dataset
        Columns ``query``, ``document`` and ``group`` (int64): the connected component of the row's query in the graph
        of relevance over *all* of the domain's judgements, in which queries of equal text, and documents of equal
        text, are one. Two rows of different groups are not known to be relevant to each other.

    Raises
    ------
    RoleError
        The role is not ``train``, or the domain has no split of it.
    DataError
        The split holds no pair with a text on both sides.
    """
    if role is not Role.TRAIN:
        raise RoleError(f"domain {domain.name!r}: its {role} split must not be trained on")
    from datasets import Dataset

    split = domain.split(role)
    group_of = _components(domain)
    rows: dict[str, list[str] | list[int]] = {"query": [], "document": [], "group": []}
    seen: set[tuple[str, str]] = set()
    for query, judged in split.qrels.items():
        for document, relevance in judged.items():
            pair = (split.queries[query], split.documents.get(document, domain.corpus[document]))
            if relevance > 0 and all(text.strip() for text in pair) and pair not in seen:
                seen.add(pair)
                rows["query"].append(pair[0])  # type: ignore[arg-type]
                rows["document"].append(pair[1])  # type: ignore[arg-type]
                rows["group"].append(group_of["q", _same(pair[0])])  # type: ignore[arg-type]
    if not seen:
        raise DataError(f"domain {domain.name!r}: its train split holds no (query, document) pair")
    return Dataset.from_dict(rows)


def _same(text: str) -> str:
    """What makes two texts one: case and spacing do not tell them apart, nor do they to a tokenizer."""
    return " ".join(text.lower().split())


def _components(domain: Domain) -> dict[tuple[str, str], int]:
    """Return (kind, text) → number of its connected component in the relevance graph."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[Hashable, int] = {}
    edges: list[tuple[int, int]] = []
    for split in domain.splits.values():
        for query, judged in split.qrels.items():
            q = number.setdefault(("q", _same(split.queries[query])), len(number))
            for document, relevance in judged.items():
                if relevance > 0:
                    edges.append((q, number.setdefault(("d", _same(domain.corpus[document])), len(number))))
    if not edges:
        return dict.fromkeys(number, 0)  # type: ignore[arg-type]
    ends = np.array(edges).T
    graph = coo_array((np.ones(len(edges)), (ends[0], ends[1])), shape=(len(number), len(number)))
    _, labels = connected_components(graph, directed=False)
    return {key: int(labels[i]) for key, i in number.items()}  # type: ignore[misc]
