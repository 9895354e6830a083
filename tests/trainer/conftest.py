"""Tiny encoders from scratch for every kind of host trainer, each loaded from a folder as users do."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def folders(tokenizer, tmp_path_factory):
    """Folders of one-layer BERTs without dropout, by head."""
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    found = {}
    for name, kind, labels in (
        ("encoder", BertModel, 2),
        ("masked_lm", BertForMaskedLM, 2),
        ("reranker", BertForSequenceClassification, 1),
        ("classifier", BertForSequenceClassification, 3),
    ):
        config.num_labels = labels
        folder = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kind(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[name] = str(folder)
    return found
