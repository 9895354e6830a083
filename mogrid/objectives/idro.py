"""OOD robustness: weights on training domains that grow where a step helps the others, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.objectives.domains import WeightedDomainLoss, sum_over_ranks

__all__ = ["IDRO"]


class IDRO(WeightedDomainLoss):
    """Implicit DRO of COCO-DR: w_i ∝ w_i exp(mean_j r_ij / τ) (Yu et al., arXiv 2210.15212, section 4).

    r_ij = L_i^β L_j^β cos(∇L_i, ∇L_j): a domain gains weight where its loss is high *and* its gradient lowers the
    losses of the others. Unlike DomainDRO it does not chase a domain that is merely noisy. As in the authors' code the
    mean runs over all domains, those without rows in the batch counting 0, and no weight falls below a floor.

    The gradients cost a second backward: 5/3 of a plain step, charged to the ledger as such. They are of all
    parameters that train, so the loss needs the engine's ``exact``, ``last_layers`` or ``sketch`` mode, not one that
    stops at the representations.

    Parameters
    ----------
    loss, domains
        As of `WeightedDomainLoss`.
    temperature : float
        τ.
    power : float
        β ≥ 0.
    floor : float
        Keeps every weight at least this large; below 1/domains.
    """

    def __init__(
        self, loss: nn.Module, domains: int, temperature: float = 1.0, power: float = 0.5, floor: float = 0.01
    ) -> None:
        super().__init__(loss, domains)
        if not temperature > 0 or power < 0:
            raise ConfigError(f"need temperature > 0 and power >= 0, got {temperature} and {power}")
        if not 0 <= floor < 1 / domains:
            raise ConfigError(f"floor must lie in [0, 1/{domains}), got {floor}")
        self.temperature = temperature
        self.power = power
        self.floor = floor

    def _moved(self, losses: Tensor, present: Tensor) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        rows = self.log_weights.new_zeros(self.domains, sum(p.numel() for p in parameters))
        values = self.log_weights.new_zeros(2, self.domains)
        values[0, present] = losses.detach().to(values.dtype)
        values[1, present] = 1.0
        for domain, loss in zip(present.tolist(), losses, strict=True):
            parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if all(part is None for part in parts):
                raise ConfigError(
                    "IDRO needs gradients of parameters: train with gradients 'exact', 'last_layers' or 'sketch'"
                )
            flat = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, parameters, strict=True)]
            dense = [g.to_dense() if g.is_sparse else g for g in flat]  # those of embeddings name the rows they move
            rows[domain] = torch.cat([g.flatten().to(rows.dtype) for g in dense])
        values, rows = sum_over_ranks(values), sum_over_ranks(rows)
        if not bool(torch.isfinite(rows).all() and torch.isfinite(values).all()):
            return self.log_weights
        unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        size = (values[0] / values[1].clamp_min(1)).clamp_min(0) ** self.power * (values[1] > 0)
        gain = (size[:, None] * size * (unit @ unit.T)).mean(dim=1)
        moved = (self.log_weights + gain / self.temperature).softmax(dim=0)
        # Mixed with the uniform rather than clamped: the weights stay on the simplex and keep their order.
        return (self.floor + (1 - self.domains * self.floor) * moved).log()
