"""OOD robustness: the smooth maximum of a loss over training domains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.objectives.features import take_rows

__all__ = ["SmoothWorstDomain"]


class SmoothWorstDomain(nn.Module):
    """τ·log mean_d exp(L_d / τ), a smooth maximum of the inner loss over the domains in the batch.

    Rows carry their domain in the dataset's ``label`` column; the inner loss sees one domain at a time, so in-batch
    negatives stay within a domain. τ → 0 is the worst domain, τ → ∞ the mean; no state is kept between steps.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss on (query, document, ...) columns.
    temperature : float
        τ, in the units of the loss.
    """

    def __init__(self, loss: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.model: Any = loss.model
        self.loss = loss
        self.temperature = temperature

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor) -> Tensor:
        if labels is None:
            raise ValueError("SmoothWorstDomain needs a 'label' column that numbers each row's domain")
        features = list(sentence_features)
        losses = []
        for domain in labels.unique():
            rows = (labels == domain).nonzero().flatten()
            losses.append(self.loss([take_rows(column, rows) for column in features], None))
        scaled = torch.stack(losses) / self.temperature
        return self.temperature * (scaled.logsumexp(dim=0) - math.log(len(losses)))
