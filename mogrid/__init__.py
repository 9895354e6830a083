"""mogrid: dense retrievers trained for effectiveness and robustness at once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mogrid.gradients import CachedEngine, GradientEngine, StepReport, backward
    from mogrid.solvers import MGDA, FixedWeights, ParetoTarget, Solver, StepStatistics
    from mogrid.trainer import (
        KeepBest,
        MultiObjectiveMixin,
        ParetoTrainer,
        ParetoTrainingArguments,
        WeightedBatchSampler,
    )

__version__ = "0.1.0"

# Name -> module. Nothing below torch's weight is imported before it is used.
_HOME = {
    "GradientEngine": "mogrid.gradients",
    "StepReport": "mogrid.gradients",
    "backward": "mogrid.gradients",
    "CachedEngine": "mogrid.gradients",
    "FixedWeights": "mogrid.solvers",
    "MGDA": "mogrid.solvers",
    "ParetoTarget": "mogrid.solvers",
    "Solver": "mogrid.solvers",
    "StepStatistics": "mogrid.solvers",
    "KeepBest": "mogrid.trainer",
    "MultiObjectiveMixin": "mogrid.trainer",
    "ParetoTrainer": "mogrid.trainer",
    "ParetoTrainingArguments": "mogrid.trainer",
    "WeightedBatchSampler": "mogrid.trainer",
}

__all__ = [
    "MGDA",
    "CachedEngine",
    "FixedWeights",
    "GradientEngine",
    "KeepBest",
    "MultiObjectiveMixin",
    "ParetoTarget",
    "ParetoTrainer",
    "ParetoTrainingArguments",
    "Solver",
    "StepReport",
    "StepStatistics",
    "WeightedBatchSampler",
    "__version__",
    "backward",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mogrid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
