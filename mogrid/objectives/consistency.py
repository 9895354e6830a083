"""Adversarial robustness: rank as well, and alike, when the text is perturbed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Literal

import torch.nn.functional as F
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn, no_grad

from mogrid.errors import ConfigError
from mogrid.flops import charging

__all__ = ["PerturbationConsistency", "divergence"]


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(p₁ ‖ p₂) of the distributions that rows of scores (B, C) stand for, the mean over rows."""
    return F.kl_div(second.log_softmax(dim=1), first.log_softmax(dim=1), log_target=True, reduction="batchmean")


class PerturbationConsistency(nn.Module):
    """InfoNCE of the perturbed text plus the KL divergence between the score rows of the clean text and of it.

    The first term bounds the natural error under perturbation, the second the boundary error. Consistency alone would
    be met by a constant encoder, so the ranking term is part of the objective. Known methods are settings of it:

    ================================================  =======================  =============
    method                                            ``teacher``              ``direction``
    ================================================  =======================  =============
    Self-Teaching (Zhuang & Zuccon, arXiv 2204.00716) ``"detached"``           ``"forward"``
    PIAT (arXiv 2312.10329)                           ``"live"``               ``"forward"``
    RoDR (Chen et al., IJCAI 2022)                    a frozen, older model    ``"forward"``
    ================================================  =======================  =============

    Parameters
    ----------
    model : SentenceTransformer
    temperature : float
        Dot products are divided by it.
    consistency : float
        Weight of the KL term.
    teacher : "detached", "live" or SentenceTransformer
        Whose clean scores are the target. Detached: the model's own, as a fixed target, and the clean text costs no
        backward. Live: the gradient reaches the clean text, too. Another model is never trained.
    direction : "forward" or "reverse"
        KL(clean ‖ perturbed), or KL(perturbed ‖ clean).
    side : "query" or "document"
        Which text is perturbed. Columns are (query, document, perturbed text); a document's are compared by the rows
        of their queries.

    Raises
    ------
    ConfigError
        A setting is out of range, or there are not three columns.
    """

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        consistency: float = 1.0,
        teacher: Any = "detached",
        direction: Literal["forward", "reverse"] = "forward",
        side: Literal["query", "document"] = "query",
    ) -> None:
        super().__init__()
        if not temperature > 0 or consistency < 0:
            raise ConfigError(f"need temperature > 0 and consistency >= 0, got {temperature} and {consistency}")
        if isinstance(teacher, str) and teacher not in ("detached", "live"):
            raise ConfigError(f"teacher must be 'detached', 'live' or a model, got {teacher!r}")
        if direction not in ("forward", "reverse") or side not in ("query", "document"):
            raise ConfigError(
                f"direction is 'forward' or 'reverse', side 'query' or 'document'; got {direction!r} and {side!r}"
            )
        self.model = model
        self.temperature = temperature
        self.consistency = consistency
        # In a list: another model's weights are neither trained nor saved with this loss.
        self._teacher = [] if isinstance(teacher, str) else [teacher.eval()]
        self.live = teacher == "live" if isinstance(teacher, str) else False
        self.direction = direction
        self.side = side

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if len(features) != 3:
            raise ConfigError(f"expected the columns (query, document, perturbed {self.side}), got {len(features)}")
        query, document, perturbed = features
        kept, clean = (document, query) if self.side == "query" else (query, document)
        other, moved = embed_columns(self.model, [kept, perturbed])
        scores = self._scores(moved, other)
        ranking = F.cross_entropy(scores, scores.new_tensor(range(len(scores))).long())
        if self.consistency == 0:
            return ranking
        target = self._target(kept, clean, other)
        first, second = (target, scores) if self.direction == "forward" else (scores, target)
        return ranking + self.consistency * divergence(first, second)

    def _scores(self, text: Tensor, other: Tensor) -> Tensor:
        query, document = (text, other) if self.side == "query" else (other, text)
        return query @ document.T / self.temperature

    def _target(self, kept: dict[str, Any], clean: dict[str, Any], other: Tensor) -> Tensor:
        with nullcontext() if self.live else no_grad():
            if self._teacher:
                teacher = self._teacher[0].to(other.device)
                with charging(teacher):
                    text, other = (teacher(dict(column))["sentence_embedding"] for column in (clean, kept))
            else:
                text = self.model(clean)["sentence_embedding"]
            return self._scores(text, other)
