"""Adversarial robustness: rank as well, and alike, when the text is perturbed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn, no_grad

from mogrid.errors import ConfigError
from mogrid.flops import charging
from mogrid.objectives.anchors import frozen_copy
from mogrid.objectives.scores import compared, divergence

__all__ = ["PerturbationConsistency", "multi_positive"]


class PerturbationConsistency(nn.Module):
    """A ranking loss plus the KL divergence between the score rows of the clean text and of the perturbed one.

    The first term bounds the natural error under perturbation, the second the boundary error. Consistency alone would
    be met by a constant encoder, so a ranking term is part of the objective. Known methods are settings of it:

    ================================================  ====================================================
    method                                            settings that differ from the defaults
    ================================================  ====================================================
    Self-Teaching (Zhuang & Zuccon, arXiv 2204.00716) none
    PIAT (arXiv 2312.10329)                           ``teacher="live"``
    RoDR (Chen et al., IJCAI 2022)                    ``teacher="base"``, or another frozen model
    DST (arXiv 2306.10348)                            ``ranking="clean", dual=0.5, dual_consistency=0.2``
    multi-positive DST (arXiv 2403.10939)             DST's and ``positives="all"``
    ================================================  ====================================================

    DST and its successor are given up to their common factor of one half, with the weights of their authors' code.

    Parameters
    ----------
    model, temperature
        As of `MaskedInfoNCE`.
    consistency : float
        Weight of the KL term beside the ranking term.
    teacher : "detached", "live", "base" or SentenceTransformer
        Whose clean scores are the target. Detached: the model's own, as a fixed target, and the clean text costs no
        backward unless it is ranked. Live: the gradient reaches the clean text, too. Base: the model as it is now,
        frozen. Another model is never trained.
    direction : "forward" or "reverse"
        KL(clean ‖ perturbed), or KL(perturbed ‖ clean).
    side : "query" or "document"
        Which text is perturbed. Columns are (query, document, perturbed text, further variants of it ...); a document's
        are compared by the rows of their queries.
    ranking : "perturbed" or "clean"
        Whose ranking is trained; of several variants the mean.
    dual, dual_consistency : float
        Shares, from 0 to 1, of the other direction in the ranking term and in the KL term: of finding a document's
        query among the queries.
    positives : "one" or "all"
        In the direction in which the perturbed side is what is found: whether the variants are positives as well, all
        at once, of the text that their clean form belongs to. By ``dual`` alone, queries are found.

    Raises
    ------
    ConfigError
        A setting is out of range or without effect, or there are fewer than three columns.
    """

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        consistency: float = 1.0,
        teacher: Literal["detached", "live", "base"] | nn.Module = "detached",
        direction: Literal["forward", "reverse"] = "forward",
        side: Literal["query", "document"] = "query",
        ranking: Literal["perturbed", "clean"] = "perturbed",
        dual: float = 0.0,
        dual_consistency: float = 0.0,
        positives: Literal["one", "all"] = "one",
    ) -> None:
        super().__init__()
        if not temperature > 0 or consistency < 0:
            raise ConfigError(f"need temperature > 0 and consistency >= 0, got {temperature} and {consistency}")
        if isinstance(teacher, str) and teacher not in ("detached", "live", "base"):
            raise ConfigError(f"teacher must be 'detached', 'live', 'base' or a model, got {teacher!r}")
        if direction not in ("forward", "reverse") or side not in ("query", "document"):
            raise ConfigError(
                f"direction is 'forward' or 'reverse', side 'query' or 'document'; got {direction!r} and {side!r}"
            )
        if ranking not in ("perturbed", "clean") or positives not in ("one", "all"):
            raise ConfigError(
                f"ranking is 'perturbed' or 'clean', positives 'one' or 'all'; got {ranking!r} and {positives!r}"
            )
        if not (0 <= dual <= 1 and 0 <= dual_consistency <= 1):
            raise ConfigError(f"dual and dual_consistency are shares from 0 to 1, got {dual} and {dual_consistency}")
        if positives == "all" and dual == (0 if side == "query" else 1):
            raise ConfigError(
                "positives 'all' says how a text's variants are found: the ranking term has no such part with "
                f"side {side!r} and dual {dual}"
            )
        self.model = model
        self.temperature = temperature
        self.consistency = consistency
        other = frozen_copy(model) if teacher == "base" else teacher
        # In a list: another model's weights are neither trained nor saved with this loss.
        self._teacher = [] if isinstance(other, str) else [other.eval()]
        self.live = teacher == "live" if isinstance(teacher, str) else False
        self.direction = direction
        self.side = side
        self.ranking = ranking
        self.dual, self.dual_consistency = dual, dual_consistency
        self.positives = positives

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss of three columns of B rows, or of more."""
        features = list(sentence_features)
        if len(features) < 3:
            raise ConfigError(f"expected the columns (query, document, perturbed {self.side}), got {len(features)}")
        query, document, *perturbed = features
        kept, clean = (document, query) if self.side == "query" else (query, document)
        own = [clean] if self.live or self.ranking == "clean" or self.positives == "all" else []  # with a gradient
        other, *texts = compared(self.model, embed_columns(self.model, [dict(c) for c in (kept, *own, *perturbed)]))
        moved = texts[len(own) :]
        ranking = self._ranking(other, texts[0] if own else None, moved)
        if self.consistency == 0:
            return ranking
        target = self._target(kept, clean, other, texts[0] if own else None)
        alike = torch.stack([self._alike(target, self._scores(text, other)) for text in moved]).mean()
        return ranking + self.consistency * alike

    def _scores(self, text: Tensor, other: Tensor) -> Tensor:
        """Return scores (B, B), a row for each query."""
        query, document = (text, other) if self.side == "query" else (other, text)
        return query @ document.T / self.temperature

    def _ranking(self, other: Tensor, clean: Tensor | None, moved: Sequence[Tensor]) -> Tensor:
        ranked = [clean] if self.ranking == "clean" and clean is not None else moved
        scores = [self._scores(text, other) for text in ranked]
        main = torch.stack([_in_batch(s) for s in scores]).mean()
        back = torch.stack([_in_batch(s.T) for s in scores]).mean() if self.dual else main
        if self.positives == "all" and clean is not None:
            found = multi_positive(other @ torch.cat([clean, *moved]).T / self.temperature)
            main, back = (main, found) if self.side == "query" else (found, back)
        return (1 - self.dual) * main + self.dual * back

    def _alike(self, target: Tensor, scores: Tensor) -> Tensor:
        first, second = (target, scores) if self.direction == "forward" else (scores, target)
        forward = divergence(first, second)
        if not self.dual_consistency:
            return forward
        return (1 - self.dual_consistency) * forward + self.dual_consistency * divergence(first.T, second.T)

    def _target(self, kept: dict[str, Any], clean: dict[str, Any], other: Tensor, own: Tensor | None) -> Tensor:
        if own is not None and not self._teacher:
            return self._scores(own, other) if self.live else self._scores(own, other).detach()
        with nullcontext() if self.live else no_grad():
            if self._teacher:
                teacher = self._teacher[0].to(other.device)
                with charging(teacher):
                    pair = [teacher(dict(column))["sentence_embedding"] for column in (clean, kept)]
                text, other = compared(teacher, pair)
            else:
                (text,) = compared(self.model, [self.model(dict(clean))["sentence_embedding"]])
            return self._scores(text, other)


def _in_batch(scores: Tensor) -> Tensor:
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def multi_positive(scores: Tensor) -> Tensor:
    """Return the mean over rows and their positives of −log softmax of a positive among it and the negatives.

    Parameters
    ----------
    scores : Tensor, shape (B, m·B)
        Positives of row i are columns i, B + i, 2B + i ...: a row's positives do not compete with each other.

    Returns
    -------
    Tensor, scalar
    """
    count = len(scores)
    own = torch.eye(count, dtype=torch.bool, device=scores.device).repeat(1, scores.shape[1] // count)
    negatives = scores.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True)
    return (torch.logaddexp(scores, negatives) - scores)[own].mean()
