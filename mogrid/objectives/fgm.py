"""Adversarial robustness: gradient steps on the word embeddings against the retriever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.flops import crafting
from mogrid.objectives.embeddings import keeping, project, scaled, shifted

__all__ = ["FGM", "PGD"]


class PGD(nn.Module):
    """Inner loss at the end of projected gradient ascent on its input embeddings (Madry et al., arXiv 1706.06083).

    From δ = 0, each step adds α·ε·‖E‖·g/‖g‖ for each text, with E its word embeddings and g the gradient of the loss
    at E + δ, and shortens δ to ε·‖E‖ where it is longer. ε is relative to the embeddings' own size: absolute steps
    that suit one encoder ruin another, so keep ε ≤ 0.05. Every step costs a forward and a backward that stops at the
    embeddings, charged to the ledger as crafting.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss that runs its forwards in the same order every time.
    epsilon : float
        ε: how long the shift of a text may be, relative to the norm of its word embeddings.
    steps : int
        How many steps the shift is sought in; each costs a forward and a backward.
    step_size : float
        α: how far each step goes, in units of ε.

    Raises
    ------
    ConfigError
        A setting is out of range.
    """

    def __init__(self, loss: nn.Module, epsilon: float = 0.02, steps: int = 3, step_size: float = 0.5) -> None:
        super().__init__()
        if not 0 < epsilon <= 1:
            raise ConfigError(f"epsilon is relative to the embeddings' norm and lies in (0, 1], got {epsilon}")
        if steps < 1 or not step_size > 0:
            raise ConfigError(f"need steps >= 1 and step_size > 0, got {steps} and {step_size}")
        self.model: Any = loss.model
        self.loss = loss
        self.epsilon = epsilon
        self.steps = steps
        self.step_size = step_size

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        with crafting(), torch.enable_grad():
            shifts = self._craft(features, labels)
        with shifted(self.model, shifts):
            return self._inner(features, labels)

    def _inner(self, features: list[dict[str, Any]], labels: Tensor | None) -> Tensor:
        value: Tensor = self.loss([dict(column) for column in features], labels)
        return value

    def _craft(self, features: list[dict[str, Any]], labels: Tensor | None) -> list[Tensor]:
        with keeping(self.model, gradients=True) as embeddings:
            value = self._inner(features, labels)
        gradients = torch.autograd.grad(value, embeddings)
        embeddings = [e.detach() for e in embeddings]
        shifts = self._stepped([torch.zeros_like(e) for e in embeddings], gradients, embeddings)
        for _ in range(self.steps - 1):
            shifts = [shift.requires_grad_() for shift in shifts]
            with shifted(self.model, shifts):
                value = self._inner(features, labels)
            shifts = self._stepped([s.detach() for s in shifts], torch.autograd.grad(value, shifts), embeddings)
        return shifts

    def _stepped(self, shifts: list[Tensor], gradients: Iterable[Tensor], embeddings: list[Tensor]) -> list[Tensor]:
        length = self.step_size * self.epsilon
        return [
            project(shift + scaled(g, e, length), e, self.epsilon)
            for shift, g, e in zip(shifts, gradients, embeddings, strict=True)
        ]


class FGM(PGD):
    """Inner loss under the fast gradient perturbation of its input embeddings (Miyato et al., arXiv 1605.07725).

    One whole step of `PGD`: δ = ε·‖E‖·g/‖g‖. Of retrieval: Lupart & Clinchant, arXiv 2301.10576.

    Parameters
    ----------
    loss, epsilon
        As of `PGD`.
    """

    def __init__(self, loss: nn.Module, epsilon: float = 0.02) -> None:
        super().__init__(loss, epsilon, steps=1, step_size=1.0)
