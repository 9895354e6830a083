"""Remembered tokens are the model's own features, whatever was asked for before."""

from __future__ import annotations

import pytest
import torch

from mogrid.retrieval import tokens
from mogrid.retrieval.tokens import remembering

TEXTS = ["a curve of trade offs", "an economist", "", "a " * 100, "an economist"]


@pytest.mark.parametrize("task", ["query", "document", None])
def test_same_features_in_any_order(model, monkeypatch, task) -> None:
    monkeypatch.setattr(tokens, "_KNOWN", {})
    preprocess = remembering(model)
    for texts in (TEXTS[:2], TEXTS, TEXTS[::-1], TEXTS[1:2]):
        expected, got = model.preprocess(texts, task=task), preprocess(texts, task=task)
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert torch.equal(value, got[key]) if isinstance(value, torch.Tensor) else value == got[key]
            assert not isinstance(value, torch.Tensor) or value.dtype == got[key].dtype


def test_a_known_text_is_not_tokenised_again(model, monkeypatch) -> None:
    monkeypatch.setattr(tokens, "_KNOWN", {})
    seen, original = [], model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda texts, **kwargs: seen.append(texts) or original(texts, **kwargs))
    preprocess = remembering(model)
    for _ in range(2):
        preprocess(TEXTS[:2], task="query")
    assert seen == [TEXTS[:2]]
