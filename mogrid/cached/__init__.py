"""Gradient caching that knows objectives: large contrastive batches in the memory of a mini-batch, and one encoder
backward however many objectives there are."""

from __future__ import annotations

from mogrid.cached.contrastive import MaskedInfoNCE, gather_rows, masked_info_nce
from mogrid.cached.encoding import Encoding
from mogrid.cached.engine import CachedEngine

__all__ = ["CachedEngine", "Encoding", "MaskedInfoNCE", "gather_rows", "masked_info_nce"]
