"""Weights and temperature for a plain SentenceTransformerTrainer's data sets."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import nn
from transformers import TrainerCallback

from mogrid import WeightedBatchSampler
from mogrid.errors import ConfigError, DataError
from mogrid.retrieval.models import build_retriever

SIZES = {"large": 64, "middle": 32, "small": 16}


class Noted(nn.Module):
    """A loss that notes whose batch it sees, and the tokens in it."""

    def __init__(self, model, name: str, seen: list) -> None:
        super().__init__()
        self.model, self.name, self.seen = model, name, seen
        self.loss = MultipleNegativesRankingLoss(model)

    def forward(self, features, labels):
        features = list(features)
        self.seen.append((self.name, features[0]["input_ids"].tolist()))
        return self.loss(features, labels)


class StopAt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 9:
            control.should_save = control.should_training_stop = True


def train(tokenizer, texts, folder: Path, *, sampler, resume=None, callbacks=(), one_loss=False, **settings):
    """Return (data set, tokens of its queries) of each step, and the model's parameters."""
    model = build_retriever("1x32", tokenizer, dropout=0.1, seed=1)
    seen: list[tuple[str, list[list[int]]]] = []
    data, start = DatasetDict(), 0
    for name, size in SIZES.items():
        rows = [texts[i % len(texts)] for i in range(start, start + size)]
        data[name] = Dataset.from_dict({"query": [q for q, _ in rows], "document": [d for _, d in rows]})
        start += size
    arguments = {
        "output_dir": str(folder), "per_device_train_batch_size": 8, "max_steps": 14, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 5, "dataloader_drop_last": True,
    }  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**(arguments | settings), multi_dataset_batch_sampler=sampler),
        train_dataset=data,
        loss=Noted(model, "all", seen) if one_loss else {name: Noted(model, name, seen) for name in data},
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return seen, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"large": 8, "middle": 4, "small": 2}),  # in proportion to their sizes, a whole epoch
        ({"temperature": 1e9}, {"large": 5, "middle": 5, "small": 4}),
        ({"temperature": 2.0}, {"large": 6, "middle": 5, "small": 3}),  # √8 : √4 : √2 is 6.3 : 4.5 : 3.2
        ({"weights": {"small": 4, "large": 2, "middle": 1}}, {"large": 4, "middle": 2, "small": 8}),
        ({"weights": [1, 0, 1.0]}, {"large": 7, "small": 7}),
        ({"weights": [4, 1, 1], "temperature": 0.001}, {"large": 14}),
    ],
)
def test_data_sets_are_drawn_by_weight_and_temperature(tokenizer, texts, tmp_path, settings, expected) -> None:
    seen, _ = train(tokenizer, texts, tmp_path, sampler=partial(WeightedBatchSampler, **settings))
    counts = Counter(name for name, _ in seen)
    assert counts.keys() == expected.keys()
    assert all(abs(counts[name] - expected[name]) <= 1 for name in expected), counts
    assert sum(counts.values()) == 14


def test_the_class_itself_is_what_the_arguments_take(tokenizer, texts, tmp_path) -> None:
    seen, _ = train(tokenizer, texts, tmp_path, sampler=WeightedBatchSampler, one_loss=True)
    assert len(seen) == 14


@pytest.mark.parametrize("own", [BatchSamplers.BATCH_SAMPLER, BatchSamplers.NO_DUPLICATES])
def test_a_small_set_starts_again_with_another_shuffle(tokenizer, texts, tmp_path, own) -> None:
    sampler = partial(WeightedBatchSampler, weights=[1, 1, 4])
    seen, _ = train(tokenizer, texts, tmp_path, sampler=sampler, batch_sampler=own)
    small = [sorted(map(tuple, tokens)) for name, tokens in seen if name == "small"]
    passes = [small[i] + small[i + 1] for i in range(0, len(small) - 1, 2)]
    if own == BatchSamplers.BATCH_SAMPLER:
        assert all(sorted(rows) == sorted(passes[0]) for rows in passes)
    assert len({str(batch) for batch in small}) > 2


def test_resume_is_exact_to_the_sample(tokenizer, texts, tmp_path) -> None:
    sampler = partial(WeightedBatchSampler, weights=[3, 1, 5])
    whole, parameters = train(tokenizer, texts, tmp_path / "whole", sampler=sampler, max_steps=20)
    before, _ = train(tokenizer, texts, tmp_path / "cut", sampler=sampler, max_steps=20, callbacks=[StopAt()])
    after, resumed = train(
        tokenizer, texts, tmp_path / "cut", sampler=sampler, max_steps=20, resume=str(tmp_path / "cut" / "checkpoint-9")
    )
    assert before + after == whole
    assert torch.equal(parameters, resumed)


@pytest.mark.parametrize(
    ("settings", "change", "error", "message"),
    [
        (
            {"weights": {"large": 1, "middle": 1, "smal": 1}},
            {},
            ConfigError,
            "no data set 'smal'; did you mean 'small'",
        ),
        ({"weights": {"large": 1, "middle": 1}}, {}, ConfigError, "data set 'small' has none"),
        ({"weights": [1, 2]}, {}, ConfigError, "2 for 3 data sets"),
        ({"weights": [1, 2, -1]}, {}, ConfigError, "at least 0, got -1"),
        ({"weights": [0, 0, 0]}, {}, ConfigError, "all of them are zero"),
        ({"temperature": 0}, {}, ConfigError, "temperature must be positive"),
        ({"weights": {"large": 1}}, {"one_loss": True}, ConfigError, "give the weights as a list"),
        ({}, {"per_device_train_batch_size": 20}, DataError, "data set 3 of 3 does not fill one batch of 20"),
    ],
)
def test_bad_weights_are_one_line(tokenizer, texts, tmp_path, settings, change, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        train(tokenizer, texts, tmp_path, sampler=partial(WeightedBatchSampler, **settings), **change)
    assert "\n" not in str(caught.value)
