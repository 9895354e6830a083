"""Measure one retriever as every other: the three objectives on select-role data, everything on test-role data."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.typos import SELECT_TYPOS, TEST_TYPOS
from mogrid.data import Collection, Domain, Role
from mogrid.errors import EvaluationError
from mogrid.evaluation import CLEAN, JudgedSplit, judge, judging, sample_domain
from mogrid.evaluation.attacked import attack_success
from mogrid.experiment.settings import ExperimentSettings
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
    splits = [JudgedSplit(source, Role.SELECT, {TYPOS: SELECT_TYPOS})]
    splits += [JudgedSplit(_sampled(domain, settings), Role.SELECT) for domain in collection.ood_with(Role.SELECT)]
    splits += [JudgedSplit(source, Role.TEST, {TYPOS: TEST_TYPOS})]
    splits += [JudgedSplit(_sampled(domain, settings), Role.TEST) for domain in collection.ood_with(Role.TEST)]
    options: dict[str, Any] = {"negatives": evaluation.negatives, "redraws": evaluation.redraws}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for cell in judging(model, splits, preprocess=remembering(model), **options):
        record.temperature = cell.result.temperature
        found[cell.domain.name, cell.role, cell.condition] = cell.result.to_json()
        if (cell.domain, cell.role, cell.condition) == (source, Role.TEST, CLEAN) and evaluation.attack_targets:
            flips = EmbeddingNeighbourFlips(flips=evaluation.attack_flips)
            targets = evaluation.attack_targets
            # A corpus of fewer documents than the target ranks has nothing to attack.
            with contextlib.suppress(EvaluationError):
                attacked = attack_success(model, source, Role.TEST, flips, targets=targets, encoded=cell.encoded)
                record.attacks = [attacked.to_json()]
    record.results = [
        found[split.domain.name, split.role, condition]
        for split in splits
        for condition in ("clean", *split.conditions)
    ]


def measure_bm25(collection: Collection, settings: ExperimentSettings) -> list[dict[str, Any]]:
    """Judge BM25 on the test sets: what any dense retriever should be held against."""
    splits = [JudgedSplit(_sampled(collection.source, settings), Role.TEST, {TYPOS: TEST_TYPOS})]
    splits += [JudgedSplit(_sampled(domain, settings), Role.TEST) for domain in collection.ood_with(Role.TEST)]
    return [result.to_json() for result in judge("bm25", splits)]


def _sampled(domain: Domain, settings: ExperimentSettings) -> Domain:
    """Return what is measured of a domain."""
    evaluation = settings.evaluation
    return sample_domain(domain, evaluation.max_queries, evaluation.max_documents)
