"""Judging retrievers: encoding, search, entropy, ranking measures, intervals and tests, BM25 and fusion, files."""

from mogrid.evaluation.attacked import AttackResult, attack_success
from mogrid.evaluation.entropy import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.evaluate import (
    calibrate,
    dense_run,
    evaluate_bm25,
    evaluate_domain,
    evaluate_embeddings,
    evaluate_run,
)
from mogrid.evaluation.fusion import interpolate, reciprocal_rank_fusion, tune_interpolation
from mogrid.evaluation.intervals import PairedTest, bootstrap_interval, compare, holm, paired_test
from mogrid.evaluation.measures import Measures, rank_measures
from mogrid.evaluation.report import Evaluation, evaluate_retriever
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.trec import read_qrels, read_run, write_qrels, write_run

__all__ = [
    "AttackResult",
    "Evaluation",
    "Measures",
    "PairedTest",
    "SplitResult",
    "attack_success",
    "bootstrap_interval",
    "calibrate",
    "calibrate_temperature",
    "compare",
    "contrastive_entropy",
    "dense_run",
    "evaluate_bm25",
    "evaluate_domain",
    "evaluate_embeddings",
    "evaluate_retriever",
    "evaluate_run",
    "holm",
    "interpolate",
    "paired_test",
    "rank_measures",
    "read_qrels",
    "read_run",
    "reciprocal_rank_fusion",
    "tune_interpolation",
    "write_qrels",
    "write_run",
]
