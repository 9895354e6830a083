"""The one loop that judges: any retriever or BM25, on splits of domains, clean and under perturbed queries."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from mogrid.attacks.base import Attack, Cost, Target, changed_share, craft
from mogrid.data.domain import Domain, Role
from mogrid.errors import EvaluationError, MogridError
from mogrid.evaluation.measured import by_bm25, by_embeddings, calibrate
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.retrieval.encode import Preprocess, encode
from mogrid.retrieval.splits import EncodedSplit, check_role, encode_split, judged_queries, stream
from mogrid.retrieval.types import Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Cell", "JudgedSplit", "judge", "judging", "rehearse"]

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


def rehearse(splits: Sequence[JudgedSplit], *, seed: int = 0) -> None:
    """Perturb as `judge` does, and judge nothing: what it would refuse is known before anything is trained.

    Perturbations that look into a model are passed over: there is none yet.

    Parameters
    ----------
    splits : sequence of JudgedSplit
    seed : int
        Of the perturbations.

    Raises
    ------
    RoleError, EvaluationError
        As `judge`.
    """
    for split in _merged(splits):
        blind = {name: attack for name, attack in split.conditions.items() if not attack.white_box}
        _texts("bm25", replace(split, conditions=blind), seed)


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
                        run, result = by_embeddings(moved, condition, seed, temperature, negatives, redraws)
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
        name, said = split.domain.name, str(error)
        if repr(name) in said or said.startswith((f"{name}:", f"{name},")):
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
        rng = stream(seed, split.domain.name, attack.drawn_as or condition)
        with _naming(split):
            here = attack.within(split.domain.corpus)
            texts, cost = craft(here, queries.values(), victim, rng, f"{split.domain.name}, {split.role}")
        found[condition] = dict(zip(queries, texts, strict=True)), cost
    for variant, written in split.domain.split(split.role).variants.items():
        if variant in found:
            raise EvaluationError(
                f"{split.domain.name}: its queries have a variant {variant!r}, too: name it otherwise"
            )
        found[variant] = {query: written.get(query, text) for query, text in queries.items()}, Cost()
    return found
