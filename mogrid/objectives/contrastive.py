"""Effectiveness: InfoNCE over in-batch negatives."""

from __future__ import annotations

from typing import Any

from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import dot_score
from torch import Tensor

from mogrid.objectives.scores import compared

__all__ = ["InfoNCE"]


class InfoNCE(MultipleNegativesRankingLoss):
    """In-batch InfoNCE over the model's own scores, as DPR (arXiv 2004.04906) trains and contrastive entropy measures.

    Inputs are (query, document) rows, optionally with further columns of hard negatives. Use it with a sampler that
    keeps known positives of other queries out of the batch: a dataset with a ``group`` column gets one.

    Parameters
    ----------
    model : SentenceTransformer
        Its ``similarity_fn_name`` says whether scores are cosines or inner products.
    temperature : float
        Scores are divided by it: 1 suits inner products of a model trained with them, about 0.05 suits cosines.
    """

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__(model, scale=1.0 / temperature, similarity_fct=dot_score)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        return super().compute_loss_from_embeddings(compared(self.model, embeddings), labels)
