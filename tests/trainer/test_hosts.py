"""MultiObjectiveMixin over every trainer it claims to work with: two steps equal a hand computation."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
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
    FlopsLoss,
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
)
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import nn
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from mogrid import MGDA, MultiObjectiveMixin
from mogrid.errors import ConfigError
from mogrid.solvers import UPGrad
from tests.trainer.by_hand import SETTINGS, assert_equal_training, recorded


class ParetoSparseTrainer(MultiObjectiveMixin, SparseEncoderTrainer):
    pass


class ParetoMultiVectorTrainer(MultiObjectiveMixin, MultiVectorEncoderTrainer):
    pass


class ParetoCrossEncoderTrainer(MultiObjectiveMixin, CrossEncoderTrainer):
    pass


class ParetoClassifierTrainer(MultiObjectiveMixin, Trainer):
    pass


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
                "text": [d for _, d in part],  # no argument of the model's forward: must be dropped
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


def splade(model) -> SpladeLoss:
    return SpladeLoss(
        model,
        loss=SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=0.3,
        query_regularizer_weight=0.1,
    )


def test_terms_of_a_dict_valued_loss_are_objectives_over_one_forward(folders, texts, tmp_path) -> None:
    """SPLADE's ranking and sparsity terms, beside a second data set: four objectives, one forward a data set."""
    model = sparse(folders)
    twin = copy.deepcopy(model)
    loss = {"id": splade(model), "ood": SparseRanking(model)}
    keys = ("base_loss", "document_regularizer_loss", "query_regularizer_loss")
    trainer = ParetoSparseTrainer(
        model=model,
        args=SparseEncoderTrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset=two(texts),
        loss=loss,
        terms={"id": keys},
        solver={"name": "mgda", "normalise": "l2"},
    )
    trainer.callback_handler.callbacks = [  # it ramps the regularisers up from zero
        c for c in trainer.callback_handler.callbacks if "Scheduler" not in type(c).__name__
    ]
    loss["id"].document_regularizer_weight, loss["id"].query_regularizer_weight = 0.3, 0.1
    assert trainer.objectives == (*(f"id/{key}" for key in keys), "ood")
    ranking = SparseMultipleNegativesRankingLoss(twin)
    flops = FlopsLoss(twin)

    def by_name(batch):
        columns, labels = trainer.collect_features(batch["id"])
        queries, documents = (twin(dict(column))["sentence_embedding"] for column in columns)
        return {
            "id/base_loss": ranking.compute_loss_from_embeddings([queries, documents], labels),
            "id/document_regularizer_loss": 0.3 * flops.compute_loss_from_embeddings(documents),
            "id/query_regularizer_loss": 0.1 * flops.compute_loss_from_embeddings(queries),
            "ood": SparseRanking(twin)(*trainer.collect_features(batch["ood"])),
        }

    forwards = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    assert_equal_training(trainer, twin, by_name, MGDA(normalise="l2"))
    handle.remove()
    per_forward = 2  # a query and a document column
    assert len(forwards) == 2 * 2 * per_forward


def test_terms_of_an_own_compute_loss(folders, texts, tokenizer, tmp_path) -> None:
    """A bare trainer whose ``compute_loss`` returns a dict for one data set and a scalar for the other."""

    def terms(model, inputs):
        out = model(**inputs)
        return {"class": out.loss, "size": out.logits.square().mean()}

    class Own(ParetoClassifierTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return terms(model, inputs) if self.current_dataset == "id" else model(**inputs).loss

    model = BertForSequenceClassification.from_pretrained(folders["classifier"])
    twin = copy.deepcopy(model)
    trainer = Own(
        model=model,
        args=TrainingArguments(str(tmp_path), **SETTINGS),
        train_dataset=labelled(texts, tokenizer),
        terms={"id": ["class", "size"]},
        solver="mgda",
    )

    def by_name(batch):
        both = terms(twin, batch["id"])
        return {"id/class": both["class"], "id/size": both["size"], "ood": twin(**batch["ood"]).loss}

    assert_equal_training(trainer, twin, by_name, MGDA())


class Terms(nn.Module):
    def __init__(self, model, names=("a", "b")):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, features, labels):
        embeddings = self.model(features[0])["sentence_embedding"]
        return {name: (embeddings - i).square().mean() for i, name in enumerate(self.names)}


def trainer_of(folders, texts, folder, **kwargs):
    model = sparse(folders)
    settings = {
        "train_dataset": {"id": two(texts)["id"]},
        "loss": {"id": Terms(model)},
        "solver": "mgda",
    } | kwargs
    return ParetoSparseTrainer(model=model, args=SparseEncoderTrainingArguments(str(folder), **SETTINGS), **settings)


def test_undeclared_terms_are_summed_as_the_host_does(folders, texts, tmp_path) -> None:
    trainer = trainer_of(folders, texts, tmp_path, solver="fixed")
    trainer.train()
    assert trainer.objectives == ("id",)
    step = recorded(tmp_path)[0]
    batch = next(iter(trainer_of(folders, texts, tmp_path / "again").get_train_dataloader()))["id"]
    model = sparse(folders)
    features, _ = trainer.collect_features(batch)
    assert step["loss/id"] == pytest.approx(sum(Terms(model)(features, None).values()).item(), rel=1e-5)


def test_a_term_of_weight_zero_frees_the_graph_and_counts_for_nothing(folders, texts, tmp_path) -> None:
    """The last term that needs a backward must be the one that frees the graph, wherever it stands."""
    for weights, alone in (((1.0, 0.0), "a"), ((0.0, 1.0), "b")):
        solver = {"name": "fixed", "weights": dict(zip(("id/a", "id/b"), weights, strict=True))}
        trainer = trainer_of(folders, texts, tmp_path / alone, solver=solver, terms={"id": ("a", "b")})
        trainer.train()
        steps = recorded(tmp_path / alone)
        assert [key for key in steps[0] if key.startswith("loss/")] == [f"loss/id/{alone}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": {"it": ("a", "b")}}, "terms: no dataset 'it'; did you mean 'id'"),
        ({"terms": {"id": ("a", "a")}}, "distinct keys"),
        ({"terms": {"id": "ab"}}, "distinct keys"),
    ],
)
def test_bad_terms_are_refused_before_training(folders, texts, tmp_path, change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_of(folders, texts, tmp_path, **change)


@pytest.mark.parametrize(("declared", "named"), [(("a", "c"), "'a', 'c'"), (("a",), "'a'")])
def test_terms_that_the_loss_does_not_return_are_named(folders, texts, tmp_path, declared, named) -> None:
    trainer = trainer_of(folders, texts, tmp_path, terms={"id": declared})
    with pytest.raises(ConfigError, match=f"'id' returned 'a', 'b'; terms names {named}$"):
        trainer.train()


def test_declared_terms_of_a_scalar_loss(folders, texts, tmp_path) -> None:
    trainer = trainer_of(folders, texts, tmp_path, terms={"id": ("a", "b")})
    trainer.loss["id"] = SparseRanking(trainer.model)
    with pytest.raises(ConfigError, match="returned a single scalar"):
        trainer.train()


def test_a_bare_trainer_takes_no_losses(folders, texts, tokenizer, tmp_path) -> None:
    model = BertForSequenceClassification.from_pretrained(folders["classifier"])
    with pytest.raises(ConfigError, match="this trainer takes none"):
        ParetoClassifierTrainer(
            model=model,
            args=TrainingArguments(str(tmp_path), **SETTINGS),
            train_dataset=labelled(texts, tokenizer),
            loss={"id": nn.Identity(), "ood": nn.Identity()},
            solver="mgda",
        )
