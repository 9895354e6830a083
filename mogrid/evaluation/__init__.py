"""Judging retrievers: encoding, exact search, contrastive entropy, ranking measures, intervals and tests, BM25."""

from mogrid.evaluation.encode import encode
from mogrid.evaluation.entropy import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.errors import EvaluationError
from mogrid.evaluation.evaluate import calibrate, evaluate_bm25, evaluate_domain, evaluate_embeddings
from mogrid.evaluation.intervals import PairedTest, bootstrap_interval, compare, holm, paired_test
from mogrid.evaluation.measures import Measures, rank_measures
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.search import search
from mogrid.evaluation.splits import EncodedSplit, encode_split

__all__ = [
    "EncodedSplit",
    "EvaluationError",
    "Measures",
    "PairedTest",
    "SplitResult",
    "bootstrap_interval",
    "calibrate",
    "calibrate_temperature",
    "compare",
    "contrastive_entropy",
    "encode",
    "encode_split",
    "evaluate_bm25",
    "evaluate_domain",
    "evaluate_embeddings",
    "holm",
    "paired_test",
    "rank_measures",
    "search",
]
