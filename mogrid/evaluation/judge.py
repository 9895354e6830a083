"""The one loop that judges: any retriever or BM25, on splits of domains, clean and under perturbed queries."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from mogrid.attacks.base import Attack, Cost, Target, changed_share, craft
from mogrid.data.domain import Domain, Role
from mogrid.errors import EvaluationError, MogridError, RoleError
from mogrid.evaluation.entropy import best_temperature, contrastive_entropy, entropy_curve
from mogrid.evaluation.measures import ceiling, effective_dimensions, rank_measures
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.retrieval.bm25 import bm25_run
from mogrid.retrieval.encode import Preprocess, encode
from mogrid.retrieval.search import search
from mogrid.retrieval.splits import (
    EncodedSplit,
    check_role,
    encode_split,
    equal_texts,
    judged_queries,
    queries_in_corpus,
    relevant_pairs,
    stream,
)
from mogrid.retrieval.types import DEPTH, Qrels, Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "Cell",
    "JudgedSplit",
    "calibrate",
    "dense_run",
    "evaluate_embeddings",
    "evaluate_run",
    "judge",
    "judging",
]

Says = Callable[[str, float], None]
"""Told what is judged, and the share of all texts that are encoded, in [0, 1]."""


@dataclass(frozen=True)
class JudgedSplit:
    """What is to be judged: one split, clean and under conditions.

    Attributes
    ----------
    domain : Domain
    role : Role
    conditions : mapping of str to Attack
        Name of a condition → perturbation of the queries' text, of the role that goes with the split's.
    """

    domain: Domain
    role: Role
    conditions: Mapping[str, Attack] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One split under one condition, judged.

    Attributes
    ----------
    domain : Domain
    role : Role
    condition : str
    queries : mapping of str to str
        As they were asked: perturbed where the condition is not ``"clean"``.
    run : mapping of str to mapping of str to float
        What was found, without hits of queries that stand in the corpus.
    result : SplitResult
    encoded : EncodedSplit or None
        Of the queries as asked and the whole corpus; None for BM25.
    """

    domain: Domain
    role: Role
    condition: str
    queries: Mapping[str, str]
    run: Run
    result: SplitResult
    encoded: EncodedSplit | None


def judge(
    model: SentenceTransformer | Literal["bm25"],
    splits: Sequence[JudgedSplit],
    *,
    temperature: float | None = None,
    negatives: int = 256,
    redraws: int = 10,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    progress: Says | None = None,
) -> list[SplitResult]:
    """Judge a retriever: of each split the clean queries first, then each condition, in the order asked for.

    Queries that a split has in other people's writing, too (`Split.variants`), are a condition of that name.

    A corpus is encoded once for all roles and conditions, every condition is encoded and searched once, and all roles
    and perturbations are checked before anything is encoded. Splits that are named twice are judged once, under the
    conditions of both. To judge a sample, pass the domains through `mogrid.evaluation.sample_domain`.

    Parameters
    ----------
    model : SentenceTransformer, or "bm25"
        Scored by the similarity that it names itself (cosine or dot). BM25 has no contrastive entropy.
    splits : sequence of JudgedSplit
    temperature : float, optional
        Of the contrastive entropy. When left out it is calibrated on those of the splits whose role is ``select``;
        without any, contrastive entropies are left out: ``ce`` is None.
    negatives, redraws : int
        Of the contrastive entropy.
    seed : int
        Of the perturbations and the negatives, which are equal for all models given the same seed, and do not depend
        on what else is judged.
    preprocess : callable, optional
        See `encode`; of documents.
    progress : callable of (what, share done), optional

    Raises
    ------
    RoleError
        A domain has no such split, or a test attack meets another split than the test split, or the reverse.
    EvaluationError
        Embeddings are not finite, no query has a relevant document, or a perturbation changes (nearly) no text.
    """
    cells = judging(
        model, splits, temperature=temperature, negatives=negatives, redraws=redraws, seed=seed,
        preprocess=preprocess, progress=progress,
    )  # fmt: skip
    found = {(cell.domain.name, cell.role, cell.condition): cell.result for cell in cells}
    return [found[split.domain.name, split.role, name] for split in _merged(splits) for name in _conditions(split)]


def judging(
    model: SentenceTransformer | Literal["bm25"],
    splits: Sequence[JudgedSplit],
    *,
    temperature: float | None = None,
    negatives: int = 256,
    redraws: int = 10,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    progress: Says | None = None,
) -> Iterator[Cell]:
    """Yield what `judge` judges, with runs and embeddings, domain by domain.

    For whoever needs more of a cell than its result, such as `attack_success` its embeddings: hold on to what is
    needed, the next domain replaces the embeddings of the last.
    """
    merged = _merged(splits)
    texts = [_texts(model, split, seed) for split in merged]
    dense = None if isinstance(model, str) else model
    work = _Work(merged, texts, progress, corpora=dense is not None)
    held: dict[tuple[str, Role], EncodedSplit] = {}

    def encoded(split: JudgedSplit) -> EncodedSplit:
        name, role = split.domain.name, split.role
        if (name, role) not in held:
            assert dense is not None
            work.begin(f"{name}, {role}")
            beside = next((known for (other, _), known in held.items() if other == name), None)
            with _naming(split):
                held[name, role] = encode_split(
                    dense, split.domain, role, beside=beside, preprocess=preprocess, progress=work.advance
                )
        return held[name, role]

    if dense is not None and temperature is None:
        selects = [encoded(split) for split in merged if split.role is Role.SELECT]
        temperature = calibrate(selects, seed=seed, negatives=negatives, redraws=redraws) if selects else None
    for name in dict.fromkeys(split.domain.name for split in merged):
        for split, asked in zip(merged, texts, strict=True):
            if split.domain.name != name:
                continue
            for condition, (queries, cost) in asked.items():
                moved = None if dense is None else encoded(split)
                started = time.perf_counter()
                work.begin(f"{name}, {split.role}, {condition}")
                with _naming(split):
                    if dense is None or moved is None:
                        run, result = by_bm25(split.domain, split.role, condition, queries, seed)
                        work.advance(len(queries))
                    else:
                        if condition != CLEAN:
                            vectors = encode(dense, list(queries.values()), "query", progress=work.advance)
                            moved = replace(moved, queries=vectors)
                        run, result = _by_embeddings(moved, condition, seed, temperature, negatives, redraws)
                result = replace(result, seconds=time.perf_counter() - started, calls=cost.calls, flops=cost.flops)
                if condition != CLEAN:
                    result = replace(result, changed=changed_share(asked[CLEAN][0].values(), queries.values()))
                yield Cell(split.domain, split.role, condition, queries, run, result, moved)
        held = {place: split for place, split in held.items() if place[0] != name}


@contextlib.contextmanager
def _naming(split: JudgedSplit) -> Iterator[None]:
    """Put the split's name before an error that does not say it."""
    try:
        yield
    except MogridError as error:
        if split.domain.name in str(error):
            raise
        raise type(error)(f"{split.domain.name}, {split.role}: {error}") from error


class _Work:
    """How much is to be encoded, and how much is."""

    def __init__(
        self,
        splits: Sequence[JudgedSplit],
        texts: Sequence[Mapping[str, tuple[Mapping[str, str], Cost]]],
        progress: Says | None,
        *,
        corpora: bool,
    ) -> None:
        sizes = {split.domain.name: len(split.domain.corpus) for split in splits}
        self.total = sum(len(queries) for asked in texts for queries, _ in asked.values())
        self.total += sum(sizes.values()) if corpora else 0
        self.done = 0
        self.what = ""
        self.progress = progress

    def begin(self, what: str) -> None:
        self.what = what
        self.advance(0)

    def advance(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.what, min(self.done / self.total, 1.0))


def dense_run(encoded: EncodedSplit, depth: int = DEPTH + 1) -> dict[str, dict[str, float]]:
    """Return query id → document id → score of each query's first `depth` documents, itself not among them."""
    return _dense_run(encoded, depth)[0]


def _dense_run(encoded: EncodedSplit, depth: int) -> tuple[dict[str, dict[str, float]], int]:
    scores, indices = search(encoded.queries, encoded.documents, depth + bool(encoded.own))
    ids = encoded.document_ids
    run = {
        query: {ids[i]: s for i, s in zip(row, row_scores, strict=True)}
        for query, row, row_scores in zip(encoded.query_ids, indices.tolist(), scores.tolist(), strict=True)
    }
    return _without_own(run, encoded.own, depth)


def evaluate_run(
    run: Run, qrels: Qrels, domain: str, role: str, *, condition: str = CLEAN, seed: int = 0, best: float = 1.0
) -> SplitResult:
    """Judge results of any origin; there are no embeddings, and so no ``ce``. `best` is their ceiling."""
    return _result(run, qrels, (domain, role, condition, seed), best)


def evaluate_embeddings(
    encoded: EncodedSplit,
    *,
    condition: str = CLEAN,
    seed: int = 0,
    temperature: float | None = 1.0,
    negatives: int = 256,
    redraws: int = 10,
) -> SplitResult:
    """Judge embeddings, whatever made them. Parameters as in `judge`; at no temperature there is no ``ce``."""
    started = time.perf_counter()
    _, result = _by_embeddings(encoded, condition, seed, temperature, negatives, redraws)
    return replace(result, seconds=time.perf_counter() - started)


def calibrate(
    encoded: EncodedSplit | Sequence[EncodedSplit], *, seed: int = 0, negatives: int = 256, redraws: int = 10
) -> float:
    """Return the one temperature that minimises a model's contrastive entropy, averaged over select splits.

    Calibrated in domain alone, a model that is right there and rightly sure of it is wrongly sure elsewhere, and its
    OOD entropy tells of that instead of its ranking: give the select splits of all domains that matter.

    Raises
    ------
    RoleError
        A split's role is not ``select``: a temperature fitted to a test split flatters what is measured there.
    """
    curves = []
    for split in [encoded] if isinstance(encoded, EncodedSplit) else encoded:
        if split.role != Role.SELECT:
            raise RoleError(f"{split.domain!r}: a temperature is calibrated on a select split, not on {split.role}")
        pair_queries, positives, relevant = relevant_pairs(split)
        rows = split.queries[pair_queries], split.documents[positives], split.documents
        curves.append(entropy_curve(*rows, stream(seed, split.domain), negatives, redraws, relevant))
    return best_temperature(curves)


def _merged(splits: Sequence[JudgedSplit]) -> list[JudgedSplit]:
    """Return the splits, each once. Raises `EvaluationError` where two things go by one name."""
    merged: dict[tuple[str, Role], JudgedSplit] = {}
    corpora: dict[str, Mapping[str, str]] = {}
    for split in splits:
        name, corpus = split.domain.name, split.domain.corpus
        if corpora.setdefault(name, corpus) is not corpus and corpora[name] != corpus:
            raise EvaluationError(f"two domains with other texts are both called {name!r}")
        before = merged.setdefault((name, split.role), split)
        for condition, attack in split.conditions.items():
            if condition == CLEAN:
                raise EvaluationError(f"a condition cannot be called {CLEAN!r}: that is the one without a perturbation")
            if before.conditions.get(condition, attack) is not attack:
                raise EvaluationError(f"{name!r}: two conditions are both called {condition!r}")
        merged[name, split.role] = replace(before, conditions={**before.conditions, **split.conditions})
    return list(merged.values())


def _conditions(split: JudgedSplit) -> tuple[str, ...]:
    return CLEAN, *split.conditions, *split.domain.split(split.role).variants


def _texts(model: Any, split: JudgedSplit, seed: int) -> dict[str, tuple[dict[str, str], Cost]]:
    """Return condition → query id → text, the clean ones first, and what they cost."""
    queries, qrels = judged_queries(split.domain, split.role)
    found = {CLEAN: (queries, Cost())}
    for condition, attack in split.conditions.items():
        check_role(attack, split.domain, split.role)
        victim = None
        if attack.white_box:
            if isinstance(model, str):
                raise EvaluationError(f"attack {attack.name!r} looks into a model, and BM25 is none")
            best = [max(qrels[query], key=lambda d: qrels[query][d]) for query in queries]
            victim = Target(model, [split.domain.corpus[document] for document in best])
        rng = stream(seed, split.domain.name, condition)
        with _naming(split):
            texts, cost = craft(attack, queries.values(), victim, rng, f"{split.domain.name}, {split.role}")
        found[condition] = dict(zip(queries, texts, strict=True)), cost
    for variant, written in split.domain.split(split.role).variants.items():
        if variant in found:
            raise EvaluationError(
                f"{split.domain.name}: its queries have a variant {variant!r}, too: name it otherwise"
            )
        found[variant] = {query: written.get(query, text) for query, text in queries.items()}, Cost()
    return found


def _without_own(run: Run, own: frozenset[str], depth: int) -> tuple[dict[str, dict[str, float]], int]:
    """Return runs of `depth` results, best first, without the hits of queries that stand in the corpus, and these."""
    kept = {
        query: dict(islice(((d, s) for d, s in found.items() if query not in own or d != query), depth))
        for query, found in run.items()
    }
    return kept, sum(query in found for query, found in run.items() if query in own)


def by_bm25(
    domain: Domain, role: Role, condition: str, queries: Mapping[str, str], seed: int
) -> tuple[Run, SplitResult]:
    """Return what BM25 finds for the queries of a split as they are asked, and how it did."""
    corpus, place = domain.corpus, (domain.name, str(role), condition, seed)
    clean, qrels = judged_queries(domain, role)
    found = bm25_run(queries, corpus, depth=DEPTH + 2)
    run, dropped = _without_own(found, queries_in_corpus(clean, corpus, qrels), DEPTH + 1)
    return run, replace(_result(run, qrels, place, ceiling(qrels, equal_texts(corpus))), self_hits=dropped)


def _by_embeddings(
    encoded: EncodedSplit, condition: str, seed: int, temperature: float | None, negatives: int, redraws: int
) -> tuple[Run, SplitResult]:
    run, dropped = _dense_run(encoded, DEPTH + 1)
    place = encoded.domain, encoded.role, condition, seed
    result = _result(run, encoded.qrels, place, ceiling(encoded.qrels, encoded.twins), encoded.twins)
    result = replace(result, self_hits=dropped, dimensions=effective_dimensions(encoded.documents))
    if temperature is None:
        return run, result
    pair_queries, positives, excluded = relevant_pairs(encoded)
    entropies = contrastive_entropy(
        encoded.queries[pair_queries],
        encoded.documents[positives],
        encoded.documents,
        rng=stream(seed, encoded.domain),
        negatives=negatives,
        redraws=redraws,
        temperature=temperature,
        exclude=excluded,
    )
    by_query: dict[str, list[float]] = {}
    for pair, entropy in zip(pair_queries, entropies.tolist(), strict=True):
        by_query.setdefault(encoded.query_ids[pair], []).append(entropy)
    ce = {query: fmean(values) for query, values in by_query.items()}
    return run, replace(result, ce=ce, temperature=temperature, negatives=negatives, redraws=redraws)


def _result(
    run: Run, qrels: Qrels, place: tuple[str, str, str, int], best: float, twins: Mapping[str, str] | None = None
) -> SplitResult:
    measures = rank_measures(run, qrels, twins)
    domain, role, condition, seed = place
    return SplitResult(
        domain=domain,
        role=role,
        condition=condition,
        ndcg=measures.ndcg,
        rr=measures.rr,
        recall=measures.recall,
        ce=None,
        tie_fraction=measures.tie_fraction,
        temperature=1.0,
        negatives=0,
        redraws=0,
        seed=seed,
        seconds=0.0,
        ceiling=best,
    )
