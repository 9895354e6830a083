"""Rows of tokenised features, as sentence-transformers hands them to a loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["take_rows"]

Features = dict[str, Any]


def take_rows(features: Features, rows: Tensor) -> Features:
    """Return the given rows of one column's features, cut to their own longest text.

    Parameters
    ----------
    features : dict
        Tensors of shape (B, ...) and settings that apply to the whole batch (such as the route's name).
    rows : Tensor, shape (b,), int64
        Say which rows to take, in the order wanted.
    """
    mask = features.get("attention_mask")
    if not isinstance(mask, Tensor):
        return {key: _rows(value, rows, None) for key, value in features.items()}
    batch, length = mask.shape
    taken = {key: _rows(value, rows, batch) for key, value in features.items()}
    used = taken["attention_mask"].any(dim=0).nonzero()
    longest = int(used[-1]) + 1 if len(used) else 1
    return {
        key: value[:, :longest] if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == length else value
        for key, value in taken.items()
    }


def _rows(value: Any, rows: Tensor, batch: int | None) -> Any:
    if isinstance(value, Tensor) and value.ndim > 0 and (batch is None or value.shape[0] == batch):
        return value[rows]
    return value
