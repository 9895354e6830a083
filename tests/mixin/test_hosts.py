"""MultiObjectiveMixin over every trainer it claims to work with: two steps equal a hand computation."""

from __future__ import annotations

import copy

import torch
from datasets import Dataset, DatasetDict
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, MSELoss
from sentence_transformers.multi_vector_encoder import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
)
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
from sentence_transformers.sparse_encoder.losses import (
    SparseMultipleNegativesRankingLoss,
)
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import nn
from torch.utils.data import BatchSampler, RandomSampler
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from mogrid import MGDA, MultiObjectiveMixin
from mogrid.solvers import UPGrad
from tests.mixin.by_hand import SETTINGS, assert_equal_training


class Hosted(MultiObjectiveMixin):
    """What a host's subclass has to do itself: name the objectives before the host's own constructor runs."""

    def __init__(self, *, solver, train_dataset, **kwargs):
        self._set_up_objectives(solver, tuple(train_dataset))
        super().__init__(train_dataset=DatasetDict(train_dataset), **kwargs)


class ParetoSparseTrainer(Hosted, SparseEncoderTrainer):
    pass


class ParetoMultiVectorTrainer(Hosted, MultiVectorEncoderTrainer):
    pass


class ParetoCrossEncoderTrainer(Hosted, CrossEncoderTrainer):
    pass


class ParetoClassifierTrainer(Hosted, Trainer):
    def get_batch_sampler(self, dataset, batch_size, drop_last, generator, **kwargs):
        return BatchSampler(RandomSampler(dataset, generator=generator), batch_size, drop_last)


def two(texts) -> dict[str, Dataset]:
    """Two data sets of unlike texts and sizes: (query, document) pairs, the second with documents cut short."""
    first = {"query": [q for q, _ in texts[:16]], "document": [d for _, d in texts[:16]]}
    second = {"query": [q for q, _ in texts[40:52]], "document": [d[: len(d) // 2] for _, d in texts[40:52]]}
    return {"id": Dataset.from_dict(first), "ood": Dataset.from_dict(second)}


def on_features(trainer, losses):
    """Call each objective's loss on its own columns, past the trainer's ``compute_loss``."""

    def by_name(batch):
        return {name: losses[name](*trainer.collect_features(batch[name])) for name in losses}

    return by_name


class SparseRanking(nn.Module):
    """In-batch ranking of sparse vectors; sentence-transformers' own works only inside another loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.loss = SparseMultipleNegativesRankingLoss(model)

    def forward(self, features, labels):
        return self.loss.compute_loss_from_embeddings([self.model(f)["sentence_embedding"] for f in features], labels)


def sparse(folders) -> SparseEncoder:
    transformer = Transformer(folders["masked_lm"], transformer_task="fill-mask")
    return SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")


def test_sparse_encoder_trainer(folders, texts, tmp_path) -> None:
    model = sparse(folders)
    twin = copy.deepcopy(model)
    trainer = ParetoSparseTrainer(
        model=model,
        args=SparseEncoderTrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset=two(texts),
        loss={"id": SparseRanking(model), "ood": SparseRanking(model)},
        solver="mgda",
    )
    hand = SparseRanking(twin)
    assert_equal_training(trainer, twin, on_features(trainer, {"id": hand, "ood": hand}), MGDA())


def test_multi_vector_encoder_trainer(folders, texts, tmp_path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # its projection is new
        model = MultiVectorEncoder(folders["encoder"], device="cpu")
    twin = copy.deepcopy(model)
    trainer = ParetoMultiVectorTrainer(
        model=model,
        args=MultiVectorEncoderTrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset=two(texts),
        loss={name: MultiVectorMultipleNegativesRankingLoss(model) for name in ("id", "ood")},
        solver={"name": "mgda", "normalise": "l2"},
    )
    hand = MultiVectorMultipleNegativesRankingLoss(twin)
    assert_equal_training(trainer, twin, on_features(trainer, {"id": hand, "ood": hand}), MGDA(normalise="l2"))


def test_cross_encoder_trainer(folders, texts, tmp_path) -> None:
    model = CrossEncoder(folders["reranker"], device="cpu")
    twin = copy.deepcopy(model)
    data = two(texts)
    trainer = ParetoCrossEncoderTrainer(
        model=model,
        args=CrossEncoderTrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset={
            "id": data["id"].add_column("label", [float(i % 2) for i in range(16)]),
            "ood": data["ood"].add_column("label", [i / 10 for i in range(12)]),
        },
        loss={"id": BinaryCrossEntropyLoss(model), "ood": MSELoss(model)},
        solver="upgrad",
    )
    losses = {"id": BinaryCrossEntropyLoss(twin), "ood": MSELoss(twin)}

    def by_name(batch):
        return {
            name: loss([batch[name]["query"], batch[name]["document"]], batch[name]["label"])
            for name, loss in losses.items()
        }

    assert_equal_training(trainer, twin, by_name, UPGrad())


def labelled(texts, tokenizer) -> dict[str, Dataset]:
    made = {}
    for name, part, shift in (("id", texts[:16], 0), ("ood", texts[40:52], 1)):
        tokens = tokenizer([d for _, d in part], padding="max_length", max_length=12, truncation=True)
        made[name] = Dataset.from_dict(
            {
                "input_ids": tokens["input_ids"],
                "attention_mask": tokens["attention_mask"],
                "labels": [(i + shift) % 3 for i in range(len(part))],
            }
        )
    return made


def test_bare_transformers_trainer(folders, texts, tokenizer, tmp_path) -> None:
    model = BertForSequenceClassification.from_pretrained(folders["classifier"])
    twin = copy.deepcopy(model)
    trainer = ParetoClassifierTrainer(
        model=model,
        args=TrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset=labelled(texts, tokenizer),
        solver="mgda",
    )
    assert_equal_training(trainer, twin, lambda batch: {n: twin(**inputs).loss for n, inputs in batch.items()}, MGDA())
