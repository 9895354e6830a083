"""What retrieval hands to evaluation: runs, judgements, and how deep a ranking goes."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DEPTH", "Qrels", "Run"]

Run = Mapping[str, Mapping[str, float]]
"""Query id → document id → score; larger is better."""

Qrels = Mapping[str, Mapping[str, int]]
"""Query id → document id → relevance; above 0 is relevant."""

DEPTH = 100
"""Results that count. Pass runs of one result more where the corpus has them: see `break_ties`."""
