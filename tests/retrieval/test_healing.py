"""Healing: a thinned model learns what the whole one says, once, at a cost that is known."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mogrid.errors import ConfigError, DataError
from mogrid.retrieval import healing
from mogrid.retrieval.healing import Heal, heal, healed
from mogrid.retrieval.models import base_model, build_retriever, two_towers
from mogrid.retrieval.thinning import thin

SETTINGS = Heal(texts=180, epochs=6, learning_rate=5e-3, batch_size=16, max_length=16)


@pytest.fixture(scope="module")
def words(texts):
    return [text for pair in texts for text in pair]


@pytest.fixture
def pair(tokenizer):
    """A whole model and what is left of it."""
    whole = build_retriever("3x32", tokenizer, dropout=0.2, normalise=True)
    with torch.no_grad():  # layers that say something
        for parameter in whole[0].auto_model.encoder.parameters():
            parameter.mul_(3)
    thinned = copy.deepcopy(whole)
    thin(thinned, 1)
    return whole, thinned


def same(one, other) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("towers", [1, 2])
def test_the_thinned_model_comes_nearer_on_texts_it_has_not_seen(pair, words, towers) -> None:
    whole, thinned = map(two_towers, pair) if towers == 2 else pair
    before = copy.deepcopy(whole)
    found = heal(thinned, whole, words, SETTINGS)
    assert found.after > found.before + 0.2 * (1 - found.before)
    assert found.texts + 22 == 180
    assert found.steps == 60
    assert found.seconds > 0
    assert same(whole, before)
    assert whole.max_seq_length == thinned.max_seq_length == before.max_seq_length
    config = thinned[0].sub_modules["query"][0].config if towers == 2 else thinned[0].config
    assert config.hidden_dropout_prob == 0.2  # its own again


def test_equal_inputs_give_equal_weights(pair, words) -> None:
    whole, thinned = pair
    twin, other = copy.deepcopy(thinned), copy.deepcopy(thinned)
    short = replace(SETTINGS, epochs=1)
    torch.manual_seed(1)
    first = heal(thinned, whole, words, short)
    torch.manual_seed(2)
    second = heal(twin, whole, reversed(words), short)  # a set of texts, in any order
    assert same(thinned, twin)
    assert (first.after, first.flops) == (second.after, second.flops)
    heal(other, whole, words, replace(short, seed=1))
    assert not same(thinned, other)


def test_flops_are_those_of_both_models(pair, words, monkeypatch) -> None:
    whole, thinned = pair
    found = heal(thinned, whole, words, replace(SETTINGS, epochs=1))
    layer = 12 * 32 * 32  # weights
    tokens = sum(len(text.split()) + 2 for text in sorted(set(words))) * 180 / len(set(words))
    least = (
        2 * layer * tokens * (3 + 3 * 0.87)
    )  # three layers forwards; one, forwards and backwards, of what is not held out
    assert least < found.flops < 2 * least


def test_it_is_done_once(pair, words, tmp_path, monkeypatch) -> None:
    whole, thinned = pair
    twin, other = copy.deepcopy(thinned), copy.deepcopy(thinned)
    short = replace(SETTINGS, epochs=1)
    first = healed(thinned, whole, words, short, tmp_path)
    again = monkeypatch.setattr(healing, "heal", None)
    assert again is None
    assert healed(twin, whole, reversed(words), short, tmp_path) == first
    assert same(thinned, twin)
    (folder,) = (tmp_path / "healed").iterdir()
    assert json.loads((folder / "healing.json").read_text())["after"] == first.after
    with pytest.raises(TypeError):  # other texts, settings or weights are another healing
        healed(other, whole, words[:-4], short, tmp_path)
    with pytest.raises(TypeError):
        healed(other, whole, words, SETTINGS, tmp_path)
    with pytest.raises(TypeError):
        healed(other, thinned, words, short, tmp_path)
    (folder / "weights.safetensors").write_bytes(b"cut sho")
    with pytest.raises(DataError, match="remove it to heal anew"):
        healed(other, whole, words, short, tmp_path)


def test_too_few_texts(pair) -> None:
    with pytest.raises(DataError, match="at least 16 different texts of training role, got 1"):
        heal(pair[1], pair[0], ["same"] * 99)


def test_a_base_model_is_healed_by_its_keys(pair, words, tmp_path) -> None:
    whole, thinned = pair
    whole.save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    short = replace(SETTINGS, epochs=1)
    found = base_model(
        str(tmp_path / "whole"),
        layers=1,
        heal=short,
        texts=words,
        cache=tmp_path,
        towers=2,
        dropout=0.0,
        lora={"rank": 2},
    )
    heal(thinned, whole, words, short)
    np.testing.assert_allclose(found.encode_query(words[:4]), thinned.encode(words[:4]), atol=1e-6)
    np.testing.assert_allclose(found.encode_document(words[:4]), thinned.encode(words[:4]), atol=1e-6)
    assert found.healing.after > found.healing.before
    with pytest.raises(ConfigError, match="name its path"):
        base_model(heal=short, texts=words)
