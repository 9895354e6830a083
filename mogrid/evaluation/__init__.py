"""Judging retrievers: encoding, search, entropy, ranking measures, intervals and tests, BM25 and fusion, files."""

from mogrid.evaluation.approximate import ApproximateResult, approximate_search
from mogrid.evaluation.encode import encode
from mogrid.evaluation.entropy import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.errors import EvaluationError
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
from mogrid.evaluation.negatives import mine_hard_negatives
from mogrid.evaluation.report import Evaluation, evaluate_retriever
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.search import search
from mogrid.evaluation.splits import EncodedSplit, encode_split
from mogrid.evaluation.trec import read_qrels, read_run, write_qrels, write_run
from mogrid.evaluation.vectors import Shards, encode_in_shards, load_vectors, save_vectors, split_from_vectors

__all__ = [
    "ApproximateResult",
    "EncodedSplit",
    "Evaluation",
    "EvaluationError",
    "Measures",
    "PairedTest",
    "Shards",
    "SplitResult",
    "approximate_search",
    "bootstrap_interval",
    "calibrate",
    "calibrate_temperature",
    "compare",
    "contrastive_entropy",
    "dense_run",
    "encode",
    "encode_in_shards",
    "encode_split",
    "evaluate_bm25",
    "evaluate_domain",
    "evaluate_embeddings",
    "evaluate_retriever",
    "evaluate_run",
    "holm",
    "interpolate",
    "load_vectors",
    "mine_hard_negatives",
    "paired_test",
    "rank_measures",
    "read_qrels",
    "read_run",
    "reciprocal_rank_fusion",
    "save_vectors",
    "search",
    "split_from_vectors",
    "tune_interpolation",
    "write_qrels",
    "write_run",
]
