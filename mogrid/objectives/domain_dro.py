"""OOD robustness: weights on training domains that grow with their losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.objectives.domains import WeightedDomainLoss, sum_over_ranks

__all__ = ["DomainDRO"]


class DomainDRO(WeightedDomainLoss):
    """Online GroupDRO: w_d ∝ w_d exp(η L_d), then Σ w_d L_d (Sagawa et al., arXiv 1911.08731, algorithm 1).

    The weights are what the loss of a domain has been over all steps, not in this batch alone; they are in the
    ``state_dict``. Where a domain has no rows in a batch, its weight is left as it is and the others' are
    renormalised in the loss, so that the loss keeps its scale.

    Parameters
    ----------
    loss, domains
        As of `WeightedDomainLoss`.
    step_size : float
        η: how fast weight moves, per unit of the loss.
    """

    def __init__(self, loss: nn.Module, domains: int, step_size: float = 0.01) -> None:
        super().__init__(loss, domains)
        if not step_size > 0:
            raise ConfigError(f"step_size must be positive, got {step_size}")
        self.step_size = step_size

    def _moved(self, losses: Tensor, present: Tensor) -> Tensor:
        total = self.log_weights.new_zeros(2, self.domains)
        total[0, present] = losses.detach().to(total.dtype)
        total[1, present] = 1.0
        total = sum_over_ranks(total)
        mean = total[0] / total[1].clamp_min(1)
        # An inner loss that overflowed is the engine's to report: it must not spoil the weights for good.
        return self.log_weights + self.step_size * torch.nan_to_num(mean, posinf=0.0)
