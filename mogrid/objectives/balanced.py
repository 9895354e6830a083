"""The baseline of every OOD objective: all training domains count alike."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mogrid.objectives.domains import DomainLoss

__all__ = ["BalancedERM"]


class BalancedERM(DomainLoss):
    """The mean over the domains in the batch of the inner loss, however many rows each has.

    Much of what distributionally robust training gains is this balance, so it is what the others must beat
    (Gulrajani & Lopez-Paz, arXiv 2007.01434, of domain generalisation at large).
    """

    def _combine(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor:
        return self._losses(features, labels, present).mean()
