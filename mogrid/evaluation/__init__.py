"""Judging retrievers: encoding, search, entropy, ranking measures, intervals and tests, BM25 and fusion, files."""

from mogrid.evaluation.attacked import AttackResult, attack_success
from mogrid.evaluation.comparison import Compared, Comparison, compare_files, compare_scores, read_groups
from mogrid.evaluation.entropy import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.foreign import Scores, read_scores
from mogrid.evaluation.fusion import interpolate, reciprocal_rank_fusion, tune_interpolation
from mogrid.evaluation.intervals import (
    Estimate,
    PairedTest,
    bootstrap_interval,
    compare,
    estimate,
    holm,
    paired_runs,
    paired_test,
)
from mogrid.evaluation.judge import Cell, JudgedSplit, judge, judging
from mogrid.evaluation.measured import calibrate, evaluate_embeddings, evaluate_run
from mogrid.evaluation.measures import Measures, rank_measures
from mogrid.evaluation.poisoned import PoisoningResult, poisoning_success
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.evaluation.retriever import Evaluation, evaluate_retriever
from mogrid.evaluation.sample import sample_domain
from mogrid.evaluation.trec import read_qrels, read_run, write_qrels, write_run

__all__ = [
    "CLEAN",
    "AttackResult",
    "Cell",
    "Compared",
    "Comparison",
    "Estimate",
    "Evaluation",
    "JudgedSplit",
    "Measures",
    "PairedTest",
    "PoisoningResult",
    "Scores",
    "SplitResult",
    "attack_success",
    "bootstrap_interval",
    "calibrate",
    "calibrate_temperature",
    "compare",
    "compare_files",
    "compare_scores",
    "contrastive_entropy",
    "estimate",
    "evaluate_embeddings",
    "evaluate_retriever",
    "evaluate_run",
    "holm",
    "interpolate",
    "judge",
    "judging",
    "paired_runs",
    "paired_test",
    "poisoning_success",
    "rank_measures",
    "read_groups",
    "read_qrels",
    "read_run",
    "read_scores",
    "reciprocal_rank_fusion",
    "sample_domain",
    "tune_interpolation",
    "write_qrels",
    "write_run",
]
