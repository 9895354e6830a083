"""A new training starts fresh, its record holds numbers only, and one that cannot train says so."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from datasets import Dataset
from torch import nn

from mogrid import ParetoTrainer
from mogrid.errors import ConfigError
from mogrid.objectives import DomainDRO, InfoNCE
from mogrid.retrieval.models import build_retriever
from tests.trainer.test_pareto import arguments, pairs, steps_of


def domains(texts) -> Dataset:
    return pairs(texts, slice(0, 40)).add_column("label", [i % 2 for i in range(40)])


def strict(line: str) -> dict:
    """Read JSON as JSON has it: no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(line, parse_constant=refuse)


class Head(nn.Module):
    """A loss with a parameter of its own, which is trained with the model."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features, labels):
        return (self.scale * self.model(next(iter(features)))["sentence_embedding"]).square().mean()


class Zero(nn.Module):
    """A loss whose gradient is there, and zero."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, features, labels):
        return 0.0 * self.model(next(iter(features)))["sentence_embedding"].sum()


class Constant(nn.Module):
    """A loss that is no function of what is trained."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, features, labels):
        return torch.tensor(1.0)


# -- fresh -------------------------------------------------------------------------------------------------------------


def test_another_training_in_the_folder_replaces_the_record(model, texts, tmp_path) -> None:
    for steps in (4, 3):
        trainer = ParetoTrainer(
            model=model, args=arguments(tmp_path, max_steps=steps), train_dataset={"a": pairs(texts)},
            loss={"a": InfoNCE(model)}, solver="fixed",
        )  # fmt: skip
        trainer.train()
        assert [step["step"] for step in steps_of(tmp_path)] == list(range(1, steps + 1))


@pytest.mark.parametrize("solver", ["famo", {"name": "mgda", "normalise": "loss+"}, "random", "moco"])
def test_nothing_goes_from_one_training_into_the_next(tokenizer, texts, tmp_path, solver) -> None:
    """With the model and the optimiser as they were, a second call of ``train`` gives the same record to the bit."""
    model = build_retriever("1x32", tokenizer, dropout=0.0)
    start = copy.deepcopy(model.state_dict())
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=5),
        train_dataset={"a": pairs(texts), "b": domains(texts)},
        loss={"a": InfoNCE(model), "b": DomainDRO(InfoNCE(model), domains=2, step_size=0.5)},
        solver=solver,
    )
    records = []
    for _ in range(2):
        trainer.train()
        records.append((tmp_path / "steps.jsonl").read_text())
        assert trainer.pairs_seen == {"a": 40, "b": 40}
        model.load_state_dict(start)
        trainer.optimizer = None
    assert records[0] == records[1]


def test_trials_of_a_search_are_independent(tokenizer, texts, tmp_path) -> None:
    """As in a hyperparameter search: every training makes its model, so its losses' parameters begin anew, too."""
    trainer = ParetoTrainer(
        model_init=lambda: build_retriever("1x32", tokenizer, dropout=0.0, seed=2),
        args=arguments(tmp_path, max_steps=5, learning_rate=0.05),
        train_dataset={"a": pairs(texts), "b": domains(texts)},
        loss={"a": Head, "b": lambda model: DomainDRO(InfoNCE(model), domains=2, step_size=0.5)},
        solver="famo",
    )
    records = []
    for _ in range(2):
        trainer.train()
        records.append((tmp_path / "steps.jsonl").read_text())
        assert trainer.loss["a"].scale.item() != 1.0
    assert records[0] == records[1]


# -- numbers only ------------------------------------------------------------------------------------------------------


def test_what_has_no_value_is_left_out_of_record_and_log(model, texts, tmp_path) -> None:
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=4, logging_steps=2),
        train_dataset={"a": pairs(texts), "b": pairs(texts), "none": pairs(texts)},
        loss={"a": InfoNCE(model), "b": InfoNCE(model, 0.1), "none": Zero(model)},
        solver="fixed",
    )
    trainer.train()
    for line in (tmp_path / "steps.jsonl").read_text().splitlines():
        step = strict(line)
        assert step["gradient_norm/none"] == 0.0
        assert [key for key in step if key.startswith("cosine/")] == ["cosine/a/b"]
    logged = [entry for entry in trainer.state.log_history if "loss/none" in entry]
    assert len(logged) == 2
    for entry in logged:
        strict(json.dumps(entry))
        assert -1 <= entry["cosine/a/b"] <= 1
        assert "cosine/a/none" not in entry


# -- nothing to train --------------------------------------------------------------------------------------------------


def test_a_frozen_model_is_named_before_anything_runs(model, texts, tmp_path) -> None:
    model.requires_grad_(False)
    trainer = ParetoTrainer(
        model=model, args=arguments(tmp_path), train_dataset={"a": pairs(texts)}, loss={"a": InfoNCE(model)},
        solver="fixed",
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match="nothing to train: none of its 23 parameter tensors requires a gradient"
    ) as e:
        trainer.train()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("gradients", ["exact", "cached"])
@pytest.mark.parametrize("solver", ["fixed", "mgda"])
def test_a_loss_without_a_gradient_is_named(model, texts, tmp_path, solver, gradients) -> None:
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, gradients=gradients),
        train_dataset={"fine": pairs(texts), "still": pairs(texts)},
        loss={"fine": InfoNCE(model), "still": Constant(model)},
        solver=solver,
    )
    with pytest.raises(ConfigError, match="objective 'still': its loss has no gradient") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
