"""OOD robustness: the smooth maximum of a loss over training domains."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.objectives.domains import DomainLoss

__all__ = ["SmoothWorstDomain"]


class SmoothWorstDomain(DomainLoss):
    """τ·log mean_d exp(L_d / τ), a smooth maximum of the inner loss over the domains in the batch.

    τ → 0 is the worst domain, τ → ∞ the mean; no state is kept between steps.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss on (query, document, ...) columns.
    temperature : float
        τ, in the units of the loss.
    """

    def __init__(self, loss: nn.Module, temperature: float = 1.0) -> None:
        super().__init__(loss)
        if not temperature > 0:
            raise ConfigError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def _combine(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor:
        scaled = self._losses(features, labels, present) / self.temperature
        return self.temperature * (scaled.logsumexp(dim=0) - math.log(len(present)))
