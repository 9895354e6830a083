"""Fixtures shared by all rooms: no network, one thread, a tiny retriever."""

from __future__ import annotations

import gc
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

from mogrid.data.domain import Domain, Role, Split
from mogrid.retrieval.models import build_retriever, train_tokenizer
from tests.skips import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401

torch.set_num_threads(1)


_imported = 0


@pytest.fixture(autouse=True)
def _frozen() -> None:
    """Keep libraries out of garbage collection, which every training asks for: .3 s each time otherwise."""
    global _imported
    if len(sys.modules) > _imported + 50:
        _imported = len(sys.modules)
        gc.collect()
        gc.freeze()


WORDS = [
    "river",
    "stone",
    "cloud",
    "engine",
    "valve",
    "piston",
    "garden",
    "apple",
    "orange",
    "bridge",
    "tower",
    "signal",
    "cable",
    "socket",
    "server",
    "packet",
    "router",
    "kernel",
    "thread",
    "memory",
    "cache",
    "disk",
    "window",
    "door",
    "carpet",
    "lamp",
    "candle",
    "forest",
    "eagle",
    "salmon",
    "beetle",
    "spider",
]


@pytest.fixture(scope="session")
def texts() -> list[tuple[str, str]]:
    """(query, document) pairs: the document repeats the query's words among others."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(96):
        query = rng.choice(WORDS, 3, replace=False)
        noise = rng.choice(WORDS, 4)
        pairs.append((" ".join(query), " ".join(rng.permutation(np.concatenate([query, noise])))))
    return pairs


@pytest.fixture(scope="session")
def tokenizer(texts):
    return train_tokenizer((text for pair in texts for text in pair), vocabulary=300, max_length=16)


@pytest.fixture
def model(tokenizer):
    return build_retriever("1x32", tokenizer, dropout=0.0, seed=0)


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


@pytest.fixture
def domain(texts) -> Domain:
    corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)}
    splits = {}
    for role, rows in ((Role.SELECT, range(30)), (Role.TEST, range(30, 96))):
        queries = {f"q{i}": texts[i][0] for i in rows}
        splits[role] = Split(role, queries, {f"q{i}": {f"d{i}": 1} for i in rows})
    return Domain("words", corpus, splits)


@pytest.fixture
def in_process(monkeypatch):
    """Sweeps run their cells here, without processes of their own, which take seconds to start."""
    from mogrid.sweep.drain import drain

    def run(cells, work, halt, *, workers, look=lambda: None):
        drain(cells, work, lambda: False)
        look()

    monkeypatch.setattr("mogrid.sweep.run.run_in_processes", run)
