"""Several objectives in anybody's trainer: the mixin over its hooks, the joint batch, and ParetoTrainer."""

from mogrid.trainer.keep import KeepBest, best_of, geometric
from mogrid.trainer.mixin import MultiObjectiveMixin
from mogrid.trainer.pareto import ParetoTrainer, ParetoTrainingArguments
from mogrid.trainer.weighted import WeightedBatchSampler

__all__ = [
    "KeepBest",
    "MultiObjectiveMixin",
    "ParetoTrainer",
    "ParetoTrainingArguments",
    "WeightedBatchSampler",
    "best_of",
    "geometric",
]
