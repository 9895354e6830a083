"""Training pairs with the conflicts between them: what is relevant to one row's query is no negative of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mogrid.data.domain import Domain, Role
from mogrid.data.words import same_text, units
from mogrid.errors import DataError, RoleError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BROUGHT", "hard_negatives", "queries_in_corpus", "text_id", "training_pairs"]


BROUGHT = 7
"""Hard negatives of its own that a row has at most unless asked otherwise; FlagEmbedding and Tevatron take as many."""


def training_pairs(domain: Domain, role: Role = Role.TRAIN, *, negatives: int | None = None) -> Dataset:
    """Return a domain's relevant (query, document) pairs for training.

    Parameters
    ----------
    domain : Domain
    role : Role
        Anything but ``train`` is refused: this is the one door through which text reaches a training.
    negatives : int, optional
        Hard negatives a row; by default as many as the domain brings (`hard_negatives`), up to `BROUGHT`. A row that
        has fewer is filled up with other documents of the corpus, the same in every run.

    Returns
    -------
    datasets.Dataset
        Columns ``query``, ``document``, ``negative_1`` ..., and two that steer sampling: ``document_ids``, those of
        the row's document and negatives, and ``relevant_ids``, those of all documents that *any* of the domain's
        judgements holds relevant to the query, and of the query itself where it stands in the corpus: none
        of them is a negative of it. Ids are those of texts (`text_id`), so equal documents are one, and so
        are equal queries; rows of several domains can be put together as they are.

    Raises
    ------
    RoleError
        The role is not ``train``, or the domain has no split of it.
    DataError
        The split holds no pair with a text on both sides, or the corpus too few other documents.
    """
    if role is not Role.TRAIN:
        raise RoleError(f"domain {domain.name!r}: its {role} split must not be trained on")
    from datasets import Dataset, Features, List, Value

    split = domain.split(role)
    ids = _document_ids(domain)
    relevant = _relevant(domain, ids)
    brought = _brought(domain, relevant)
    if negatives is None:
        negatives = min(max(map(len, brought.values()), default=0), BROUGHT)
    corpus = list(domain.corpus.values()) if negatives else []
    names = [f"negative_{number + 1}" for number in range(negatives)]
    rows: dict[str, list[Any]] = {name: [] for name in ("query", "document", *names, "document_ids", "relevant_ids")}
    seen: set[tuple[str, str]] = set()
    for query, judged in split.qrels.items():
        for document, relevance in judged.items():
            pair = (split.queries[query], split.documents.get(document, domain.corpus[document]))
            if relevance > 0 and all(text.strip() for text in pair) and pair not in seen:
                seen.add(pair)
                key = same_text(pair[0])
                own = brought.get(key, [])[:negatives]
                own = own + _others(
                    corpus, {text_id(key), *relevant[key], *map(text_id, own)}, negatives - len(own), key
                )
                if len(own) < negatives:
                    continue
                found = (*pair, *own, [*ids(document), *map(text_id, own)], relevant[key])
                for column, value in zip(rows.values(), found, strict=True):
                    column.append(value)
    if not rows["query"]:
        why = f" with {negatives} documents that are not relevant" if seen else ""
        raise DataError(f"domain {domain.name!r}: its train split holds no (query, document) pair{why}")
    types = dict.fromkeys(("query", "document", *names), Value("string"))
    lists = dict.fromkeys(("document_ids", "relevant_ids"), List(Value("int64")))
    return Dataset.from_dict(rows, features=Features(types | lists))


def hard_negatives(domain: Domain) -> dict[str, list[str]]:
    """Return a training query's text (see `same_text`) → the documents that its file brings as negatives: judged 0.

    None of them reads like the query itself, or like what is relevant to it in any split.
    """
    return _brought(domain, _relevant(domain, _document_ids(domain)))


def _brought(domain: Domain, relevant: Mapping[str, Sequence[int]]) -> dict[str, list[str]]:
    split = domain.split(Role.TRAIN)
    found: dict[str, dict[int, str]] = {}
    for query, judged in split.qrels.items():
        key = same_text(split.queries[query])
        for document, relevance in judged.items():
            text = domain.corpus[document]
            if relevance <= 0 and text.strip() and (known := text_id(text)) not in (text_id(key), *relevant[key]):
                found.setdefault(key, {}).setdefault(known, text)
    return {key: list(texts.values()) for key, texts in found.items()}


def _others(corpus: Sequence[str], taken: set[int], count: int, key: str) -> list[str]:
    """Return so many texts that are not taken, drawn by the query's own generator."""
    found: list[str] = []
    if count > 0:
        drawn = np.random.default_rng(text_id(key)).integers(len(corpus), size=8 * count)
        for place in chain(drawn.tolist(), range(len(corpus))):
            if corpus[place].strip() and (known := text_id(corpus[place])) not in taken:
                found.append(corpus[place])
                taken.add(known)
                if len(found) == count:
                    break
    return found


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
    """Return query text → ids of all documents judged relevant to it in any split, and of the one that it is."""
    found: dict[str, set[int]] = {}
    for split in domain.splits.values():
        for query, judged in split.qrels.items():
            own = found.setdefault(same_text(split.queries[query]), set())
            own.update(i for document, relevance in judged.items() if relevance > 0 for i in ids(document))
        for query in queries_in_corpus(split.queries, domain.corpus, split.qrels):
            found.setdefault(same_text(split.queries[query]), set()).update(ids(query))
    return {query: sorted(own) for query, own in found.items()}


def queries_in_corpus(
    queries: Mapping[str, str], corpus: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> frozenset[str]:
    """Return the queries that stand in the corpus under their own id, as in ArguAna and Quora.

    An equal id alone says little where both are numbered from 1: one text must hold the other, too, but for case and
    punctuation, and be no small part of it (the rest is a title). A document that is judged relevant is one to find,
    whatever it is called.
    """
    return frozenset(
        query
        for query, text in queries.items()
        if query in corpus and qrels.get(query, {}).get(query, 0) <= 0 and _holds(_words(text), _words(corpus[query]))
    )


def _holds(first: str, second: str) -> bool:
    short, long = sorted((first, second), key=len)
    return short.strip() != "" and short in long and 3 * len(short) >= len(long)


def _words(text: str) -> str:
    return f" {' '.join(units(text))} "
