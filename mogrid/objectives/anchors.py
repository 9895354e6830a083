"""Anchors: keep what the base model knows while it learns something else. None of them needs a judgement.

The base is the model as it is when the loss is made, copied and frozen. A training that goes on from a checkpoint makes
its losses before it loads the weights, so the base stays the one that the training began with; a checkpoint holds no
copy of it.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.flops import charging
from mogrid.objectives.scores import compared, divergence

__all__ = ["DriftBound", "EmbeddingDistillation", "ScoreDistillation", "WeightAnchor", "frozen_copy"]

_COPIES: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return the model as it is now, untrained from here on and without dropout.

    Losses that are made one after the other share one copy: as long as somebody holds it and the weights are the same.
    """
    reference = _COPIES.get(model)
    held = None if reference is None else reference()
    if held is not None and _equal(model, held):
        return held
    made = copy.deepcopy(model).eval().requires_grad_(False)
    _COPIES[model] = weakref.ref(made)
    return made


def _equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key].cpu(), theirs[key].cpu()) for key in ours)


class _Anchor(nn.Module):
    """A loss between what the model and its base make of the same texts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._base = [frozen_copy(model)]  # in a list: its weights are neither trained nor saved with this loss

    def _both(self, features: list[dict[str, Any]]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the model's and the base's embeddings of every column; the base's forwards are charged."""
        given = [dict(column) for column in features]
        now = compared(self.model, embed_columns(self.model, [dict(column) for column in features]))
        base = self._base[0].to(now[0].device)
        with torch.no_grad(), charging(base):
            before = compared(base, [base(column)["sentence_embedding"] for column in given])
        return now, before


class EmbeddingDistillation(_Anchor):
    """How far the embeddings of texts have moved from the base's: the mean of ‖e − e⁰‖² over that of ‖e⁰‖².

    For cosine scores embeddings have length 1, and the loss is 2 − 2·cos(e, e⁰).

    Parameters
    ----------
    model : SentenceTransformer
        The base, at this moment. Columns are any texts, one or several a row.
    bound : float
        How far a text may move at no loss; 0 leaves no text any room.
    """

    def __init__(self, model: Any, bound: float = 0.0) -> None:
        super().__init__(model)
        if not 0 <= bound < float("inf"):
            raise ConfigError(f"bound must be 0 or more, got {bound}")
        self.bound = bound

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss of one column of B rows, or of several."""
        now, before = (torch.cat(columns) for columns in self._both(list(sentence_features)))
        moved = (now - before).square().sum(dim=1) / before.square().sum(dim=1).mean()
        return (moved - self.bound).clamp(min=0).mean()


class DriftBound(EmbeddingDistillation):
    """A limit on how far any text may move: `EmbeddingDistillation` that is at rest below `bound`.

    Parameters
    ----------
    model : SentenceTransformer
        The base, at this moment. Columns are any texts, one or several a row.
    bound : float
        How far any text may move, in units of ‖e − e⁰‖² / ‖e⁰‖²: 0.1 is a cosine of .95 to where the base had the text.
    """

    def __init__(self, model: Any, bound: float = 0.1) -> None:
        super().__init__(model, bound)


class ScoreDistillation(_Anchor):
    """KL of the base's score rows to the model's, over the documents and hard negatives in the batch.

    Which document answers which query is not asked: the base's own ranking is the target. It leaves embeddings free to
    turn and stretch together, which `EmbeddingDistillation` does not.

    Parameters
    ----------
    model : SentenceTransformer
        The base, at this moment. Columns are (query, document, further candidates ...).
    temperature : float
        Scores of both are divided by it.
    """

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss of two columns of B rows, or of more."""
        features = list(sentence_features)
        if len(features) < 2:
            raise ConfigError(f"ScoreDistillation expects the columns (query, document, ...), got {len(features)}")
        now, before = (
            query @ torch.cat(candidates).T / self.temperature for query, *candidates in self._both(features)
        )
        return divergence(before, now)


class WeightAnchor(nn.Module):
    """L2 to the base's weights: weight · ½ Σ (θ − θ⁰)², over what is trained (L2-SP, arXiv 1802.01483).

    It reads no text, so it costs no FLOPs, and no rows matter to it: give it a share of the loss, not of the batch.

    Parameters
    ----------
    model : SentenceTransformer
        The base, at this moment.
    weight : float
        Multiplies the square; the paper takes 0.01 to 0.1.
    """

    def __init__(self, model: Any, weight: float = 0.1) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(f"weight must be positive, got {weight}")
        self.model = model
        self.weight = weight
        self._before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss; columns are not read."""
        total: Any = 0.0
        for name, p in self.model.named_parameters():
            name = name.removeprefix("module.").removeprefix("_orig_mod.")
            if name in self._before:
                before = self._before[name] = self._before[name].to(p.device)
                total = total + (p - before).square().sum()
        return 0.5 * self.weight * total
