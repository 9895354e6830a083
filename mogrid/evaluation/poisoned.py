"""What poisoned passages do to the queries of a split, judged on text that is read like any other document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from mogrid.attacks.base import counted
from mogrid.attacks.poisoning import CorpusPoisoning
from mogrid.data.domain import Domain, Role
from mogrid.errors import RoleError
from mogrid.evaluation.ranks import ndcg_at, relevant_ranks
from mogrid.evaluation.results import read_fields
from mogrid.retrieval.encode import encode
from mogrid.retrieval.splits import EncodedSplit, check_role, encode_split, stream

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PoisoningResult", "poisoning_success"]

_QUERIES_AT_ONCE = 256


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
    calls, flops : int and float
        What crafting asked of the attacked model: see `mogrid.attacks.Cost`.
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
    calls: int = 0
    flops: float = 0.0

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
        return cls(**{**read_fields(cls, record, "a poisoning"), "passages": tuple(record["passages"])})


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
        Queries that the attacker knows; those of the domain's train split when left out. Without one, every other of
        the split's own, drawn by the seed; these are then not judged.
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
    check_role(attack, domain, role)
    encoded = encoded or encode_split(model, domain, role)
    texts, rows = domain.split(role).queries, np.arange(len(encoded.query_ids))
    if known is None and Role.TRAIN not in domain.splits:
        rows = stream(seed, domain.name, "known").permutation(rows)
        known, rows = [texts[encoded.query_ids[row]] for row in rows[1::2]], np.sort(rows[::2])
        rows = np.array([row for row in rows if texts[encoded.query_ids[row]] not in known])
    given = list(domain.split(Role.TRAIN).queries.values()) if known is None else list(known)
    judged = {texts[encoded.query_ids[row]] for row in rows}
    if known is not None and judged & set(given):
        raise RoleError(f"domain {domain.name!r}: the attacker knows a query of the {role} split that is judged")
    given = [query for query in given if query not in judged]
    with counted(crafted_on or model) as cost:
        passages = attack.craft(crafted_on or model, given, stream(seed, domain.name, attack.name))
    vectors = encode(model, passages, "document")
    ranks: dict[str, int] = {}
    clean: dict[str, float] = {}
    poisoned: dict[str, float] = {}
    for start in range(0, len(rows), _QUERIES_AT_ONCE):
        some = rows[start : start + _QUERIES_AT_ONCE]
        of_corpus, of_passages = encoded.scores(some), encoded.queries[some] @ vectors.T
        for row, query in enumerate(encoded.query_ids[place] for place in some):
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
        **asdict(cost),
    )
