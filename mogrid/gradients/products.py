"""Inner products of gradients that come parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Gradients", "gramian"]

Gradients = list[Tensor | None]

# Columns of J converted to float64 at a time: bounds the extra memory to K × this × 8 bytes.
_CHUNK = 1 << 16


def gramian(gradients: Sequence[Gradients]) -> Tensor:
    """Return G = J Jᵀ in float64 on the CPU.

    Parameters
    ----------
    gradients : sequence of K lists of P tensors
        One list per objective; None stands for a zero gradient.

    Returns
    -------
    Tensor, shape (K, K), float64
        Products are formed in float64, so gradients of norm 1e-20 do not vanish and 1e20 do not overflow.
    """
    count = len(gradients)
    device = next((g.device for row in gradients for g in row if g is not None), torch.device("cpu"))
    total = torch.zeros(count, count, dtype=torch.float64, device=device)
    small: list[list[Tensor]] = []
    small_size = 0

    def flush() -> None:
        nonlocal small_size
        if small:
            matrix = torch.stack([torch.cat(column) for column in zip(*small, strict=True)]).double()
            total.addmm_(matrix, matrix.T)
            small.clear()
            small_size = 0

    for column in zip(*gradients, strict=True):
        present = next((g for g in column if g is not None), None)
        if present is None:
            continue
        if any(g is not None and g.is_sparse for g in column):
            total += _sparse_products(column, total)
            continue
        flat = [torch.zeros_like(present).flatten() if g is None else g.flatten() for g in column]
        if present.numel() <= _CHUNK // 16:  # few large products beat many small ones
            small.append(flat)
            small_size += present.numel()
            if small_size > _CHUNK:
                flush()
            continue
        for start in range(0, present.numel(), _CHUNK):
            part = [g[start : start + _CHUNK] for g in flat]
            matrix = torch.empty(count, len(part[0]), dtype=torch.float64, device=device)
            for place, g in zip(matrix, part, strict=True):
                place.copy_(g)
            total.addmm_(matrix, matrix.T)
    flush()
    return total.cpu()


def _sparse_products(column: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """(K, K) products of one parameter's gradients, some of them sparse (``nn.Embedding(sparse=True)``)."""
    products = torch.zeros_like(like)
    rows = [g.coalesce() if g is not None and g.is_sparse else g for g in column]
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[: i + 1]):
            if a is not None and b is not None:
                products[i, j] = products[j, i] = _product(a, b)
    return products


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.is_sparse and b.is_sparse:
        return torch.sparse.sum(a.double() * b.double())
    if not a.is_sparse and not b.is_sparse:
        return (a.double() * b.double()).sum()
    sparse, dense = (a, b) if a.is_sparse else (b, a)
    return (sparse.values().double() * dense[tuple(sparse.indices())].double()).sum()
