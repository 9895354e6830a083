"""Adversarial robustness: score rows that stay where they are under the worst small step on the embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.flops import crafting
from mogrid.objectives.embeddings import keeping, scaled, shifted
from mogrid.objectives.scores import compared, divergence

__all__ = ["VAT"]


class VAT(nn.Module):
    """InfoNCE plus KL(p(E) ‖ p(E + r)) of the score rows p, r the direction in which they change most.

    Virtual adversarial training (Miyato et al., arXiv 1704.03976) on in-batch scores: r = ε·‖E‖·d/‖d‖ for each text,
    d found by power iteration on the divergence from a random start. No judgement is used to find r. Every iteration
    costs a forward and a backward that stops at the embeddings, charged to the ledger as crafting.

    Parameters
    ----------
    model : SentenceTransformer
        Columns are (query, document).
    temperature : float
        Scores are divided by it.
    epsilon : float
        Relative to the embeddings' norm, at most 1; keep it below 0.05.
    weight : float
        Multiplies the divergence.
    iterations : int
        How many rounds of power iteration seek the worst direction.
    probe : float
        ξ, relative to the embeddings' norm: how far the divergence is probed.
    seed : int
        Of the random starts. How many were drawn is in the ``state_dict``: a resumed training draws the next ones.

    Raises
    ------
    ConfigError
        A setting is out of range.
    """

    draws: Tensor

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        epsilon: float = 0.02,
        weight: float = 1.0,
        iterations: int = 1,
        probe: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 < epsilon <= 1 and 0 < probe <= 1):
            raise ConfigError(f"epsilon and probe are relative to the embeddings' norm, in (0, 1]: {epsilon}, {probe}")
        if not temperature > 0 or weight < 0 or iterations < 1:
            raise ConfigError(
                f"need temperature > 0, weight >= 0 and iterations >= 1, got {temperature}, {weight}, {iterations}"
            )
        self.model = model
        self.temperature = temperature
        self.epsilon = epsilon
        self.weight = weight
        self.iterations = iterations
        self.probe = probe
        self.seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if len(features) != 2:
            raise ConfigError(f"VAT expects the columns (query, document), got {len(features)} columns")
        with keeping(self.model) as embeddings:
            clean = self._scores(features)
        ranking = nn.functional.cross_entropy(clean, torch.arange(len(clean), device=clean.device))
        fixed = clean.detach()
        with crafting(), torch.enable_grad():
            worst = self._craft(features, fixed, [e.detach() for e in embeddings])
        with shifted(self.model, worst):
            moved = self._scores(features)
        return ranking + self.weight * divergence(fixed, moved)

    def _scores(self, features: list[dict[str, Any]]) -> Tensor:
        query, document = compared(self.model, embed_columns(self.model, [dict(column) for column in features]))
        return query @ document.T / self.temperature

    def _craft(self, features: list[dict[str, Any]], clean: Tensor, embeddings: Sequence[Tensor]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * int(self.draws))
        if self.model.training:
            self.draws += 1
        directions = [torch.randn(e.shape, generator=generator).to(e) for e in embeddings]
        for _ in range(self.iterations):
            probes = [scaled(d, e, self.probe).requires_grad_() for d, e in zip(directions, embeddings, strict=True)]
            with shifted(self.model, probes):
                value = divergence(clean, self._scores(features))
            directions = list(torch.autograd.grad(value, probes))
        return [scaled(d, e, self.epsilon) for d, e in zip(directions, embeddings, strict=True)]
