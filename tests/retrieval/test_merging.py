"""Merged models: weights between those of several, and what cannot be merged."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from mogrid.errors import ConfigError
from mogrid.retrieval.merging import blend, check_mergeable, fill, likeness
from mogrid.retrieval.models import build_retriever, train_tokenizer

TEXTS = ["river stone", "cloud engine valve", "garden"]


def tuned(model, seed: int, scale: float = 0.02):
    """A model as a training might leave it."""
    generator = torch.Generator().manual_seed(seed)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return moved


def test_weights_lie_where_the_shares_say(model) -> None:
    models = {"a": tuned(model, 1), "b": tuned(model, 2), "base": model}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merged = blend(models, {"a": 0.25, "b": 0.5, "base": 0.25})
    states = [each.state_dict() for each in models.values()]
    for name, value in merged.state_dict().items():
        expected = 0.25 * states[0][name] + 0.5 * states[1][name] + 0.25 * states[2][name]
        torch.testing.assert_close(value, expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not merged.training


def test_an_end_is_the_model_itself(model, tmp_path) -> None:
    other = tuned(model, 1)
    merged = blend({"base": model, "other": other}, {"base": 0.0, "other": 1.0})
    np.testing.assert_array_equal(merged.encode(TEXTS), other.encode(TEXTS))
    merged.save_pretrained(str(tmp_path / "merged"), create_model_card=False)
    found = SentenceTransformer(str(tmp_path / "merged"), device="cpu")
    np.testing.assert_array_equal(found.encode(TEXTS), other.encode(TEXTS))


def test_fill_gives_the_same_as_blend(model) -> None:
    models = {"a": tuned(model, 1), "b": tuned(model, 2)}
    trial = copy.deepcopy(model)
    fill(trial, [each.state_dict() for each in models.values()], [0.3, 0.7])
    merged = blend(models, {"a": 0.3, "b": 0.7}).state_dict()
    assert all(torch.equal(value, merged[name]) for name, value in trial.state_dict().items())


def test_likeness_tells_bases_apart(model, tokenizer) -> None:
    assert likeness(model, model) == pytest.approx(1)
    assert likeness(model, tuned(model, 1)) > 0.5
    assert abs(likeness(model, build_retriever("1x32", tokenizer, seed=9))) < 0.05


def test_what_cannot_be_merged_is_said_with_both_names(model, tokenizer, texts) -> None:
    def refused(other, message) -> None:
        with pytest.raises(ConfigError, match=f"ours and theirs cannot be merged: {message}"):
            check_mergeable({"ours": model, "theirs": other})

    refused(build_retriever("1x32", tokenizer, seed=9), "they come from different bases .* 0.0")
    refused(build_retriever("2x32", tokenizer), "their architectures differ .16 weights stand in one alone")
    refused(build_retriever("1x64", tokenizer), r"the shape of .* is .*32\) and .*64\)")
    refused(build_retriever("1x32", tokenizer, pooling="cls"), r"pooling_mode.* of Pooling is .*mean.* and .*cls")
    refused(build_retriever("1x32", tokenizer, normalise=True), "their modules differ")
    refused(build_retriever("1x32", tokenizer, towers=2), "their architectures differ")
    words = train_tokenizer((f"{d} zebra" for _, d in texts), vocabulary=300, max_length=16)
    if len(words) == len(tokenizer):
        refused(build_retriever("1x32", words), "their vocabularies differ")
    else:
        refused(build_retriever("1x32", words), "the shape of")
    with pytest.raises(ConfigError, match="at least two"):
        check_mergeable({"ours": model})
    check_mergeable({"ours": model, "theirs": build_retriever("1x32", tokenizer, dropout=0.3)})  # dropout is no weight


def test_shares_sum_to_one(model) -> None:
    with pytest.raises(ConfigError, match="1 in all"):
        blend({"a": model, "b": tuned(model, 1)}, {"a": 0.5, "b": 0.6})
    with pytest.raises(ConfigError, match="share of every model"):
        blend({"a": model, "b": tuned(model, 1)}, {"a": 1.0})


def test_other_methods_are_sentence_transformers_own(model, monkeypatch) -> None:
    models = {"base": model, "a": tuned(model, 1), "b": tuned(model, 2)}
    calls = []

    def merge(given, method, *, base_model=None, parameters=None):
        calls.append((len(given), method, base_model, parameters))
        return given[0]

    monkeypatch.setattr(SentenceTransformer, "merge", staticmethod(merge), raising=False)
    blend(models, {"base": 0.2, "a": 0.3, "b": 0.5}, method="ties", base="base", density=0.5)
    blend({"a": models["a"], "b": models["b"]}, {"a": 0.3, "b": 0.7}, method="slerp")
    assert calls == [
        (3, "ties", model, {"weight": pytest.approx([0.375, 0.625]), "lambda": 0.8, "density": 0.5}),
        (2, "slerp", None, {"t": 0.7}),
    ]
    end = blend(models, {"base": 0.0, "a": 1.0, "b": 0.0}, method="ties", base="base")
    assert np.array_equal(end.encode(TEXTS), models["a"].encode(TEXTS))  # a model alone is itself, by any method
    assert len(calls) == 2
    for settings, message in (
        ({"method": "ties"}, "say which model that is"),
        ({"method": "slerp"}, "takes two models, got 3"),
        ({"method": "tyes"}, "'tyes'; did you mean 'ties'"),
    ):
        with pytest.raises(ConfigError, match=message):
            blend(models, {"base": 0.2, "a": 0.3, "b": 0.5}, **settings)

    def missing(*given, **settings):
        raise ImportError("no mergekit")

    monkeypatch.setattr(SentenceTransformer, "merge", staticmethod(missing))
    with pytest.raises(ConfigError, match="merging by 'ties' needs mergekit: pip install 'sentence-transformers"):
        blend(models, {"base": 0.2, "a": 0.3, "b": 0.5}, method="ties", base="base")
