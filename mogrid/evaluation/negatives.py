"""Hard negatives: what a model ranks high and should not, without what may well be relevant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mogrid.data.domain import Domain, Role
from mogrid.data.pairs import training_pairs
from mogrid.errors import ConfigError, DataError
from mogrid.evaluation.encode import encode
from mogrid.evaluation.search import search

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

__all__ = ["mine_hard_negatives"]


def mine_hard_negatives(
    model: SentenceTransformer,
    domain: Domain,
    *,
    negatives: int = 1,
    margin: float = 0.05,
    skip: int = 0,
    depth: int = 100,
) -> Dataset:
    """Return the domain's training pairs with the hardest documents that are surely no positives.

    A retrieved document is left out when it is judged relevant to the query (in any split), when it reads like a
    positive, or when it scores above (1 − `margin`) times the positive's score: such a document is more likely an
    unjudged positive than a negative (NV-Retriever, arXiv 2407.15831).

    Parameters
    ----------
    model : SentenceTransformer
    domain : Domain
        With a train split; nothing else of it is read but its judgements.
    negatives : int
        A row; rows with fewer candidates are left out.
    margin : float
        Of the positive's score, in [0, 1).
    skip : int
        Retrieved documents passed over at the top, besides.
    depth : int
        Documents retrieved a query.

    Returns
    -------
    datasets.Dataset
        Columns ``query``, ``document``, ``negative_1`` ..., and ``group`` (see `training_pairs`).

    Raises
    ------
    RoleError
        The domain has no train split.
    ConfigError
        A setting is out of range.
    DataError
        No row has enough candidates.
    """
    if negatives < 1 or skip < 0 or depth < negatives + skip or not 0 <= margin < 1:
        raise ConfigError(
            f"need negatives >= 1, skip >= 0, depth >= negatives + skip and margin in [0, 1), got {negatives}, {skip}, "
            f"{depth} and {margin}"
        )
    from datasets import Dataset

    pairs = training_pairs(domain, Role.TRAIN)
    texts = list(domain.corpus.values())
    queries = list(dict.fromkeys(pairs["query"]))
    place = {query: row for row, query in enumerate(queries)}
    vectors, documents = encode(model, queries, "query"), encode(model, texts, "document")
    scores, found = search(vectors, documents, depth)
    relevant = _relevant_texts(domain)
    positives = encode(model, list(pairs["document"]), "document")
    rows: dict[str, list[Any]] = {"query": [], "document": []}
    rows |= {f"negative_{n + 1}": [] for n in range(negatives)} | {"group": []}
    for number, pair in enumerate(pairs):
        row = place[pair["query"]]
        own = float(vectors[row] @ positives[number])
        limit = own - margin * abs(own)
        taken = relevant.get(_reads(pair["query"]), set()) | {_reads(pair["document"])}
        chosen = [
            texts[document]
            for score, document in zip(scores[row][skip:].tolist(), found[row][skip:].tolist(), strict=True)
            if score <= limit and texts[document].strip() and _reads(texts[document]) not in taken
        ]
        chosen = list(dict.fromkeys(chosen))[:negatives]
        if len(chosen) == negatives:
            rows["query"].append(pair["query"])
            rows["document"].append(pair["document"])
            rows["group"].append(pair["group"])
            for n, text in enumerate(chosen):
                rows[f"negative_{n + 1}"].append(text)
    if not rows["query"]:
        raise DataError(
            f"domain {domain.name!r}: no query has {negatives} negatives among {depth} results at a margin of {margin}"
        )
    return Dataset.from_dict(rows)


def _relevant_texts(domain: Domain) -> dict[str, set[str]]:
    """Return query text → texts relevant to it in any split, as they read."""
    known: dict[str, set[str]] = {}
    for split in domain.splits.values():
        for query, judged in split.qrels.items():
            own = known.setdefault(_reads(split.queries[query]), set())
            own |= {_reads(domain.corpus[document]) for document, relevance in judged.items() if relevance > 0}
    return known


def _reads(text: str) -> str:
    return " ".join(text.lower().split())
