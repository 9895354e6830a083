"""Effectiveness: InfoNCE over in-batch negatives with dot-product scores."""

from __future__ import annotations

from typing import Any

from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import dot_score

__all__ = ["InfoNCE"]


class InfoNCE(MultipleNegativesRankingLoss):
    """In-batch InfoNCE with raw dot products, as DPR (arXiv 2004.04906) trains and contrastive entropy measures.

    Inputs are (query, document) rows, optionally with further columns of hard negatives. Use it with a sampler that
    keeps known positives of other queries out of the batch: `ParetoTrainer` has one for what `training_pairs` returns.

    Parameters
    ----------
    model : SentenceTransformer
    temperature : float
        Scores are divided by it.
    """

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__(model, scale=1.0 / temperature, similarity_fct=dot_score)
