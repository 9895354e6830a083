"""What the cache must equal: the same mini-batches with the same random numbers, one ordinary graph over all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.gradients.features import take_rows


def encode_with_graph(model: nn.Module, features: Mapping[str, Any], mini_batch_size: int) -> Tensor:
    order = features["attention_mask"].sum(dim=1).argsort(stable=True)
    parts = [model(take_rows(dict(features), rows))["sentence_embedding"] for rows in order.split(mini_batch_size)]
    return torch.cat(parts)[order.argsort()]


def flat(gradients: list[Tensor | None], like: list[Tensor]) -> Tensor:
    pairs = zip(gradients, like, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def jacobian(losses: Mapping[str, Tensor], of: list[Tensor]) -> Tensor:
    """(K, P) gradients with respect to the given tensors, laid side by side."""
    rows = [torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True) for loss in losses.values()]
    return torch.stack([flat(list(row), of) for row in rows])


def combined(model: nn.Module) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return flat([p.grad for p in parameters], parameters)
