from __future__ import annotations

import pytest

from mogrid.retriever import build_retriever


@pytest.fixture
def retriever(tokenizer):
    """A function that makes a one-layer BERT in float64 with the given dropout."""

    def build(dropout: float = 0.0):
        return build_retriever("1x32", tokenizer, dropout=dropout, seed=0).double().train()

    return build


@pytest.fixture
def columns(texts, retriever):
    """Tokenised columns of 16 rows: queries, the same with a letter dropped, and documents."""
    model = retriever()
    chosen = texts[:16]
    return {
        "query": model.preprocess([q for q, _ in chosen]),
        "typo": model.preprocess([q[1:] for q, _ in chosen]),
        "document": model.preprocess([d if i % 3 else f"{d} {d}" for i, (_, d) in enumerate(chosen)]),
    }
