"""Merged models: weights between those of several, and what cannot be merged."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers.normalizers import BertNormalizer
from tokenizers.processors import TemplateProcessing

from mogrid.errors import ConfigError
from mogrid.retrieval.merging import blend, check_mergeable, fill, likeness
from mogrid.retrieval.models import build_retriever, load_retriever, train_tokenizer

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
    refused(build_retriever("1x32", tokenizer, dropout=0.3), "their weights are equal")
    theirs = tuned(build_retriever("1x32", tokenizer, dropout=0.3), 1)
    check_mergeable({"ours": model, "theirs": theirs})  # dropout is no setting of a merge


def reads(model, **settings):
    """A tuned model whose tokenizer is the same but for what its normaliser does."""
    other = tuned(model, 1)
    assert other.tokenizer is not model.tokenizer
    backend = other[0].tokenizer.backend_tokenizer
    given = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True, **settings}
    backend.normalizer = BertNormalizer(**given)
    return other


def says(model, **attributes):
    other = tuned(model, 1)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def test_models_that_read_or_compare_texts_otherwise_are_not_merged(model) -> None:
    def refused(other, message) -> None:
        with pytest.raises(ConfigError, match=f"ours and theirs cannot be merged: {message}"):
            check_mergeable({"ours": model, "theirs": other})

    refused(
        reads(model, lowercase=False, strip_accents=True), "normalizer.lowercase of the tokenizer is True and False"
    )
    refused(reads(model, strip_accents=False), "normalizer.strip_accents of the tokenizer is True and False")
    check_mergeable({"ours": model, "theirs": reads(model, strip_accents=True)})  # as an empty setting does
    bare = tuned(model, 1)
    bare[0].tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    refused(bare, r"the tokens of 'Naïve .*' are \[.*\] and \[.*\]")
    refused(says(model, prompts={"query": "query: ", "document": ""}), "the prompt 'query' is '' and 'query: '")
    refused(says(model, similarity_fn_name="euclidean"), "similarity_fn_name is 'dot' and 'euclidean'")
    refused(says(model, truncate_dim=8), "truncate_dim is None and 8")
    prompts = {"query": "q: ", "document": ""}
    with pytest.raises(ConfigError, match="the default prompt is '' and 'q: '"):
        given = says(model, prompts=prompts), says(tuned(model, 2), prompts=prompts, default_prompt_name="query")
        check_mergeable(dict(zip(("a", "b"), given, strict=True)))
    check_mergeable({"a": says(model, prompts={}), "b": model})  # an empty prompt is none


def test_a_tuned_model_merges_with_its_base_as_both_were_saved(model, tmp_path) -> None:
    """Lengths may differ: a base reads as much as it can, a recipe less."""
    model.save_pretrained(str(tmp_path / "base"), create_model_card=False)
    other = tuned(model, 1)
    other.max_seq_length = 8
    other.save_pretrained(str(tmp_path / "tuned"), create_model_card=False)
    saved = {name: load_retriever(tmp_path / name) for name in ("tuned", "base")}
    assert saved["base"].max_seq_length != saved["tuned"].max_seq_length == 8
    assert blend(saved, {"tuned": 0.5, "base": 0.5}).max_seq_length == 8
    check_mergeable({"plain": SentenceTransformer(str(tmp_path / "base"), device="cpu"), "tuned": saved["tuned"]})


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
    draws = []
    monkeypatch.setattr(SentenceTransformer, "merge", staticmethod(lambda *a, **k: draws.append(torch.rand(3))))
    state = torch.get_rng_state()
    for _ in range(2):  # what leaves changes out at random leaves out the same ones when the chosen merge is made again
        blend(models, {"base": 0.2, "a": 0.3, "b": 0.5}, method="dare_ties", base="base")
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(SentenceTransformer, "merge", staticmethod(merge))
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
