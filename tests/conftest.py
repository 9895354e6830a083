"""Fixtures shared by all rooms: no network, one thread, a tiny retriever."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

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
    from mogrid.retriever import train_tokenizer

    return train_tokenizer((text for pair in texts for text in pair), vocabulary=300, max_length=16)


@pytest.fixture
def model(tokenizer):
    from mogrid.retriever import build_retriever

    return build_retriever("1x32", tokenizer, dropout=0.0, seed=0)
