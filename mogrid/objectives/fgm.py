"""Adversarial robustness: a gradient step on the word embeddings against the retriever."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.scaling.ledger import crafting, encoders

__all__ = ["FGM"]


class FGM(nn.Module):
    """Inner loss under the fast gradient perturbation of its input embeddings (Miyato et al., arXiv 1605.07725).

    δ = ε·‖E‖·g / ‖g‖ for each text, with E its word embeddings and g the gradient of the clean loss: ε is the size of
    the step relative to the embeddings themselves. Absolute steps that suit one encoder ruin another, so keep
    ε ≤ 0.05. Retrieval: Lupart & Clinchant, arXiv 2301.10576.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss that runs its forwards in the same order every time.
    epsilon : float
    """

    def __init__(self, loss: nn.Module, epsilon: float = 0.02) -> None:
        super().__init__()
        if not 0 < epsilon <= 1:
            raise ValueError(f"epsilon is relative to the embeddings' norm and lies in (0, 1], got {epsilon}")
        self.model: Any = loss.model
        self.loss = loss
        self.epsilon = epsilon

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        seen: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Tensor) -> None:
            seen.append(output)

        with crafting(), torch.enable_grad():
            with self._hooked(keep):
                clean = self.loss([dict(column) for column in features], labels)
            gradients = torch.autograd.grad(clean, seen)
        steps = iter([self._step(e, g) for e, g in zip(seen, gradients, strict=True)])

        def shift(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return output + next(steps)

        with self._hooked(shift):
            perturbed: Tensor = self.loss([dict(column) for column in features], labels)
        return perturbed

    def _step(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        size = embeddings.detach().flatten(1).norm(dim=1)
        norm = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        return gradient * (self.epsilon * size / norm)[:, None, None]

    def _hooked(self, hook: Callable[..., Any]) -> ExitStack:
        stack = ExitStack()
        for encoder in encoders(self.model):
            handle = encoder.get_input_embeddings().register_forward_hook(hook)  # type: ignore[operator]
            stack.callback(handle.remove)
        return stack
