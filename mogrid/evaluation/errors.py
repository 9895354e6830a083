"""What can go wrong while a retriever is judged."""

from __future__ import annotations

from mogrid.errors import MogridError

__all__ = ["EvaluationError"]


class EvaluationError(MogridError, ValueError):
    """Embeddings, scores or judgements that no honest figure can be computed from."""
