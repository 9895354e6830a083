"""What is not trained, and what a processor remembers of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mogrid.errors import ConfigError
from mogrid.flops import FlopLedger
from mogrid.objectives import InfoNCE
from mogrid.retrieval import freezing
from mogrid.retrieval.encode import encode
from mogrid.retrieval.models import base_model, fold_adapters, load_retriever
from tests.retrieval.test_models import FAMILIES, TEXTS, encoder, loaded, trained

__all__ = ["encoder"]

REMEMBERING = {"Bert", "Roberta", "XLMRoberta"}
"""Families whose layers are given nothing of a text but what the layer below made of it, and one mask."""


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(freezing, "_KNOWN", type(freezing._KNOWN)())
    monkeypatch.setattr(freezing, "_held", 0)


def lowest(model):
    own = model[0].model
    return own.get_submodule(freezing.stack_of(own, own.config.num_hidden_layers))[0]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"Albert"}))  # whose layers are one
def test_lower_layers_frozen_are_the_same_model(encoder, tmp_path, family) -> None:
    plain = load_retriever(encoder(family))
    model = base_model(str(encoder(family)), freeze=2).train()
    assert (lowest(model).__dict__.get("forward") is not None) == (family in REMEMBERING)
    for _ in range(2):  # read, and remembered
        for kind in ("query", "document"):
            np.testing.assert_allclose(encode(model, TEXTS, kind), encode(plain, TEXTS, kind), atol=2e-6)
    assert bool(freezing._KNOWN) == (family in REMEMBERING)
    assert trained(model) < trained(plain)
    assert not any("embeddings" in name or ".0." in name or ".1." in name for name in trained(model))
    np.testing.assert_allclose(loaded(model, tmp_path / "saved").encode(TEXTS), plain.encode(TEXTS), atol=2e-6)


def test_what_is_remembered_gives_the_same_gradients(encoder, texts) -> None:
    model = base_model(str(encoder("Bert")), freeze=3, dropout=0.0).train()
    without = copy.deepcopy(model)
    for layer in without[0].model.encoder.layer[:3]:
        del layer.__dict__["forward"]
    features = [model.preprocess(list(column)) for column in zip(*texts[:12], strict=True)]
    for each in (model, without):
        InfoNCE(each)([dict(one) for one in features], None).backward()
    for (name, one), (_, other) in zip(model.named_parameters(), without.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=2e-6, rtol=1e-4)


def test_the_memory_does_not_depend_on_what_is_read_together(encoder) -> None:
    model = base_model(str(encoder("Bert")), freeze=2)
    seen = []
    hook = model[0].model.encoder.layer[2].register_forward_pre_hook(lambda layer, given: seen.append(given[0].clone()))
    model.encode(TEXTS)
    together = seen.pop()
    freezing._KNOWN.clear()
    order = sorted(range(len(TEXTS)), key=lambda i: -len(TEXTS[i]))
    for row, i in zip(together, order, strict=True):
        model.encode([TEXTS[i]])
        alone = seen.pop()[0]
        assert torch.equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()
    hook.remove()


def test_no_dropout_in_what_is_frozen(encoder) -> None:
    model = base_model(str(encoder("ModernBert")), freeze=2, dropout=0.5).train()
    modules = [lowest(model), *lowest(model).modules()]
    assert not any(module.training for module in modules)
    assert any(module.training for module in model.modules())


def test_a_copy_remembers_by_its_own_weights(encoder) -> None:
    model = base_model(str(encoder("Bert")), freeze=2)
    expected = model.encode(TEXTS)
    other = copy.deepcopy(model)
    assert other[0].model.encoder.layer[0].forward.layers[0] is other[0].model.encoder.layer[0]
    with torch.no_grad():
        other[0].model.encoder.layer[3].output.dense.weight.mul_(3)
    assert np.abs(other.encode(TEXTS) - expected).max() > 1e-3
    np.testing.assert_array_equal(model.encode(TEXTS), expected)


def test_changed_weights_are_not_what_was_remembered(encoder) -> None:
    model = base_model(str(encoder("Bert")), freeze=2)
    before = model.encode(TEXTS)
    with torch.no_grad():
        model[0].model.encoder.layer[1].output.dense.weight.mul_(3)
    other = load_retriever(encoder("Bert"))
    other.load_state_dict(model.state_dict())
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-3
    np.testing.assert_allclose(model.encode(TEXTS), other.encode(TEXTS), atol=2e-6)


def test_the_memory_has_an_end(encoder, monkeypatch) -> None:
    monkeypatch.setattr(freezing, "_MOST", 2000)
    model = base_model(str(encoder("Bert")), freeze=2)
    many = [f"{text} {i}" for i in range(20) for text in TEXTS]
    expected = load_retriever(encoder("Bert")).encode(many)
    np.testing.assert_allclose(model.encode(many), expected, atol=2e-6)
    assert 0 < sum(value.nbytes for value in freezing._KNOWN.values()) == freezing._held <= 2000


@pytest.mark.parametrize("settings", [{"freeze": 2}, {"freeze": 3, "lora": {"rank": 2}}])
def test_the_ledger_counts_no_backward_below(encoder, texts, settings) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = base_model(str(encoder("Bert")), dropout=0.0, **settings).train()
    model[0].auto_model.set_attn_implementation("eager")
    for layer in model[0].model.encoder.layer:
        layer.__dict__.pop("forward", None)  # counted as if nothing were remembered
    features = [model.preprocess(list(column)) for column in zip(*texts[:12], strict=True)]
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        InfoNCE(model)(features, None).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_adapters_above_frozen_layers_are_folded(encoder, tmp_path) -> None:
    model = base_model(str(encoder("Bert")), freeze=2, lora={"rank": 2})
    assert trained(model)
    assert all(".lora_" in name and (".2." in name or ".3." in name) for name in trained(model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained(model):
                parameter.add_(0.05)
    expected = model.encode(TEXTS)
    fold_adapters(model)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(loaded(model, tmp_path / "folded").encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("layers", "freeze must be 'embeddings' or a number of layers, got 'layers'"),
        (0, "freeze must be 'embeddings' or a number of layers, got 0"),
        (4, "freeze: 4 layers of 4 leave none to train"),
    ],
)
def test_what_cannot_be_frozen(encoder, what, said) -> None:
    with pytest.raises(ConfigError, match=said):
        base_model(str(encoder("Bert")), freeze=what)
