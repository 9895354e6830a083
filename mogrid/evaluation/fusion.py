"""BM25 and dense results together: by ranks, or by scores with a weight tuned on select-role data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from mogrid.errors import EvaluationError, RoleError
from mogrid.evaluation.measures import rank_measures
from mogrid.retrieval.types import Qrels, Run

__all__ = ["interpolate", "reciprocal_rank_fusion", "tune_interpolation"]

_RANK = 60
"""Cormack, Clarke & Büttcher's constant (SIGIR 2009)."""


def reciprocal_rank_fusion(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return Σ 1/(60 + rank) over the runs (Cormack et al., SIGIR 2009); there is nothing to tune."""
    fused: dict[str, dict[str, float]] = {}
    for run in runs:
        for query, found in run.items():
            scores = fused.setdefault(query, {})
            for rank, document in enumerate(_ordered(found), start=1):
                scores[document] = scores.get(document, 0.0) + 1 / (_RANK + rank)
    return fused


def interpolate(first: Run, second: Run, weight: float) -> dict[str, dict[str, float]]:
    """Return weight · first + (1 − weight) · second, each query's scores scaled to [0, 1] by its own extremes.

    A document that one run does not have counts 0 there. Raises `EvaluationError` for a weight beyond [0, 1].
    """
    if not 0 <= weight <= 1:
        raise EvaluationError(f"weight must lie in [0, 1], got {weight}")
    fused: dict[str, dict[str, float]] = {}
    for run, share in ((first, weight), (second, 1 - weight)):
        for query, found in run.items():
            scores = fused.setdefault(query, {})
            for document, value in _scaled(found).items():
                scores[document] = scores.get(document, 0.0) + share * value
    return fused


def tune_interpolation(
    first: Run, second: Run, qrels: Qrels, role: str, *, weights: Sequence[float] | None = None
) -> float:
    """Return the weight of largest mean nDCG@10 on a select split; the most even of equally good ones.

    Raises
    ------
    RoleError
        The role is not ``select``.
    """
    if role != "select":
        raise RoleError(f"a weight is tuned on a select split, not on {role}")
    tried = np.linspace(0, 1, 11).tolist() if weights is None else list(weights)
    values = {w: fmean(rank_measures(interpolate(first, second, w), qrels).ndcg.values()) for w in tried}
    return max(tried, key=lambda w: (round(values[w], 9), -abs(w - 0.5)))


def _ordered(found: Mapping[str, float]) -> list[str]:
    return sorted(found, key=lambda document: (-found[document], document))


def _scaled(found: Mapping[str, float]) -> dict[str, Any]:
    if not found:
        return {}
    low, high = min(found.values()), max(found.values())
    return {document: (value - low) / (high - low) if high > low else 1.0 for document, value in found.items()}
