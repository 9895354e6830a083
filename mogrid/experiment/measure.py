"""Measure one retriever as every other: the three objectives on select-role data, everything on test-role data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.typos import SELECT_TYPOS, TEST_TYPOS
from mogrid.data import Collection, Domain, Role
from mogrid.errors import EvaluationError
from mogrid.evaluation import calibrate, evaluate_bm25, evaluate_domain
from mogrid.evaluation.attacked import attack_success
from mogrid.evaluation.sample import sample_domain
from mogrid.experiment.settings import ExperimentSettings
from mogrid.retrieval import EncodedSplit, encode, encode_split
from mogrid.retrieval.splits import judged_queries
from mogrid.retrieval.tokens import remembering

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.runs import RunRecord

__all__ = ["TYPOS", "measure_bm25", "measure_model"]

TYPOS = "typos"


def measure_model(
    model: SentenceTransformer, collection: Collection, settings: ExperimentSettings, record: RunRecord
) -> None:
    """Fill a record's results, attacks and temperature.

    Negatives, typos and attack targets are drawn with one seed for all runs, so that runs are compared on the same
    draws.
    """
    evaluation = settings.evaluation
    source = _sampled(collection.source, settings)
    select_domains = [_sampled(domain, settings) for domain in collection.ood_with(Role.SELECT)]
    tokens = remembering(model)
    select = encode_split(model, source, Role.SELECT, preprocess=tokens)
    others = {d.name: encode_split(model, d, Role.SELECT, preprocess=tokens) for d in select_domains}
    splits = [select, *others.values()]
    record.temperature = calibrate(splits, negatives=evaluation.negatives, redraws=evaluation.redraws)
    options: dict[str, Any] = {
        "temperature": record.temperature,
        "negatives": evaluation.negatives,
        "redraws": evaluation.redraws,
    }
    results = evaluate_domain(model, source, Role.SELECT, conditions={TYPOS: SELECT_TYPOS}, encoded=select, **options)
    for domain in select_domains:
        results += evaluate_domain(model, domain, Role.SELECT, encoded=others[domain.name], **options)
    test = _same_corpus(model, source, select)
    results += evaluate_domain(model, source, Role.TEST, conditions={TYPOS: TEST_TYPOS}, encoded=test, **options)
    for domain in (_sampled(domain, settings) for domain in collection.ood_with(Role.TEST)):
        encoded = encode_split(model, domain, Role.TEST, preprocess=tokens)
        results += evaluate_domain(model, domain, Role.TEST, encoded=encoded, **options)
    record.results = [result.to_json() for result in results]
    if not evaluation.attack_targets:
        return
    flips = EmbeddingNeighbourFlips(flips=evaluation.attack_flips)
    try:
        attacked = attack_success(model, source, Role.TEST, flips, targets=evaluation.attack_targets, encoded=test)
    except EvaluationError:
        return  # a corpus of fewer documents than the target ranks has nothing to attack
    record.attacks = [attacked.to_json()]


def measure_bm25(collection: Collection, settings: ExperimentSettings) -> list[dict[str, Any]]:
    """Judge BM25 on the test sets: what any dense retriever should be held against."""
    results = evaluate_bm25(_sampled(collection.source, settings), Role.TEST, conditions={TYPOS: TEST_TYPOS})
    for domain in collection.ood_with(Role.TEST):
        results += evaluate_bm25(_sampled(domain, settings), Role.TEST)
    return [result.to_json() for result in results]


def _sampled(domain: Domain, settings: ExperimentSettings) -> Domain:
    """Return what is measured of a domain."""
    evaluation = settings.evaluation
    return sample_domain(domain, evaluation.max_queries, evaluation.max_documents)


def _same_corpus(model: SentenceTransformer, domain: Domain, encoded: EncodedSplit) -> EncodedSplit:
    """Return the test split over the corpus that was encoded for the select split."""
    queries, qrels = judged_queries(domain, Role.TEST)
    return replace(
        encoded,
        role=str(Role.TEST),
        query_ids=list(queries),
        queries=encode(model, list(queries.values()), "query"),
        qrels=qrels,
    )
