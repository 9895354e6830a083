"""Anchors to the base model: formulas, FLOPs, what is copied and when, and trainings that go on."""

from __future__ import annotations

import gc
import json

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset

from mogrid import ParetoTrainer, ParetoTrainingArguments
from mogrid.errors import ConfigError
from mogrid.flops import FlopLedger
from mogrid.objectives import (
    DriftBound,
    EmbeddingDistillation,
    InfoNCE,
    MaskedInfoNCE,
    PerturbationConsistency,
    ScoreDistillation,
    WeightAnchor,
    frozen_copy,
    loss_from_config,
)
from mogrid.retrieval.models import build_retriever
from tests.objectives.test_domains import eager
from tests.objectives.test_objectives import columns, embed

ANCHORS = {"distil": 0.0, "drift_bound": 0.0, "distil_scores": 0.0, "l2_base": 0.0}


def shifted(model, by: float = 0.05):
    """Move the model's weights, as a training would."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(by * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model


def retriever(tokenizer, seed: int = 0):
    return build_retriever("1x32", tokenizer, dropout=0.0, seed=seed)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_values(tokenizer, texts, similarity) -> None:
    model = retriever(tokenizer)
    model.similarity_fn_name = similarity
    base = retriever(tokenizer)
    losses = {name: loss_from_config(name, model, temperature=0.5) for name in ANCHORS}
    features = columns(model, *zip(*texts[:8], strict=True), [d for _, d in texts[8:16]])
    for name, loss in losses.items():
        assert float(loss(features)) == pytest.approx(0, abs=1e-6), name
    shifted(model)

    def unit(e):
        return F.normalize(e) if similarity == "cosine" else e

    now, before = ([unit(embed(m, c)) for c in features] for m in (model, base))
    every, old = torch.cat(now), torch.cat(before).detach()
    moved = (every - old).square().sum(1) / old.square().sum(1).mean()
    assert float(moved.max()) > 0.1
    p, q = (e[0] @ torch.cat(e[1:]).T / 0.5 for e in (before, now))
    expected = {
        "distil": moved.mean(),
        "drift_bound": (moved - 0.1).clamp(min=0).mean(),
        "distil_scores": (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1).mean(),
        "l2_base": 0.05
        * sum((a - b).square().sum() for a, b in zip(model.parameters(), base.parameters(), strict=True)),
    }
    for name, loss in losses.items():
        value = loss(features)
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
        model.zero_grad()
        value.backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()), name
    one = EmbeddingDistillation(retriever(tokenizer))
    assert float(one(features[:1])) == 0  # texts of any kind, one a row


def test_a_bound_lets_move_what_stays_near(tokenizer, texts) -> None:
    model = retriever(tokenizer)
    loss = DriftBound(model, bound=1.0)
    features = columns(model, [q for q, _ in texts[:6]])
    shifted(model, 0.01)
    value = loss(features)
    assert float(value) == 0
    value.backward()
    assert not any(bool(p.grad.any()) for p in model.parameters() if p.grad is not None)


def test_the_base_is_copied_once_and_again_when_weights_have_changed(tokenizer) -> None:
    model = retriever(tokenizer)
    first, second = EmbeddingDistillation(model), ScoreDistillation(model)
    consistent = PerturbationConsistency(model, teacher="base")
    assert first._base[0] is second._base[0] is consistent._teacher[0]
    assert first._base[0] is not model
    assert not any(p.requires_grad for p in first._base[0].parameters())
    assert not first._base[0].training
    own = {id(p) for p in model.parameters()}
    assert {id(p) for loss in (first, consistent, WeightAnchor(model)) for p in loss.parameters()} == own
    assert first.state_dict().keys() == InfoNCE(model).state_dict().keys()  # no copy is saved with it
    shifted(model)
    later = frozen_copy(model)
    assert later is not first._base[0]
    del first, second, consistent, later
    gc.collect()
    held = frozen_copy(model)
    assert frozen_copy(model) is held


@pytest.mark.parametrize("name", ["distil", "distil_scores", "l2_base", "base"])
def test_ledger_is_exact(tokenizer, texts, name) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = eager(tokenizer)
    loss = PerturbationConsistency(model, teacher="base") if name == "base" else loss_from_config(name, model)
    queries, documents = zip(*texts[:12], strict=True)
    features = columns(model, queries, documents, *([queries] if name == "base" else []))
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        loss(features).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert (ledger.crafting > 0) == (name != "l2_base")


def train(tokenizer, texts, folder, resume=None):
    model = build_retriever("1x32", tokenizer, dropout=0.1, seed=0)
    pairs = Dataset.from_dict({"query": [q for q, _ in texts[:32]], "document": [d for _, d in texts[:32]]})
    losses = {name: loss_from_config(name, model) for name in ("infonce", *ANCHORS)}
    trainer = ParetoTrainer(
        model=model,
        args=ParetoTrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=8, max_steps=4, learning_rate=1e-3, use_cpu=True,
            save_strategy="steps", save_steps=2, report_to="none", disable_tqdm=True, seed=3,
        ),
        train_dataset=dict.fromkeys(losses, pairs),
        loss=losses,
        solver="mgda",
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return model, [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_a_training_that_goes_on_keeps_the_base_it_began_with(tokenizer, texts, tmp_path) -> None:
    whole, steps = train(tokenizer, texts, tmp_path)
    assert steps[0]["loss/l2_base"] == 0
    assert all(step["loss/l2_base"] > 1e-4 for step in steps[1:])
    again, resumed = train(tokenizer, texts, tmp_path, resume=str(tmp_path / "checkpoint-2"))
    assert resumed == steps
    for p, q in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)
    written = {path.name for path in (tmp_path / "checkpoint-2").rglob("*.safetensors")}
    assert sum("model" in name for name in written) == 1


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("distil", {"bound": -1}, "bound must be 0 or more"),
        ("distil_scores", {"temperature": 0}, "temperature must be positive"),
        ("l2_base", {"weight": 0}, "weight must be positive"),
        ("consistency", {"teacher": "bases"}, "teacher 'bases' is unknown; did you mean 'base'"),
    ],
)
def test_bad_settings(model, name, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        loss_from_config({"name": name, **settings}, model)


def test_one_column_has_no_scores(model, texts) -> None:
    with pytest.raises(ConfigError, match=r"expects the columns \(query, document, ...\), got 1"):
        ScoreDistillation(model)(columns(model, [texts[0][0]]))


def test_a_cosine_model_is_trained_by_cosines(tokenizer, texts) -> None:
    """It has no Normalize module, so that its embeddings have any length."""
    model = retriever(tokenizer)
    model.similarity_fn_name = "cosine"
    features = columns(model, *zip(*texts[:6], strict=True))
    q, d = (F.normalize(embed(model, c)) for c in features)
    expected = F.cross_entropy(q @ d.T / 0.1, torch.arange(6))
    for loss in (InfoNCE(model, 0.1), MaskedInfoNCE(model, 0.1)):
        torch.testing.assert_close(loss([dict(c) for c in features], None), expected)
    wrapped = torch.nn.Module()  # as DDP wraps it
    wrapped.module = model
    wrapped.forward = model.forward
    loss = InfoNCE(model, 0.1)
    loss.model = wrapped
    torch.testing.assert_close(loss([dict(c) for c in features], None), expected)
