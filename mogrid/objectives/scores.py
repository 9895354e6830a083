"""Scores of a batch by the model's own similarity: what it is trained by is what it is used by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mogrid.retrieval.encode import comparable

__all__ = ["compared", "divergence"]


def compared(model: Any, embeddings: Sequence[Tensor]) -> list[Tensor]:
    """Return raw embeddings, each (B, d), such that inner products are the model's scores: cosines where it says so."""
    while not hasattr(model, "similarity_fn_name"):  # what DDP and compilation put around it
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inner is None:
            break
        model = inner
    return [comparable(model, vectors) for vectors in embeddings]


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(p₁ ‖ p₂) of the distributions that rows of scores (B, C) stand for, the mean over rows."""
    return F.kl_div(second.log_softmax(dim=1), first.log_softmax(dim=1), log_target=True, reduction="batchmean")
