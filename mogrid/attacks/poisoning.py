"""Corpus poisoning: a few passages put into the corpus that many unseen queries retrieve."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mogrid.attacks.flips import Words, climb
from mogrid.attacks.hotflip import HotFlip
from mogrid.attacks.ranks import ndcg_at, relevant_ranks
from mogrid.data.domain import Domain, Role
from mogrid.errors import ConfigError, DataError, RoleError
from mogrid.flops import crafting
from mogrid.retrieval.encode import encode
from mogrid.retrieval.splits import EncodedSplit, encode_split, stream

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["CorpusPoisoning", "PoisoningResult", "poisoning_success"]

_QUERIES_AT_ONCE = 256


class CorpusPoisoning:
    """Write passages towards the centres of the queries that the attacker knows (Zhong et al., arXiv 2310.19156).

    Known queries are clustered by k-means on their embeddings, and one passage of random words a cluster is changed
    word by word, as by `HotFlip`, until its embedding points to the cluster's centre. One passage is the universal one.

    Parameters
    ----------
    passages : int
    words : int
        Length of each.
    flips : int
        Changes of a word; a word may be changed again.
    role : Role
    """

    name = "corpus_poisoning"

    def __init__(self, passages: int = 10, words: int = 30, flips: int = 90, role: Role = Role.TEST) -> None:
        if min(passages, words, flips) < 1:
            raise ConfigError(f"passages, words and flips must be at least 1, got {passages}, {words} and {flips}")
        self.passages = passages
        self.words = words
        self.flips = flips
        self.role = role

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.passages} passage{'s' * (self.passages > 1)} of {self.words} words, {self.flips} flips each"

    def craft(self, model: SentenceTransformer, queries: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Return the passages, as text.

        Parameters
        ----------
        model : SentenceTransformer
            The victim, or the attacker's own.
        queries : sequence of str
            What the attacker knows, at least as many as passages.
        rng : numpy.random.Generator
            Of the clustering and of the words to start from.

        Raises
        ------
        ConfigError
            There are fewer queries than passages, or the model is no transformer with a fast tokenizer.
        """
        if len(queries) < self.passages:
            raise ConfigError(f"{self.passages} passages need as many queries to be written from, got {len(queries)}")
        with crafting():
            words = Words(model)
            centres = _centres(encode(model, list(queries), "query"), self.passages, int(rng.integers(2**31 - 1)))
            known = list(words.text_of.values())
            texts = [" ".join(known[i] for i in rng.integers(len(known), size=self.words)) for _ in centres]
            return climb(words, texts, centres, self.flips, HotFlip().candidates, again=True)


@dataclass(frozen=True)
class PoisoningResult:
    """What poisoned passages did to the queries of a split.

    Attributes
    ----------
    domain, role, attack, knowledge, budget : str
        As of `AttackResult`.
    seed, known : int
        Number of queries the attacker knew, none of the split's.
    ranks : dict of query id to int
        Rank of the best passage, from 1; ties go to the attacker.
    clean, poisoned : dict of query id to float
        nDCG@10 before and after.
    passages : tuple of str
    seconds : float
        Wall clock of crafting.
    """

    domain: str
    role: str
    attack: str
    knowledge: str
    budget: str
    seed: int
    known: int
    ranks: dict[str, int]
    clean: dict[str, float]
    poisoned: dict[str, float]
    passages: tuple[str, ...]
    seconds: float

    def success_rate(self, top: int = 10) -> float:
        """Return the share of queries with a passage among the first `top`."""
        return fmean(rank <= top for rank in self.ranks.values())

    @property
    def robust_ndcg(self) -> float:
        """Mean nDCG@10 on the poisoned corpus."""
        return fmean(self.poisoned.values())

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dictionary that ``json.dumps`` takes."""
        return {**asdict(self), "passages": list(self.passages)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PoisoningResult:
        """Read what `to_json` gave. Raises `DataError` where fields are missing or unknown."""
        odd = {field.name for field in fields(cls)} ^ set(record)
        if odd:
            raise DataError(f"not the record of a poisoning: fields missing or unknown: {', '.join(sorted(odd))}")
        return cls(**{**record, "passages": tuple(record["passages"])})


def poisoning_success(
    model: SentenceTransformer,
    domain: Domain,
    role: Role,
    attack: CorpusPoisoning,
    *,
    known: Sequence[str] | None = None,
    seed: int = 0,
    encoded: EncodedSplit | None = None,
    crafted_on: SentenceTransformer | None = None,
) -> PoisoningResult:
    """Put an attack's passages into a corpus and count the queries that retrieve one.

    Parameters
    ----------
    model : SentenceTransformer
        The retriever that is judged.
    domain : Domain
    role : Role
        Of the queries that are judged.
    attack : CorpusPoisoning
    known : sequence of str, optional
        Queries that the attacker knows; those of the domain's train split when left out.
    seed : int
    encoded : EncodedSplit, optional
        What `encode_split` gave for this model and split.
    crafted_on : SentenceTransformer, optional
        The attacker's model, for a transfer attack; by default `model` itself.

    Raises
    ------
    RoleError
        A test attack on another split than the test split or the reverse; or the attacker knows a judged query.
    ConfigError
        As `CorpusPoisoning.craft`.
    """
    if (attack.role is Role.TEST) != (role is Role.TEST):
        raise RoleError(f"attack {attack.name!r} has role {attack.role} and is used on the {role} split")
    encoded = encoded or encode_split(model, domain, role)
    given = list(domain.split(Role.TRAIN).queries.values()) if known is None else list(known)
    judged = {domain.split(role).queries[query] for query in encoded.query_ids}
    if known is not None and judged & set(given):
        raise RoleError(f"domain {domain.name!r}: the attacker knows a query of the {role} split that is judged")
    given = [query for query in given if query not in judged]
    started = time.perf_counter()
    passages = attack.craft(crafted_on or model, given, stream(seed, domain.name, attack.name))
    seconds = time.perf_counter() - started
    vectors = encode(model, passages, "document")
    ranks: dict[str, int] = {}
    clean: dict[str, float] = {}
    poisoned: dict[str, float] = {}
    for start in range(0, len(encoded.query_ids), _QUERIES_AT_ONCE):
        some = encoded.queries[start : start + _QUERIES_AT_ONCE]
        of_corpus, of_passages = some @ encoded.documents.T, some @ vectors.T
        for row, query in enumerate(encoded.query_ids[start : start + _QUERIES_AT_ONCE]):
            ranks[query] = 1 + int((of_corpus[row] > of_passages[row].max()).sum())
            places, gains = relevant_ranks(encoded, query, of_corpus[row])
            above = (of_passages[row] >= of_corpus[row][places[:, 0]][:, None]).sum(axis=1)
            clean[query] = ndcg_at(places[:, 1], gains)
            poisoned[query] = ndcg_at(places[:, 1] + above, gains)
    return PoisoningResult(
        domain=domain.name,
        role=str(role),
        attack=attack.name,
        knowledge="white-box" if crafted_on is None else "black-box",
        budget=attack.budget,
        seed=seed,
        known=len(given),
        ranks=ranks,
        clean=clean,
        poisoned=poisoned,
        passages=tuple(passages),
        seconds=seconds,
    )


def _centres(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Return the means (count, d) of k-means clusters."""
    if count == 1:
        return vectors.mean(axis=0, keepdims=True)
    import faiss

    means = faiss.Kmeans(vectors.shape[1], count, niter=20, seed=seed, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(vectors, dtype=np.float32))
    return np.asarray(means.centroids, dtype=np.float32)
