"""The cache inside ``ParetoTrainer``: same training, large batches in little memory."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset

from mogrid import ParetoTrainer, ParetoTrainingArguments
from mogrid.errors import ConfigError
from mogrid.objectives import InfoNCE, MaskedInfoNCE, PerturbationConsistency
from mogrid.retrieval.models import ROUTES, build_retriever


def cached(gramian):
    return {"mode": "cached", "mini_batch_size": 3, "gramian": gramian}


def train(tokenizer, texts, folder, towers=1, resume=None, **settings):
    model = build_retriever("1x32", tokenizer, towers=towers, dropout=0.0)
    chosen = texts[:48]
    pairs = Dataset.from_dict({"query": [q for q, _ in chosen], "document": [d for _, d in chosen]})
    typos = pairs.add_column("perturbed", [q[1:] for q, _ in chosen])
    labelled = pairs.add_column("label", [i // 2 for i in range(48)])
    trainer = ParetoTrainer(
        model=model,
        args=ParetoTrainingArguments(**({
            "output_dir": str(folder), "per_device_train_batch_size": 16, "max_steps": 3,
            "optim": "sgd", "learning_rate": 0.05,  # Adam makes much of gradients that are zero but for rounding
            "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3,
            "router_mapping": ROUTES,
        } | settings)),
        train_dataset={"effectiveness": pairs, "typos": typos, "masked": labelled},
        loss={"effectiveness": InfoNCE(model), "typos": PerturbationConsistency(model), "masked": MaskedInfoNCE(model)},
        solver="mgda",
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return model, [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2}, {"towers": 2}])
def test_exact_cache_is_the_plain_training(tokenizer, texts, tmp_path, settings) -> None:
    plain, expected = train(tokenizer, texts, tmp_path / "plain", **settings)
    model, steps = train(tokenizer, texts, tmp_path / "cached", gradients=cached("exact"), **settings)
    assert len(steps) == 3
    for step, reference in zip(steps, expected, strict=True):
        assert step.keys() == reference.keys()
        assert step == pytest.approx(reference, rel=1e-3, abs=1e-5)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_representation_cache_trains_and_resumes_to_the_same_bits(tokenizer, texts, tmp_path) -> None:
    settings = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "bf16": True,
        "gradients": cached("representation"),
    }
    whole, steps = train(tokenizer, texts, tmp_path / "whole", **settings)
    again, resumed = train(
        tokenizer,
        texts,
        tmp_path / "whole",
        resume=str(tmp_path / "whole" / "checkpoint-3"),
        **settings,
    )
    assert steps == resumed
    for p, q in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)
    assert all(0 < step[f"weight/{name}"] < 1 for step in steps for name in ("effectiveness", "typos", "masked"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cache", "unknown gradients mode 'cache'; did you mean 'cached'"),
        ({"mini_batch_size": 4}, "settings need 'mode'"),
        ({"mode": "cached", "mini_batch": 4}, "no setting 'mini_batch'; did you mean 'mini_batch_size'"),
        ({"mode": "cached", "mini_batch_size": 0}, "positive whole number, got 0"),
    ],
)
def test_bad_settings(tokenizer, texts, tmp_path, given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tokenizer, texts, tmp_path, gradients=given)
