"""OOD robustness: each training domain in turn plays the one that was not seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mogrid.errors import ConfigError, DataError
from mogrid.objectives.domains import DomainLoss

__all__ = ["RotatingUnseenDomain"]


class RotatingUnseenDomain(DomainLoss):
    """The loss on seen domains, plus the loss on a held-out one after a trial step on the seen ones.

    L(θ) = mean_{d≠u} L_d(θ) + β L_u(θ − α g), g = ∇ mean_{d≠u} L_d(θ) held constant: first-order MLDG (Li et al.,
    arXiv 1710.03463), with the held-out domain u the next one of the batch in turn. What lowers the second term is a
    direction in which training on some domains carries over to another. With α = 0 it is plain weighting.

    The trial step costs one more backward over the seen rows, charged to the ledger. It needs gradients of
    parameters: the engine's ``exact``, ``last_layers`` or ``sketch`` mode.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss on (query, document, ...) columns that is a function of its parameters.
    domains : int
        How many there are: labels are 0 to domains - 1.
    trial_step : float
        α ≥ 0, a learning rate of gradient descent.
    weight : float
        β ≥ 0.
    """

    turn: Tensor

    def __init__(self, loss: nn.Module, domains: int, trial_step: float = 0.01, weight: float = 1.0) -> None:
        super().__init__(loss)
        if domains < 2 or trial_step < 0 or weight < 0:
            raise ConfigError(
                f"need domains >= 2, trial_step >= 0 and weight >= 0, got {domains}, {trial_step} and {weight}"
            )
        self.domains = domains
        self.trial_step = trial_step
        self.weight = weight
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    def _combine(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor:
        if int(present[0]) < 0 or int(present[-1]) >= self.domains:
            raise DataError(f"RotatingUnseenDomain: a label is not among its domains, 0 to {self.domains - 1}")
        if len(present) == 1:
            return self._losses(features, labels, present)[0]
        held = int(present[((present - self.turn) % self.domains).argmin()])
        if self.model.training and torch.is_grad_enabled():
            self.turn.fill_((held + 1) % self.domains)
        seen = self._losses(features, labels, present[present != held]).mean()
        return seen + self.weight * self._after_trial(seen, self._rows(features, labels, held))

    def _after_trial(self, seen: Tensor, unseen: list[dict[str, Any]]) -> Tensor:
        if self.trial_step == 0 or not seen.requires_grad:
            plain: Tensor = self.loss(unseen, None)
            return plain
        named = {name: p for name, p in self.loss.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(seen, list(named.values()), retain_graph=True, allow_unused=True)
        if all(g is None for g in gradients):
            raise ConfigError(
                "RotatingUnseenDomain needs gradients of parameters: train with gradients 'exact', 'last_layers' or "
                "'sketch', or with trial_step 0"
            )
        stepped = {
            name: p if g is None else p - self.trial_step * g
            for (name, p), g in zip(named.items(), gradients, strict=True)
        }
        shifted: Tensor = functional_call(self.loss, stepped, (unseen, None))
        return shifted
