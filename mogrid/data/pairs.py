"""Training pairs with the conflicts between them: what is relevant to one row's query is no negative of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from mogrid.data.domain import Domain, Role
from mogrid.errors import DataError, RoleError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["same_text", "text_id", "training_pairs"]


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
        Columns ``query`` and ``document``, and two that steer sampling: ``document_ids``, those of the row's document,
        and ``relevant_ids``, those of all documents that *any* of the domain's judgements holds relevant to the query.
        Ids are those of texts (`text_id`), so equal documents are one, and so are equal queries; rows of several
        domains can be put together as they are.

    Raises
    ------
    RoleError
        The role is not ``train``, or the domain has no split of it.
    DataError
        The split holds no pair with a text on both sides.
    """
    if role is not Role.TRAIN:
        raise RoleError(f"domain {domain.name!r}: its {role} split must not be trained on")
    from datasets import Dataset, Features, List, Value

    split = domain.split(role)
    ids = _document_ids(domain)
    relevant = _relevant(domain, ids)
    rows: dict[str, list[Any]] = {"query": [], "document": [], "document_ids": [], "relevant_ids": []}
    seen: set[tuple[str, str]] = set()
    for query, judged in split.qrels.items():
        for document, relevance in judged.items():
            pair = (split.queries[query], split.documents.get(document, domain.corpus[document]))
            if relevance > 0 and all(text.strip() for text in pair) and pair not in seen:
                seen.add(pair)
                rows["query"].append(pair[0])
                rows["document"].append(pair[1])
                rows["document_ids"].append(ids(document))
                rows["relevant_ids"].append(relevant[same_text(pair[0])])
    if not seen:
        raise DataError(f"domain {domain.name!r}: its train split holds no (query, document) pair")
    types = dict.fromkeys(("query", "document"), Value("string"))
    lists = dict.fromkeys(("document_ids", "relevant_ids"), List(Value("int64")))
    return Dataset.from_dict(rows, features=Features(types | lists))


def same_text(text: str) -> str:
    """Return what makes two texts one: case and spacing do not tell them apart, nor do they to a tokenizer."""
    return " ".join(text.lower().split())


def text_id(text: str) -> int:
    """Return a text's id, the same for all texts that are one; 63 bits of a hash, so that no two others share it."""
    return int.from_bytes(hashlib.blake2b(same_text(text).encode(), digest_size=8).digest()) >> 1


def _document_ids(domain: Domain) -> Callable[[str], list[int]]:
    """Return a function from a document to its ids: of its text, and of the text that is trained on in its place."""

    @cache
    def ids(document: str) -> list[int]:
        texts = [split.documents[document] for split in domain.splits.values() if document in split.documents]
        return sorted({text_id(text) for text in (domain.corpus[document], *texts)})

    return ids


def _relevant(domain: Domain, ids: Callable[[str], list[int]]) -> dict[str, list[int]]:
    """Return query text → ids of all documents judged relevant to it, in any split."""
    found: dict[str, set[int]] = {}
    for split in domain.splits.values():
        for query, judged in split.qrels.items():
            own = found.setdefault(same_text(split.queries[query]), set())
            own.update(i for document, relevance in judged.items() if relevance > 0 for i in ids(document))
    return {query: sorted(own) for query, own in found.items()}
