"""How often an attack on documents succeeds, judged on text that is read again beside an unchanged corpus."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from mogrid.attacks.base import Attack, Target, craft
from mogrid.data.domain import Domain, Role
from mogrid.data.words import units
from mogrid.errors import EvaluationError
from mogrid.evaluation.ranks import ndcg_at, relevant_ranks
from mogrid.evaluation.results import read_fields
from mogrid.retrieval.encode import check_finite, encode
from mogrid.retrieval.splits import EncodedSplit, check_role, encode_split, stream

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["AttackResult", "Outcome", "attack_success", "perturbed_share"]

_TOP = 10
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True)
class Outcome:
    """What became of one target.

    Attributes
    ----------
    query, document : str
    before, after : int
        Ranks, from 1.
    perturbed : float
        Share of the document's words that were changed.
    clean, robust : float or None
        The query's nDCG@10 before and after; None in records that have none.
    """

    query: str
    document: str
    before: int
    after: int
    perturbed: float
    clean: float | None = None
    robust: float | None = None


@dataclass(frozen=True)
class AttackResult:
    """Conditional success of one attack on one split.

    Attributes
    ----------
    domain, role, attack : str
    knowledge : str
        ``"white-box"`` or ``"black-box"``.
    budget : str
        What the attacker could do, in words.
    band : (int, int)
        Ranks, inclusive, from which targets were drawn.
    seed : int
    outcomes : list of Outcome
        One a target.
    seconds : float
        Wall clock of crafting, judging not included.
    calls, flops : int and float
        What crafting asked of the attacked model: see `mogrid.attacks.Cost`.
    """

    domain: str
    role: str
    attack: str
    knowledge: str
    budget: str
    band: tuple[int, int]
    seed: int
    outcomes: list[Outcome]
    seconds: float
    calls: int = 0
    flops: float = 0.0

    @property
    def targets(self) -> int:
        """Number of targets, all of them outside the top 10 before."""
        return len(self.outcomes)

    @property
    def success_rate(self) -> float:
        """Conditional SR@10: the share of targets that came into the top 10."""
        return fmean(outcome.after <= _TOP for outcome in self.outcomes)

    @property
    def median_boost(self) -> float:
        """Median number of ranks gained; negative where targets fell."""
        return float(median(outcome.before - outcome.after for outcome in self.outcomes))

    @property
    def robust_ndcg(self) -> tuple[float, float] | None:
        """Mean nDCG@10 of the targets' queries, before and after, each with one document attacked."""
        clean = [outcome.clean for outcome in self.outcomes if outcome.clean is not None]
        robust = [outcome.robust for outcome in self.outcomes if outcome.robust is not None]
        return (fmean(clean), fmean(robust)) if clean and robust else None

    @property
    def perturbed(self) -> float:
        """Mean share of the targets' words that were changed."""
        return fmean(outcome.perturbed for outcome in self.outcomes)

    @property
    def changed(self) -> float:
        """Share of the targets that were changed at all."""
        return fmean(outcome.perturbed > 0 for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dictionary that ``json.dumps`` takes."""
        return {**asdict(self), "band": list(self.band)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> AttackResult:
        """Read what `to_json` gave. Raises `DataError` where fields are missing or unknown."""
        read_fields(cls, record, "an attack")
        low, high = record["band"]
        return cls(**{**record, "band": (low, high), "outcomes": [Outcome(**o) for o in record["outcomes"]]})


def attack_success(
    model: SentenceTransformer,
    domain: Domain,
    role: Role,
    attack: Attack,
    *,
    targets: int = 50,
    band: tuple[int, int] = (51, 100),
    seed: int = 0,
    encoded: EncodedSplit | None = None,
    crafted_on: SentenceTransformer | None = None,
) -> AttackResult:
    """Attack documents that are not relevant and outside a query's top 10, and count those that come into it.

    Each target is a (query, document) pair. Its document alone is replaced by the attacked *text*, which the model
    reads and encodes like any other; every other document stays. A rank is 1 + the number of documents that score
    higher, so ties go to the attacker, before and after.

    Parameters
    ----------
    model : SentenceTransformer
        The retriever that is judged.
    domain : Domain
    role : Role
    attack : Attack
        Of documents; it is given a `Target` as its victim.
    targets : int
        Pairs to attack, spread over as many queries as there are; fewer if the split does not hold as many.
    band : (int, int)
        Ranks, inclusive, that targets come from. The first is beyond 10: that is the condition of conditional SR.
    seed : int
        Of the choice of targets and of the attack.
    encoded : EncodedSplit, optional
        What `encode_split` gave for this model and split.
    crafted_on : SentenceTransformer, optional
        The attacker's model, for a transfer attack; by default `model` itself.

    Returns
    -------
    AttackResult

    Raises
    ------
    RoleError
        The domain has no such split, or a test attack meets another split than the test split, or the reverse.
    EvaluationError
        The band is not beyond the top 10, or holds no document that could be a target; or nearly no text is changed.
    """
    check_role(attack, domain, role)
    if not _TOP < band[0] <= band[1] or targets < 1:
        raise EvaluationError(f"expected targets ≥ 1 and a band of ranks beyond {_TOP}, got {targets} and {band}")
    encoded = encoded or encode_split(model, domain, role)
    rng = stream(seed, domain.name, "targets")
    chosen = _choose(encoded, targets, band, rng)
    if not chosen:
        raise EvaluationError(f"domain {domain.name!r}: no document to attack at ranks {band[0]} to {band[1]}")
    queries = domain.split(role).queries
    texts = [domain.corpus[encoded.document_ids[c.document]] for c in chosen]
    asked = [queries[encoded.query_ids[c.query]] for c in chosen]

    rng = stream(seed, domain.name, attack.name)
    attacked, cost = craft(attack, texts, Target(crafted_on or model, asked), rng, f"{domain.name}, {role}")
    found = _after(encoded, chosen, encode(model, attacked, "document"))
    knowledge = "white-box" if attack.white_box and crafted_on is None else "black-box"
    return AttackResult(
        domain=domain.name,
        role=str(role),
        attack=attack.name,
        knowledge=knowledge,
        budget=str(getattr(attack, "budget", "unlimited")),
        band=band,
        seed=seed,
        outcomes=[
            Outcome(
                query=encoded.query_ids[c.query],
                document=encoded.document_ids[c.document],
                before=c.rank,
                after=rank,
                perturbed=perturbed_share(text, changed),
                clean=clean,
                robust=robust,
            )
            for c, (rank, clean, robust), text, changed in zip(chosen, found, texts, attacked, strict=True)
        ],
        **asdict(cost),
    )


def perturbed_share(original: str, attacked: str) -> float:
    """Return the share of words that were replaced, inserted or deleted, relative to the original's number of words.

    Case and spacing do not count; where words have no ends, letters are counted.
    """
    before, after = units(original), units(attacked)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    changed = max(len(before), len(after)) - sum(block.size for block in matcher.get_matching_blocks())
    if len(before) == len(after):
        # The matcher looks for long common blocks, which in a text that repeats itself may not line up.
        changed = min(changed, sum(a != b for a, b in zip(before, after, strict=True)))
    return changed / max(len(before), 1)


@dataclass(frozen=True)
class _Choice:
    query: int
    document: int
    rank: int


def _choose(encoded: EncodedSplit, targets: int, band: tuple[int, int], rng: np.random.Generator) -> list[_Choice]:
    """Draw queries in random order, and from each as many documents of the band as are needed to reach `targets`."""
    check_finite(encoded.documents, "document")
    row_of = {document: row for row, document in enumerate(encoded.document_ids)}
    order = rng.permutation(len(encoded.query_ids))
    each = -(-targets // len(order))
    chosen: list[_Choice] = []
    for start in range(0, len(order), _QUERIES_AT_ONCE):
        some = order[start : start + _QUERIES_AT_ONCE]
        for query, scores in zip(some.tolist(), encoded.scores(some), strict=True):
            judged = encoded.qrels[encoded.query_ids[query]]
            relevant = {row_of[document] for document, relevance in judged.items() if relevance > 0}
            ranking = np.argsort(-scores, kind="stable")[band[0] - 1 : band[1]]
            places = [(int(d), 1 + int((scores > scores[d]).sum())) for d in ranking if int(d) not in relevant]
            outside = [(document, rank) for document, rank in places if rank > _TOP and np.isfinite(scores[document])]
            for place in rng.permutation(len(outside))[:each]:
                chosen.append(_Choice(query, *outside[place]))
        if len(chosen) >= targets:
            break
    return chosen[:targets]


def _after(encoded: EncodedSplit, chosen: Sequence[_Choice], attacked: np.ndarray) -> list[tuple[int, float, float]]:
    """Return each target's rank after the attack, and its query's nDCG@10 before and after."""
    found = []
    for choice, vector in zip(chosen, attacked, strict=True):
        query = encoded.queries[choice.query]
        (scores,) = encoded.scores([choice.query])
        name = encoded.query_ids[choice.query]
        places, gains = relevant_ranks(encoded, name, scores)
        clean = ndcg_at(places[:, 1], gains)
        scores[choice.document] = vector @ query
        places, gains = relevant_ranks(encoded, name, scores)
        reached = scores[choice.document]
        scores[choice.document] = -np.inf
        found.append((1 + int((scores > reached).sum()), clean, ndcg_at(places[:, 1], gains)))
    return found
