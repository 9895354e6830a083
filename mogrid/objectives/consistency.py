"""Adversarial robustness: rank as well, and alike, when the query is perturbed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn, no_grad

__all__ = ["PerturbationConsistency"]


class PerturbationConsistency(nn.Module):
    """InfoNCE of the perturbed query plus the KL divergence from the clean query's score row to the perturbed one's.

    Columns are (query, document, perturbed query). The first term bounds the natural error under perturbation, the
    second the boundary error (PIAT, arXiv 2312.10329; with a detached teacher, Self-Teaching, arXiv 2304.10195).
    Consistency alone would be met by a constant encoder, so the ranking term is part of the objective.

    Parameters
    ----------
    model : SentenceTransformer
    temperature : float
        Dot products are divided by it.
    consistency : float
        Weight of the KL term.
    live_teacher : bool
        Let the KL term's gradient reach the clean query too; otherwise the clean scores are a fixed target, and the
        clean query costs no backward.
    """

    def __init__(
        self, model: Any, temperature: float = 1.0, consistency: float = 1.0, live_teacher: bool = False
    ) -> None:
        super().__init__()
        if not temperature > 0 or consistency < 0:
            raise ValueError(f"need temperature > 0 and consistency >= 0, got {temperature} and {consistency}")
        self.model = model
        self.temperature = temperature
        self.consistency = consistency
        self.live_teacher = live_teacher

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if len(features) != 3:
            raise ValueError(f"expected the columns (query, document, perturbed query), got {len(features)} columns")
        clean, document, perturbed = features
        documents, queries = embed_columns(self.model, [document, perturbed])
        scores = queries @ documents.T / self.temperature
        targets = scores.new_tensor(range(len(scores))).long()
        ranking = F.cross_entropy(scores, targets)
        if self.consistency == 0:
            return ranking
        if self.live_teacher:
            teacher = self.model(clean)["sentence_embedding"] @ documents.T / self.temperature
        else:
            with no_grad():
                teacher = self.model(clean)["sentence_embedding"] @ documents.T / self.temperature
        divergence = F.kl_div(
            scores.log_softmax(dim=1), teacher.log_softmax(dim=1), log_target=True, reduction="batchmean"
        )
        return ranking + self.consistency * divergence
