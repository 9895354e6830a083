"""Hard negatives: what a model ranks high and should not, without what may well be relevant."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock

from mogrid.data.domain import Domain, Role
from mogrid.data.pairs import hard_negatives, text_id, training_pairs
from mogrid.data.words import same_text
from mogrid.errors import ConfigError, DataError
from mogrid.files import write_bytes
from mogrid.retrieval.bm25 import bm25_run
from mogrid.retrieval.encode import encode
from mogrid.retrieval.healing import digest_of
from mogrid.retrieval.search import search

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

__all__ = ["DEPTH", "mine_hard_negatives", "mined"]

DEPTH = 100
"""Documents retrieved a query, which negatives are chosen from."""

_FORMAT = 1

Ranked = dict[str, list[tuple[str, float]]]


def mine_hard_negatives(
    model: SentenceTransformer | Literal["bm25"],
    domain: Domain,
    *,
    negatives: int = 1,
    margin: float = 0.05,
    skip: int = 0,
    depth: int = DEPTH,
) -> Dataset:
    """Return the domain's training pairs with the hardest documents that are surely no positives.

    Negatives that the domain brings (judged 0) come first. A retrieved document is left out when it is judged relevant
    to the query (in any split), when it reads like the query itself (which stands in the corpus of ArguAna, say) or
    like a positive, or when it scores above (1 − `margin`) times the positive's score: such a document is more likely
    an unjudged positive than a negative (NV-Retriever, arXiv 2407.15831).

    Parameters
    ----------
    model : SentenceTransformer or "bm25"
        BM25's scores say little of an unjudged positive: `margin` is not used with it.
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
        Columns ``query``, ``document``, ``negative_1`` ..., and those that steer sampling (see `training_pairs`): the
        negatives' ids are among the row's ``document_ids``, so that no row sees what is relevant to it as another's.

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

    pairs, brought = training_pairs(domain, Role.TRAIN, negatives=0), hard_negatives(domain)
    if isinstance(model, str):
        ranked, limits = _by_bm25(domain, list(pairs["query"]), depth), [math.inf] * len(pairs)
    else:
        ranked, limits = _by_model(model, domain, pairs, margin, depth)
    rows: dict[str, list[Any]] = {"query": [], "document": []}
    rows |= {f"negative_{n + 1}": [] for n in range(negatives)} | {"document_ids": [], "relevant_ids": []}
    for pair, limit in zip(pairs, limits, strict=True):
        taken = {text_id(pair["query"]), text_id(pair["document"]), *pair["relevant_ids"]}
        mined = [
            text
            for text, score in ranked[pair["query"]][skip:]
            if score <= limit and text.strip() and text_id(text) not in taken
        ]
        unlike: dict[int, str] = {}
        for text in (*brought.get(same_text(pair["query"]), []), *mined):
            unlike.setdefault(text_id(text), text)
        chosen = list(unlike.values())[:negatives]
        if len(chosen) == negatives:
            rows["query"].append(pair["query"])
            rows["document"].append(pair["document"])
            rows["document_ids"].append([*pair["document_ids"], *map(text_id, chosen)])
            rows["relevant_ids"].append(pair["relevant_ids"])
            for n, text in enumerate(chosen):
                rows[f"negative_{n + 1}"].append(text)
    if not rows["query"]:
        raise DataError(
            f"domain {domain.name!r}: no query has {negatives} negatives among {depth} results at a margin of {margin}"
        )
    return Dataset.from_dict(rows)


def mined(
    model: SentenceTransformer | Literal["bm25"],
    domain: Domain,
    cache: Path,
    *,
    negatives: int,
    margin: float,
    skip: int,
) -> Dataset:
    """Mine, or read what the same mining found before; processes that want the same rows wait for the first.

    Parameters
    ----------
    model, domain, negatives, margin, skip
        As for `mine_hard_negatives`.
    cache : Path
        A folder that keeps the rows under the hash of what determines them.
    """
    from datasets import Dataset

    own = model if isinstance(model, str) else digest_of(model)
    parts = json.dumps([_FORMAT, own, domain.fingerprint, negatives, margin, skip])
    path = cache / "negatives" / f"{hashlib.sha256(parts.encode()).hexdigest()[:20]}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            rows = mine_hard_negatives(model, domain, negatives=negatives, margin=margin, skip=skip)
            write_bytes(path, gzip.compress(json.dumps(rows.to_dict()).encode(), mtime=0))
        try:
            return Dataset.from_dict(json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); remove it to mine anew") from error


def _by_bm25(domain: Domain, queries: list[str], depth: int) -> Ranked:
    texts = list(dict.fromkeys(queries))
    found = bm25_run({str(row): text for row, text in enumerate(texts)}, domain.corpus, depth=depth)
    return {
        text: [(domain.corpus[document], score) for document, score in found[str(row)].items()]
        for row, text in enumerate(texts)
    }


def _by_model(
    model: SentenceTransformer, domain: Domain, pairs: Dataset, margin: float, depth: int
) -> tuple[Ranked, list[float]]:
    """Return what the model ranks highest by query, and the score above which a pair's negatives are not sure."""
    texts = list(domain.corpus.values())
    queries = list(dict.fromkeys(pairs["query"]))
    place = {query: row for row, query in enumerate(queries)}
    known = {text: row for row, text in enumerate(texts)}
    # Positives are mostly of the corpus; those that are trained on in the place of such a document are not.
    others = list(dict.fromkeys(text for text in pairs["document"] if text not in known))
    known |= {text: len(texts) + row for row, text in enumerate(others)}
    vectors, documents = encode(model, queries, "query"), encode(model, texts + others, "document")
    scores, found = search(vectors, documents[: len(texts)], depth)
    ranked = {
        query: [(texts[d], score) for d, score in zip(found[row].tolist(), scores[row].tolist(), strict=True)]
        for query, row in place.items()
    }
    positives = documents[[known[text] for text in pairs["document"]]]
    own = np.einsum("nd,nd->n", vectors[[place[query] for query in pairs["query"]]], positives)
    return ranked, (own - margin * np.abs(own)).tolist()
